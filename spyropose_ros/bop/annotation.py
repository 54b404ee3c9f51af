"""Entries of a scene's annotation: what cannot be true is refused with its value."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spyropose_ros.bop.files import MM, hint
from spyropose_ros.core.errors import DataError

_ROUNDING = 0.01
"""By which R Rᵀ may differ from the identity: some data sets keep few digits."""


@dataclass(frozen=True)
class Visibility:
    """How much of an object is visible in a frame.

    Attributes:
        box: [4] xyxy around the visible pixels (pixel centres at integers); None when hidden.
        fraction: visible pixels over the pixels of the whole silhouette.
        pixels: number of visible pixels.
    """

    box: np.ndarray | None
    fraction: float
    pixels: int

    def reaches(self, fraction: float, pixels: int) -> bool:
        """Tell whether at least such a share and so many pixels are visible, and one at all."""
        return self.box is not None and self.fraction >= fraction and self.pixels >= pixels


@contextmanager
def entry_of(path: Path, image: int) -> Iterator[None]:
    """Name the file and the image in the errors of an entry.

    Args:
        path: of the file that the entry is in.
        image: number of the image.

    Raises:
        DataError: the entry is damaged or cannot be true.
    """
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}, image {image}: {error}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} has a damaged annotation of image {image} ({error!r}): {hint(path)}"
        ) from error


def number(value: object, what: str) -> int:
    """Read a number that names something.

    Args:
        value: as the file has it.
        what: its name in the format.

    Returns:
        The number.

    Raises:
        DataError: it is something else, such as text.
    """
    if type(value) is not int or value < 0:
        raise DataError(f"{what} is {value!r}: give a whole number from 0, not text")
    return value


def pose(entry: dict) -> tuple[np.ndarray, np.ndarray]:
    """Read a pose.

    Args:
        entry: of an object in scene_gt.json.

    Returns:
        Rotation [3, 3] and translation [3], metres, object to camera.

    Raises:
        DataError: the rotation is none, or the translation is not finite.
    """
    return _transform(entry, "m2c", f" of object {entry['obj_id']}")


def camera_from_world(entry: dict) -> tuple[np.ndarray, np.ndarray]:
    """Read where the camera was.

    Args:
        entry: of an image in scene_camera.json, with cam_R_w2c and cam_t_w2c.

    Returns:
        Rotation [3, 3] and translation [3], metres, world to camera.

    Raises:
        DataError: the rotation is none, or the translation is not finite.
    """
    return _transform(entry, "w2c", "")


def _transform(entry: dict, direction: str, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Return cam_R_<direction> and cam_t_<direction> of an entry, in metres."""
    rotation = np.reshape(np.array(entry[f"cam_R_{direction}"], np.float64), (3, 3))
    translation = np.array(entry[f"cam_t_{direction}"], np.float64).reshape(3)
    if not np.isfinite(translation).all():
        raise DataError(
            f"cam_t_{direction}{of} is {translation.tolist()}: leave out poses that are unknown"
        )
    check_rotation(rotation, f"cam_R_{direction}{of}")
    return rotation, translation * MM


def check_rotation(matrix: np.ndarray, what: str) -> None:
    """Refuse a matrix that is no rotation.

    Args:
        matrix: [3, 3].
        what: its name in the format.

    Raises:
        DataError: it is none, with the determinant and the likely cause.
    """
    if not np.isfinite(matrix).all():
        raise DataError(f"{what} is {matrix.tolist()}: leave out what is unknown")
    determinant = float(np.linalg.det(matrix))
    error = abs(matrix @ matrix.T - np.eye(3)).max()
    if error <= _ROUNDING and determinant > 0:
        return
    scale = abs(determinant) ** (1 / 3)
    if error <= _ROUNDING:
        cause = "it is a reflection; turn the left-handed frame into a right-handed one"
    elif scale and abs(matrix @ matrix.T / scale**2 - np.eye(3)).max() <= _ROUNDING:
        cause = f"it holds a scale of {scale:.4g}; divide by it, and scale the mesh if need be"
    else:
        cause = "its rows and columns are not unit vectors at right angles"
    raise DataError(f"{what} is no rotation, its determinant is {determinant:.4g}: {cause}")


def intrinsics(entry: dict) -> np.ndarray:
    """Read the intrinsics of an image.

    Args:
        entry: of the image in scene_camera.json.

    Returns:
        [3, 3].

    Raises:
        DataError: they are those of no pinhole camera.
    """
    K = np.reshape(np.array(entry["cam_K"], np.float64), (3, 3))
    zeros = K[[1, 2, 2], [0, 0, 1]]
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0 and K[2, 2] == 1) or zeros.any():
        raise DataError(
            f"cam_K is {K.ravel().tolist()}: give [fx, 0, cx, 0, fy, cy, 0, 0, 1] in pixels"
        )
    return K


def depth_scale(entry: dict) -> float:
    """Read the unit of an image's depth image.

    Args:
        entry: of the image in scene_camera.json.

    Returns:
        Millimetres; 1 where the entry does not say.

    Raises:
        DataError: it is not positive.
    """
    scale = float(entry.get("depth_scale", 1.0))
    if not (math.isfinite(scale) and scale > 0):
        raise DataError(f"depth_scale is {scale}: give the millimetres of a stored unit")
    return scale


def visibility(entry: dict) -> Visibility:
    """Read how much of an object is visible.

    Args:
        entry: of the object in scene_gt_info.json.

    Returns:
        What the entry says.

    Raises:
        DataError: it holds values that are impossible.
    """
    pixels, fraction = int(entry["px_count_visib"]), float(entry["visib_fract"])
    if not 0 <= fraction <= 1 + _ROUNDING or pixels < 0:
        raise DataError(
            f"visib_fract is {fraction:g} and px_count_visib {pixels}: give a share from 0 to 1 "
            "and a number of pixels"
        )
    if pixels == 0:
        return Visibility(None, fraction, 0)
    x, y, w, h = map(float, entry["bbox_visib"])
    if not all(map(math.isfinite, (x, y, w, h))) or min(w, h) < 0:
        raise DataError(
            f"bbox_visib is {entry['bbox_visib']} though {pixels} pixels are visible: give x, y, "
            "width and height in pixels"
        )
    return Visibility(np.array([x - 0.5, y - 0.5, x + w + 0.5, y + h + 0.5]), fraction, pixels)
