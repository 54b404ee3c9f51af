"""What the viewer costs: `python -m benchmarks.node.viewer`.

First a viewer alone, with a browser's end of the connection in a process of its own: pictures per
second with 512 poses, a mesh and an image, and CPU time per picture. Then an estimator on a graph,
with a camera of a rate that it keeps up with: its latency without a viewer's node, with one that
nobody watches, and with one that is watched, in turn. The viewer's node runs at a lower priority;
the browser itself, which draws, is not measured.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rclpy

from benchmarks.node import graph, timed_node
from benchmarks.node.latency import Camera
from spyropose_ros.demo.frames import open_frames
from spyropose_ros.demo.plan import shipped_model
from spyropose_ros.demo.processes import isolate, python_command
from training import cli, markdown, provenance

if TYPE_CHECKING:
    from spyropose_ros.viewer.moment import Moment

PORT = 8450
POSES = 512
CASES = ("no viewer", "viewer, nobody connected", "viewer, connected")
CLIENT = """
import sys, msgspec, viser
from viser._messages import ViewerCameraMessage
from websockets.sync.client import connect

protocols = [f"viser-v{viser.__version__}"]
camera = ViewerCameraMessage(
    (1, 0, 0, 0), (0, 0, -1), 1.0, 0.01, 10.0, 600, 800, (0, 0, 0), (0, 0, 1)
)
with connect(sys.argv[1], subprotocols=protocols, max_size=None) as socket:
    socket.send(msgspec.msgpack.encode(camera.as_serializable_dict()))
    for _ in socket:
        pass
"""
"""A browser's end of the connection: takes all that it is sent."""


def viewer(seconds: float = 20.0, rate: float = 5.0, rounds: int = 3) -> None:
    """Measure the viewer, and the estimator beside it.

    Args:
        seconds: of each measurement.
        rate: of the estimator's camera, Hz.
        rounds: how often each case is measured.
    """
    print(f"{provenance.command()}; {provenance.hardware('cpu')}; load {os.getloadavg()[0]:.1f}")
    pictures, cpu = _pictures(seconds)
    print(f"{pictures:.1f} pictures/s of {POSES} poses, {1000 * cpu:.0f} ms CPU time each")
    isolate()
    latencies: dict[str, list[float]] = {case: [] for case in CASES}
    with rclpy.init(args=[]):
        for _ in range(rounds):
            for case in CASES:
                latencies[case] += _latencies(case, seconds, rate)
    rows = []
    for case, values in latencies.items():
        values.sort()
        numbers = statistics.median(values), values[int(0.95 * len(values))]
        rows.append([case, str(len(values)), *(f"{1000 * number:.1f}" for number in numbers)])
    print(*markdown.table(["latency, ms", "results", "median", "95 %"], rows), sep="\n")


def _ring() -> Callable[[int], Moment]:
    """Return what makes rings of poses, each turned a little against the one before."""
    from spyropose_ros.core.plots.pose_cloud import Mesh, PoseCloud
    from spyropose_ros.viewer.moment import Moment, ObjectState, small_view

    mesh = Mesh.read(shipped_model("mug") / "mesh.ply")
    frame = open_frames("mug", 1)[0]
    weights, translations = np.full(POSES, 1 / POSES), np.tile([0.0, 0.0, 0.5], (POSES, 1))

    def moment(number: int) -> Moment:
        angles = 2 * np.pi * np.arange(POSES) / POSES + 0.01 * number
        zero, one = np.zeros(POSES), np.ones(POSES)
        c, s = np.cos(angles), np.sin(angles)
        rotations = np.stack([c, -s, zero, zero, zero, -one, s, c, zero], 1).reshape(-1, 3, 3)
        cloud = PoseCloud(rotations, translations, weights, [], 0.12, np.zeros(3), mesh)
        view = small_view(frame.image, frame.K, np.eye(4))
        return Moment(0.02 * number, [ObjectState("mug", cloud, -15.0)], {"": view}, 0.1, 0.2)

    return moment


def _pictures(seconds: float) -> tuple[float, float]:
    """Return pictures per second and CPU seconds per picture."""
    from spyropose_ros.viewer.viewer import Viewer

    shown, ring = Viewer(port=PORT), _ring()
    with _Process([sys.executable, "-c", CLIENT, shown.url.replace("http", "ws")]):
        while not shown.watched:
            time.sleep(0.1)
        shown.show(ring(0))
        time.sleep(2.0)
        start, cpu, before, number = time.monotonic(), time.process_time(), shown.drawn, 0
        while time.monotonic() < start + seconds:
            shown.show(ring(number := number + 1))
            time.sleep(0.02)
        drawn = shown.drawn - before
        elapsed, cpu = time.monotonic() - start, time.process_time() - cpu
    shown.close()
    return drawn / elapsed, cpu / drawn


def _latencies(case: str, seconds: float, rate: float) -> list[float]:
    """Return the latencies of an estimator in one of the CASES, seconds."""
    parameters = {"threads": 1, "search.beam": 128, "output.max_poses": POSES}
    directory = Path(tempfile.mkdtemp(prefix="viewer_"))
    watching = python_command("spyropose_ros.viewer.node", {"port": PORT})
    client = [sys.executable, "-c", CLIENT, f"ws://127.0.0.1:{PORT}"]
    with (
        graph.Estimator(parameters, directory, timed_node.__name__) as estimator,
        _Process(watching if case != CASES[0] else None) as node,
    ):
        node.wait_for_port()
        with _Process(client if case == CASES[2] else None):
            camera = Camera()
            estimator.wait_for("ready after")
            camera.run(5.0, rate)
            camera.run(seconds, rate)
            return estimator.figures()["latency"][round(5.0 * rate) :]


class _Process:
    """A process that is ended in the end; None for none."""

    def __init__(self, command: list[str] | None) -> None:
        self._process = command and subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(30)

    def wait_for_port(self) -> None:
        """Wait until it listens."""
        while self._process and socket.socket().connect_ex(("127.0.0.1", PORT)):
            time.sleep(0.1)


if __name__ == "__main__":
    raise SystemExit(cli.run(viewer))
