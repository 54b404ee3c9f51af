"""The subscriptions to images, calibrations and detections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from spyropose_ros.ros.node.adaptive_subscription import AdaptiveSubscription
from spyropose_ros.ros.node.health import Activity
from spyropose_ros.ros.pipeline.assembler import Input
from spyropose_ros.ros.pipeline.drops import Drop, Reason
from spyropose_ros.ros.pipeline.frame_source import Role
from spyropose_ros.ros.pipeline.parameters import NodeParameters

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
        self._last[publisher] = max(number, last) if publisher else number  # some come twice
        gap = max(number - last - 1, 0)
        return gap if gap and (publisher or self._single()) else 0

    def forget(self) -> None:
        """Begin anew, after messages that nobody was subscribed to."""
        self._last.clear()


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
        parameters: NodeParameters,
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
            subscription.close()

    def _subscribe(self, entry: Input, qos: QoSProfile) -> AdaptiveSubscription:
        topic = entry.topic
        numbers = _SequenceNumbers(lambda: self._node.count_publishers(topic) == 1)

        def receive(message: Any, info: Mapping[str, Any]) -> None:
            self._activity.receive(topic)
            if missing := numbers.missing(info):
                self._drop(Reason.LOST, _remedy(entry, subscription), missing)
            self._receive(entry, message)

        def on_lost(count: int) -> None:
            if not numbers.known:
                self._drop(Reason.LOST, _remedy(entry, subscription), count)

        # Humble hands over no information
        with_info = hasattr(Subscription, "CallbackType")
        subscription = AdaptiveSubscription(
            self._node,
            entry.kind,
            entry.name,
            receive if with_info else lambda message: receive(message, {}),
            qos,
            say=lambda text: self._drop(Reason.INCOMPATIBLE_QOS, text),
            on_lost=on_lost,
            latched=entry.role is Role.CAMERA_INFO,  # some drivers publish it once
            on_again=numbers.forget,
        )
        return subscription


def _remedy(entry: Input, subscription: AdaptiveSubscription) -> str:
    """Say how fewer messages get lost."""
    remedies = []
    if subscription.less_reliable:
        remedies.append("set the reliability of its publisher to reliable")
    elif not subscription.reliable:
        remedies.append("set qos.reliability: reliable")
    if entry.role is Role.IMAGE and not entry.name.endswith("compressed"):
        remedies.append("use image_transport: compressed")
        remedies.append("give Fast DDS room for raw images (config/fastdds.xml)")
    depth = "qos.depth"
    if entry.role is Role.DETECTIONS:
        depth = f"qos_overrides.{entry.topic}.subscription.depth"
    remedies.append(f"raise {depth} for bursts")
    return f"messages on {entry.topic} were lost in transit: {', or '.join(remedies)}"
