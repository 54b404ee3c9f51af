"""What every PoseDistribution message satisfies, see msg/PoseDistribution.msg."""

from __future__ import annotations

import math

import numpy as np

from spyropose_ros.ros.interfaces import PoseDistribution
from spyropose_ros.ros.messages.conversions import pose_arrays

TOLERANCE = 1e-6


def check_invariants(message: PoseDistribution) -> None:
    """Check the invariants that msg/PoseDistribution.msg states.

    Args:
        message: as the node publishes it.

    Raises:
        ValueError: naming the first invariant that is violated.
    """
    weights = np.asarray(message.weights)
    positions, quaternions = pose_arrays(message.poses)
    scalars = (message.entropy, message.effective_sample_size, message.truncated_mass)
    modes = message.modes
    masses = np.array([mode.mass for mode in modes])
    covariances = np.array([mode.covariance for mode in modes]).reshape(-1, 6, 6)
    invariants = {
        "one weight per pose": len(weights) == len(message.poses),
        "one log density per pose, or none": len(message.log_densities) in (0, len(weights)),
        "finite weights": np.isfinite(weights).all(),
        "finite positions": np.isfinite(positions).all(),
        "finite log densities": np.isfinite(message.log_densities).all(),
        "finite entropy, effective sample size and truncated mass": np.isfinite(scalars).all(),
        "unit quaternions": np.allclose(np.square(quaternions).sum(-1), 1, atol=TOLERANCE),
        "weights >= 0": (weights >= 0).all(),
        "weights in descending order": (np.diff(weights) <= 0).all(),
        "presence from 0 to 1, or NaN": not (message.presence < 0 or message.presence > 1),
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
    for invariant, kept in invariants.items():
        if not kept:
            raise ValueError(f"pose distribution of {message.class_id!r} violates: {invariant}")
