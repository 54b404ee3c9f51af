"""From vision_msgs/Detection2DArray to the boxes that the estimator works on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.inputs import Box, check_box
from spyropose_ros.ros.pipeline.drops import BadInputError, Reason


@dataclass(frozen=True)
class Target:
    """One object to estimate.

    Attributes:
        object_name: the model to use.
        class_id: the detector's class.
        detection_id: the detector's id, may be empty.
        score: detector's score, NaN if unknown.
        box: left, top, right, bottom in pixels; integers are pixel centres.
    """

    object_name: str
    class_id: str
    detection_id: str
    score: float
    box: Box


def select_targets(
    message: Any,
    width: int,
    height: int,
    classes: Mapping[str, str],
    min_score: float,
    max_count: int,
    drop: Callable[[Reason, str], object],
) -> list[Target]:
    """Choose the detections of a frame that can be used.

    Args:
        message: vision_msgs/Detection2DArray.
        width: width of the image in pixels.
        height: height of the image in pixels.
        classes: object name by class id.
        min_score: lowest score used; an unknown score (NaN) passes.
        max_count: largest number used, the best scores first.
        drop: called with reason and text for every detection that is not used.

    Returns:
        The targets in the order of the message.
    """
    targets = []
    for detection in message.detections:
        try:
            targets.append(_target(detection, width, height, classes, min_score))
        except BadInputError as error:
            drop(error.reason, str(error))
    return strongest(targets, max_count, drop)


def strongest(
    targets: Sequence[Target],
    max_count: int,
    drop: Callable[[Reason, str], object],
    score: str = "detections.min_score",
) -> list[Target]:
    """Choose the targets with the best scores.

    Args:
        targets: of a frame.
        max_count: largest number.
        drop: called with reason and text for each of the others.
        score: parameter by which fewer are found.

    Returns:
        The chosen ones in their order.
    """
    order = sorted(range(len(targets)), key=lambda index: -_rank(targets[index].score))
    for _ in order[max_count:]:
        drop(
            Reason.TOO_MANY,
            f"more than detections.max_count = {max_count} in one image: raise it, or {score}",
        )
    return [targets[index] for index in sorted(order[:max_count])]


def enclosing_box(x: float, y: float, size_x: float, size_y: float, theta: float) -> Box:
    """Return the smallest upright box around a rotated one.

    Args:
        x: horizontal centre in pixels.
        y: vertical centre in pixels.
        size_x: side along the box's first axis in pixels.
        size_y: side along the box's second axis in pixels.
        theta: rotation in radians.

    Returns:
        Left, top, right, bottom in pixels.
    """
    cos, sin = abs(math.cos(theta)), abs(math.sin(theta))
    half_x = (size_x * cos + size_y * sin) / 2
    half_y = (size_x * sin + size_y * cos) / 2
    return x - half_x, y - half_y, x + half_x, y + half_y


def _rank(score: float) -> float:
    return 0.0 if math.isnan(score) else score


def _target(
    detection: Any, width: int, height: int, classes: Mapping[str, str], min_score: float
) -> Target:
    hypotheses = [result.hypothesis for result in detection.results]
    usable = [hypothesis for hypothesis in hypotheses if hypothesis.class_id in classes]
    if not usable:
        given = ", ".join(repr(hypothesis.class_id) for hypothesis in hypotheses) or "no class"
        raise BadInputError(
            Reason.UNKNOWN_CLASS,
            f"detection has {given} but models are loaded for {', '.join(classes)}: "
            "add the model to objects, or the class to class_map",
        )
    best = max(usable, key=lambda hypothesis: _rank(hypothesis.score))
    if best.score < min_score:
        raise BadInputError(
            Reason.LOW_SCORE, f"score {best.score:g} is below detections.min_score = {min_score:g}"
        )
    return Target(
        object_name=classes[best.class_id],
        class_id=best.class_id,
        detection_id=detection.id,
        score=best.score,
        box=_box(detection.bbox, width, height),
    )


def _box(bbox: Any, width: int, height: int) -> Box:
    x, y, theta = bbox.center.position.x, bbox.center.position.y, bbox.center.theta
    if not all(map(math.isfinite, (x, y, theta, bbox.size_x, bbox.size_y))):
        raise BadInputError(Reason.BAD_BOX, "box has values that are not finite: fix the detector")
    if bbox.size_x <= 0 or bbox.size_y <= 0:
        raise BadInputError(
            Reason.BAD_BOX,
            f"box has size {bbox.size_x:g} x {bbox.size_y:g} pixels: fix the detector",
        )
    box = enclosing_box(x, y, bbox.size_x, bbox.size_y, theta)
    try:
        check_box(box, width, height)
    except InputError as error:
        raise BadInputError(Reason.BAD_BOX, str(error)) from error
    return box
