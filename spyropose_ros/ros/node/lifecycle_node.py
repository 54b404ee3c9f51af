"""The estimator node."""

from __future__ import annotations

from typing import Any

from spyropose_ros.ros.node.managed_node import ManagedNode
from spyropose_ros.ros.node.outputs import Outputs
from spyropose_ros.ros.node.remapping import is_remapped
from spyropose_ros.ros.node.session import Session
from spyropose_ros.ros.pipeline.detectors import choose_detectors
from spyropose_ros.ros.pipeline.objects import check_objects
from spyropose_ros.ros.pipeline.parameters import Parameters


class EstimatorNode(ManagedNode[Parameters]):
    """Publishes the pose distribution of every detected object in every image it can keep up with.

    Args:
        **options: passed on to rclpy's Node.

    Raises:
        ParameterError: see ManagedNode.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("estimator", "pose distributions", Parameters(), **options)

    def _advertise(self) -> None:
        self._outputs = Outputs(self)

    def _check(self) -> None:
        check_objects(self._settings.current)
        self._detectors = choose_detectors(
            self._settings.current, lambda name: is_remapped(self, name)
        )

    def _make_session(self) -> Session:
        return Session(
            self,
            lambda: self._settings.current,
            self._detectors,
            self._outputs,
            self.activity,
            self.drops,
            self.failure.set_result,
        )
