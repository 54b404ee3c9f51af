"""A node that turns detections of any message type into vision_msgs/Detection2DArray.

Parameters name the fields; see docs/detectors.md. They are checked against the message type once,
at the start, so that nothing but declared message fields is ever read.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

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
    # for boxes that need scaling; the first hypothesis alone is kept
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

_TYPE = re.compile(r"([A-Za-z]\w*)/(?:msg/)?([A-Za-z]\w*)")
_LIST = re.compile(r"sequence<(?P<sequence>.+?)(?:, \d+)?>|(?P<array>.+)\[\d+\]")
_NUMBER = re.compile(r"float|double|boolean|char|u?int(8|16|32|64)")
_TEXT = re.compile(r"w?string(<.*>)?")
_CENTER = ("center_x", "center_y", "size_x", "size_y")
_CORNERS = ("left", "top", "right", "bottom")


class AdapterError(ValueError):
    """The parameters do not fit the message type; the text names the parameter and the remedy."""


class MissingElement(Exception):
    """A list in a message is shorter than a path assumes."""


def _path(text: str, default: str = "") -> Any:
    return field(default=default, metadata={"text": text})


@dataclass(frozen=True)
class Fields:
    """Where a detector's message type has what is needed: dotted paths, numbers pick from lists.

    Empty paths stand for what the type does not have.
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
        fields: where its message type has what is needed.
        scale_x: pixels per unit of the box, horizontally: the image's width for boxes from 0 to 1.
        scale_y: the same vertically.

    Raises:
        AdapterError: if a parameter is missing or does not fit the message type.
    """

    def __init__(self, fields: Fields, scale_x: float = 1.0, scale_y: float = 1.0) -> None:
        if not (0 < scale_x < math.inf and 0 < scale_y < math.inf):
            raise AdapterError("parameters 'scale_x' and 'scale_y' must be above 0")
        self._scale = scale_x, scale_y
        self.type = _message_class("type", fields.type)
        self._header, header = _follow(self.type, "header", fields.header)
        if header != "std_msgs/Header":
            raise AdapterError(f"parameter 'header' names '{fields.header}', a {header}: no header")
        self._list, kind = _follow(self.type, "list", fields.list)
        element = _element(kind)
        if element is None or not _TYPE.fullmatch(element):
            raise AdapterError(
                f"parameter 'list' names '{fields.list}', a {kind}: name a list of messages"
            )
        self._entry = _message_class("list", element)
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
        """Converts a message.

        Args:
            message: of the adapter's type.

        Returns:
            The detections with the header of the message, and what is wrong with those left out.
        """
        result = Detection2DArray(header=self._header(message))
        refused = []
        for entry in self._list(message):
            try:
                self._add(entry, result)
            except MissingElement as error:
                refused.append(f"detection left out: {error}")
        return result, refused

    def _scalar(self, fields: Fields, name: str, text: bool = False) -> Callable[[Any], Any]:
        """Reads a number, or a text where that is allowed, from an entry of the list."""
        path = getattr(fields, name)
        get, kind = _follow(self._entry, name, path)
        if not (_NUMBER.fullmatch(kind) or (text and _TEXT.fullmatch(kind))):
            wanted = "a number or text" if text else "a number"
            raise AdapterError(f"parameter '{name}' names '{path}', a {kind}: name {wanted}")
        return get

    def _add(self, entry: Any, result: Detection2DArray) -> None:
        a, b, c, d = (float(get(entry)) for get in self._box)
        x, y, size_x, size_y = (
            ((a + c) / 2, (b + d) / 2, c - a, d - b) if self._corners else (a, b, c, d)
        )
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = str(self._class_id(entry))
        hypothesis.hypothesis.score = float(self._score(entry)) if self._score else math.nan
        detection = Detection2D(header=result.header, results=[hypothesis])
        detection.id = str(self._id(entry)) if self._id else ""
        detection.bbox.center.position.x = x * self._scale[0]
        detection.bbox.center.position.y = y * self._scale[1]
        detection.bbox.center.theta = float(self._theta(entry)) if self._theta else 0.0
        detection.bbox.size_x = size_x * self._scale[0]
        detection.bbox.size_y = size_y * self._scale[1]
        result.detections.append(detection)


def fields_from(preset: str, given: dict[str, str]) -> Fields:
    """Completes what the user gave by a preset.

    Args:
        preset: one of PRESETS, or empty.
        given: values of the parameters named as in Fields; empty ones count as not given.

    Raises:
        AdapterError: if there is no such preset.
    """
    if preset and preset not in PRESETS:
        raise AdapterError(f"parameter 'preset' is '{preset}': write one of {', '.join(PRESETS)}")
    return Fields(**(PRESETS.get(preset, {}) | {k: v for k, v in given.items() if v}))


def _message_class(parameter: str, name: str) -> type:
    match = _TYPE.fullmatch(name)
    if match is None:
        raise AdapterError(
            f"parameter '{parameter}' is '{name}': write a type, such as sensor_msgs/msg/Image"
        )
    try:
        return getattr(importlib.import_module(f"{match[1]}.msg"), match[2])
    except (ImportError, AttributeError) as error:
        raise AdapterError(
            f"message type '{name}' is not available ({error}): build {match[1]} and source its "
            "workspace"
        ) from error


def _element(kind: str) -> str | None:
    """Type of the elements of a list type; None for other types."""
    match = _LIST.fullmatch(kind)
    return (match["sequence"] or match["array"]) if match else None


def _follow(start: type, parameter: str, path: str) -> tuple[Callable[[Any], Any], str]:
    """Checks a path against a message type.

    Returns:
        A function that reads the field from a message, and the field's type.

    Raises:
        AdapterError: if the path is empty or leaves the declared fields.
    """
    if not path:
        raise AdapterError(f"parameter '{parameter}' is missing: give the path of a field")
    owner: type | None = start
    kind = ""
    steps: list[str | int] = []
    for part in path.split("."):
        if owner is None and _TYPE.fullmatch(kind):
            owner = _message_class(parameter, kind)
        element = _element(kind) if owner is None else None
        if element is not None and part.isascii() and part.isdigit():
            steps.append(int(part))
            kind = element
            continue
        declared = owner.get_fields_and_field_types() if owner else {}
        if part not in declared:
            place = f"{owner.__name__} has {', '.join(declared)}" if owner else f"{kind} has none"
            if element is not None:
                place += "; pick from a list by a number"
            raise AdapterError(
                f"parameter '{parameter}' names '{path}' but there is no field '{part}': {place}"
            )
        steps.append(part)
        kind, owner = declared[part], None

    def get(message: Any) -> Any:
        value = message
        for step in steps:
            if isinstance(step, str):
                value = getattr(value, step)
            elif step < len(value):
                value = value[step]
            else:
                raise MissingElement(f"'{path}' is not there, the list has {len(value)} elements")
        return value

    return get, kind


def make_node() -> Any:
    """Makes the node ``detection_adapter``: ``input`` in the detector's type, ``detections`` out.

    Raises:
        AdapterError: if the parameters do not fit the message type.
    """
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node
    from rclpy.qos import QoSProfile, ReliabilityPolicy

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
    source = node.create_subscription(adapter.type, "input", on_detections, qos)
    node.get_logger().info(f"converts {source.topic_name} to {publisher.topic_name}")
    return node


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node until it is interrupted; returns the exit code."""
    import rclpy
    from rclpy.executors import ExternalShutdownException

    # rclpy's own handler ends the spinning; Python's would raise wherever the process happens to be
    signal.signal(signal.SIGINT, lambda *_: None)
    rclpy.init(args=args)
    try:
        node = make_node()
        # The timeout: rclpy wakes the waiting a moment before rclpy.ok() is false, once
        while rclpy.ok():
            rclpy.spin_once(node, timeout_sec=1.0)
    except ExternalShutdownException:
        pass
    except ValueError as error:
        rclpy.logging.get_logger("detection_adapter").fatal(str(error))
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
