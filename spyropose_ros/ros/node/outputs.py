"""The publishers of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rclpy.node import Node

from spyropose_ros.ros.interfaces import String
from spyropose_ros.ros.messages.model_info import model_info
from spyropose_ros.ros.messages.result_messages import TOPICS, messages
from spyropose_ros.ros.messages.tf_poses import TransformChooser
from spyropose_ros.ros.node.adaptive_subscription import LATCHED
from spyropose_ros.ros.pipeline.camera_frame import Result
from spyropose_ros.ros.pipeline.parameters import Parameters

if TYPE_CHECKING:
    from spyropose_ros.ros.pipeline.finder import Finder
    from spyropose_ros.ros.pipeline.models import Models

_DEPTHS = {"~/distributions": 5, "/tf": 100}  # tf2 broadcasts with 100


class Outputs:
    """Publishes results reliably. Messages without subscribers are not made.

    Args:
        node: owns the publishers.
    """

    def __init__(self, node: Node) -> None:
        self._publishers: dict[str, Any] = {
            topic: node.create_publisher(kind, topic, _DEPTHS.get(topic, 1))
            for topic, kind in TOPICS.items()
        }
        self._model_info = node.create_publisher(String, "~/model_info", LATCHED)
        self._chooser = TransformChooser()

    def publish(self, result: Result, models: Models, parameters: Parameters) -> None:
        """Publish a result on all topics, the distributions first.

        Args:
            result: of one frame set.
            models: that it was estimated with.
            parameters: present settings.

        Raises:
            BadInputError: if a distribution has values that are not finite; nothing is published.
        """
        for topic, message in messages(result, models, parameters, self._chooser, self._wanted):
            self._publishers[topic].publish(message)

    def publish_model_info(
        self, models: Models, parameters: Parameters, finder: Finder | None
    ) -> None:
        """Publish the models and settings, also for late subscribers."""
        self._model_info.publish(model_info(models, parameters, finder))

    def _wanted(self, topic: str) -> bool:
        return self._publishers[topic].get_subscription_count() > 0
