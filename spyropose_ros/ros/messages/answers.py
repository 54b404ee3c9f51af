"""Answers to the services' questions about a distribution. Independent of ROS's graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spyropose_ros.core.bundle_files import Feature
from spyropose_ros.core.errors import InputError, SpyroposeError
from spyropose_ros.core.next_view import next_view
from spyropose_ros.core.questions import Targets
from spyropose_ros.ros.interfaces import (
    LocateFeature,
    NextView,
    Pose,
    PoseWithCovariance,
    QueryPose,
    ScoreGrasps,
    Vector3,
)
from spyropose_ros.ros.messages import conversions
from spyropose_ros.ros.messages.features import feature_estimate, marginal_of, point, vector, xyz
from spyropose_ros.ros.pipeline import rotations
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.history import History, Known

if TYPE_CHECKING:
    from spyropose_ros.ros.pipeline.models import Models

_MOST_SAMPLES, _MOST_COMPONENTS = 100_000, 16
_MASS = 0.9  # of an ellipsoid, where none is given


def answer(kind: Any, request: Any, history: History, models: Models) -> Any:
    """Answer one request.

    Args:
        kind: of the service.
        request: of that kind.
        history: the distributions that can be asked about.
        models: of the objects.

    Returns:
        The response; without success its message says why and what to do.
    """
    response = kind.Response()
    try:
        known = history.find(request.object, nanoseconds(request.stamp))
        _ANSWERS[kind](request, response, known, models)
    except SpyroposeError as error:
        failed = kind.Response()  # nothing of a half answer
        failed.message = str(error)
        return failed
    response.success = True
    response.header = known.header
    response.class_id = known.target.class_id
    response.detection_id = known.target.detection_id
    response.presence = known.presence
    return response


def _score_grasps(
    request: ScoreGrasps.Request, response: ScoreGrasps.Response, known: Known, models: Models
) -> None:
    R, t = _poses(request.grasps, "grasps")
    lengths = _one_each(request.translation_tolerances, len(R), "translation_tolerances")
    angles = _one_each(request.rotation_tolerances, len(R), "rotation_tolerances")
    planned_for = known.distribution.mode()
    success = known.distribution.success(Targets(R, t, lengths, angles), planned_for)
    response.probabilities = success.probabilities.tolist()
    response.best = int(success.best)
    response.uncovered = float(success.uncovered)
    (response.planned_for,) = conversions.poses(*(value[None] for value in planned_for))


def _query_pose(
    request: QueryPose.Request, response: QueryPose.Response, known: Known, models: Models
) -> None:
    distribution = known.distribution
    if request.samples > _MOST_SAMPLES or request.components > _MOST_COMPONENTS:
        raise InputError(
            f"{request.samples} samples and {request.components} components are asked for: at most "
            f"{_MOST_SAMPLES} and {_MOST_COMPONENTS} are given"
        )
    if request.poses:
        R, t = _poses(request.poses, "poses")
        within = distribution.probability_within(R, t, request.angle, request.distance)
        response.probabilities = within.tolist()
    if request.samples:
        response.samples = conversions.poses(*distribution.sample(request.samples))
    if request.components:
        mixture = distribution.mixture(request.components)
        means = conversions.poses(mixture.rotations, mixture.translations)
        covariances = mixture.covariances.flatten(1).numpy()
        response.components = [
            PoseWithCovariance(pose=mean, covariance=covariance)
            for mean, covariance in zip(means, covariances, strict=True)
        ]
        response.weights = mixture.weights.tolist()


def _locate_feature(
    request: LocateFeature.Request, response: LocateFeature.Response, known: Known, models: Models
) -> None:
    direction = xyz(request.direction)
    feature = Feature(xyz(request.point), direction if any(direction) else None)
    if request.feature:
        features = models.features(known.target.object_name)
        if request.feature not in features:
            raise InputError(
                f"the model of '{known.target.object_name}' has no feature '{request.feature}': "
                f"name one of {', '.join(sorted(features)) or 'none'}, or give its point"
            )
        feature = features[request.feature]
    marginal = marginal_of(known.distribution, feature)
    response.estimate = feature_estimate(request.feature, known.target, marginal)
    ellipsoid = marginal.ellipsoid(request.mass or _MASS)
    (response.ellipsoid,) = conversions.poses(ellipsoid.axes[None], ellipsoid.center[None])
    response.semi_axes = vector(ellipsoid.semi_axes)
    response.mass = ellipsoid.mass
    modes = marginal.modes()
    response.mode_positions = [point(mode.mean) for mode in modes]
    response.mode_masses = [mode.mass for mode in modes]


def _next_view(
    request: NextView.Request, response: NextView.Response, known: Known, models: Models
) -> None:
    R, t = _poses(request.cameras, "cameras")
    frame_from_cameras = np.tile(np.eye(4), (len(R), 1, 1))
    frame_from_cameras[:, :3, :3], frame_from_cameras[:, :3, 3] = R, t
    K = np.array(request.k, float).reshape(3, 3)
    name = known.target.object_name
    result = next_view(
        models.estimator(name),
        known.distribution,
        np.repeat((K if K.any() else known.K)[None], len(R), 0),
        frame_from_cameras,
        models.portrait(name),
    )
    response.best = result.best
    response.information = result.information.tolist()
    response.standard_error = result.standard_error.tolist()
    response.entropy = known.distribution.entropy() + conversions.LOG_VOLUME_RATIO


_ANSWERS: dict[type, Callable[[Any, Any, Known, Models], None]] = {
    ScoreGrasps: _score_grasps,
    QueryPose: _query_pose,
    LocateFeature: _locate_feature,
    NextView: _next_view,
}


def _poses(messages: Sequence[Pose], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Read poses: rotations [N, 3, 3] and translations in metres, [N, 3]."""
    if not messages:
        raise InputError(f"'{name}' is empty: give one pose or more")
    positions, quaternions = conversions.pose_arrays(messages)
    usable = np.isfinite(positions).all(1) & (np.linalg.norm(quaternions, axis=1) > 1e-6)
    if not (usable & np.isfinite(quaternions).all(1)).all():
        raise InputError(
            f"'{name}' has a pose without a finite position and a quaternion; no turn is 0 0 0 1"
        )
    R = torch.from_numpy(rotations.matrices(quaternions)).float()
    return R, torch.from_numpy(positions).float()


def _one_each(messages: Sequence[Vector3], count: int, name: str) -> torch.Tensor:
    """Read one vector for each of some grasps, [count, 3]; one alone stands for all."""
    if len(messages) not in (1, count):
        raise InputError(f"'{name}' has {len(messages)} vectors: give one, or {count}")
    values = torch.tensor(np.array([xyz(message) for message in messages]), dtype=torch.float32)
    if bool(values.isnan().any()):
        raise InputError(f"'{name}' has a value that is no number; inf stands for any")
    return values.expand(count, 3)
