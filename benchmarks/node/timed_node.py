"""The estimator with a timer of 50 ms in its executor: a process of `benchmarks.node.latency`.

The timer fires late when a callback, or another thread that keeps Python's lock, holds the executor
up. When interrupted it prints what it saw as a line of JSON.
"""

from __future__ import annotations

import time

from rclpy.clock import Clock, ClockType

from benchmarks.node import measured_node
from spyropose_ros.ros.node.health import Work
from spyropose_ros.ros.node.lifecycle_node import EstimatorNode

PERIOD = 0.05  # seconds


class Watch:
    """Measures the executor of a node, and every result.

    Args:
        node: gets the timer.
    """

    def __init__(self, node: EstimatorNode) -> None:
        self._activity = node.activity
        self._publish, node.activity.publish = node.activity.publish, self._keep
        self._works: list[Work] = []
        self._fired: list[float] = []
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(PERIOD, lambda: self._fired.append(time.monotonic()), clock=steady)

    def figures(self) -> dict[str, list[float]]:
        """Return the timer's gaps since the first result, and the results' times."""
        gaps = [b - a for a, b in zip(self._fired, self._fired[1:], strict=False)]
        return {
            "gap": gaps,
            "age": [work.age for work in self._works],
            "inference": [work.inference for work in self._works],
            "latency": [work.latency for work in self._works],
        }

    def _keep(self, work: Work) -> int:
        if not self._works:
            self._fired.clear()  # loading is over
        self._works.append(work)
        return self._publish(work)


if __name__ == "__main__":
    raise SystemExit(measured_node.run(lambda node: Watch(node).figures))
