"""The estimator with clocks around its stages: a process of `benchmarks.end_to_end`.

When interrupted it prints the seconds of every stage of every frame as a line of JSON.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.model import PoseModel
from spyropose_ros.ros import conversions, pipeline
from spyropose_ros.ros.node import EstimatorNode
from spyropose_ros.ros.outputs import Outputs
from spyropose_ros.ros.session import Session

MARK = "measured: "
_STAGES = {
    "decode, rectify, choose": (pipeline, "observe"),
    "crops": (Estimator, "crops"),
    "backbone": (PoseModel, "features"),
    "estimate (crops, backbone, search)": (pipeline, "estimate_boxes"),
    "distribution message": (conversions, "distribution_message"),
    "outputs (messages, publishing)": (Outputs, "publish"),
    "all in the worker's thread": (Session, "_estimate_and_publish"),
}


def main() -> int:
    """Entry point."""
    interrupted = threading.Event()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    times: dict[str, list[float]] = defaultdict(list)
    node = EstimatorNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    for name, (owner, function) in _STAGES.items():
        setattr(owner, function, _timed(getattr(owner, function), times[name]))
    while not (interrupted.is_set() or node.failure.done()):
        executor.spin_once(timeout_sec=0.5)
    node.stop()
    print(MARK + json.dumps(times), flush=True)
    return 0


def _timed(function: Callable, seconds: list[float]) -> Callable:
    """The function, which notes how long every call takes."""

    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    return timed


if __name__ == "__main__":
    raise SystemExit(main())
