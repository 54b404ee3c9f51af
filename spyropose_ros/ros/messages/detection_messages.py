"""Boxes in images as messages."""

from __future__ import annotations

from collections.abc import Iterable

from spyropose_ros.ros.interfaces import Detection2D, Header, ObjectHypothesisWithPose


def detection_message(
    header: Header, box: Iterable[float], class_id: str, score: float, name: str = ""
) -> Detection2D:
    """Make a detection of one object.

    Args:
        header: of the image.
        box: x0, y0, x1, y1, pixels.
        class_id: of the object.
        score: 0 to 1.
        name: id of the detection.

    Returns:
        The detection, with one hypothesis.
    """
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = class_id, float(score)
    message = Detection2D(header=header, results=[result], id=name)
    x0, y0, x1, y1 = map(float, box)
    center = message.bbox.center.position
    center.x, center.y = (x0 + x1) / 2, (y0 + y1) / 2
    message.bbox.size_x, message.bbox.size_y = x1 - x0, y1 - y0
    return message
