"""The estimator with clocks around its stages: a process of `benchmarks.node.end_to_end`.

When interrupted it prints the seconds of every stage of every frame as a line of JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from benchmarks.node import measured_node
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.network.keypoint_model import PoseModel
from spyropose_ros.ros.messages import conversions
from spyropose_ros.ros.node.lifecycle_node import EstimatorNode
from spyropose_ros.ros.node.outputs import Outputs
from spyropose_ros.ros.node.session import Session
from spyropose_ros.ros.pipeline import pipeline

_STAGES = {
    "decode, rectify, choose": (pipeline, "observe"),
    "crops": (Estimator, "crops"),
    "backbone": (PoseModel, "features"),
    "estimate (crops, backbone, search)": (pipeline, "estimate_boxes"),
    "distribution message": (conversions, "distribution_message"),
    "outputs (messages, publishing)": (Outputs, "publish"),
    "all in the worker's thread": (Session, "_handle"),
}


def time_stages(_: EstimatorNode) -> Callable[[], dict[str, list[float]]]:
    """Put clocks around the stages; return what gives the seconds by stage."""
    times: dict[str, list[float]] = {name: [] for name in _STAGES}
    for name, (owner, function) in _STAGES.items():
        setattr(owner, function, _timed(getattr(owner, function), times[name]))
    return lambda: times


def _timed(function: Callable, seconds: list[float]) -> Callable:
    """Return the function, which notes how long every call takes."""

    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    return timed


if __name__ == "__main__":
    raise SystemExit(measured_node.run(time_stages))
