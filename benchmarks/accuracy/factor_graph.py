"""Two views of a mug in a factor graph: `python -m benchmarks.accuracy.factor_graph`.

Runs the factor graph of docs/using_distributions.md, which needs gtsam, on renderings of the demo's
mug by two cameras, of which the first does not see the handle. Prints how far off the leading modes
and the fused pose are, and draws the page's picture, <output>/using_factor_graph.png.
"""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training import cli

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution
    from spyropose_ros.demo.mug_views import View

ROOT = Path(__file__).parents[2]
_AZIMUTHS = (180.0, 112.0)  # of the cameras, degrees; the handle is at 0
_ELEVATION, _DISTANCE = math.radians(30.0), 0.5
_NAMES = ("camera 1: handle hidden", "camera 2: handle in sight")
_COLOURS = ("#d55e00", "#0072b2")
_FUSED = "#009e73"
_HALF = 95  # pixels around the mug
_SAMPLES = 300
_REACH = 11.0  # centimetres around the mug's axis
_TICKS = (-10, -5, 0, 5, 10)


def factor_graph(output: str = "bench_output/factor_graph") -> list[str]:
    """Fuse and draw.

    Args:
        output: folder of the picture.

    Returns:
        How far off each pose is, in words.
    """
    from spyropose_ros.core.errors import MissingFileError
    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.demo.mug_views import MugViews

    views, estimator = MugViews(), Estimator.from_pretrained(ROOT / "models/demo_mug")
    seen = [
        views.view(math.radians(azimuth), _ELEVATION, _DISTANCE, np.random.default_rng(0))
        for azimuth in _AZIMUTHS
    ]
    found = [estimator.estimate(view.image, views.K, view.box[None])[0] for view in seen]
    poses = [np.linalg.inv(view.camera_from_object) for view in seen]  # the world is the mug's
    try:
        fused = _fuse(found, poses)
    except ImportError as error:
        raise MissingFileError(f"{error}: pip install gtsam==4.3.0") from error
    modes = [pose @ _matrix(*each.mode()) for pose, each in zip(poses, found, strict=True)]
    names = [*(f"leading mode, {name}" for name in _NAMES), "fused"]
    lines = [_error(*each) for each in zip(names, [*modes, fused], strict=True)]
    print("\n".join(lines))
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    handle = np.array(estimator.bundle.features["handle"].point)
    _draw(seen, views.K, found, handle, fused, directory / "using_factor_graph.png")
    return lines


def _fuse(distributions: list[PoseDistribution], world_from_cameras: list[np.ndarray]):
    """Run the page's examples; return the pose of the object in the world, [4, 4]."""
    page = (ROOT / "docs/using_distributions.md").read_text()
    names: dict[str, Any] = {
        "distributions": distributions,
        "world_from_cameras": world_from_cameras,
    }
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        if "gtsam" in code:
            exec(code, names)
    return names["values"].atPose3(names["X"](0)).matrix()


def _matrix(rotation, translation) -> np.ndarray:
    """Return a pose as a matrix, [4, 4]."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.numpy(), translation.numpy()
    return matrix


def _error(name: str, pose: np.ndarray) -> str:
    """Say how far a pose is from the truth, which is the identity."""
    angle = math.acos(np.clip((np.trace(pose[:3, :3]) - 1) / 2, -1, 1))
    return f"{name}: {math.degrees(angle):.1f} deg, {1000 * np.linalg.norm(pose[:3, 3]):.1f} mm"


def _draw(
    seen: list[View],
    K: np.ndarray,
    found: list[PoseDistribution],
    handle: np.ndarray,
    fused: np.ndarray,
    path: Path,
) -> None:
    """Draw where the end of the handle is: by each mixture in its image, and all from above."""
    import torch
    from matplotlib.figure import Figure

    from spyropose_ros.scenes.mug import RADIUS

    figure = Figure(figsize=(8, 3.9), layout="constrained")
    *images, above = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
    for ax, view, distribution, name, colour in zip(
        images, seen, found, _NAMES, _COLOURS, strict=True
    ):
        R, t = distribution.mixture(6).sample(_SAMPLES, torch.Generator().manual_seed(0))
        places = R.numpy() @ handle + t.numpy()
        final = view.camera_from_object @ fused @ [*handle, 1]
        middle = view.camera_from_object[:3, 3] + view.camera_from_object[:3, 2] * handle[2]
        u, v, w = K @ middle
        ax.imshow(view.image)
        ax.plot(*_pixels(K, places), ".", ms=3, color=colour)
        ax.plot(*_pixels(K, final[None, :3]), "o", ms=9, mfc=_FUSED, mec="white", mew=1.5)
        ax.set(xlim=(u / w - _HALF, u / w + _HALF), ylim=(v / w + _HALF, v / w - _HALF))
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, fontsize=10)
        world_from_camera = np.linalg.inv(view.camera_from_object)
        x, y, _ = 100 * (world_from_camera[:3, :3] @ places.T + world_from_camera[:3, 3:])
        above.plot(x, y, ".", ms=3, color=colour, label=f"mixture of camera {len(above.lines) + 1}")
        away = world_from_camera[:2, 3] / np.linalg.norm(world_from_camera[:2, 3])
        above.annotate("", 7.2 * away, 10.8 * away, arrowprops={"color": colour, "width": 3})
    above.add_patch(_circle(100 * RADIUS))
    x, y, _ = 100 * (fused[:3, :3] @ handle + fused[:3, 3])
    above.plot(x, y, "o", ms=9, mfc=_FUSED, mec="white", mew=1.5, label="fused by the graph")
    above.plot(*100 * handle[:2], "k+", ms=24, mew=1.2)
    above.plot([], [], "k+", ms=10, mew=1.2, label="truth")
    above.set(aspect="equal", xlim=(-_REACH, _REACH), ylim=(-_REACH, _REACH))
    above.set(xlabel="cm (arrows: the cameras)", xticks=_TICKS, yticks=_TICKS)
    above.set_title("end of the handle, from above", fontsize=10)
    handles, labels = above.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, markerscale=1.2)
    figure.savefig(path, dpi=110)


def _circle(radius: float):
    from matplotlib.patches import Circle

    return Circle((0, 0), radius, fill=False, color="0.6", lw=1.5)


def _pixels(K: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Project points in the camera's frame, [M, 3] -> [2, M]."""
    projected = points @ K.T
    return (projected[:, :2] / projected[:, 2:]).T


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(factor_graph)
