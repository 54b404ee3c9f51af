"""How long an image takes to its distributions: `python -m benchmarks.node.end_to_end`.

The estimator is a process of its own; this one publishes an image (640x480 rgb8) with its camera
info and detections, waits for the distributions, and only then publishes the next. Prints the time
from the image's publication to the arrival of its distributions, and the node's own stages, which
it measures with clocks around the functions it calls.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future

from benchmarks.node import graph
from benchmarks.node.latency import Camera
from spyropose_ros.core.search_settings import SearchSettings
from spyropose_ros.demo.processes import isolate
from spyropose_ros.ros.interfaces import NextView, Pose, PoseDistributionArray
from training import cli, markdown, provenance

_WARM_UP = 10  # images
_CAMERAS = 12  # of a question
_PATIENCE = 5.0  # seconds; the first images may be lost while the processes discover each other


def end_to_end(
    images: int = 60,
    beam: int = SearchSettings.beam,
    mass_tolerance: float = SearchSettings.mass_tolerance,
    threads: int = 2,
    questions: bool = False,
) -> int:
    """Measure one detection at a time.

    Args:
        images: how many.
        beam: of the search.
        mass_tolerance: of the search.
        threads: of the model.
        questions: ask ~/next_view, the slowest of all, again and again meanwhile.

    Returns:
        The exit code.
    """
    from benchmarks.node import staged_node

    isolate()
    parameters = {
        "threads": threads,
        "search.beam": beam,
        "search.mass_tolerance": mass_tolerance,
    }
    directory = Path(tempfile.mkdtemp(prefix="end_to_end_"))
    with (
        rclpy.init(args=[]),
        graph.Estimator(parameters, directory, staged_node.__name__) as estimator,
    ):
        camera = Camera()
        arrived: list[float] = []
        node = rclpy.create_node("listener")
        node.create_subscription(
            PoseDistributionArray,
            "/estimator/distributions",
            lambda _: arrived.append(time.monotonic()),
            5,
        )
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        client = node.create_client(NextView, "/estimator/next_view")
        asked: list[Future] = []
        estimator.wait_for("ready after")
        times = []
        while len(times) < _WARM_UP + images:
            if questions and times and (not asked or asked[-1].done()):
                asked.append(client.call_async(NextView.Request(cameras=[Pose()] * _CAMERAS)))
            start, count = time.monotonic(), len(arrived)
            camera.run(0.001, 1000)
            while len(arrived) == count and time.monotonic() < start + _PATIENCE:
                executor.spin_once(timeout_sec=0.01)
            if len(arrived) > count:
                times.append(arrived[-1] - start)
        stages = estimator.figures()
    print(f"{provenance.command()}; {provenance.hardware('cpu')}, {threads} threads")
    if questions:
        print(
            f"{sum(future.done() for future in asked)} questions about {_CAMERAS} cameras answered"
        )
    rows = []
    for name, values in ({"image published until distributions received": times} | stages).items():
        values = values[-images:]
        numbers = (min(values), *statistics.quantiles(values, n=4))
        rows.append([name, *(f"{1000 * number:.1f}" for number in numbers)])
    header = ["ms", "least", "lower quartile", "median", "upper quartile"]
    print(*markdown.table(header, rows), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(end_to_end))
