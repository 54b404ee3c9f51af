"""From a result to the messages about it: the same for the node and for bags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spyropose_ros.ros.interfaces import (
    Detection3DArray,
    FeatureEstimateArray,
    Image,
    MarkerArray,
    PoseArray,
    PoseDistribution,
    PoseDistributionArray,
    PoseWithCovarianceStamped,
    TFMessage,
)
from spyropose_ros.ros.messages import conversions, figures, markers
from spyropose_ros.ros.messages.features import feature_estimates
from spyropose_ros.ros.messages.tf_poses import ChosenPose, ObjectPoses, TransformChooser
from spyropose_ros.ros.pipeline import images
from spyropose_ros.ros.pipeline.appearance import Appearance
from spyropose_ros.ros.pipeline.camera_frame import Result, nanoseconds
from spyropose_ros.ros.pipeline.parameters import Parameters

if TYPE_CHECKING:
    from spyropose_ros.ros.pipeline.models import Models

TOPICS: dict[str, type] = {
    "~/distributions": PoseDistributionArray,
    "detections_3d": Detection3DArray,
    "~/pose": PoseWithCovarianceStamped,
    "/tf": TFMessage,
    "~/poses": PoseArray,
    "~/markers": MarkerArray,
    "~/marginals": FeatureEstimateArray,
    "~/overlay": Image,
    "~/rotations": Image,
}

_MAX_FANS = 2  # objects of a frame that ~/markers shows by fans of meshes: they cost the most
_TF_LEAVES = 20_000  # the most probable cells, as many as the modes are made of


def messages(
    result: Result,
    models: Models,
    parameters: Parameters,
    chooser: TransformChooser,
    wanted: Callable[[str], bool] = lambda topic: True,
) -> Iterator[tuple[str, Any]]:
    """Make the messages about a result lazily.

    Args:
        result: the result.
        models: give names and appearances of the objects.
        parameters: present settings.
        chooser: chooses the TF poses of this sequence of results.
        wanted: tells whether a topic of TOPICS is needed; the others cost nothing.

    Yields:
        Topics with their messages in the order of TOPICS. ~/pose is absent where no mode has more
        mass than output.min_mass, /tf unless publish_tf is set, ~/rotations without objects.

    Raises:
        BadInputError: before the first message, if a distribution has values that are not finite.
    """
    header, settings = result.header, parameters.output
    appearances = [models.appearance(target.object_name) for target in result.targets]
    distributions = [
        conversions.distribution_message(
            distribution,
            header,
            target,
            settings.max_poses,
            models.model_id(target.object_name),
            result.inference_time,
        )
        for target, distribution in zip(result.targets, result.distributions, strict=True)
    ]
    makers: dict[str, Callable[[], Any | None]] = {
        "~/distributions": lambda: PoseDistributionArray(
            header=header, distributions=distributions
        ),
        "detections_3d": lambda: conversions.detections_3d(
            header, distributions, appearances, settings.max_modes
        ),
        "~/pose": lambda: conversions.leading_pose(header, distributions, settings.min_mass),
        "/tf": lambda: _transforms(result, distributions, appearances, parameters, chooser),
        "~/poses": lambda: conversions.resampled_poses(
            result.distributions, header, settings.max_poses
        ),
        "~/markers": lambda: _markers(result, distributions, appearances, parameters),
        "~/marginals": lambda: feature_estimates(result, models),
        "~/overlay": lambda: images.image_message(
            header, figures.overlay(result, [appearance.size for appearance in appearances])
        ),
        "~/rotations": lambda: (
            images.image_message(header, figures.rotation_maps(result))
            if result.distributions
            else None
        ),
    }
    for topic in TOPICS:
        if wanted(topic) and (message := makers[topic]()) is not None:
            yield topic, message


def _markers(
    result: Result,
    messages: Sequence[PoseDistribution],
    appearances: Sequence[Appearance],
    parameters: Parameters,
) -> MarkerArray:
    """Draw the distributions, the least certain ones by fans of meshes."""
    from spyropose_ros.core.plots import ghosts, mode_ghosts  # torch: only the worker waits for it

    settings = parameters.output
    certainty = [message.modes[0].mass if message.modes else 0.0 for message in messages]
    fans = np.argsort(certainty, kind="stable")[:_MAX_FANS]
    drawn = [
        (ghosts if number in fans else mode_ghosts)(distribution)
        if settings.mesh and appearance.mesh is not None
        else None
        for number, (distribution, appearance) in enumerate(
            zip(result.distributions, appearances, strict=True)
        )
    ]
    world = parameters.fixed_frame and result.header.frame_id == parameters.fixed_frame
    up = (0.0, 0.0, 1.0) if world else (0.0, -1.0, 0.0)  # REP-103
    return markers.marker_array(result.header, messages, appearances, drawn, settings.min_mass, up)


def _transforms(
    result: Result,
    messages: Sequence[PoseDistribution],
    appearances: Sequence[Appearance],
    parameters: Parameters,
    chooser: TransformChooser,
) -> TFMessage | None:
    """Return the chosen pose of every object that has a mode; None without any, or if disabled."""
    frame_id = result.header.frame_id.lstrip("/")  # as tf2 wants it
    if not (parameters.publish_tf and frame_id):
        return None
    objects = []
    for target, distribution, message, appearance in zip(
        result.targets, result.distributions, messages, appearances, strict=True
    ):
        if message.modes:
            rotation, translation = conversions.pose_matrix(message.modes[0].pose)
            rotations, translations = distribution.poses(slice(_TF_LEAVES))
            objects.append(
                ObjectPoses(
                    target.object_name,
                    appearance.size,
                    rotation,
                    translation,
                    message.modes[0].mass,
                    rotations.numpy(),
                    translations.numpy(),
                    distribution.probabilities[:_TF_LEAVES].numpy(),
                )
            )
    stamp = nanoseconds(result.header.stamp)
    chosen: list[ChosenPose] = chooser.update(
        stamp, frame_id, objects, parameters.tf_hysteresis, result.epoch
    )
    return conversions.transforms(result.header, frame_id, chosen) if chosen else None
