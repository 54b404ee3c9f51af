"""The publishers of the node, and what they say about a processed frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rclpy.node import Node

from spyropose_ros.ros import conversions, images, markers
from spyropose_ros.ros.detections import Target
from spyropose_ros.ros.interfaces import (
    Header,
    Image,
    MarkerArray,
    PoseArray,
    PoseDistribution,
    PoseDistributionArray,
)
from spyropose_ros.ros.parameters import OutputParameters

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution as Distribution
    from spyropose_ros.ros.models import Models

PLOT_SIZE = (480, 320)


@dataclass(frozen=True)
class Result:
    """A processed frame.

    Args:
        header: of the image.
        image: RGB uint8 [H, W, 3].
        K: intrinsics [3, 3].
        targets: the detections that were estimated.
        distributions: one per target, on the CPU.
        inference_time: seconds.
    """

    header: Header
    image: np.ndarray
    K: np.ndarray
    targets: Sequence[Target]
    distributions: Sequence[Distribution]
    inference_time: float


class Outputs:
    """Publishes results. Markers and pictures are made only for subscribers.

    Args:
        node: owns the publishers.
    """

    def __init__(self, node: Node) -> None:
        self._distributions = node.create_publisher(PoseDistributionArray, "~/distributions", 5)
        self._poses = node.create_publisher(PoseArray, "~/poses", 1)
        self._markers = node.create_publisher(MarkerArray, "~/markers", 1)
        self._overlay = node.create_publisher(Image, "~/overlay", 1)
        self._rotations = node.create_publisher(Image, "~/rotations", 1)

    def publish(self, result: Result, models: Models, settings: OutputParameters) -> None:
        """Publishes a processed frame on all topics, the distributions first."""
        header = result.header
        messages = [
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
        self._distributions.publish(PoseDistributionArray(header=header, distributions=messages))
        self._poses.publish(
            conversions.resampled_poses(result.distributions, header, settings.max_poses)
        )
        if self._markers.get_subscription_count():
            self._publish_markers(result, messages, models, settings.mesh)
        if self._overlay.get_subscription_count():
            self._publish_image(self._overlay, header, _draw_overlay(result, models))
        if self._rotations.get_subscription_count() and result.distributions:
            self._publish_image(self._rotations, header, _draw_rotations(result))

    def _publish_markers(
        self, result: Result, messages: list[PoseDistribution], models: Models, mesh: bool
    ) -> None:
        looks = [models.appearance(target.object_name) for target in result.targets]
        self._markers.publish(markers.marker_array(result.header, messages, looks, mesh))

    def _publish_image(self, publisher, header: Header, rgb: np.ndarray) -> None:
        publisher.publish(images.fill_image(Image(), header, rgb))


def _draw_overlay(result: Result, models: Models) -> np.ndarray:
    from spyropose_ros.core import plots  # with torch: only the worker thread waits for it

    return plots.overlay(
        result.image,
        result.K,
        list(result.distributions),
        [models.appearance(target.object_name).size for target in result.targets],
        labels=[target.class_id for target in result.targets],
    )


def _draw_rotations(result: Result) -> np.ndarray:
    """Stacks the rotation plots of all objects, [n * H, W, 3]."""
    from spyropose_ros.core import plots

    return np.concatenate([plots.rotation_plot(d, size=PLOT_SIZE) for d in result.distributions])
