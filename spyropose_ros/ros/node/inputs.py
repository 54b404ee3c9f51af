"""The subscriptions of one camera: they store, and hand over frames that are complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from spyropose_ros.ros.interfaces import Detection2DArray
from spyropose_ros.ros.node.health import Activity
from spyropose_ros.ros.pipeline.assembler import FrameSource, Input
from spyropose_ros.ros.pipeline.camera_frame import Frame
from spyropose_ros.ros.pipeline.drops import Drop, Reason
from spyropose_ros.ros.pipeline.parameters import Parameters

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_DETECTIONS_DEPTH = 10
_MAX_PUBLISHERS = 16  # per topic, that are remembered


class _Numbers:
    """Finds the messages that never came, by the numbers that their publishers give them.

    Reliable or not, the middleware overwrites what is not taken in time and tells nobody.

    Args:
        single: whether the topic has one publisher, for versions of ROS that do not say which.

    Attributes:
        known: whether the messages have numbers, which some middlewares do not give.
    """

    def __init__(self, single: Callable[[], bool]) -> None:
        self.known = False
        self._single = single
        self._last: dict[Any, int] = {}  # by publisher

    def missing(self, info: Mapping[str, Any]) -> int:
        """Messages between the one before and this one, of which rclpy has this information."""
        number = info.get("publication_sequence_number")
        self.known = number is not None
        if number is None:
            return 0
        gid = info.get("publisher_gid")
        publisher = gid and bytes(gid["data"])
        last = self._last.get(publisher, number)
        if len(self._last) == _MAX_PUBLISHERS and publisher not in self._last:
            self._last.clear()
        self._last[publisher] = number
        gap = max(number - last - 1, 0)
        return gap if gap and (publisher or self._single()) else 0


class CameraInput:
    """Subscribes to the topics of one camera.

    Args:
        node: owns the subscriptions.
        camera: its name, put before the topics; empty where there is only one.
        parameters: transport, quality of service and matching.
        activity: told of every message.
        drop: called for everything that is lost.
        submit: gets the frames.
    """

    def __init__(
        self,
        node: Node,
        camera: str,
        parameters: Parameters,
        activity: Activity,
        drop: Drop,
        submit: Callable[[Frame], object],
    ) -> None:
        self.source = FrameSource(camera, parameters, drop)
        self._node = node
        self._activity = activity
        self._drop = drop
        self._submit = submit
        self._subscriptions: list[Any] = []
        self.topics: list[str] = []
        reliability = ReliabilityPolicy[parameters.qos.reliability.upper()]
        newest = QoSProfile(depth=parameters.qos.depth, reliability=reliability)
        # Always reliable: they are tiny, and what is lost here is never estimated
        detections = QoSProfile(depth=_DETECTIONS_DEPTH)
        for entry in self.source.inputs:
            self._subscribe(entry, detections if entry.kind is Detection2DArray else newest)

    def close(self) -> None:
        """Ends the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _subscribe(self, entry: Input, qos: QoSProfile) -> None:
        topic = self._node.resolve_topic_name(entry.name)
        numbers = _Numbers(lambda: self._node.count_publishers(topic) == 1)

        def receive(message: Any, info: Mapping[str, Any]) -> None:
            self._activity.receive(topic)
            if missing := numbers.missing(info):
                self._on_lost(topic, missing)
            for frame in entry.store(message):
                self._submit(frame)

        # Humble hands over no information
        with_info = hasattr(Subscription, "CallbackType")
        self.topics.append(topic)
        self._subscriptions.append(
            self._node.create_subscription(
                entry.kind,
                entry.name,
                receive if with_info else lambda message: receive(message, {}),
                qos,
                event_callbacks=SubscriptionEventCallbacks(
                    incompatible_qos=lambda event: self._on_incompatible_qos(topic, event),
                    message_lost=lambda event: (
                        numbers.known or self._on_lost(topic, event.total_count_change)
                    ),
                ),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
        )

    def _on_incompatible_qos(self, topic: str, event: Any) -> None:
        self._drop(
            Reason.INCOMPATIBLE_QOS,
            f"a publisher on {topic} offers less than is asked for and is not heard: set "
            "qos.reliability: best_effort, or the publisher to reliable",
            event.total_count_change,
        )

    def _on_lost(self, topic: str, count: int) -> None:
        self._drop(
            Reason.LOST,
            f"messages on {topic} were lost on their way: try qos.reliability: reliable, "
            "image_transport: compressed, or for bursts a larger qos.depth",
            count,
        )
