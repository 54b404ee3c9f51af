"""Detections of other message types: every field path, and what is refused at the start."""

import math
import sys
from types import ModuleType

import pytest
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from spyropose_ros.ros.node.detection_adapter import (
    PRESETS,
    Adapter,
    AdapterError,
    Fields,
    fields_from,
)

VISION = PRESETS["vision_msgs"]
# stands for a detector with corners and a number as class
CORNERS = {
    "type": "geometry_msgs/PoseArray",
    "list": "poses",
    "class_id": "position.z",
    "left": "position.x",
    "top": "position.y",
    "right": "orientation.x",
    "bottom": "orientation.y",
}


def detection(class_id="mug", x=20.0):
    message = Detection2D(id="7")
    message.bbox.center.position.x, message.bbox.center.position.y = x, 30.0
    message.bbox.center.theta = 0.5
    message.bbox.size_x, message.bbox.size_y = 8.0, 6.0
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = class_id, 0.75
    message.results = [result]
    return message


def header():
    result = Header(frame_id="camera")
    result.stamp.sec, result.stamp.nanosec = 12, 34
    return result


def test_every_field_is_copied():
    message = Detection2DArray(header=header(), detections=[detection(), detection("cup", 40.0)])
    converted, refused = Adapter(Fields(**VISION)).convert(message)
    for item in message.detections:
        item.header = message.header
    assert converted == message and not refused


def test_corners_become_centre_and_size_and_what_is_not_named_is_unknown():
    pose = Pose(position=Point(x=10.0, y=20.0, z=3.0), orientation=Quaternion(x=30.0, y=60.0))
    converted, _ = Adapter(Fields(**CORNERS)).convert(PoseArray(header=header(), poses=[pose]))
    (item,) = converted.detections
    assert converted.header == item.header == header()
    box = item.bbox
    assert (box.center.position.x, box.center.position.y, box.center.theta) == (20, 40, 0)
    assert (box.size_x, box.size_y) == (20, 40)
    assert item.results[0].hypothesis.class_id == "3.0" and item.id == ""
    assert math.isnan(item.results[0].hypothesis.score)


def test_boxes_are_scaled_to_pixels():
    message = Detection2DArray(detections=[detection(x=0.5)])
    (item,) = Adapter(Fields(**VISION), 640, 480).convert(message)[0].detections
    assert item.bbox.center.position.x == 320 and item.bbox.size_y == 6 * 480


def test_a_detection_without_the_element_is_left_out_and_named():
    empty = Detection2D()
    message = Detection2DArray(detections=[empty, detection()])
    converted, refused = Adapter(Fields(**VISION)).convert(message)
    assert len(converted.detections) == 1
    assert refused == [
        "detection left out: 'results.0.hypothesis.class_id' is not there, the list has 0 elements"
    ]


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"type": ""}, "parameter 'type' is '': write a type, such as"),
        ({"type": "os.path"}, "parameter 'type' is 'os.path'"),
        ({"type": "nothing_msgs/msg/Array"}, "not available .* build nothing_msgs"),
        ({"type": "vision_msgs/msg/Nothing"}, "not available"),
        ({"type": "visualization_msgs/msg/MarkerArray"}, "no field 'header': MarkerArray has mark"),
        ({"header": "detections"}, "a sequence.* no header"),
        ({"list": ""}, "parameter 'list' is missing"),
        ({"list": "boxes"}, "no field 'boxes': Detection2DArray has header, detections"),
        ({"list": "header"}, "a std_msgs/Header: name a list of messages"),
        ({"class_id": ""}, "parameter 'class_id' is missing"),
        ({"class_id": "results.hypothesis"}, "pick from a list by a number"),
        ({"class_id": "results.-1.hypothesis.class_id"}, "no field '-1'"),
        ({"class_id": "bbox"}, "a vision_msgs/BoundingBox2D: name a number or text"),
        ({"class_id": "__class__"}, "no field '__class__'"),
        ({"center_x": "bbox.center.__init__"}, "no field '__init__'"),
        ({"center_x": "id"}, "parameter 'center_x' names 'id', a string: name a number"),
        ({"center_x": ""}, "parameter 'center_x' is missing"),
        ({"center_y": "bbox.center.position.x.real"}, "no field 'real': double has none"),
        ({"left": "bbox.size_x"}, "either left, top, right, bottom or center_x"),
    ],
)
def test_what_does_not_fit_the_type_is_refused_by_name(changes, text):
    with pytest.raises(AdapterError, match=text):
        Adapter(Fields(**(VISION | changes)))


def test_incomplete_corners_and_useless_scales_are_refused():
    with pytest.raises(AdapterError, match="'bottom' is missing"):
        Adapter(Fields(**(CORNERS | {"bottom": ""})))
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(AdapterError, match="scale"):
            Adapter(Fields(**CORNERS), scale_x=scale)


def declare(name, **fields):
    """A class that looks like a generated message."""
    types = classmethod(lambda cls: fields)
    return type(name, (), {"get_fields_and_field_types": types})


def test_the_preset_fits_the_messages_of_yolo_ros(monkeypatch):
    """Field names and types as in yolo_msgs 4.6 (mgonzs13/yolo_ros)."""
    module = ModuleType("yolo_msgs.msg")
    module.DetectionArray = declare(
        "DetectionArray", header="std_msgs/Header", detections="sequence<yolo_msgs/Detection>"
    )
    module.Detection = declare(
        "Detection",
        class_id="int32",
        class_name="string",
        score="double",
        id="string",
        bbox="yolo_msgs/BoundingBox2D",
    )
    module.BoundingBox2D = declare(
        "BoundingBox2D", center="yolo_msgs/Pose2D", size="yolo_msgs/Vector2"
    )
    module.Pose2D = declare("Pose2D", position="yolo_msgs/Point2D", theta="double")
    module.Point2D = module.Vector2 = declare("Point2D", x="double", y="double")
    monkeypatch.setitem(sys.modules, "yolo_msgs", ModuleType("yolo_msgs"))
    monkeypatch.setitem(sys.modules, "yolo_msgs.msg", module)
    adapter = Adapter(fields_from("yolo_ros", {"type": "", "class_id": ""}))

    def fill(kind, **values):
        message = kind()
        vars(message).update(values)
        return message

    box = fill(
        module.BoundingBox2D,
        center=fill(module.Pose2D, position=fill(module.Point2D, x=5.0, y=6.0), theta=0.1),
        size=fill(module.Vector2, x=7.0, y=8.0),
    )
    found = fill(module.Detection, class_id=41, class_name="cup", score=0.9, id="3", bbox=box)
    message = fill(module.DetectionArray, header=header(), detections=[found])
    (item,) = adapter.convert(message)[0].detections
    assert (item.results[0].hypothesis.class_id, item.id) == ("cup", "3")
    assert (item.bbox.center.position.y, item.bbox.center.theta, item.bbox.size_x) == (6, 0.1, 7)
    assert fields_from("yolo_ros", {"class_id": "class_id"}).class_id == "class_id"


def test_an_unknown_preset_is_refused():
    with pytest.raises(AdapterError, match="write one of yolo_ros"):
        fields_from("yolo", {})
