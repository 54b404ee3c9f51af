"""The figures of a run: summary.png and animation.webp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import trimesh
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from spyropose_ros.bop import LMO_OBJECTS, load_mesh
from spyropose_ros.core import plots
from spyropose_ros.core.plots import drawing, overlay, rotation_map, rotation_plot
from spyropose_ros.demo.plan import Model
from spyropose_ros.demo.results import Check, FrameResult

_EXAMPLES = 3
_MESH_POINTS = 1500
_ANIMATION_FRAMES = 60
_ANIMATION_HEIGHT = 400
_MILLISECONDS = 250  # per frame of the animation
_PLOT_SIZE = (408, 272)
_WIDTH = 9.3  # inches: as wide as a page of GitHub, so that points are points
_SIGNS = (
    "Images: solid axes, the leading mode (the most probable cluster of poses); coloured haze, the "
    "other\nposes; dashed white, the truth; orange outline, what the object covers with a "
    "probability of one half.\nMaps: where the object's x axis (red) points. Dots, poses, in the "
    "colour of their rotation about x;\ncrosses, the modes, with the leading one large; circle, "
    "the truth."
)
_LEAST_ERROR = 0.3  # degrees, the end of the logarithmic scale
_STYLE: Any = {"axes.edgecolor": "0.5", "text.color": "#464a52", "axes.labelcolor": "#464a52"}
_BLUE, _RED, _INK, _BAND = "#2d6cdf", "#d5452f", "#464a52", "#e3e5ea"


@dataclass(frozen=True)
class Shot:
    """A frame with everything needed to draw it.

    Attributes:
        image: RGB uint8 [H, W, 3].
        K: Intrinsics, [3, 3].
        received: Its ReceivedDistribution, which `core.plots` takes for a PoseDistribution.
        truth: True rotation [3, 3] and translation [3], metres.
        result: Its numbers.
    """

    image: np.ndarray
    K: np.ndarray
    received: Any
    truth: tuple[np.ndarray, np.ndarray]
    result: FrameResult


def write(
    output: Path,
    shots: Sequence[Shot],
    checks: Sequence[Check],
    model: Model,
    points: np.ndarray | None,
) -> list[Path]:
    """Draw both figures.

    Args:
        output: Folder.
        shots: The frames with a distribution, at least one.
        checks: The verdict, for the figure's title.
        model: Which object it is.
        points: Samples of the object's surface [M, 3], metres; None draws no outline.

    Returns:
        Paths of the files.
    """
    summary, animation = output / "summary.png", output / "animation.webp"
    Image.fromarray(summary_figure(shots, checks, model, points)).save(summary)
    indices = np.linspace(0, len(shots) - 1, min(len(shots), _ANIMATION_FRAMES)).round().astype(int)
    drawer = _Animation(shots, model, points)
    first, *others = [Image.fromarray(drawer.frame(index)) for index in indices]
    first.save(
        animation, save_all=True, append_images=others, duration=_MILLISECONDS, loop=0, quality=75
    )
    return [summary, animation]


def surface_points(model: Model, data_root: str | Path) -> np.ndarray | None:
    """Sample an object's surface, from the bundle's mesh or else the data set's.

    Args:
        model: Which object it is.
        data_root: Folder of the downloaded data sets.

    Returns:
        Points [M, 3] in metres, float32; None without a mesh.
    """
    if model.mesh.is_file():
        mesh = trimesh.load(model.mesh, force="mesh")
    elif model.class_id in LMO_OBJECTS:
        mesh = load_mesh(Path(data_root) / "lmo", LMO_OBJECTS[model.class_id])
    else:
        return None
    return np.float32(trimesh.sample.sample_surface(mesh, _MESH_POINTS, seed=0)[0])


def close_up(shot: Shot, model: Model, points: np.ndarray | None, size: int) -> np.ndarray:
    """Draw the distribution over the surroundings of the object.

    Args:
        shot: The frame.
        model: Which object it is.
        points: Samples of the object's surface [M, 3], or None.
        size: Side of the result in pixels.

    Returns:
        RGB uint8 [size, size, 3].
    """
    image, K = plots.close_up(shot.image, shot.K, np.array(shot.result.box), size)
    return overlay(image, K, [shot.received], model.diameter, points, truth=[shot.truth])


class _Series:
    """The curve of the entropy, drawn in both figures."""

    def __init__(self, results: Sequence[FrameResult], model: Model):
        has_handle = model.has_handle
        self.results = results
        self.entropy = np.array(
            [result.axis_entropy if has_handle else result.entropy for result in results]
        )
        self.label = "entropy about\nthe axis (nats)" if has_handle else "entropy (nats)"
        self.hidden = "handle hidden" if has_handle else "less than half visible"
        self.unknown = np.log(2 * np.pi) if has_handle else None
        self.step = "photograph, in order" if model.has_photographs else "frame"
        in_order = np.arange(len(results))
        self.steps = (
            in_order if model.has_photographs else np.array([int(r.frame) for r in results])
        )

    def shade(self, axes) -> None:
        """Shade the frames whose decisive part is hidden."""
        hidden = np.array([result.is_hidden for result in self.results])
        edges = np.flatnonzero(np.diff(np.r_[False, hidden, False]))
        for start, end in edges.reshape(-1, 2):
            first, last = self.steps[[start, end - 1]]
            axes.axvspan(first - 0.5, last + 0.5, color=_BAND, lw=0, label=self.hidden)

    def draw(self, axes) -> None:
        """Draw the curve."""
        self.shade(axes)
        if self.unknown is not None:
            axes.axhline(self.unknown, color="0.6", lw=1, ls="--")
            axes.text(
                self.steps[-1] + 0.4, self.unknown, "any angle", ha="right", va="bottom",
                color="0.4",
            )  # fmt: skip
            axes.set_ylim(min(-3.0, self.entropy.min() - 0.3), 2.6)
        axes.plot(self.steps, self.entropy, color=_BLUE, lw=1.5, marker="o", ms=3)
        axes.set_xlim(self.steps[0] - 0.5, self.steps[-1] + 0.5)
        axes.set_ylabel(self.label)


def summary_figure(
    shots: Sequence[Shot], checks: Sequence[Check], model: Model, points: np.ndarray | None
) -> np.ndarray:
    """Draw examples with their rotation plots, and entropy and errors over time.

    Args:
        shots: The frames with a distribution.
        checks: The verdict.
        model: Which object it is.
        points: Samples of the object's surface [M, 3], or None.

    Returns:
        RGB uint8 [H, W, 3].
    """
    series = _Series([shot.result for shot in shots], model)
    chosen = _choose(series.results, not model.has_photographs)
    with matplotlib.rc_context(_STYLE | {"font.size": 9.5}):
        figure = Figure(figsize=(_WIDTH, 10.6), dpi=200, layout="constrained")
        ratios = [3.1, 1.65, 0.75, 1.6, 1.6]
        grid = figure.add_gridspec(len(ratios), len(chosen), height_ratios=ratios)
        figure.suptitle(_title(shots, checks, model), fontsize=11)
        for column, index in enumerate(chosen):
            shot = shots[index]
            upper, lower = (figure.add_subplot(grid[row, column]) for row in (0, 1))
            upper.imshow(close_up(shot, model, points, 600))
            upper.set_title(_caption(shot.result, model), fontsize=9.5)
            lower.imshow(rotation_map(shot.received, (600, 313), truth=shot.truth[0]))
            for axes, side in ((upper, "S"), (lower, "N")):
                axes.set_axis_off()
                axes.set_anchor(side)
        words = figure.add_subplot(grid[2, :])
        words.set_axis_off()
        words.text(0.5, 0.5, _SIGNS, ha="center", va="center", fontsize=9.5)
        entropy = figure.add_subplot(grid[3, :])
        series.draw(entropy)
        _mark(entropy, series.steps[chosen])
        errors = figure.add_subplot(grid[4, :])
        _draw_errors(errors, series)
        _mark(errors, series.steps[chosen])
        return _pixels(figure)


class _Animation:
    """Draws the frames of the animation: the image, the rotations, and the entropy."""

    def __init__(self, shots: Sequence[Shot], model: Model, points: np.ndarray | None):
        self._shots, self._model, self._points = shots, model, points
        series = _Series([shot.result for shot in shots], model)
        width, height = _PLOT_SIZE[0], _ANIMATION_HEIGHT - _PLOT_SIZE[1]
        with matplotlib.rc_context(_STYLE | {"font.size": 7}):
            figure = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
            axes = figure.add_subplot()
            series.draw(axes)
            axes.set_xticks([])
            self._curve = _pixels(figure)
        points = np.column_stack([series.steps, series.entropy])
        self._pixels = axes.transData.transform(points) * (1, -1) + (0, height - 1)

    def frame(self, index: int) -> np.ndarray:
        """Draw one shot, RGB uint8 [H, W, 3]."""
        shot = self._shots[index]
        image = overlay(
            shot.image, shot.K, [shot.received], self._model.diameter, self._points,
            truth=[shot.truth],
        )  # fmt: skip
        width = round(_ANIMATION_HEIGHT * image.shape[1] / image.shape[0])
        image = cv2.resize(image, (width, _ANIMATION_HEIGHT), interpolation=cv2.INTER_AREA)
        caption = _caption(shot.result, self._model).replace("\n", ", ").replace("°", " deg")
        drawing.label(image, caption, (0, _ANIMATION_HEIGHT), 1.0)
        rotations = rotation_plot(shot.received, _PLOT_SIZE, truth=shot.truth[0])
        curve = self._curve.copy()
        drawing.disc(curve, self._pixels[index], 5.0, (213, 69, 47))
        return np.hstack([image, np.vstack([rotations, curve])])


def _draw_errors(axes, series: _Series) -> None:
    """Draw rotation errors over time on a logarithmic scale."""
    series.shade(axes)
    errors = [(result.best_mode_error, result.rotation_error) for result in series.results]
    best, top = np.maximum(np.array(errors, float), _LEAST_ERROR).T  # None becomes nan
    nearest = "best mode: of all, the nearest to the truth"
    axes.plot(series.steps, best, "o", ms=6, mfc="none", color="0.55", label=nearest)
    leading = "leading mode: the most probable"
    axes.plot(series.steps, top, "o", ms=3.5, color=_RED, label=leading)
    axes.set_yscale("log")
    axes.set_ylim(_LEAST_ERROR, 250)
    axes.set_yticks([1, 10, 100], ["1", "10", "100"])
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.set_xlim(series.steps[0] - 0.5, series.steps[-1] + 0.5)
    axes.set_ylabel("rotation\nerror (deg)")
    axes.set_xlabel(series.step)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))  # the bands have one label
    place: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.06)}  # above: covers no point
    axes.legend(once.values(), once.keys(), ncols=3, frameon=False, **place)


def _mark(axes, steps: np.ndarray) -> None:
    """Mark on the axis of the frames which are shown above."""
    for step in steps:
        axes.plot(
            step, 1.0, "v", color=_INK, ms=7, clip_on=False, transform=axes.get_xaxis_transform()
        )


def _choose(results: Sequence[FrameResult], in_order: bool) -> np.ndarray:
    """Choose the examples: evenly over time, or from mostly hidden to fully visible."""
    count = min(_EXAMPLES, len(results))
    if in_order:
        return ((np.arange(count) + 0.5) * len(results) / count).astype(int)
    order = np.argsort([result.visible_fraction for result in results], kind="stable")
    return order[np.linspace(0, len(order) - 1, count).round().astype(int)]


def _caption(result: FrameResult, model: Model) -> str:
    """Describe a frame."""
    if result.handle_fraction is None:
        kind = "photograph" if model.has_photographs else "frame"
        seen = f"{kind} {result.frame}, {result.visible_fraction:.0%} visible"
    elif result.handle_fraction == 0:
        seen = f"frame {result.frame}, handle hidden"
    else:
        share = max(result.handle_fraction, 0.01)
        seen = f"frame {result.frame}, handle {share:.0%} of the pixels"
    return f"{seen}\nerror {result.rotation_error:.1f}°, spread {result.spread:.1f}°"


def _title(shots: Sequence[Shot], checks: Sequence[Check], model: Model) -> str:
    outcome = "passed" if all(check.passed for check in checks) else "failed"
    return f"Pose distributions of the {model.class_id}: {len(shots)} frames, {outcome}"


def _pixels(figure: Figure) -> np.ndarray:
    """Draw a figure: RGB uint8 [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
