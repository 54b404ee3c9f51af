"""How exact the answers to questions are, and pictures: `python -m benchmarks.accuracy.questions`.

Runs the examples of docs/using_distributions.md, compares their probabilities with shares of
samples, measures times, and draws the page's pictures; writes <output>/questions.md,
using_grasps.png and using_feature.png.
"""

from __future__ import annotations

import copy
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training import cli, markdown, provenance

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution
    from spyropose_ros.core.questions import Targets

ROOT = Path(__file__).parents[2]
_FILES = {"seen": "docs/mug.jpg", "hidden": "docs/mug_hidden.jpg"}
_TITLES = {"seen": "handle in sight", "hidden": "handle hidden"}
_COLOURS = ("#d55e00", "#0072b2", "#009e73")
_HALF = 110  # pixels around the mug
_HEADER = [
    *("image", "largest difference from samples", "their standard deviation"),
    *("first question, ms", "per grasp afterwards, ms"),
]


def questions(output: str = "bench_output/questions", samples: int = 1_000_000) -> list[str]:
    """Compare, measure and draw.

    Args:
        output: folder of the table and the pictures.
        samples: that probabilities are compared with.

    Returns:
        The lines of the table.
    """
    page = (ROOT / "docs/using_distributions.md").read_text()
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        if "gtsam" not in code:
            exec(code, names)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    _draw_grasps(names, directory / "using_grasps.png")
    _draw_feature(names, directory / "using_feature.png")
    rows = [[_TITLES[key], *_compare(names[key], names["grasps"], samples)] for key in _FILES]
    lines = [
        f"{len(names['grasps'])} grasps, {samples:,} samples; "
        f"{provenance.hardware(str(names['estimator'].device))}",
        "",
        *markdown.table(_HEADER, rows),
    ]
    (directory / "questions.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return lines


def _compare(distribution: PoseDistribution, grasps: Targets, samples: int) -> list[str]:
    """Return a row: the difference from shares of samples, and times."""
    import torch

    from spyropose_ros.core.questions import tolerance_sets

    planned_for = distribution.mode()
    fresh = copy.copy(distribution)
    for name in ("points", "leaf_poses"):
        fresh.__dict__.pop(name, None)
    start = time.perf_counter()
    fresh.success(grasps, planned_for)
    first = time.perf_counter() - start
    found = fresh.success(grasps, planned_for).probabilities
    per_grasp = (time.perf_counter() - start - first) / len(grasps)
    poses = distribution.sample(samples, torch.Generator().manual_seed(0))
    sets = tolerance_sets(grasps, planned_for, distribution)
    shares = torch.stack([sets.contains(i, *poses).double().mean() for i in range(len(grasps))])
    worst = (found - shares).abs().argmax()
    deviation = (shares * (1 - shares) / samples).sqrt()
    return [
        f"{float((found - shares).abs()[worst]):.5f}",
        f"{float(deviation[worst]):.5f}",
        f"{1000 * first:.0f}",
        f"{1000 * per_grasp:.0f}",
    ]


def _photograph(key: str):
    from spyropose_ros.photos.photograph import read_photograph

    return read_photograph(ROOT / _FILES[key], fov=56.1)


def _show(ax, key: str, K: np.ndarray, image: np.ndarray, middle: np.ndarray) -> None:
    """Show the part of a photograph around a point in the camera's frame."""
    u, v = _pixels(K, middle)
    ax.imshow(image)
    ax.set(xlim=(u - _HALF, u + _HALF), ylim=(v + _HALF, v - _HALF), xticks=[], yticks=[])
    ax.set_ylabel(_TITLES[key])


def _pixels(K: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Project points in the camera's frame, [..., 3] -> [..., 2]."""
    projected = points @ K.T
    return projected[..., :2] / projected[..., 2:]


def _draw_grasps(names: dict, path: Path) -> None:
    """Draw, for each photograph, where the grasps go and how probably they succeed."""
    import torch
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6.4), layout="constrained")
    axes = figure.subplots(2, 2, width_ratios=(1, 1.3))
    grasps = names["grasps"]
    for (left, right), key in zip(axes, _FILES, strict=True):
        distribution, photo = names[key], _photograph(key)
        R, t = distribution.mode()
        _show(left, key, photo.K, photo.image, (R @ distribution.center + t).numpy())
        planned = grasps.at(R, t)[1]
        for i, colour in enumerate(_COLOURS):
            generator = torch.Generator().manual_seed(0)
            places, _ = distribution.marginal(grasps.translations[i]).sample(150, generator)
            left.plot(*_pixels(photo.K, places.numpy()).T, ".", ms=3, color=colour)
        for x, colour in zip(planned, _COLOURS, strict=True):
            left.plot(*_pixels(photo.K, x.numpy()), "o", ms=11, mfc=colour, mec="white", mew=1.5)
        answer = distribution.success(grasps)
        bars = right.barh(names["names"], answer.probabilities.numpy(), color=_COLOURS)
        right.bar_label(bars, [f"{p:.0%}" for p in answer.probabilities], padding=4)
        right.set(xlim=(0, 1.12), xticks=(0, 0.5, 1), xticklabels=("0", "50 %", "100 %"))
        right.invert_yaxis()
        right.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_title("disc: where the gripper goes\ndots: where it may have to be", fontsize=11)
    axes[0, 1].set_title("probability that the grasp succeeds", fontsize=11)
    figure.savefig(path, dpi=110)


def _draw_feature(names: dict, path: Path) -> None:
    """Draw, for each photograph, where the end of the handle is: in the image and from above."""
    import torch
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    handle = names["handle"]
    for (left, right), key in zip(axes, _FILES, strict=True):
        distribution, photo = names[key], _photograph(key)
        R, t = distribution.mode()
        middle = (R @ distribution.center + t).numpy()
        feature = distribution.marginal(handle.point, handle.direction)
        samples, _ = feature.sample(400, torch.Generator().manual_seed(0))
        points = samples.numpy()
        region = feature.ellipsoid(0.9)
        outline = _outline(region)
        _show(left, key, photo.K, photo.image, middle)
        left.plot(*_pixels(photo.K, points).T, ".", ms=3, color=_COLOURS[0], alpha=0.6)
        right.plot(
            *100 * points[:, [0, 2]].T, ".", ms=3, color=_COLOURS[0], alpha=0.6, label="samples"
        )
        for ax, flat in ((left, _pixels(photo.K, outline)), (right, 100 * outline[:, [0, 2]])):
            ax.plot(*_hull(flat).T, color=_COLOURS[1], lw=1.8, label="90 % ellipsoid")
        across, _, away = 100 * middle
        for mode in feature.modes():
            x, _, z = 100 * mode.mean.numpy()
            right.plot(x, z, "o", ms=4 + 12 * mode.mass, mfc="none", mec="k", mew=1.5)
            if mode.mass > 0.1:
                arrow = {"arrowstyle": "-", "color": "0.6", "shrinkB": 6}
                label = across + 1.4 * (x - across), away - 7
                right.annotate(f"{mode.mass:.0%}", (x, z), label, arrowprops=arrow, ha="center")
        right.plot(across, away, "+", ms=12, color="0.3", label="middle of the mug")
        right.set(aspect="equal", xlim=(across - 12, across + 12), ylim=(away - 9, away + 15))
        right.set(xlabel="to the right of the camera, cm", ylabel="away from it, cm")
    right.plot([], [], "o", mfc="none", mec="k", mew=1.5, label="modes, with their probability")
    axes[0, 0].set_title("end of the handle, in the image", fontsize=11)
    axes[0, 1].set_title("the same from above", fontsize=11)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)


def _outline(region) -> np.ndarray:
    """Return points on the surface of an ellipsoid, [M, 3]."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 60), np.linspace(0, 2 * np.pi, 120))
    ball = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
    scaled = ball.reshape(-1, 3) * region.semi_axes.numpy()
    return scaled @ region.axes.numpy().T + region.center.numpy()


def _hull(points: np.ndarray) -> np.ndarray:
    """Return the closed outline of points, [M, 2] -> [H, 2]."""
    from scipy.spatial import ConvexHull

    corners = ConvexHull(points).vertices
    return points[[*corners, corners[0]]]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(questions)
