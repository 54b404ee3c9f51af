"""Listens to the topics of the estimator for the self check."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from spyropose_ros.ros.node import checks
from spyropose_ros.ros.node.checks import Line, Offer
from spyropose_ros.ros.pipeline.assembler import Assembler, Input
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.drops import BadInputError
from spyropose_ros.ros.pipeline.frame_source import Role
from spyropose_ros.ros.pipeline.images import decode
from spyropose_ros.ros.pipeline.parameters import Parameters
from spyropose_ros.ros.pipeline.topic_choice import likely


class Listener:
    """Finds the publishers of the estimator's topics and collects their messages.

    Args:
        node: spun by the methods.
        parameters: of the estimator.
        detects: whether detectors in its process find the boxes.

    Attributes:
        detections: messages of all cameras.
    """

    detections: list[Any]

    def __init__(self, node: Node, parameters: Parameters, detects: bool) -> None:
        self._node = node
        self._parameters = parameters
        self._entries = Assembler(
            parameters, node.resolve_topic_name, lambda *_: None, lambda _: None, detects
        ).inputs
        self.detections = []

    def topics(self, timeout: float) -> Iterator[Line]:
        """Look for the publishers of all topics.

        Args:
            timeout: longest wait for them, seconds.

        Yields:
            A line per topic.
        """
        self._spin(timeout, lambda: all(self._offers(entry) for entry in self._entries))
        for entry in self._entries:
            offers = self._offers(entry)
            reliability = self._parameters.qos.reliability
            yield checks.publishers(entry, offers, self._others(entry), reliability)

    def messages(self, period: float) -> Iterator[Line]:
        """Collect messages of the topics that are published.

        Args:
            period: how long, seconds.

        Yields:
            Lines about what arrived, and the calibration of each camera.
        """
        received: dict[Input, list[Any]] = defaultdict(list)
        ages: dict[Input, list[float]] = defaultdict(list)
        published = [entry for entry in self._entries if self._offers(entry)]

        def store(entry: Input, message: Any) -> None:
            received[entry].append(message)
            now = self._node.get_clock().now().nanoseconds
            ages[entry].append(1e-9 * (now - nanoseconds(message.header.stamp)))

        for entry in published:
            reliable = all(offer.reliable for offer in self._offers(entry))
            policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
            self._node.create_subscription(
                entry.kind,
                entry.name,
                lambda message, entry=entry: store(entry, message),
                QoSProfile(depth=5, reliability=policy),
            )
        if published:
            self._spin(period, lambda: False)
        for entry in published:
            yield checks.arrivals(entry, received[entry], ages[entry], period)
        for entry in published:
            if entry.role is Role.DETECTIONS:
                self.detections += received[entry]
            elif entry.role is Role.IMAGE and received[entry]:
                info = [
                    received[other]
                    for other in published
                    if (other.camera, other.role) == (entry.camera, Role.CAMERA_INFO)
                ]
                yield from self._image(received[entry][-1], info[0] if info else [])

    def _image(self, image: Any, info: list[Any]) -> Iterator[Line]:
        try:
            height, width = decode(image).shape[:2]
        except BadInputError as error:
            yield Line(False, f"image: {error}")
            return
        if info:
            yield checks.calibration(info[-1], width, height, self._parameters.rectified)

    def _offers(self, entry: Input) -> list[Offer]:
        return [
            Offer(
                found.topic_type, found.qos_profile.reliability is not ReliabilityPolicy.BEST_EFFORT
            )
            for found in self._node.get_publishers_info_by_topic(entry.topic)
        ]

    def _others(self, entry: Input) -> list[str]:
        """Return the topics with publishers that may be meant instead of one without."""
        published = [
            (topic, kind)
            for topic, kinds in self._node.get_topic_names_and_types()
            for kind in kinds
            if self._node.count_publishers(topic)
        ]
        return likely(published, entry.kind, entry.role, {other.topic for other in self._entries})

    def _spin(self, timeout: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not done():
            rclpy.spin_once(self._node, timeout_sec=0.05)
