"""Numbers of one frame, and the verdict on all of them against the model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from spyropose_ros.bop import HALF_TURN_OBJECTS, LMO_OBJECTS, BopDataset, load_models_info
from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.demo.plan import Model
from spyropose_ros.ros.pipeline.rotations import matrices

if TYPE_CHECKING:
    from spyropose_ros.demo.received import ReceivedDistribution

HANDLE_VISIBLE = 0.05  # share of the visible pixels, as in the model card
FULLY_VISIBLE = 0.9  # share of the silhouette, as in the model card
HALF_VISIBLE = 0.5
MIN_ANSWERED = 0.9
MIN_DETECTED = 0.8
MOST_OF_A_GUESS = 0.5  # of the rotation error that a guess has
MOST_SIDEWAYS = 0.25  # of the diameter
LEAST_COVERED = 0.5
_GUESSES = 1000


@dataclass(frozen=True)
class FrameResult:
    """One frame with its distribution. Angles in degrees, lengths in metres, entropies in nats.

    Attributes:
        frame: Number of the frame or photograph.
        visible_fraction: Of the object's silhouette.
        handle_fraction: Of the visible pixels; None without a handle.
        latency: From the image's stamp to the received distribution, seconds.
        inference: Part of it that the estimator took, seconds.
        modes: Number of modes.
        entropy: Of the whole pose, per m^3 rad^3.
        axis_entropy: Of the rotation about the object's z axis.
        spread: Mean angle between the poses and the leading mode.
        rotation_error: Of the leading mode; of the densest pose without modes.
        best_mode_error: Rotation error of the mode nearest to the truth; None without modes.
        sideways_error: Of the same pose's centre, across the viewing ray.
        depth_error: The same along the ray.
        centrality: Share of the poses whose rotation is more central than the true one.
        truncated_mass: Probability that the message left out.
        box: xyxy of the exact box, pixels.
    """

    frame: str
    visible_fraction: float
    handle_fraction: float | None
    latency: float
    inference: float
    modes: int
    entropy: float
    axis_entropy: float
    spread: float
    rotation_error: float
    best_mode_error: float | None
    sideways_error: float
    depth_error: float
    centrality: float
    truncated_mass: float
    box: tuple[float, float, float, float]

    @property
    def is_clear(self) -> bool:
        """Whether what decides the pose is visible: the handle, or nearly the whole object."""
        if self.handle_fraction is None:
            return self.visible_fraction >= FULLY_VISIBLE
        return self.handle_fraction >= HANDLE_VISIBLE

    @property
    def is_hidden(self) -> bool:
        """Whether it is hidden: all of the handle, or half of the object."""
        if self.handle_fraction is None:
            return self.visible_fraction < HALF_VISIBLE
        return self.handle_fraction == 0


def pose_errors(
    distribution: ReceivedDistribution, rotation: np.ndarray, translation: np.ndarray, model: Model
) -> dict[str, Any]:
    """Compute the errors of a distribution.

    Args:
        distribution: As received.
        rotation: True, object to camera, [3, 3].
        translation: True, metres, [3].
        model: Which object it is.

    Returns:
        The errors by their names in FrameResult.
    """
    estimate, position = (part.double().numpy() for part in distribution.mode())
    true_center = rotation @ model.center + translation
    offset = estimate @ model.center + position - true_center
    ray = true_center / np.linalg.norm(true_center)
    depth = float(offset @ ray)
    rotations = matrices(
        np.array([_quaternion(mode.pose) for mode in distribution.message.modes]).reshape(-1, 4)
    )
    equivalent = rotation @ _known_symmetries(model)  # [S, 3, 3]
    return {
        "rotation_error": _angle(estimate, equivalent),
        "best_mode_error": min((_angle(r, equivalent) for r in rotations), default=None),
        "sideways_error": float(np.linalg.norm(offset - depth * ray)),
        "depth_error": abs(depth),
        "centrality": min(distribution.centrality(r) for r in equivalent),
    }


def _known_symmetries(model: Model) -> np.ndarray:
    return part_symmetries(*model.data) if model.is_part else symmetries(model.object_name)


def symmetries(object_name: str) -> np.ndarray:
    """Return rotations [S, 3, 3] that leave an object's appearance unchanged, with identity."""
    number = LMO_OBJECTS.get(object_name.removeprefix("lmo/"))
    half_turn = [np.diag([-1.0, -1.0, 1.0])] if number in HALF_TURN_OBJECTS else []
    return np.stack([np.eye(3), *half_turn])


@cache
def part_symmetries(dataset: str, name: str) -> np.ndarray:
    """Return the same of a part, as its data set says; where that is gone, say so: identity."""
    try:
        info = load_models_info(dataset)[BopDataset(dataset).object_id(name)]
    except (SpyroposeError, OSError) as error:
        print(f"the symmetries of {name} are unknown, so it is judged without ({error})")
        return np.eye(3)[None]
    return info.symmetries[:, :3, :3]


@dataclass(frozen=True)
class Check:
    """One condition of the verdict.

    Attributes:
        text: What was measured and what is required.
        passed: Whether it holds.
    """

    text: str
    passed: bool


def verdict(
    results: Sequence[FrameResult], visible: Sequence[float], model: Model, annotated: bool
) -> list[Check]:
    """Judge a run, see RULE.

    Args:
        results: The frames that got a distribution.
        visible: What is visible of the object in each frame that the camera published.
        model: The model and with it its card.
        annotated: Whether boxes came from annotations, so that none was missed.

    Returns:
        All conditions, met or not.
    """
    answered = _answered(results, visible, model.has_photographs and not annotated)
    try:
        report = json.loads(model.report.read_text())
        metrics = report["metrics"]
        clear_group = _group(metrics, "handle visible") if model.has_handle else _visible(metrics)
        return [answered, *_compare(results, clear_group, metrics, model)]
    except (OSError, ValueError, KeyError, StopIteration) as error:
        text = (
            f"no usable model card at {model.report} ({type(error).__name__}): make it with: "
            f"./run evaluate {model.directory}"
        )
        return [answered, Check(text, False)]


def _answered(results: Sequence[FrameResult], visible: Sequence[float], detected: bool) -> Check:
    """Check how many frames got a distribution; of those that were detected in, the clear ones."""
    total, limit, which = len(visible), MIN_ANSWERED, "frames"
    count = len(results)
    if detected:
        limit, which = MIN_DETECTED, "frames that show half of the object or more"
        count = sum(result.visible_fraction >= HALF_VISIBLE for result in results)
        total = sum(fraction >= HALF_VISIBLE for fraction in visible)
    share = count / max(total, 1)
    text = f"distributions for {count} of {total} {which} ({share:.0%}; >= {100 * limit:.0f} %)"
    if detected:
        text += f", for {len(results)} of all {len(visible)}"
    return Check(text, share >= limit)


def _compare(results: Sequence[FrameResult], card: dict, groups: dict, model: Model) -> list[Check]:
    """Check the conditions on the errors."""
    clear = [result for result in results if result.is_clear]
    when = "handle visible" if model.has_handle else "visible >= 90 %"
    if not clear:
        return [Check(f"no frame with {when} got a distribution", False)]
    rotation = float(np.median([result.rotation_error for result in clear]))
    sideways = 1000 * float(np.median([result.sideways_error for result in clear]))
    covered = float(np.mean([result.centrality <= 0.9 for result in results]))
    # The card of a model that has learned little would let anything pass.
    guess = _guessing_error(_known_symmetries(model))
    rotation_limit = min(1.5 * card["rotation_median_deg"] + 2, MOST_OF_A_GUESS * guess)
    sideways_limit = min(1500 * card["lateral_median_m"] + 2, 1000 * MOST_SIDEWAYS * model.diameter)
    covered_limit = max(groups["all"]["coverage"]["0.9"] - 0.15, LEAST_COVERED)
    checks = [
        Check(
            f"rotation error {rotation:.1f} deg ({when}, median; <= {rotation_limit:.1f})",
            rotation <= rotation_limit,
        ),
        Check(
            f"sideways error {sideways:.1f} mm ({when}, median; <= {sideways_limit:.1f})",
            sideways <= sideways_limit,
        ),
        Check(
            f"truth among the most central 90 % of the rotations in {covered:.0%} of the frames "
            f"(>= {covered_limit:.0%})",
            covered >= covered_limit,
        ),
    ]
    if model.has_handle:
        checks.append(_ambiguity(results, clear, card, _group(groups, "handle hidden")))
    return checks


def _ambiguity(results, clear, card_clear: dict, card_hidden: dict) -> Check:
    """Check the condition on the entropy about the mug's axis."""
    hidden = [result for result in results if result.is_hidden]
    if not hidden:
        return Check("no frame with a hidden handle got a distribution", False)
    low, high = (np.mean([result.axis_entropy for result in part]) for part in (clear, hidden))
    least = 0.5 * (card_hidden["axis_entropy_mean"] - card_clear["axis_entropy_mean"])
    return Check(
        f"hiding the handle raises the entropy about the axis by {high - low:.2f} nats "
        f"(>= {least:.2f})",
        bool(high - low >= least),
    )


def _visible(metrics: dict) -> dict:
    """Return the group of the images that show the object; all, if none hides it."""
    return metrics.get("visible >= 0.9", metrics["all"])


def _group(metrics: dict, prefix: str) -> dict:
    """Return the group of the card whose name has a prefix."""
    return next(value for name, value in metrics.items() if name.startswith(prefix))


def _angle(rotation: np.ndarray, others: np.ndarray) -> float:
    """Return the smallest angle in degrees between a rotation [3, 3] and others [S, 3, 3]."""
    cosines = (np.einsum("sij,ij->s", others, rotation) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosines.max(), -1, 1))))


def _guessing_error(equivalent: np.ndarray) -> float:
    """Return the median error in degrees of random rotations, modulo symmetries [S, 3, 3]."""
    guesses = Rotation.random(_GUESSES, random_state=0).as_matrix()
    return float(np.median([_angle(guess, equivalent) for guess in guesses]))


def _quaternion(pose) -> tuple[float, float, float, float]:
    q = pose.orientation
    return q.x, q.y, q.z, q.w
