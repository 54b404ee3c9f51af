"""From marginals of features to messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spyropose_ros.ros.interfaces import FeatureEstimate, FeatureEstimateArray, Point, Vector3
from spyropose_ros.ros.pipeline.camera_frame import Result
from spyropose_ros.ros.pipeline.detections import Target

if TYPE_CHECKING:
    from spyropose_ros.core.bundle_files import Feature
    from spyropose_ros.core.distribution import PoseDistribution
    from spyropose_ros.core.marginal import Marginal
    from spyropose_ros.ros.pipeline.models import Models


_POSES = 4096  # all points of a distribution take as long as its search


def feature_estimates(result: Result, models: Models) -> FeatureEstimateArray:
    """Return where all named features of a result's objects are."""
    return FeatureEstimateArray(
        header=result.header,
        features=[
            feature_estimate(name, target, marginal_of(distribution, feature, _POSES))
            for target, distribution in zip(result.targets, result.distributions, strict=True)
            for name, feature in models.features(target.object_name).items()
        ],
    )


def feature_estimate(name: str, target: Target, marginal: Marginal) -> FeatureEstimate:
    """Return where a feature of an object is.

    Args:
        name: of the feature.
        target: the detection.
        marginal: of the feature.

    Returns:
        The message.
    """
    direction = marginal.direction
    return FeatureEstimate(
        feature=name,
        class_id=target.class_id,
        detection_id=target.detection_id,
        position=point(marginal.mean),
        covariance=marginal.covariance.flatten().double().numpy(),
        direction=Vector3() if direction is None else vector(direction),
        direction_spread=marginal.direction_spread,
    )


def marginal_of(
    distribution: PoseDistribution, feature: Feature, poses: int | None = None
) -> Marginal:
    """Return the distribution of a feature, from some equally probable poses or from all."""
    import torch  # takes a second, and what only names topics needs no features

    direction = None if feature.direction is None else torch.tensor(feature.direction)
    return distribution.marginal(torch.tensor(feature.point), direction, poses=poses)


def point(values: Sequence[float] | Any) -> Point:
    """Make a point of three numbers."""
    x, y, z = map(float, values)
    return Point(x=x, y=y, z=z)


def vector(values: Sequence[float] | Any) -> Vector3:
    """Make a vector of three numbers."""
    x, y, z = map(float, values)
    return Vector3(x=x, y=y, z=z)


def xyz(message: Point | Vector3) -> list[float]:
    """Read a point or vector, [3]."""
    return [message.x, message.y, message.z]
