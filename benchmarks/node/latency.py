"""How fresh the frames are, and the executor free: `python -m benchmarks.node.latency`.

A camera of 60 Hz (640x480 rgb8, reliable, 55 MB/s) and a detector that answers at once meet an
estimator that needs about ten times the interval of the camera. The camera is a process of its
own, this process; so is the estimator. Prints the age of the frames when work on them starts, how
late a timer of 50 ms comes in the estimator's executor, and its memory; ends with 1 if one of
them misses its limit.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import rclpy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from benchmarks.node import graph, timed_node
from spyropose_ros.demo.camera import FRAME_ID, camera_info, visible_message
from spyropose_ros.demo.frames import open_frames
from spyropose_ros.demo.processes import isolate
from spyropose_ros.ros.pipeline.images import image_message
from training import cli, markdown, provenance

MAX_AGE, MAX_GAP, MAX_GROWTH = 0.020, 0.060, 0.05
"""Median age at start and longest gap of the timer in seconds; growth of the memory."""


def latency(
    seconds: float = 60.0,
    warm_up: float = 10.0,
    rate: float = 60.0,
    beam: int = 128,
    crops: int = 3,
    threads: int = 1,
) -> int:
    """Measure an estimator that is much slower than its camera.

    Args:
        seconds: how long.
        warm_up: seconds before.
        rate: of the camera, Hz.
        beam: of the search: more are slower.
        crops: of the search: more are as many times slower.
        threads: of the model.

    Returns:
        The exit code.
    """
    isolate()
    parameters = {"threads": threads, "search.beam": beam, "search.crops": crops}
    directory = Path(tempfile.mkdtemp(prefix="latency_"))
    with (
        rclpy.init(args=[]),
        graph.Estimator(parameters, directory, timed_node.__name__) as estimator,
    ):
        camera = Camera()
        estimator.wait_for("ready after")
        camera.run(warm_up, rate)
        before = estimator.megabytes()
        late = camera.run(seconds, rate)
        after = estimator.megabytes()
        figures = estimator.figures()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    print(f"{provenance.command()}; {provenance.hardware('cpu')}")
    print(f"{len(figures['age'])} results, 640x480 at {rate:g} Hz; camera late {late:.1%}")
    rows = []
    for name, text in {
        "age": "age of the image when work starts",
        "inference": "inference",
        "latency": "age of the image when the result is published",
        "gap": f"gap of a timer of {1000 * timed_node.PERIOD:.0f} ms in the executor",
    }.items():
        values = sorted(figures[name])
        numbers = (medians[name], values[int(0.95 * len(values))], values[-1])
        rows.append([text, *(f"{1000 * number:.1f}" for number in numbers)])
    print(*markdown.table(["ms", "median", "95 %", "largest"], rows), sep="\n")
    growth = after / before - 1
    print(f"memory {before:.0f} MB, {seconds:g} s later {after:.0f} MB ({growth:+.1%})")
    checks = {
        f"median age at start at most {1000 * MAX_AGE:.0f} ms": medians["age"] <= MAX_AGE,
        f"longest gap of the timer below {1000 * MAX_GAP:.0f} ms": max(figures["gap"]) < MAX_GAP,
        f"memory grows by at most {MAX_GROWTH:.0%}": growth <= MAX_GROWTH,
    }
    for text, holds in checks.items():
        print(f"{'ok  ' if holds else 'FAIL'} {text}")
    return 0 if all(checks.values()) else 1


class Camera:
    """A camera and a detector that answers at once."""

    def __init__(self) -> None:
        self._node = rclpy.create_node("camera")
        self._image = self._node.create_publisher(Image, "image_rect", 5)
        self._camera_info = self._node.create_publisher(CameraInfo, "camera_info", 5)
        self._detections = self._node.create_publisher(Detection2DArray, "detections", 10)
        frame = open_frames("mug", 1)[0]
        height, width, _ = frame.image.shape
        header = Header(frame_id=FRAME_ID)
        self._image_message = image_message(header, frame.image)
        self._calibration = camera_info(frame.K, width, height)
        self._calibration.header = header
        self._answer = visible_message(header, frame, "mug")

    def run(self, seconds: float, rate: float) -> float:
        """Publish for a while; return the share of late images."""
        clock, header = self._node.get_clock(), self._image_message.header
        start = time.monotonic()
        count = round(seconds * rate)
        late = 0
        for index in range(count):
            wait = start + index / rate - time.monotonic()
            late += wait < -1 / rate
            time.sleep(max(wait, 0))
            header.stamp = clock.now().to_msg()
            self._answer.header.stamp = self._calibration.header.stamp = header.stamp
            self._camera_info.publish(self._calibration)
            self._image.publish(self._image_message)
            self._detections.publish(self._answer)
        return late / count


if __name__ == "__main__":
    raise SystemExit(cli.run(latency))
