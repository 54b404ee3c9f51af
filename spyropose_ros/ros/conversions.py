"""From the estimator's distributions to messages, and what every such message must satisfy."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spyropose_ros.ros import rotations
from spyropose_ros.ros.detections import Target
from spyropose_ros.ros.diagnostics import BadInput, Reason
from spyropose_ros.ros.interfaces import (
    Duration,
    Header,
    Point,
    Pose,
    PoseArray,
    PoseDistribution,
    PoseMode,
    Quaternion,
)

if TYPE_CHECKING:
    from spyropose_ros.core import distribution as core

# SO(3) has the volume pi^2 in core and 8 pi^2 (rad^3) in messages
LOG_VOLUME_RATIO = math.log(8)
TOLERANCE = 1e-6


def poses(rotation: Any, translation: Any) -> list[Pose]:
    """Makes pose messages.

    Args:
        rotation: rotation matrices, tensor or array [N, 3, 3].
        translation: metres, tensor or array [N, 3].
    """
    places = np.asarray(translation, dtype=float).tolist()
    turns = rotations.quaternions(np.asarray(rotation, dtype=float)).tolist()
    return [
        Pose(
            position=Point(x=x, y=y, z=z),
            orientation=Quaternion(x=qx, y=qy, z=qz, w=qw),
        )
        for (x, y, z), (qx, qy, qz, qw) in zip(places, turns, strict=True)
    ]


def pose_arrays(messages: Sequence[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """Reads pose messages.

    Returns:
        Positions in metres [N, 3] and quaternions x, y, z, w [N, 4].
    """
    values = [
        (p.position.x, p.position.y, p.position.z)
        + (p.orientation.x, p.orientation.y, p.orientation.z, p.orientation.w)
        for p in messages
    ]
    rows = np.array(values, dtype=float).reshape(-1, 7)
    return rows[:, :3], rows[:, 3:]


def distribution_message(
    distribution: core.PoseDistribution,
    header: Header,
    target: Target,
    max_poses: int,
    model_id: str,
    inference_time: float,
) -> PoseDistribution:
    """Writes a distribution as a message, see msg/PoseDistribution.msg.

    Args:
        distribution: of the target's pose, on the CPU.
        header: of the image.
        target: the detection it belongs to.
        max_poses: how many poses are listed at most; the others count as truncated mass.
        model_id: name of the model.
        inference_time: seconds.

    Raises:
        BadInput: if the distribution has values that are not finite.
    """
    top = distribution.top(max_poses)
    weights = top.probabilities.double().numpy()
    log_densities = top.log_densities.numpy() - LOG_VOLUME_RATIO
    kept = weights > 0  # masses so small that they round to zero
    if not (np.isfinite(weights).all() and np.isfinite(log_densities[kept]).all()):
        raise BadInput(
            Reason.ERROR,
            f"model {model_id} gave probabilities that are not finite: is the bundle damaged?",
        )
    weights = weights[kept] / max(1.0, weights.sum())  # rounding may add up to more than 1
    return PoseDistribution(
        header=header,
        class_id=target.class_id,
        detection_id=target.detection_id,
        detection_score=target.score,
        poses=poses(top.rotations[kept], top.translations[kept]),
        weights=array("d", weights),
        truncated_mass=max(0.0, 1.0 - math.fsum(weights)),
        log_densities=array("f", log_densities[kept]),
        rotation_resolution=distribution.rotation_resolution,
        translation_resolution=distribution.translation_resolution,
        recursion_depth=distribution.depth,
        num_cells=len(distribution),
        entropy=distribution.entropy() + LOG_VOLUME_RATIO,
        effective_sample_size=distribution.effective_sample_size(),
        modes=_modes(distribution.modes()),
        model_id=model_id,
        inference_time=duration(inference_time),
    )


def resampled_poses(
    distributions: Sequence[core.PoseDistribution], header: Header, count: int
) -> PoseArray:
    """Draws poses in proportion to their probability, so that their number shows it.

    Args:
        distributions: on the CPU.
        header: of the image.
        count: poses drawn per distribution.
    """
    message = PoseArray(header=header)
    for distribution in distributions:
        drawn = systematic_resampling(distribution.probabilities.double().numpy(), count)
        top = distribution.top(int(drawn.max()) + 1)
        message.poses += poses(top.rotations[drawn], top.translations[drawn])
    return message


def systematic_resampling(weights: np.ndarray, count: int) -> np.ndarray:
    """Draws indices so that each comes up floor or ceil of ``count`` times its weight.

    The usual random offset is fixed at one half, which makes the result repeatable.

    Args:
        weights: non-negative with a positive sum, [N].
        count: how many are drawn.

    Returns:
        Ascending indices, int64 [count].

    Source: Kitagawa, Monte Carlo filter and smoother, 1996.
    """
    cumulative = np.cumsum(weights)
    positions = (np.arange(count) + 0.5) / count * cumulative[-1]
    return np.searchsorted(cumulative, positions, side="right")


def duration(seconds: float) -> Duration:
    """Makes a non-negative duration message."""
    whole, rest = divmod(round(seconds * 1e9), 10**9)
    return Duration(sec=whole, nanosec=rest)


def nanoseconds(stamp: Any) -> int:
    """Reads a builtin_interfaces/Time as one integer."""
    return stamp.sec * 10**9 + stamp.nanosec


def check_invariants(message: PoseDistribution) -> None:
    """Checks what msg/PoseDistribution.msg promises.

    Raises:
        ValueError: naming the first promise that is broken.
    """
    weights = np.asarray(message.weights)
    place, turn = pose_arrays(message.poses)
    scalars = (message.entropy, message.effective_sample_size, message.truncated_mass)
    modes = message.modes
    masses = np.array([mode.mass for mode in modes])
    covariances = np.array([mode.covariance for mode in modes]).reshape(-1, 6, 6)
    promises = {
        "one weight per pose": len(weights) == len(message.poses),
        "one log density per pose, or none": len(message.log_densities) in (0, len(weights)),
        "finite weights": np.isfinite(weights).all(),
        "finite positions": np.isfinite(place).all(),
        "finite log densities": np.isfinite(message.log_densities).all(),
        "finite entropy, effective sample size and truncated mass": np.isfinite(scalars).all(),
        "unit quaternions": np.allclose(np.square(turn).sum(-1), 1, atol=TOLERANCE),
        "weights >= 0": (weights >= 0).all(),
        "weights in descending order": (np.diff(weights) <= 0).all(),
        "truncated mass from 0 to 1": 0 <= message.truncated_mass <= 1 + TOLERANCE,
        "weights and truncated mass add up to 1": math.isclose(
            weights.sum() + message.truncated_mass, 1, abs_tol=TOLERANCE
        ),
        "modes in descending order of mass": (np.diff(masses) <= 0).all(),
        "masses of the modes add up to at most 1": masses.sum() <= 1 + TOLERANCE,
        "finite, symmetric covariances": np.isfinite(covariances).all()
        and np.allclose(covariances, covariances.transpose(0, 2, 1)),
        "positive resolutions": min(message.rotation_resolution, message.translation_resolution)
        > 0,
    }
    for promise, kept in promises.items():
        if not kept:
            raise ValueError(f"pose distribution of {message.class_id!r} breaks: {promise}")


def _modes(modes: Sequence[core.Mode]) -> list[PoseMode]:
    messages = []
    for mode in modes:
        (pose,) = poses(mode.rotation[None], mode.translation[None])
        covariance = mode.covariance.double().numpy().ravel()
        messages.append(PoseMode(pose=pose, covariance=covariance, mass=float(mode.mass)))
    return messages
