"""The demo's summary: prints a line per frame, then writes figures and numbers and judges them.

It knows what any subscriber knows: images, calibration, distributions, and the truth that the
demo's camera publishes.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from geometry_msgs.msg import PoseArray, PoseStamped
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray

from spyropose_ros.demo import figures, node, table
from spyropose_ros.demo.plan import ANNOTATIONS, RULE, Model
from spyropose_ros.demo.received import ReceivedDistribution
from spyropose_ros.demo.results import Check, FrameResult, pose_errors, verdict
from spyropose_ros.msg import PoseDistributionArray
from spyropose_ros.ros.messages.conversions import pose_matrix
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.images import rgb_image

FAILED = 2  # exit code; 1 means that the summary itself broke
_GONE = 1.0  # seconds without a camera after which it has ended
_LATE = 10.0  # seconds in which messages of its last frames may still arrive
_TOPICS = {  # what belongs to a frame, with its stamp
    node.IMAGE: Image,
    node.TRUTH: PoseStamped,
    node.VISIBLE: Detection2DArray,
    node.DISTRIBUTIONS: PoseDistributionArray,
    node.POSES: PoseArray,
}


class Summary(node.DemoNode):
    """Follows the demo until its camera has ended."""

    def __init__(self):
        super().__init__("demo_summary")
        self._model = Model.read(self.setting("model", "", "folder of the model bundle"))
        self._output = Path(self.setting("output", "demo_output", "folder for the results"))
        self._detector = self.setting("detector", "", "where the boxes come from")
        data_root = self.setting("data_root", "data", "folder of the downloaded data sets")
        self._points = figures.surface_points(self._model, data_root)
        self._output.mkdir(parents=True, exist_ok=True)
        self._unicode = "utf" in (sys.stdout.encoding or "").lower()
        self._parts: dict[int, dict[str, Any]] = {}  # by stamp, then by topic
        self._names: dict[int, str] = {}  # of the frames published so far
        self._visible: dict[int, float] = {}  # fractions of the object in them
        self._shots: dict[int, figures.Shot] = {}  # frames with a distribution, by stamp
        self._K = np.eye(3)
        self._idle: set[int] = set()  # stamps of images published while nodes start
        self._camera_seen: float | None = None
        self.create_subscription(CameraInfo, node.CAMERA_INFO, self._on_camera_info, node.QUEUE)
        self._silent = _TOPICS.keys() - {node.TRUTH}  # topics that nothing came on yet
        for topic in self._silent:
            self._listen(topic)
        self.create_timer(0.2, self._watch_camera)

    def _listen(self, topic: str) -> None:
        self.create_subscription(_TOPICS[topic], topic, self._receiver(topic), 3 * node.QUEUE)

    def _hear(self, topic: str) -> None:
        """Ask for the truth once all else arrives: the camera waits for that to begin."""
        if topic in self._silent:
            self._silent = self._silent - {topic}
            if not self._silent:
                self._listen(node.TRUTH)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._K = np.reshape(message.k, (3, 3))

    def _receiver(self, topic: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            self._hear(topic)
            stamp = nanoseconds(message.header.stamp)
            if topic == node.VISIBLE and not message.detections:
                self._idle.add(stamp)
                self._parts.pop(stamp, None)
            if stamp in self._idle:
                return
            parts = self._parts.setdefault(stamp, {})
            parts[topic] = message
            if topic == node.VISIBLE:
                (exact,) = message.detections
                self._names[stamp] = exact.id
                self._visible[stamp] = exact.results[0].hypothesis.score
            if topic == node.DISTRIBUTIONS:
                parts["latency"] = (self.get_clock().now().nanoseconds - stamp) * 1e-9
            if parts.keys() >= _TOPICS.keys():
                self._conclude(stamp)

        return receive

    def _conclude(self, stamp: int) -> None:
        """Compute, store and print the numbers of a frame whose messages are complete."""
        parts = self._parts.pop(stamp)
        distributions = parts[node.DISTRIBUTIONS].distributions
        if not distributions or not distributions[0].poses:
            self._print(table.missing_row(self._names[stamp]))
            return
        received = ReceivedDistribution(distributions[0], parts[node.POSES])
        truth = pose_matrix(parts[node.TRUTH].pose)
        result = frame_result(received, truth, parts[node.VISIBLE], parts["latency"], self._model)
        if self._detector != ANNOTATIONS and result.sideways_error > self._model.diameter:
            self._print(table.missing_row(self._names[stamp], "something else was found"))
            return
        if not self._shots:
            kind = self._model.has_handle, self._model.has_photographs
            self._print(table.header(*kind, self._unicode))
        self._print(table.row(result, self._unicode))
        image = rgb_image(parts[node.IMAGE])
        self._shots[stamp] = figures.Shot(image, self._K, received, truth, result)

    def _watch_camera(self) -> None:
        now = time.monotonic()
        if self.count_publishers(node.IMAGE) > 0:
            self._camera_seen = now
        if self._camera_seen is None:
            return
        unfinished = self._parts.keys() & self._names.keys()
        complete = self._names and not unfinished
        if now > self._camera_seen + (_GONE if complete else _LATE):
            for stamp in sorted(unfinished):
                self._print(table.missing_row(self._names[stamp]))
            self.finish(self._report([self._shots[stamp] for stamp in sorted(self._shots)]))

    def _report(self, shots: list[figures.Shot]) -> int:
        """Write the files and print the verdict; return the exit code."""
        results = [shot.result for shot in shots]
        annotated = self._detector == ANNOTATIONS
        checks = verdict(results, list(self._visible.values()), self._model, annotated)
        passed = all(check.passed for check in checks)
        paths = [self._write_json(results, checks, passed)]
        if shots:
            self._print("\nDrawing ...")
            paths += figures.write(self._output, shots, checks, self._model, self._points)
        tick, cross = ("✓", "✗") if self._unicode else ("ok  ", "FAIL")
        lines = [f"  {tick if check.passed else cross} {check.text}" for check in checks]
        outcome = "passed" if passed else "FAILED (./run demo --help has the rule)"
        files = ", ".join(shlex.quote(str(path)) for path in paths)
        self._print("\n".join(["", *lines, f"Demo {outcome}. Results: {files}"]))
        return 0 if passed else FAILED

    def _write_json(self, results: list[FrameResult], checks: list[Check], passed: bool) -> Path:
        """Write the numbers; return the path."""
        path = self._output / "summary.json"
        data = {
            "model": str(self._model.directory),
            "detector": self._detector,
            "object": self._model.object_name,
            "published": len(self._names),
            "passed": passed,
            "checks": [asdict(check) for check in checks],
            "rule": RULE,
            "frames": [asdict(result) for result in results],
        }
        path.write_text(json.dumps(data, indent=1) + "\n")
        return path

    def _print(self, text: str) -> None:
        print(text, flush=True)


def frame_result(
    received: ReceivedDistribution,
    truth: tuple[np.ndarray, np.ndarray],
    visible: Detection2DArray,
    latency: float,
    model: Model,
) -> FrameResult:
    """Compare the distribution of a frame with the truth.

    Args:
        received: Its distribution.
        truth: True rotation [3, 3] and translation [3] in metres.
        visible: What is visible, see node.VISIBLE.
        latency: Seconds.
        model: Which object it is.

    Returns:
        All numbers of the frame.
    """
    (exact,) = visible.detections
    scores = {result.hypothesis.class_id: result.hypothesis.score for result in exact.results}
    handle = scores.pop("handle", None)
    (visible_fraction,) = scores.values()
    message, center = received.message, exact.bbox.center.position
    duration = message.inference_time
    half = exact.bbox.size_x / 2, exact.bbox.size_y / 2
    return FrameResult(
        frame=exact.id,
        visible_fraction=visible_fraction,
        handle_fraction=handle,
        latency=latency,
        inference=duration.sec + 1e-9 * duration.nanosec,
        modes=len(message.modes),
        entropy=message.entropy,
        axis_entropy=received.entropy_about_axis((0.0, 0.0, 1.0)),
        spread=float(np.degrees(received.rotation_spread())),
        truncated_mass=message.truncated_mass,
        box=(center.x - half[0], center.y - half[1], center.x + half[0], center.y + half[1]),
        **pose_errors(received, *truth, model),
    )


def main() -> int:
    """Run the process."""
    torch.set_num_threads(1)  # the cores belong to the estimator
    return node.run(Summary, interrupted=130)


if __name__ == "__main__":
    raise SystemExit(main())
