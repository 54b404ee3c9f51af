"""The detector node and its process: ros2 run spyropose_ros detector."""

from __future__ import annotations

from typing import Any

from spyropose_ros.ros.interfaces import Detection2DArray
from spyropose_ros.ros.node.detector_session import DetectorSession
from spyropose_ros.ros.node.managed_node import ManagedNode
from spyropose_ros.ros.pipeline.detector_parameters import DetectorNodeParameters
from spyropose_ros.ros.pipeline.detectors import check_detector
from spyropose_ros.ros.pipeline.objects import demo_bundle, locate


class DetectorNode(ManagedNode[DetectorNodeParameters]):
    """Publishes the boxes of known objects in every image it can keep up with.

    Args:
        **options: passed on to rclpy's Node.

    Raises:
        ParameterError: see ManagedNode.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("detector", "detections", DetectorNodeParameters(), **options)

    def _advertise(self) -> None:
        self._publisher = self.create_publisher(Detection2DArray, "detections", 10)

    def _check(self) -> None:
        given = self._settings.current.detector.bundle
        self._bundle = locate(given, "detector") if given else demo_bundle()
        check_detector(self._bundle)

    def _make_session(self) -> DetectorSession:
        return DetectorSession(
            self,
            lambda: self._settings.current,
            self._bundle,
            self._publisher,
            self.activity,
            self.drops,
            self.failure.set_result,
        )
