"""From distributions to messages."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spyropose_ros.core.presence import with_score
from spyropose_ros.ros.interfaces import (
    BoundingBox3D,
    Detection3D,
    Detection3DArray,
    Duration,
    Header,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point,
    Pose,
    PoseArray,
    PoseDistribution,
    PoseMode,
    PoseWithCovariance,
    PoseWithCovarianceStamped,
    Quaternion,
    TFMessage,
    Transform,
    TransformStamped,
    Vector3,
)
from spyropose_ros.ros.messages.tf_poses import ChosenPose
from spyropose_ros.ros.pipeline import rotations
from spyropose_ros.ros.pipeline.appearance import Appearance
from spyropose_ros.ros.pipeline.detections import Target
from spyropose_ros.ros.pipeline.drops import BadInputError, Reason

if TYPE_CHECKING:
    from spyropose_ros.core import distribution as core
    from spyropose_ros.core._modes import Mode

# SO(3) has the volume pi^2 in core and 8 pi^2 (rad^3) in messages
LOG_VOLUME_RATIO = math.log(8)


def poses(rotation: Any, translation: Any) -> list[Pose]:
    """Make pose messages.

    Args:
        rotation: rotation matrices, tensor or array [N, 3, 3].
        translation: metres, tensor or array [N, 3].

    Returns:
        N messages.
    """
    positions = np.asarray(translation, dtype=float).tolist()
    quaternions = rotations.quaternions(np.asarray(rotation, dtype=float)).tolist()
    messages = []
    for xyz, xyzw in zip(positions, quaternions, strict=True):
        message = Pose()  # fill the default parts: passing new ones would construct both
        position, orientation = message.position, message.orientation
        position.x, position.y, position.z = xyz
        orientation.x, orientation.y, orientation.z, orientation.w = xyzw
        messages.append(message)
    return messages


def pose_arrays(messages: Sequence[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """Read pose messages as positions in metres [N, 3] and quaternions x, y, z, w [N, 4]."""
    values = [
        (p.position.x, p.position.y, p.position.z)
        + (p.orientation.x, p.orientation.y, p.orientation.z, p.orientation.w)
        for p in messages
    ]
    rows = np.array(values, dtype=float).reshape(-1, 7)
    return rows[:, :3], rows[:, 3:]


def pose_matrix(message: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Read a pose message as a rotation matrix [3, 3] and a position in metres [3]."""
    (position,), (quaternion,) = pose_arrays([message])
    return rotations.matrix(quaternion), position


def distribution_message(
    distribution: core.PoseDistribution,
    header: Header,
    target: Target,
    max_poses: int,
    model_id: str,
    inference_time: float,
) -> PoseDistribution:
    """Convert a distribution to a message, see msg/PoseDistribution.msg.

    Args:
        distribution: of the target's pose, on the CPU.
        header: of the image.
        target: the detection it belongs to.
        max_poses: largest number of poses listed; the others count as truncated mass.
        model_id: name of the model.
        inference_time: seconds.

    Returns:
        The message; its poses are the most probable ones.

    Raises:
        BadInputError: if the distribution has values that are not finite.
    """
    top = distribution.top(max_poses)
    weights = top.probabilities.double().numpy()
    log_densities = top.log_densities.numpy() - LOG_VOLUME_RATIO
    kept = weights > 0  # masses so small that they round to zero
    if not (np.isfinite(weights).all() and np.isfinite(log_densities[kept]).all()):
        raise BadInputError(
            Reason.ERROR,
            f"model {model_id} returned probabilities that are not finite: is the bundle damaged?",
        )
    weights = weights[kept] / max(1.0, weights.sum())  # rounding may add up to more than 1
    return PoseDistribution(
        header=header,
        class_id=target.class_id,
        detection_id=target.detection_id,
        detection_score=target.score,
        presence=with_score(distribution.presence, target.score),
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


def detections_3d(
    header: Header,
    distributions: Sequence[PoseDistribution],
    appearances: Sequence[Appearance],
    max_modes: int,
) -> Detection3DArray:
    """Convert the modes of distributions to hypotheses of detections.

    Args:
        header: of the outputs.
        distributions: one per object.
        appearances: one per object.
        max_modes: largest number of modes listed.

    Returns:
        One detection per distribution, with its detection_id. Its results are the modes by
        descending mass, which is their score; none where the distribution has no modes. The box is
        the object's, at the leading mode; of size 0 without modes.
    """
    return Detection3DArray(
        header=header,
        detections=[
            Detection3D(
                header=header,
                results=[
                    ObjectHypothesisWithPose(
                        hypothesis=ObjectHypothesis(
                            class_id=distribution.class_id, score=mode.mass
                        ),
                        pose=_pose_with_covariance(mode),
                    )
                    for mode in distribution.modes[:max_modes]
                ],
                bbox=_bounding_box(distribution, appearance),
                id=distribution.detection_id,
            )
            for distribution, appearance in zip(distributions, appearances, strict=True)
        ],
    )


def leading_pose(
    header: Header, distributions: Sequence[PoseDistribution], min_mass: float
) -> PoseWithCovarianceStamped | None:
    """Convert the most probable mode of all objects.

    Args:
        header: of the outputs.
        distributions: one per object.
        min_mass: the mass that the mode must exceed.

    Returns:
        The leading mode with the largest mass; None if no mode exceeds min_mass.
    """
    leading = [distribution.modes[0] for distribution in distributions if distribution.modes]
    most_probable = max(leading, key=lambda mode: mode.mass, default=None)
    if most_probable is None or most_probable.mass <= min_mass:
        return None
    return PoseWithCovarianceStamped(header=header, pose=_pose_with_covariance(most_probable))


def transforms(header: Header, frame_id: str, chosen: Sequence[ChosenPose]) -> TFMessage:
    """Convert poses for TF.

    Args:
        header: of the outputs, for the stamp.
        frame_id: the parent of all, without a leading slash.
        chosen: the poses.

    Returns:
        One transform per pose.
    """
    parent = Header(stamp=header.stamp, frame_id=frame_id)
    messages = []
    for pose in chosen:
        x, y, z = map(float, pose.translation)
        qx, qy, qz, qw = rotations.quaternion(pose.rotation).tolist()
        transform = Transform(
            translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)
        )
        messages.append(
            TransformStamped(header=parent, child_frame_id=pose.child, transform=transform)
        )
    return TFMessage(transforms=messages)


def resampled_poses(
    distributions: Sequence[core.PoseDistribution], header: Header, count: int
) -> PoseArray:
    """Draw poses in proportion to their probability, so that their density shows it.

    Args:
        distributions: on the CPU.
        header: of the image.
        count: poses drawn per distribution.

    Returns:
        The poses of all distributions in one message.
    """
    message = PoseArray(header=header)
    for distribution in distributions:
        message.poses += poses(*distribution.poses(distribution.resample(count)))
    return message


def duration(seconds: float) -> Duration:
    """Make a non-negative duration message."""
    whole, rest = divmod(round(seconds * 1e9), 10**9)
    return Duration(sec=whole, nanosec=rest)


def _pose_with_covariance(mode: PoseMode) -> PoseWithCovariance:
    return PoseWithCovariance(pose=mode.pose, covariance=mode.covariance)


def _bounding_box(distribution: PoseDistribution, appearance: Appearance) -> BoundingBox3D:
    if not distribution.modes:
        return BoundingBox3D()
    leading = distribution.modes[0].pose
    rotation, position = pose_matrix(leading)
    x, y, z = (rotation @ appearance.center + position).tolist()
    width, depth, height = appearance.extents
    return BoundingBox3D(
        center=Pose(position=Point(x=x, y=y, z=z), orientation=leading.orientation),
        size=Vector3(x=width, y=depth, z=height),
    )


def _modes(modes: Sequence[Mode]) -> list[PoseMode]:
    if not modes:
        return []
    pose = poses([mode.rotation.numpy() for mode in modes], [m.translation.numpy() for m in modes])
    return [
        PoseMode(pose=p, covariance=mode.covariance.double().numpy().ravel(), mass=mode.mass)
        for p, mode in zip(pose, modes, strict=True)
    ]
