"""The services that answer questions about distributions, in a thread of low priority."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from spyropose_ros.ros.interfaces import LocateFeature, NextView, QueryPose, ScoreGrasps
from spyropose_ros.ros.pipeline.history import History

if TYPE_CHECKING:
    from spyropose_ros.ros.pipeline.models import Models

SERVICES: dict[str, type] = {
    "~/score_grasps": ScoreGrasps,
    "~/query_pose": QueryPose,
    "~/locate_feature": LocateFeature,
    "~/next_view": NextView,
}

_NICENESS = 10
_STOP_TIMEOUT = 1.0  # seconds
_LOADING = "the models are still loading: wait for the first message on ~/distributions"


class Questions:
    """Offers the services until it is closed.

    They belong to a hidden node with an executor of its own: rclpy runs all callbacks of a node in
    one executor, where an answer that takes seconds would hold up images.

    Args:
        node: that the services are named after.
        history: the distributions that can be asked about.
        models: gives those that are loaded, None before.
    """

    def __init__(self, node: Node, history: History, models: Callable[[], Models | None]) -> None:
        self._logger = node.get_logger()
        self._history, self._models = history, models
        # Remappings of the command line hold for the names that `node` resolves, once.
        self._node = Node(
            f"_{node.get_name()}_questions",
            namespace=node.get_namespace(),
            context=node.context,
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter("start_type_description_service", value=False)],
        )
        for name, kind in SERVICES.items():
            self._node.create_service(kind, node.resolve_service_name(name), self._answers(kind))
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="questions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the services; an answer that is being made is lost if it takes longer than 1 s."""
        self._executor.shutdown(_STOP_TIMEOUT)
        self._thread.join(_STOP_TIMEOUT)
        self._node.destroy_node()

    def _spin(self) -> None:
        # Linux has a niceness for every thread, and those that PyTorch starts for it inherit it.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        with suppress(ExternalShutdownException, ShutdownException):
            self._executor.spin()

    def _answers(self, kind: Any) -> Callable[[Any, Any], Any]:
        def callback(request: Any, _: Any) -> Any:
            models = self._models()
            if models is None:  # the other thread may have imported half of PyTorch
                return kind.Response(success=False, message=_LOADING)
            from spyropose_ros.ros.messages.answers import answer

            try:
                return answer(kind, request, self._history, models)
            except Exception as error:  # whatever is asked, the next question is answered
                text = f"{type(error).__name__}: {error}"
                self._logger.error(f"a question could not be answered: {text}")
                return kind.Response(success=False, message=text)

        return callback
