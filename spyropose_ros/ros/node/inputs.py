"""The subscriptions to images, calibrations and detections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from spyropose_ros.ros.node.health import Activity
from spyropose_ros.ros.pipeline.assembler import Input
from spyropose_ros.ros.pipeline.drops import Drop, Reason
from spyropose_ros.ros.pipeline.frame_source import Role
from spyropose_ros.ros.pipeline.parameters import Parameters

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_DETECTIONS_DEPTH = 10
_MAX_PUBLISHERS = 16  # remembered per topic


class _SequenceNumbers:
    """Counts the messages that never arrived, by the sequence numbers of their publishers.

    Reliable or not, the middleware silently overwrites what is not taken in time.

    Args:
        single: tells whether the topic has one publisher, for ROS versions that do not say which.

    Attributes:
        known: whether the messages have numbers; some middlewares give none.
    """

    known: bool

    def __init__(self, single: Callable[[], bool]) -> None:
        self.known = False
        self._single = single
        self._last: dict[Any, int] = {}  # by publisher

    def missing(self, info: Mapping[str, Any]) -> int:
        """Return the number of messages lost before this one, by the information rclpy gives."""
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


class Inputs:
    """Subscribes to the topics that frames are made from.

    Args:
        node: owns the subscriptions.
        entries: the topics.
        parameters: quality of service.
        activity: told of every message.
        drop: called for everything that is lost.
        receive: called with every message and its topic.
    """

    def __init__(
        self,
        node: Node,
        entries: Sequence[Input],
        parameters: Parameters,
        activity: Activity,
        drop: Drop,
        receive: Callable[[Input, Any], object],
    ) -> None:
        self._node = node
        self._activity = activity
        self._drop = drop
        self._receive = receive
        reliability = ReliabilityPolicy[parameters.qos.reliability.upper()]
        newest = QoSProfile(depth=parameters.qos.depth, reliability=reliability)
        # Always reliable: they are tiny, and what is lost here is never estimated
        detections = QoSProfile(depth=_DETECTIONS_DEPTH)
        self._subscriptions = [
            self._subscribe(entry, detections if entry.role is Role.DETECTIONS else newest)
            for entry in entries
        ]

    def close(self) -> None:
        """Destroy the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _subscribe(self, entry: Input, qos: QoSProfile) -> Subscription:
        topic = entry.topic
        numbers = _SequenceNumbers(lambda: self._node.count_publishers(topic) == 1)

        def receive(message: Any, info: Mapping[str, Any]) -> None:
            self._activity.receive(topic)
            if missing := numbers.missing(info):
                self._on_lost(topic, missing)
            self._receive(entry, message)

        def on_lost(event: Any) -> None:
            if not numbers.known:
                self._on_lost(topic, event.total_count_change)

        # Humble hands over no information
        with_info = hasattr(Subscription, "CallbackType")
        return self._node.create_subscription(
            entry.kind,
            entry.name,
            receive if with_info else lambda message: receive(message, {}),
            qos,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=lambda event: self._on_incompatible_qos(topic, event),
                message_lost=on_lost,
            ),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _on_incompatible_qos(self, topic: str, event: Any) -> None:
        self._drop(
            Reason.INCOMPATIBLE_QOS,
            f"a publisher on {topic} offers less than is requested and is not received: set "
            "qos.reliability: best_effort, or the publisher to reliable",
            event.total_count_change,
        )

    def _on_lost(self, topic: str, count: int) -> None:
        self._drop(
            Reason.LOST,
            f"messages on {topic} were lost in transit: try qos.reliability: reliable, "
            "image_transport: compressed, or for bursts a larger qos.depth",
            count,
        )
