"""What people see of the results: a table in the terminal, and figures."""

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np

from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.one_line import printable
from spyropose_ros.core.plots import drawing, overlay, rotation_plot
from spyropose_ros.photos.estimates import Found
from spyropose_ros.photos.photograph import Photograph

WIDTH = 98  # of the table, characters
_LARGEST = 1600  # side of an overlay in pixels: larger ones take seconds
_SHOWN = 640  # side of a picture in a terminal, pixels
_MAP = (480, 320)
_LAYOUT = "{:<26}  {:>5}  {:>7} {:>7} {:>7}  {:>7}  {}"
_NAME = 26  # characters
_LISTED = 4  # modes


def header() -> str:
    """Explain the columns and write their titles."""
    legend = (
        "x, y, z: position of the leading mode in the camera's frame (right, down, ahead), metres; "
        "entropy: of the whole pose, lower is more certain; modes: the poses it may have, with "
        "their probabilities"
    )
    titles = _LAYOUT.format("image", "score", "x", "y", "z", "entropy", "modes")
    rule = "-" * WIDTH
    return "\n".join([*textwrap.wrap(legend, WIDTH), rule, titles, rule])


def rows(photo: Photograph, found: Sequence[Found]) -> list[str]:
    """Write a line for each object in a photograph."""
    name = printable(photo.picture.name)
    name = name if len(name) <= _NAME else "..." + name[3 - _NAME :]
    if not found:
        return [f"{name:<{_NAME}}  nothing found"]
    names = [name] + [""] * (len(found) - 1)
    return [_row(*each) for each in zip(names, found, strict=True)]


def _row(name: str, found: Found) -> str:
    position = (f"{value:.3f}" for value in found.distribution.mode()[1].tolist())
    score = "given" if found.score is None else f"{found.score:.2f}"
    entropy = f"{found.distribution.entropy():.1f}"
    return _LAYOUT.format(name, score, *position, entropy, _modes(found))


def _modes(found: Found) -> str:
    """Say how many poses an object may have."""
    masses = [mode.mass for mode in found.distribution.modes()]
    if not masses:
        return "none: it may have any of many poses"
    listed = ", ".join(f"{mass:.0%}" for mass in masses[:_LISTED])
    return f"{len(masses)}: {listed}" + (", ..." if len(masses) > _LISTED else "")


def draw_overlay(
    photo: Photograph, found: Sequence[Found], estimator: Estimator, points: np.ndarray | None
) -> np.ndarray:
    """Draw the poses over a photograph.

    Args:
        photo: the photograph.
        found: its objects.
        estimator: of the object.
        points: of the object's surface, metres, [M, 3], if there is a mesh.

    Returns:
        RGB uint8 [H, W, 3], smaller than the photograph if that is large.
    """
    image, view = _reduced(photo.image, _LARGEST)
    K = view @ photo.K
    diameter, labels = estimator.bundle.object.diameter, _labels(found, estimator)
    return overlay(image, K, [f.distribution for f in found], diameter, points, labels=labels)


def for_terminal(figure: np.ndarray) -> np.ndarray:
    """Return a figure [H, W, 3] in a size that fits into a terminal."""
    return _reduced(figure, _SHOWN)[0]


def _reduced(image: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image with sides of so many pixels at most, and its pixels from those before."""
    size = np.array(image.shape[1::-1])
    scale = largest / size.max()
    if scale >= 1:
        return image, np.eye(3)
    small = np.maximum(np.round(scale * size), 1).astype(int)
    resized = np.eye(3)
    resized[[0, 1], [0, 1]] = small / size
    resized[:2, 2] = (small / size - 1) / 2
    image = cv2.resize(image, small.tolist(), interpolation=cv2.INTER_AREA)
    return image, resized


def draw_rotations(found: Sequence[Found], estimator: Estimator) -> np.ndarray:
    """Draw the rotations of all objects, one plot below the other.

    Args:
        found: the objects, at least one.
        estimator: of the object.

    Returns:
        RGB uint8 [H, W, 3].
    """
    plots = []
    for each, label in zip(found, _labels(found, estimator), strict=True):
        if len(found) > 1:
            plots.append(drawing.caption(label, _MAP[0]))
        plots.append(rotation_plot(each.distribution, _MAP))
    return np.vstack(plots)


def _labels(found: Sequence[Found], estimator: Estimator) -> list[str]:
    """Name the objects as both figures do; several by number."""
    name = estimator.bundle.object.name
    return [name] if len(found) == 1 else [f"{name} {i + 1}" for i in range(len(found))]
