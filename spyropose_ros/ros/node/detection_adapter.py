"""A node that converts detections of any message type to vision_msgs/Detection2DArray.

Parameters name the fields, see docs/detectors.md. They are checked against the message type at the
start, so that only declared message fields are ever read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from spyropose_ros.ros.node.adaptive_subscription import AdaptiveSubscription
from spyropose_ros.ros.node.field_paths import (
    AdapterError,
    MissingElementError,
    element_type,
    follow,
    is_message,
    is_number,
    is_text,
    message_class,
)
from spyropose_ros.ros.node.process import run

PRESETS = {
    # mgonzs13/yolo_ros, yolo_msgs/msg/Detection.msg
    "yolo_ros": {
        "type": "yolo_msgs/msg/DetectionArray",
        "list": "detections",
        "class_id": "class_name",
        "score": "score",
        "id": "id",
        "center_x": "bbox.center.position.x",
        "center_y": "bbox.center.position.y",
        "theta": "bbox.center.theta",
        "size_x": "bbox.size.x",
        "size_y": "bbox.size.y",
    },
    # for boxes that need scaling; only the first hypothesis is kept
    "vision_msgs": {
        "type": "vision_msgs/msg/Detection2DArray",
        "list": "detections",
        "class_id": "results.0.hypothesis.class_id",
        "score": "results.0.hypothesis.score",
        "id": "id",
        "center_x": "bbox.center.position.x",
        "center_y": "bbox.center.position.y",
        "theta": "bbox.center.theta",
        "size_x": "bbox.size_x",
        "size_y": "bbox.size_y",
    },
}

_CENTER = ("center_x", "center_y", "size_x", "size_y")
_CORNERS = ("left", "top", "right", "bottom")


def _path(text: str, default: str = "") -> Any:
    return field(default=default, metadata={"text": text})


@dataclass(frozen=True)
class Fields:
    """Paths of the fields in a detector's message type: dotted, numbers pick from lists.

    An empty path means that the type has no such field.
    """

    type: str = _path("Message type of the detector, such as yolo_msgs/msg/DetectionArray")
    header: str = _path("Path of the image's header", "header")
    list: str = _path("Path of the list of detections; those that follow are relative to an entry")
    class_id: str = _path("Path of the class, text or number")
    score: str = _path("Path of the score; empty: unknown")
    id: str = _path("Path of the detection's or track's name; empty: none")
    center_x: str = _path("Path of the box's horizontal centre")
    center_y: str = _path("Path of the box's vertical centre")
    size_x: str = _path("Path of the box's width")
    size_y: str = _path("Path of the box's height")
    theta: str = _path("Path of the box's rotation in radians; empty: upright")
    left: str = _path("Path of the box's left edge, instead of centre and size")
    top: str = _path("Path of the box's top edge")
    right: str = _path("Path of the box's right edge")
    bottom: str = _path("Path of the box's bottom edge")


class Adapter:
    """Converts the messages of one detector.

    Args:
        fields: paths in its message type.
        scale_x: pixels per unit of the box, horizontally: the image's width for boxes from 0 to 1.
        scale_y: the same vertically.

    Raises:
        AdapterError: if a parameter is missing or does not fit the message type.
    """

    def __init__(self, fields: Fields, scale_x: float = 1.0, scale_y: float = 1.0) -> None:
        if not (0 < scale_x < math.inf and 0 < scale_y < math.inf):
            raise AdapterError("parameters 'scale_x' and 'scale_y' must be above 0")
        self._scale = scale_x, scale_y
        self.type = message_class("type", fields.type)
        self._header, header = follow(self.type, "header", fields.header)
        if header != "std_msgs/Header":
            raise AdapterError(f"parameter 'header' names '{fields.header}', a {header}: no header")
        self._list, kind = follow(self.type, "list", fields.list)
        element = element_type(kind)
        if element is None or not is_message(element):
            raise AdapterError(
                f"parameter 'list' names '{fields.list}', a {kind}: name a list of messages"
            )
        self._entry = message_class("list", element)
        self._class_id = self._scalar(fields, "class_id", text=True)
        self._id = self._scalar(fields, "id", text=True) if fields.id else None
        self._score = self._scalar(fields, "score") if fields.score else None
        self._theta = self._scalar(fields, "theta") if fields.theta else None
        names = _CORNERS if any(getattr(fields, name) for name in _CORNERS) else _CENTER
        if names == _CORNERS and any(getattr(fields, name) for name in (*_CENTER, "theta")):
            raise AdapterError(
                f"give either {', '.join(_CORNERS)} or {', '.join(_CENTER)}, not some of both"
            )
        self._corners = names == _CORNERS
        self._box = [self._scalar(fields, name) for name in names]

    def convert(self, message: Any) -> tuple[Detection2DArray, list[str]]:
        """Convert a message.

        Args:
            message: of the adapter's type.

        Returns:
            The detections with the header of the message, and a text for each one left out.
        """
        header = self._header(message)
        detections, refused = [], []
        for entry in self._list(message):
            try:
                detections.append(self._detection(entry, header))
            except MissingElementError as error:
                refused.append(f"detection left out: {error}")
        return Detection2DArray(header=header, detections=detections), refused

    def _scalar(self, fields: Fields, name: str, text: bool = False) -> Callable[[Any], Any]:
        """Return a function that reads a number, or text if allowed, from an entry of the list."""
        path = getattr(fields, name)
        get, kind = follow(self._entry, name, path)
        if not (is_number(kind) or (text and is_text(kind))):
            wanted = "a number or text" if text else "a number"
            raise AdapterError(f"parameter '{name}' names '{path}', a {kind}: name {wanted}")
        return get

    def _detection(self, entry: Any, header: Any) -> Detection2D:
        a, b, c, d = (float(get(entry)) for get in self._box)
        x, y, size_x, size_y = (
            ((a + c) / 2, (b + d) / 2, c - a, d - b) if self._corners else (a, b, c, d)
        )
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = str(self._class_id(entry))
        hypothesis.hypothesis.score = float(self._score(entry)) if self._score else math.nan
        detection = Detection2D(header=header, results=[hypothesis])
        detection.id = str(self._id(entry)) if self._id else ""
        detection.bbox.center.position.x = x * self._scale[0]
        detection.bbox.center.position.y = y * self._scale[1]
        detection.bbox.center.theta = float(self._theta(entry)) if self._theta else 0.0
        detection.bbox.size_x = size_x * self._scale[0]
        detection.bbox.size_y = size_y * self._scale[1]
        return detection


def fields_from(preset: str, given: dict[str, str]) -> Fields:
    """Complete the given parameters from a preset.

    Args:
        preset: one of PRESETS, or empty.
        given: values by the names of Fields; empty ones count as not given.

    Returns:
        The parameters; what neither gives has its default.

    Raises:
        AdapterError: if there is no such preset.
    """
    if preset and preset not in PRESETS:
        raise AdapterError(f"parameter 'preset' is '{preset}': write one of {', '.join(PRESETS)}")
    return Fields(**(PRESETS.get(preset, {}) | {k: v for k, v in given.items() if v}))


def make_node() -> Any:
    """Make the node ``detection_adapter``, which converts ``input`` to ``detections``.

    Returns:
        The rclpy node, ready to be spun.

    Raises:
        AdapterError: if the parameters do not fit the message type.
    """
    node = Node("detection_adapter")

    def parameter(name: str, default: Any, text: str) -> Any:
        descriptor = ParameterDescriptor(description=text, read_only=True, dynamic_typing=True)
        value = node.declare_parameter(name, default, descriptor).value
        wanted = str if isinstance(default, str) else (int, float)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise AdapterError(f"parameter '{name}' is {value!r} but must be like {default!r}")
        return value

    preset = parameter("preset", "", f"Paths of a known detector: {', '.join(PRESETS)}")
    given = {
        item.name: parameter(item.name, item.default, item.metadata["text"])
        for item in dataclasses.fields(Fields)
    }
    adapter = Adapter(
        fields_from(preset, given),
        parameter("scale_x", 1.0, "Pixels per unit of the box; the image's width for 0 to 1"),
        parameter("scale_y", 1.0, "Pixels per unit of the box; the image's height for 0 to 1"),
    )
    reliability = parameter("qos.reliability", "reliable", "Of the input: reliable or best_effort")
    if reliability not in ("reliable", "best_effort"):
        raise AdapterError(
            f"parameter 'qos.reliability' is '{reliability}': write one of reliable, best_effort"
        )
    publisher = node.create_publisher(Detection2DArray, "detections", 10)

    def on_detections(message: Any) -> None:
        detections, refused = adapter.convert(message)
        publisher.publish(detections)
        for text in refused[:1]:
            node.get_logger().warning(text, throttle_duration_sec=5.0)

    qos = QoSProfile(depth=10, reliability=ReliabilityPolicy[reliability.upper()])
    source = AdaptiveSubscription(
        node, adapter.type, "input", on_detections, qos, say=node.get_logger().warning
    )
    node.get_logger().info(f"converting {source.topic} to {publisher.topic_name}")
    return node


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return run("detection_adapter", make_node, args)


if __name__ == "__main__":
    raise SystemExit(main())
