"""What the self check looks at. Each check returns lines: what is good, or what to do."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ament_index_python.packages import get_package_share_directory

from spyropose_ros.core.errors import CalibrationError, SpyroposeError
from spyropose_ros.ros.interfaces import Image, type_name
from spyropose_ros.ros.pipeline.assembler import Input
from spyropose_ros.ros.pipeline.frame_source import Role
from spyropose_ros.ros.pipeline.parameters import Parameters

if TYPE_CHECKING:
    from spyropose_ros.ros.pipeline.models import Models

DISTRIBUTIONS = ("humble", "jazzy", "kilted", "rolling")
_RUNS = 5  # estimates that are timed


@dataclass(frozen=True)
class Line:
    """A line of the check.

    Attributes:
        good: whether nothing has to be done.
        text: what was found; else also the remedy.
    """

    good: bool
    text: str

    def __str__(self) -> str:
        return f"{'✓' if self.good else '✗'} {self.text}"


@dataclass(frozen=True)
class Offer:
    """A publisher.

    Attributes:
        kind: of its messages, such as sensor_msgs/msg/Image.
        reliable: whether it offers reliable delivery.
    """

    kind: str
    reliable: bool


def environment(distribution: str, middleware: str, variables: Mapping[str, str]) -> list[Line]:
    """Check the installation.

    Args:
        distribution: of ROS 2, such as jazzy.
        middleware: such as rmw_fastrtps_cpp.
        variables: of the environment.

    Returns:
        Lines about distribution, middleware and shared memory.
    """
    lines = [Line(True, f"ROS 2 {distribution}, {middleware}, {platform.node()}")]
    if distribution not in DISTRIBUTIONS:
        known = ", ".join(DISTRIBUTIONS)
        lines[0] = Line(False, f"ROS 2 {distribution} is not supported: use one of {known}")
    if middleware != "rmw_fastrtps_cpp":
        return [
            *lines,
            Line(True, f"{middleware} should work, but only rmw_fastrtps_cpp is tested"),
        ]
    old = distribution in ("humble", "jazzy")
    name = "FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE"
    file = variables.get(name)
    if file is None:
        profile = Path(get_package_share_directory("spyropose_ros"), "config", "fastdds.xml")
        text = "shared memory of Fast DDS is too small for raw images: for the camera and the node,"
        return [*lines, Line(False, f"{text} export {name}={profile}")]
    if not Path(file).is_file():
        return [*lines, Line(False, f"{name} is {file}, which does not exist: correct the path")]
    return [*lines, Line(True, f"shared memory of Fast DDS is set up by {file}")]


def publishers(
    entry: Input, offers: Sequence[Offer], others: Sequence[str], reliability: str
) -> Line:
    """Check who publishes on a topic.

    Args:
        entry: the topic.
        offers: its publishers.
        others: topics that may be meant.
        reliability: the parameter qos.reliability.

    Returns:
        A line about it.
    """
    wanted = type_name(entry.kind)
    if not offers:
        rules = " or ".join(f"-r {entry.name}:={topic}" for topic in others or ["/topic"])
        remedy = "" if others else "start one, or "
        return Line(False, f"{entry.topic} has no publisher: {remedy}add --ros-args {rules}")
    if wrong := [offer.kind for offer in offers if offer.kind != wanted]:
        hint = ", or set image_transport" if entry.role is Role.IMAGE else ""
        text = f"{entry.topic} has messages of type {wrong[0]}, not {wanted}: remap {entry.name}"
        return Line(False, f"{text} to another topic{hint}")
    reliable = all(offer.reliable for offer in offers)
    if entry.kind is Image and reliability == "reliable" and not reliable:
        return Line(
            False,
            f"{entry.topic} is published with best effort, which loses most raw images above "
            "0.5 MB: set the publisher to reliable, or use image_transport: compressed",
        )
    offered = "reliable" if reliable else "best effort"
    return Line(True, f"{entry.topic}: publishers {len(offers)}, {offered}")


def arrivals(entry: Input, messages: Sequence[Any], ages: Sequence[float], period: float) -> Line:
    """Check what arrived on a topic that is published.

    Args:
        entry: the topic.
        messages: of the period.
        ages: of the messages when they arrived, seconds.
        period: how long was listened, seconds.

    Returns:
        A line about it.
    """
    if not messages:
        return Line(
            False,
            f"nothing arrived on {entry.topic} within {period:.0f} s: check that its publisher is "
            "running, and the shared memory of Fast DDS for large images",
        )
    age = statistics.median(ages)
    text = f"{entry.topic}: {len(messages) / period:.1f} Hz, {1000 * age:.0f} ms old"
    if entry.role is not Role.CAMERA_INFO and not -0.1 < age < 10.0:
        return Line(
            False, f"{text}: synchronise the clocks, or set use_sim_time for a bag or simulation"
        )
    return Line(True, text)


def calibration(info: Any, width: int, height: int, rectified: bool) -> Line:
    """Check a calibration against the image.

    Args:
        info: the camera_info.
        width: of the image, pixels.
        height: of the image, pixels.
        rectified: the parameter of that name.

    Returns:
        A line about it.
    """
    from spyropose_ros.core.lens.calibration import calibrate

    try:
        found = calibrate(info, width, height, rectified)
    except CalibrationError as error:
        return Line(False, f"calibration: {error}")
    if found.warnings:
        return Line(False, f"calibration: {'; '.join(found.warnings)}")
    (fx, _, cx), (_, fy, cy) = found.K[:2]
    text = f"calibration: {width}x{height}, focal lengths {fx:.0f} and {fy:.0f}, centre"
    return Line(True, f"{text} ({cx:.0f}, {cy:.0f})")


def classes(detections: Sequence[Any], known: Mapping[str, str]) -> Line:
    """Check that there are models for what is detected.

    Args:
        detections: vision_msgs/Detection2DArray messages.
        known: objects by class id.

    Returns:
        A line about it.
    """
    seen = {
        result.hypothesis.class_id
        for message in detections
        for detection in message.detections
        for result in detection.results
    }
    if not seen:
        return Line(True, "no object was detected meanwhile")
    if found := sorted(seen & known.keys()):
        return Line(True, f"detected objects with a model: {', '.join(found)}")
    some, name = sorted(seen)[0], next(iter(known.values()))
    return Line(
        False,
        f"no detected class has a model (seen: {', '.join(sorted(seen))}): add models to objects, "
        f"or map a class, such as class_map: ['{some}={name}']",
    )


def model(parameters: Parameters, inform: Callable[[str], object]) -> tuple[Line, Models | None]:
    """Load the models.

    Args:
        parameters: which, and where they run.
        inform: logs progress.

    Returns:
        A line about them, and the models unless they cannot be used.
    """
    from spyropose_ros.ros.pipeline.models import Models  # imports PyTorch

    try:
        models = Models(parameters, inform)
    except (SpyroposeError, ValueError, OSError, RuntimeError) as error:
        return Line(False, str(error)), None
    return Line(True, f"models: {models}"), models


def speed(models: Models) -> Line:
    """Time one estimate on an image of noise.

    Args:
        models: the loaded models.

    Returns:
        A line with the median.
    """
    estimator = models.estimator(next(iter(models.objects)))
    image = _noise()
    K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
    box = np.array([[220.0, 140, 420, 340]])
    median = _median_time(lambda: estimator.estimate(image, K, box))
    return Line(True, f"one estimate takes {1000 * median:.0f} ms: {1 / median:.1f} per second")


def detector(detectors: Sequence[str], models: Models) -> Line:
    """Load the detectors, and time them on an image of noise.

    Args:
        detectors: folders or hub ids.
        models: of the objects that they find.

    Returns:
        A line about them.
    """
    from spyropose_ros.ros.pipeline.finder import Finder  # imports PyTorch

    try:
        finder = Finder(detectors, models, lambda text: None)
    except (SpyroposeError, ValueError, OSError, RuntimeError) as error:
        return Line(False, str(error))
    image = _noise()
    median = _median_time(lambda: finder.find(image, 0.3))
    return Line(True, f"boxes are found by {finder}, in {1000 * median:.0f} ms per image")


def _noise() -> np.ndarray:
    """Return an image, RGB uint8 [H, W, 3]."""
    return np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)


def _median_time(run: Callable[[], object]) -> float:
    """Return the median time of some runs, seconds."""
    seconds = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
