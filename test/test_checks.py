"""Each line of the self check is a tick or the remedy that works."""

from pathlib import Path

import pytest

import graph
from spyropose_ros.ros.interfaces import CameraInfo, Detection2DArray, Image
from spyropose_ros.ros.node import checks
from spyropose_ros.ros.node.checks import Line, Offer
from spyropose_ros.ros.pipeline.assembler import Input
from spyropose_ros.ros.pipeline.frame_source import Role

IMAGE = Input("", Role.IMAGE, "image_rect", "/image_rect", Image)
INFO = Input("", Role.CAMERA_INFO, "camera_info", "/camera_info", CameraInfo)
DETECTIONS = Input("", Role.DETECTIONS, "detections", "/detections", Detection2DArray)
RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO_TYPE = "sensor_msgs/msg/CameraInfo"


def test_a_line_begins_with_its_verdict():
    assert [str(Line(good, "text")) for good in (True, False)] == ["✓ text", "✗ text"]


@pytest.mark.parametrize(
    "distribution, variable",
    [("humble", "FASTRTPS"), ("jazzy", "FASTRTPS"), ("kilted", "FASTDDS"), ("rolling", "FASTDDS")],
)
def test_the_profile_of_fast_dds_is_named_as_the_distribution_reads_it(distribution, variable):
    found, profile = checks.environment(distribution, "rmw_fastrtps_cpp", {})
    assert found.good and not profile.good
    name, _, file = profile.text.rpartition("export ")[2].partition("=")
    assert name == f"{variable}_DEFAULT_PROFILES_FILE"
    assert Path(file).is_file()
    assert all(
        line.good for line in checks.environment(distribution, "rmw_fastrtps_cpp", {name: file})
    )
    (_, wrong) = checks.environment(distribution, "rmw_fastrtps_cpp", {name: "/nowhere"})
    assert not wrong.good and "/nowhere, which does not exist" in wrong.text


def test_other_distributions_are_refused_and_other_middlewares_have_no_profile():
    foxy, other = checks.environment("foxy", "rmw_cyclonedds_cpp", {})
    assert not foxy.good and "jazzy" in foxy.text
    assert other.good and "rmw_cyclonedds_cpp" in other.text


@pytest.mark.parametrize(
    "entry, offers, others, reliability, good, text",
    [
        (IMAGE, [Offer(RAW, True)], [], "reliable", True, "publishers 1, reliable"),
        (IMAGE, [Offer(RAW, False)], [], "best_effort", True, "publishers 1, best effort"),
        (IMAGE, [Offer(RAW, False)], [], "reliable", False, "set the publisher to reliable"),
        (INFO, [Offer(INFO_TYPE, False)], [], "reliable", True, "publishers 1, best effort"),
        (IMAGE, [], [], "reliable", False, "-r image_rect:=/topic"),
        (IMAGE, [], ["/cam/image"], "reliable", False, "--ros-args -r image_rect:=/cam/image"),
        (IMAGE, [Offer(COMPRESSED, True)], [], "reliable", False, "or set image_transport"),
    ],
)
def test_topics(entry, offers, others, reliability, good, text):
    line = checks.publishers(entry, offers, others, reliability)
    assert line.good is good and text in line.text and entry.topic in line.text


def test_what_arrives_is_counted_and_its_age_doubted():
    messages = [graph.image_message(1)] * 30
    fresh = checks.arrivals(IMAGE, messages, [0.02] * 30, 3.0)
    assert fresh.good and "10.0 Hz, 20 ms old" in fresh.text
    for age in (60.0, -5.0):
        assert "synchronise the clocks" in checks.arrivals(IMAGE, messages, [age] * 30, 3.0).text
    assert checks.arrivals(INFO, messages, [60.0] * 30, 3.0).good  # only the newest is used
    nothing = checks.arrivals(IMAGE, [], [], 3.0)
    assert not nothing.good and "nothing arrived on /image_rect" in nothing.text


def test_a_calibration_is_plausible_or_its_reason_is_given():
    info = graph.camera_info_message()
    assert checks.calibration(info, graph.WIDTH, graph.HEIGHT, True).good
    info.p[0] = 0.0
    line = checks.calibration(info, graph.WIDTH, graph.HEIGHT, True)
    assert not line.good and line.text.startswith("calibration: ")
    doubtful = graph.camera_info_message()
    doubtful.p[0] = 3 * doubtful.p[5]  # focal lengths that differ by so much are of no lens
    line = checks.calibration(doubtful, graph.WIDTH, graph.HEIGHT, True)
    assert not line.good and "fx" in line.text


def test_classes_without_a_model_are_mapped():
    known = {"mug": "mug"}
    cup = graph.detections_message(1, graph.detection("cup"))
    mug = graph.detections_message(1, graph.detection("person"), graph.detection("mug"))
    line = checks.classes([cup], known)
    assert not line.good and "class_map: ['cup=mug']" in line.text
    assert checks.classes([cup, mug], known) == Line(True, "detected objects with a model: mug")
    assert checks.classes([graph.detections_message(1)], known).good
