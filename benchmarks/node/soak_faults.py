"""The faults of the soak: what a camera, a detector, an operator and other nodes do on a bad day.

A fault is a generator: it begins, yields the seconds that it lasts, and ends what it began.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2D, Detection2DArray

from spyropose_ros.ros.messages.result_messages import TOPICS

OBJECTS = 6
QUEUE = 200  # messages, more than a burst has


@dataclass
class Shot:
    """What camera and detector are about to publish at one time.

    Attributes:
        image: with a header.
        camera_info: None is not published.
        detections: None is not published.
        latency: of the detector, seconds.
    """

    image: Image
    camera_info: CameraInfo | None
    detections: Detection2DArray | None
    latency: float


Change = Callable[[Shot, np.random.Generator], None]


class Bench(Protocol):
    """What a fault can reach."""

    rng: np.random.Generator
    changes: list[Change]
    paused: bool
    offset: float  # seconds that the camera's clock is ahead
    parameters: Mapping[str, Any]  # of the node at its start

    def shoot(self) -> None:
        """Publish a frame."""

    def enable(self, on: bool) -> None:
        """Call ~/enable."""

    def reset(self) -> None:
        """Call ~/reset."""

    def activate(self, on: bool) -> None:
        """Change the state of the life cycle."""

    def set_parameters(self, parameters: list[Parameter]) -> None:
        """Call ~/set_parameters."""

    def watch(self, topic: str) -> Callable[[], object]:
        """Subscribe to an output of TOPICS; return what ends the subscription."""


Fault = Callable[[Bench], Iterator[float]]

# ---- of the camera's and the detector's messages ---------------------------------------------


def _image_cut_off(shot: Shot, rng: np.random.Generator) -> None:
    shot.image.data = shot.image.data[: int(rng.integers(len(shot.image.data)))]


def _image_of_unknown_encoding(shot: Shot, rng: np.random.Generator) -> None:
    shot.image.encoding = str(rng.choice(["", "%s%n", "hsv8", "rgb8; rm -rf", "32FC1"]))


def _image_without_pixels(shot: Shot, rng: np.random.Generator) -> None:
    shot.image.width, shot.image.height, shot.image.step = 0, 0, 0
    shot.image.data = array("B")


def _image_of_wrong_size(shot: Shot, rng: np.random.Generator) -> None:
    shot.image.width, shot.image.height = (int(n) for n in rng.integers(1, 2**32, 2))


def _image_without_stamp(shot: Shot, rng: np.random.Generator) -> None:
    shot.image.header.stamp.sec = shot.image.header.stamp.nanosec = 0


def _no_camera_info(shot: Shot, rng: np.random.Generator) -> None:
    shot.camera_info = None


def _camera_info_of_zeros(shot: Shot, rng: np.random.Generator) -> None:
    shot.camera_info = CameraInfo(header=shot.image.header)


def _camera_info_not_finite(shot: Shot, rng: np.random.Generator) -> None:
    p = np.array(shot.camera_info.p) if shot.camera_info else np.zeros(12)
    p[rng.integers(12)] = rng.choice([np.nan, np.inf])
    shot.camera_info = CameraInfo(header=shot.image.header, width=640, height=480, p=p)


def _camera_info_of_other_size(shot: Shot, rng: np.random.Generator) -> None:
    if shot.camera_info is not None:
        shot.camera_info.width, shot.camera_info.height = 1280, 1024


def _no_detections(shot: Shot, rng: np.random.Generator) -> None:
    shot.detections = None


def _empty_detections(shot: Shot, rng: np.random.Generator) -> None:
    if shot.detections is not None:
        shot.detections.detections = []


def _late_detections(shot: Shot, rng: np.random.Generator) -> None:
    shot.latency = rng.uniform(0.2, 3.0)


def _early_detections(shot: Shot, rng: np.random.Generator) -> None:
    shot.latency = 0.0


def _detections_without_stamp(shot: Shot, rng: np.random.Generator) -> None:
    if shot.detections is not None:
        shot.detections.header.stamp.sec = shot.detections.header.stamp.nanosec = 0


def _detections_of_other_stamp(shot: Shot, rng: np.random.Generator) -> None:
    if shot.detections is not None:
        shot.detections.header.stamp.sec += int(rng.integers(-5, 5))
        shot.detections.header.stamp.nanosec = int(rng.integers(10**9))


def _for_each_box(change: Callable[[Detection2D, np.random.Generator], None]) -> Change:
    def changed(shot: Shot, rng: np.random.Generator) -> None:
        for detection in shot.detections.detections if shot.detections is not None else ():
            change(detection, rng)

    return changed


def _not_finite(detection: Detection2D, rng: np.random.Generator) -> None:
    value = float(rng.choice([np.nan, np.inf, -np.inf]))
    if rng.random() < 0.5:
        detection.bbox.size_x = value
    else:
        detection.bbox.center.position.y = value


def _any_box(detection: Detection2D, rng: np.random.Generator) -> None:
    scale = 10.0 ** rng.uniform(-9, 12)
    detection.bbox.center.position.x, detection.bbox.center.position.y = rng.uniform(-50, 700, 2)
    detection.bbox.size_x, detection.bbox.size_y = scale * rng.normal(size=2)
    detection.bbox.center.theta = rng.uniform(-10, 10)


def _other_class(detection: Detection2D, rng: np.random.Generator) -> None:
    classes = ["person", "", "../../etc/passwd", "{0.__class__}", "%s%n"]
    for result in detection.results:
        result.hypothesis.class_id = str(rng.choice(classes))


def _no_class(detection: Detection2D, rng: np.random.Generator) -> None:
    detection.results = []


def _odd_score(detection: Detection2D, rng: np.random.Generator) -> None:
    for result in detection.results:
        result.hypothesis.score = float(rng.choice([np.nan, -1.0, np.inf, 0.0]))


def many_detections(shot: Shot, rng: np.random.Generator) -> None:
    """Publish as many objects as the most demanding results have."""
    if shot.detections is not None:
        shot.detections.detections = shot.detections.detections * OBJECTS


_CHANGES: dict[str, Change] = {
    "image cut off": _image_cut_off,
    "image of unknown encoding": _image_of_unknown_encoding,
    "image without pixels": _image_without_pixels,
    "image of wrong size": _image_of_wrong_size,
    "image without stamp": _image_without_stamp,
    "no camera_info": _no_camera_info,
    "camera_info of zeros": _camera_info_of_zeros,
    "camera_info not finite": _camera_info_not_finite,
    "camera_info of another size": _camera_info_of_other_size,
    "detector dead": _no_detections,
    "detections empty": _empty_detections,
    "detections late": _late_detections,
    "detections with the image": _early_detections,
    "detections without stamp": _detections_without_stamp,
    "detections of another stamp": _detections_of_other_stamp,
    "boxes not finite": _for_each_box(_not_finite),
    "boxes of any size": _for_each_box(_any_box),
    "unknown class": _for_each_box(_other_class),
    "no class": _for_each_box(_no_class),
    "odd score": _for_each_box(_odd_score),
    "many detections": many_detections,
}


def _changing(change: Change) -> Fault:
    """Change some or all messages for a while."""

    def fault(bench: Bench) -> Iterator[float]:
        share = bench.rng.choice([0.3, 1.0])

        def sometimes(shot: Shot, rng: np.random.Generator) -> None:
            if rng.random() < share:
                change(shot, rng)

        bench.changes.append(sometimes)
        yield bench.rng.uniform(0.5, 4.0)
        bench.changes.remove(sometimes)

    return fault


# ---- of time, of the operator, of other nodes ------------------------------------------------


def _camera_pauses(bench: Bench) -> Iterator[float]:
    bench.paused = True
    yield bench.rng.uniform(1.0, 7.0)
    bench.paused = False


def _burst(bench: Bench) -> Iterator[float]:
    for _ in range(int(bench.rng.integers(5, 40))):
        bench.shoot()
    yield 0.0


def _time_jumps(bench: Bench) -> Iterator[float]:
    jump = bench.rng.choice([-1, 1]) * 10.0 ** bench.rng.uniform(-1, 2)
    bench.offset += jump
    yield bench.rng.uniform(0.5, 3.0)
    bench.offset -= jump


def _disabled(bench: Bench) -> Iterator[float]:
    bench.enable(False)
    yield bench.rng.uniform(0.5, 3.0)
    bench.enable(True)


def _deactivated(bench: Bench) -> Iterator[float]:
    bench.activate(False)
    yield bench.rng.uniform(0.5, 3.0)
    bench.activate(True)


def _reset(bench: Bench) -> Iterator[float]:
    bench.reset()
    yield 0.0


def _parameters(bench: Bench) -> Iterator[float]:
    """Set other values of dynamic parameters, some of them refused, then the first again."""
    changes = {
        "sync.max_age": float(bench.rng.choice([0.0, 0.1, 60.0, 61.0])),
        "temporal.enabled": True,
        "temporal.max_gap": bench.rng.uniform(0, 5),
        "detections.min_score": float(bench.rng.choice([0.0, 0.8, 2.0])),
        "detections.max_count": int(bench.rng.integers(0, 5)),
        "output.max_poses": int(bench.rng.choice([0, 1, 4096])),
        "output.min_mass": float(bench.rng.choice([0.0, 1.0])),
        "publish_tf": True,
        "search.beam": 512,
        "nothing.such": 1.0,
    }
    names = bench.rng.choice(list(changes), size=3, replace=False)
    bench.set_parameters([Parameter(str(name), value=changes[name]) for name in names])
    yield bench.rng.uniform(0.5, 4.0)
    before = bench.parameters
    bench.set_parameters(
        [Parameter(name, value=before[name]) for name in map(str, names) if name in before]
    )


def _viewer(bench: Bench) -> Iterator[float]:
    topics = bench.rng.choice(list(TOPICS), size=3, replace=False)
    ends = [bench.watch(str(topic)) for topic in topics]
    yield bench.rng.uniform(0.2, 4.0)
    for end in ends:
        end()


FAULTS: dict[str, Fault] = {
    **{name: _changing(change) for name, change in _CHANGES.items()},
    "camera pauses": _camera_pauses,
    "burst of images": _burst,
    "time jumps": _time_jumps,
    "disabled": _disabled,
    "deactivated": _deactivated,
    "reset": _reset,
    "parameters": _parameters,
    "viewer": _viewer,
}
