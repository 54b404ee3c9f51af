"""Measure calibration on the mug: `python -m benchmarks.accuracy.coverage --frames 500`.

The demo's rendered mug, with the demo's detector and search settings, goes through the node's
pipeline without a graph. Counts how often the true pose lies in the credible regions and, where
one mode has nearly all mass, in the ellipsoids of that mode's covariance. Ends with 1 if the 90 %
region misses the range that it should have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import binomtest, chi2

from spyropose_ros.demo import frames as demo
from spyropose_ros.demo.camera import FRAME_ID, camera_info, visible_message
from spyropose_ros.demo.plan import shipped_model
from spyropose_ros.ros.interfaces import Detection2DArray, Header
from spyropose_ros.ros.pipeline.camera_frame import Frame, FrameSet
from spyropose_ros.ros.pipeline.drops import DropCounter
from spyropose_ros.ros.pipeline.images import image_message
from spyropose_ros.ros.pipeline.parameters import Parameters, SearchParameters
from spyropose_ros.ros.pipeline.tf_buffer import TransformBuffer
from training import cli, markdown, provenance

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution

MASSES = (0.5, 0.8, 0.9, 0.95)
PROMISED, RANGE = 0.9, (0.80, 0.97)
UNIMODAL = 0.95  # least mass of the leading mode
_SEED = 1  # of the detector, as in the demo
_PERIOD = 0.1  # seconds between frames


@dataclass(frozen=True)
class Outcome:
    """One frame against the truth.

    Attributes:
        handle: visible share of the mug's pixels that the handle has.
        inside: whether the true pose is in the region of each of MASSES.
        leading: mass of the leading mode; 0 without modes.
        distance: squared Mahalanobis distance of the truth from that mode.
    """

    handle: float
    inside: tuple[bool, ...]
    leading: float
    distance: float


def coverage(frames: int = 500, beam: int = 128, device: str = "cpu") -> int:
    """Measure the coverage of the credible regions and of the covariance.

    Args:
        frames: along the demo's path.
        beam: of the search.
        device: where the model runs.

    Returns:
        The exit code.
    """
    from spyropose_ros.ros.pipeline.models import Models
    from spyropose_ros.ros.pipeline.pipeline import Pipeline

    parameters = Parameters(
        objects=(str(shipped_model("mug")),),
        device=device,
        threads=1,
        search=SearchParameters(beam=beam),
    )
    drops = DropCounter(print, print)
    models = Models(parameters, lambda text: None)
    pipeline = Pipeline(models, TransformBuffer(), drops.add, warn=print, debug=print)
    outcomes = []
    for index, frame in enumerate(demo.open_frames("mug", frames)):
        result = pipeline.process(FrameSet((message(frame, index),)), parameters)
        if result is not None and result.distributions:
            outcomes.append(judge(result.distributions[0], frame))
        if (index + 1) % 50 == 0:
            print(f"{index + 1} of {frames} frames", flush=True)
    share = np.mean([outcome.inside[MASSES.index(PROMISED)] for outcome in outcomes])
    passed = len(outcomes) == frames and RANGE[0] <= share <= RANGE[1]
    print(f"\n{provenance.command()}; beam {beam}; {provenance.hardware(device)}\n")
    print(table(outcomes))
    print(
        f"\n{len(outcomes)} of {frames} frames estimated; the {PROMISED:.0%} region holds the "
        f"truth in {share:.1%} of them, {'within' if passed else 'NOT within'} "
        f"{RANGE[0]:.0%} to {RANGE[1]:.0%}"
    )
    return 0 if passed else 1


def message(frame: demo.Frame, index: int) -> Frame:
    """Return the messages of a frame, its box as the demo's detector gives it."""
    from spyropose_ros.demo.detector import noisy

    header = Header(frame_id=FRAME_ID)
    stamp = round((1 + index * _PERIOD) * 1e9)
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
    height, width = frame.image.shape[:2]
    info = camera_info(frame.K, width, height)
    info.header = header
    (exact,) = visible_message(header, frame, "mug").detections
    detections = Detection2DArray(header=header, detections=[noisy(header, exact, _SEED)])
    return Frame("", image_message(header, frame.image), detections, info)


def judge(found: PoseDistribution, frame: demo.Frame) -> Outcome:
    """Compare a distribution with the true pose."""
    import torch

    rotation = torch.from_numpy(frame.rotation).float()
    translation = torch.from_numpy(frame.translation).float()
    density = float(found.log_density(rotation[None], translation[None]))
    inside = tuple(density >= found.credible_region(mass).log_density_threshold for mass in MASSES)
    leading = next(iter(found.modes()), None)
    if leading is None:
        return Outcome(frame.handle_fraction, inside, 0.0, math.inf)
    angles = Rotation.from_matrix(frame.rotation @ leading.rotation.double().numpy().T).as_rotvec()
    offset = np.concatenate([frame.translation - leading.translation.double().numpy(), angles])
    distance = float(offset @ np.linalg.solve(leading.covariance.double().numpy(), offset))
    return Outcome(frame.handle_fraction, inside, leading.mass, distance)


def table(outcomes: list[Outcome]) -> str:
    """Return the rows of coverage, with the range in which 95 % of chance would put it."""
    groups = {
        "region, all frames": outcomes,
        "region, handle >= 5 %": [o for o in outcomes if o.handle >= 0.05],
        "region, handle hidden": [o for o in outcomes if o.handle == 0],
    }
    single = [outcome for outcome in outcomes if outcome.leading >= UNIMODAL]
    rows = {
        name: [[o.inside[k] for o in group] for k in range(len(MASSES))]
        for name, group in groups.items()
    }
    rows[f"covariance, mode >= {UNIMODAL:.0%}"] = [
        [outcome.distance <= chi2.ppf(mass, df=6) for outcome in single] for mass in MASSES
    ]
    lines = markdown.table(
        ["truth inside", "frames", *(f"{mass:.0%}" for mass in MASSES)],
        [[name, str(len(columns[0])), *map(_share, columns)] for name, columns in rows.items()],
    )
    if single:
        median = np.median([outcome.distance for outcome in single])
        lines.append(
            f"\nsquared Mahalanobis distance, median: {median:.2f} "
            f"(chi2 with 6 degrees of freedom: {chi2.median(6):.2f})"
        )
    return "\n".join(lines)


def _share(inside: list[bool]) -> str:
    if not inside:
        return "-"
    interval = binomtest(sum(inside), len(inside)).proportion_ci(0.95, "wilson")
    return f"{np.mean(inside):.1%} ({interval.low:.0%} to {interval.high:.0%})"


if __name__ == "__main__":
    raise SystemExit(cli.run(coverage))
