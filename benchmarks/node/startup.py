"""How long the estimator takes to its first result: `python -m benchmarks.node.startup`.

Every time a new process, with the demo's model; images come from the beginning. Prints the seconds
since the start of the process and how the log divides them. The files are in the page cache from
the second time on.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import threading
import time
from pathlib import Path

import rclpy

from benchmarks.node import graph
from benchmarks.node.latency import Camera
from spyropose_ros.demo.processes import isolate
from training import cli, markdown, provenance

_RATE = 10.0  # images per second
_STAGES = {
    "node configured": "loading PyTorch",
    "PyTorch imported": "loading /",
    "model loaded and warm": "ready after",
    "first result": "first result published",
}
_STAMP = re.compile(r"\[(\d+\.\d+)\]")


def startup(runs: int = 3, beam: int = 128, threads: int = 1) -> None:
    """Start the estimator several times.

    Args:
        runs: how often.
        beam: of the search.
        threads: of the model.
    """
    isolate()
    parameters = {"threads": threads, "search.beam": beam}
    with rclpy.init(args=[]):
        camera = Camera()
        rows = [_start(parameters, camera) for _ in range(runs)]
    print(f"{provenance.command()}; {provenance.hardware('cpu')}")
    named = {f"start {index}": row for index, row in enumerate(rows, 1)}
    named["median"] = [statistics.median(column) for column in zip(*rows, strict=True)]
    cells = [[name, *(f"{value:.1f}" for value in row)] for name, row in named.items()]
    print(*markdown.table(["seconds since the start", *_STAGES], cells), sep="\n")


def _start(parameters: dict, camera: Camera) -> list[float]:
    """Return the seconds to each of the stages."""
    started = time.time()
    ended = threading.Event()

    def publish() -> None:
        while not ended.is_set():
            camera.run(1 / _RATE, _RATE)
            time.sleep(1 / _RATE)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        with graph.Estimator(parameters, Path(tempfile.mkdtemp(prefix="startup_"))) as estimator:
            estimator.wait_for(_STAGES["first result"])
            lines = estimator.output.splitlines()
            estimator.interrupt()
    finally:
        ended.set()
        thread.join()
    return [
        float(_STAMP.search(next(line for line in lines if text in line))[1]) - started
        for text in _STAGES.values()
    ]


if __name__ == "__main__":
    cli.run(startup)
