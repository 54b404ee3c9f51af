"""What the temporal filter gains, and what it costs: `python -m benchmarks.accuracy.temporal`.

The demo's mug and a camera that moves round it at 10 Hz, in three sequences:

- glimpse: the handle is hidden except for a short time;
- rotated in sight: somebody rotates the mug by 120 degrees while the handle is visible;
- rotated out of sight: the filter saw the handle, then the mug is rotated while it is hidden, so
  that the filter is wrong until the handle is visible.

And arcs: random sequences that mostly show the handle, for the calibration. Every frame is
estimated with and without the filter; writes <output>/temporal.md and temporal.png.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spyropose_ros.core.search_settings import SearchSettings
from training import cli, markdown, provenance

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution
    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.demo.mug_views import MugViews, View
    from spyropose_ros.ros.pipeline.tracks import TemporalSettings

log = logging.getLogger(__name__)

PERIOD = 0.1  # seconds between frames
_ELEVATION, _DISTANCE = math.radians(25.0), 0.6
_NEAR = math.radians(30.0)  # of the true rotation


@dataclass(frozen=True)
class Frame:
    """An image of a sequence.

    Attributes:
        view: the image and the truth.
        world_from_camera: [4, 4].
    """

    view: View
    world_from_camera: np.ndarray


@dataclass(frozen=True)
class Score:
    """How good one distribution is.

    Attributes:
        gain: log density of the truth over the uniform one, nats.
        entropy: of the distribution, nats.
        near: mass within 30 degrees of the true rotation.
        covered: the truth is in the 90 % region.
    """

    gain: float
    entropy: float
    near: float
    covered: bool


def sequence(
    views: MugViews,
    azimuths: Sequence[float],
    yaws: Sequence[float],
    elevation: float = _ELEVATION,
    distance: float = _DISTANCE,
    seed: int = 0,
) -> list[Frame]:
    """Render images of the mug at a fixed position.

    Args:
        views: the renderer.
        azimuths: of the camera in the world, degrees; the mug stands in the origin.
        yaws: of the mug in the world, degrees.
        elevation: of the camera, radians.
        distance: of the camera, metres.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for azimuth, yaw in zip(np.radians(azimuths), np.radians(yaws), strict=True):
        view = views.view(azimuth - yaw, elevation, distance, rng)
        world_from_object = np.eye(4)
        world_from_object[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        # The mug's axis is the world's; its sphere's centre lies beside it and moves as it rotates.
        frames.append(Frame(view, world_from_object @ np.linalg.inv(view.camera_from_object)))
    return frames


def glimpse(views: MugViews, hidden: int = 20) -> list[Frame]:
    """Render the mug from behind, then with its handle, then from behind again."""
    away = 180 + 12 * np.sin(np.arange(hidden) / 3)
    azimuths = [180, 178, 176, 174, 160, 140, 120, 110, 110, 120, 140, 160, 175, *away]
    return sequence(views, azimuths, np.zeros(len(azimuths)))


def rotated_in_sight(views: MugViews, before: int = 8, after: int = 10) -> list[Frame]:
    """Render the mug while it is rotated by 120 degrees at once, the handle always visible."""
    azimuths = 60 + 2.0 * np.arange(before + after)
    return sequence(views, azimuths, [0] * before + [120] * after, seed=1)


def rotated_out_of_sight(views: MugViews, hidden: int = 8, after: int = 10) -> list[Frame]:
    """Render the handle, a rotation of the mug while it is hidden, and the handle again."""
    look = [110, 110, 110, 130, 150]
    there = 195 + np.zeros(hidden)
    back = [215, 235, 255, 265, *[275] * (after - 4)]
    azimuths = [*look, *there, *back]
    half = len(look) + hidden // 2
    return sequence(views, azimuths, [0] * half + [35] * (len(azimuths) - half), seed=2)


def arcs(views: MugViews, count: int, frames: int, seed: int = 0) -> list[list[Frame]]:
    """Render random arcs round the mug, up to 6 degrees a frame."""
    out = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        azimuths = rng.uniform(0, 360) + rng.uniform(-6, 6) * np.arange(frames)
        elevation, distance = math.radians(rng.uniform(15, 50)), rng.uniform(0.45, 0.8)
        yaws = np.zeros(frames)
        out.append(sequence(views, azimuths, yaws, elevation, distance, seed=1000 + index))
    return out


def scores(
    estimator: Estimator, frames: Sequence[Frame], settings: TemporalSettings | None
) -> list[Score]:
    """Estimate a sequence, with the filter if it has settings."""
    import torch

    from spyropose_ros.core import camera
    from spyropose_ros.demo.mug_views import MugViews
    from spyropose_ros.ros.pipeline.tracks import Tracks

    tracks = None if settings is None else Tracks(settings)
    info, K = estimator.bundle.object, torch.from_numpy(MugViews.K)
    out = []
    for index, frame in enumerate(frames):
        boxes = torch.from_numpy(frame.view.box[None])
        position = camera.translation_from_boxes(boxes, K, info.diameter, info.size_ratio).numpy()
        priors = None
        if tracks is not None:
            priors = tracks.priors([info.name], position, index * PERIOD, frame.world_from_camera)
        found = estimator.estimate(
            frame.view.image, MugViews.K, frame.view.box[None], position, priors
        )
        if tracks is not None:
            tracks.update(found)
        out.append(score(found[0], frame.view.camera_from_object))
    return out


def score(found: PoseDistribution, truth: np.ndarray) -> Score:
    """Compare a distribution with the true pose, [4, 4]."""
    import torch

    from spyropose_ros.core import se3_grid, so3

    rotation = torch.from_numpy(truth[:3, :3]).float()
    translation = torch.from_numpy(truth[:3, 3]).float()
    density = float(found.log_density(rotation[None], translation[None]))
    near = so3.geodesic_angle(found.rotations, rotation) <= _NEAR
    return Score(
        density - float(se3_grid.uniform_log_density(found.box)),
        found.entropy(),
        float(found.probabilities[near].sum()),
        density >= found.credible_region(0.9).log_density_threshold,
    )


def temporal(
    model: str = "models/demo_mug",
    count: int = 8,
    frames: int = 20,
    beam: int = 128,
    output: str = "runs/temporal",
) -> list[str]:
    """Measure, draw, and write the table.

    Args:
        model: bundle of the mug.
        count: random arcs.
        frames: of each arc.
        beam: of the search.
        output: folder of the table and the figure.

    Returns:
        The lines of the table.
    """
    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.demo.mug_views import MugViews
    from spyropose_ros.ros.pipeline.tracks import TemporalSettings

    estimator = Estimator.from_pretrained(model, settings=SearchSettings(beam))
    views, settings = MugViews(), TemporalSettings()
    stories = {
        "glimpse": glimpse(views),
        "rotated in sight": rotated_in_sight(views),
        "rotated out of sight": rotated_out_of_sight(views),
    }
    results = {}
    for name, story in stories.items():
        results[name] = [scores(estimator, story, s) for s in (None, settings)]
        log.info("%s: done", name)
    random_arcs = arcs(views, count, frames)
    several = [[scores(estimator, arc, s) for arc in random_arcs] for s in (None, settings)]

    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    _draw(stories, results, directory / "temporal.png")
    lines = _lines(results, several, estimator, settings, beam)
    (directory / "temporal.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return lines


_PHASES = {
    "glimpse": {
        "before: hidden": slice(0, 5),
        "handle in sight": slice(5, 11),
        "after: hidden": slice(13, None),
    },
    "rotated in sight": {
        "before": slice(0, 8),
        "first frame": slice(8, 9),
        "after": slice(9, None),
    },
    "rotated out of sight": {
        "handle in sight": slice(0, 4),
        "hidden, rotated": slice(9, 13),
        "in sight again": slice(14, None),
    },
}

_PHASE_HEADER = ["sequence", "frames"] + [
    name for quantity in ("LL", "entropy", "near") for name in (f"{quantity}: alone", "filter")
]
_ARC_HEADER = ["random arcs", "LL ± standard error", "lowest", "entropy", "in the 90 % region"]


def _lines(results, several, estimator: Estimator, settings: TemporalSettings, beam: int):
    """Return the tables in Markdown."""
    head = (
        f"demo_mug at {1 / PERIOD:g} Hz, beam {beam}, {settings}, on "
        f"{provenance.hardware(str(estimator.device))}. LL of the truth above uniform and entropy "
        "in nats; near: mass within 30 degrees of the true rotation."
    )
    by_phase = []
    for name, phases in _PHASES.items():
        for phase, part in phases.items():
            alone, filtered = (one[part] for one in results[name])
            cells = [
                f"{np.mean([getattr(s, key) for s in one]):{form}}"
                for key, form in (("gain", ".1f"), ("entropy", ".1f"), ("near", ".0%"))
                for one in (alone, filtered)
            ]
            by_phase.append([name, phase, *cells])
    arcs = []
    for name, runs in zip(("alone", "filter"), several, strict=True):
        gain = np.array([[s.gain for s in run] for run in runs])  # [arcs, frames]
        error = gain.mean(1).std(ddof=1) / len(gain) ** 0.5
        entropy = np.mean([[s.entropy for s in run] for run in runs])
        covered = np.mean([[s.covered for s in run] for run in runs])
        mean = f"{gain.mean():.2f} ± {error:.2f}"
        arcs.append([name, mean, f"{gain.min():.1f}", f"{entropy:.1f}", f"{covered:.0%}"])
    return [
        *(head, "", *markdown.table(_PHASE_HEADER, by_phase)),
        *("", *markdown.table(_ARC_HEADER, arcs)),
    ]


def _draw(stories, results, path: Path) -> None:
    """Draw a column per sequence: LL, mass near the truth, entropy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.3, 6.6), layout="constrained")
    axes = figure.subplots(3, len(stories), sharex="col", sharey="row")
    labels = (
        "LL of the truth\nabove uniform, nats",
        "mass within 30°\nof the truth",
        "entropy, nats",
    )
    for column, (name, story) in enumerate(stories.items()):
        visible = np.array([frame.view.handle_fraction >= 0.03 for frame in story])
        time = PERIOD * np.arange(len(story))
        for row, key in enumerate(("gain", "near", "entropy")):
            ax = axes[row, column]
            ax.fill_between(
                time,
                0,
                1,
                where=visible,
                step="mid",
                color="0.9",
                transform=ax.get_xaxis_transform(),
                label="handle in sight",
            )
            for run, label, colour in zip(
                results[name], ("every image alone", "filter"), ("C7", "C0"), strict=True
            ):
                ax.plot(time, [getattr(s, key) for s in run], ".-", color=colour, label=label)
            ax.set_ylabel(labels[row] if column == 0 else "")
        axes[0, column].set_title(name)
        axes[2, column].set_xlabel("time, s")
    axes[1, 1].legend(loc="center")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(temporal)
