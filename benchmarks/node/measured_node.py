"""The estimator, measured from within: what `staged_node` and `timed_node` have in common."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from benchmarks.node.graph import MARK
from spyropose_ros.ros.node.lifecycle_node import EstimatorNode


def run(measure: Callable[[EstimatorNode], Callable[[], dict[str, list[float]]]]) -> int:
    """Run a node until it is interrupted, then print figures for `graph.Estimator.figures`.

    Args:
        measure: begins to measure a node; returns what gives the figures in the end.

    Returns:
        The exit code.
    """
    interrupted = threading.Event()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    node = EstimatorNode()
    figures = measure(node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not (interrupted.is_set() or node.failure.done()):
        executor.spin_once(timeout_sec=0.5)
    node.stop()
    print(MARK + json.dumps(figures()), flush=True)
    return 0
