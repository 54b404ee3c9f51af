"""The estimator finds the boxes itself: camera and calibration are all that it needs."""

import io
import json
import shutil
from array import array

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from PIL import Image as PillowImage
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from vision_msgs.msg import Detection2DArray

import graph
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.detector.detector import Detector
from spyropose_ros.ros.messages.invariants import check_invariants
from spyropose_ros.ros.node import managed_node
from spyropose_ros.ros.node.adaptive_subscription import LATCHED
from spyropose_ros.ros.node.lifecycle_node import EstimatorNode
from spyropose_ros.ros.pipeline.drops import Reason
from spyropose_ros.ros.pipeline.parameters import ParameterError

TIE = {"detector": graph.COCO, "class_map": ["tie=mug"], "detector__min_score": 0.3}
"""For the photograph."""


def send(peer, rgb=None, image=None, nanoseconds=None):
    """Publishes an image with its calibration; returns its stamp."""
    now = nanoseconds or peer.now()
    rgb = graph.picture() if rgb is None else rgb
    peer.camera_info.publish(graph.camera_info_message(now, rgb))
    peer.image.publish(graph.stamp(image, now) if image else graph.image_message(now, rgb))
    return now


def answer(peer, rgb=None, **frame):
    """Publishes a frame until it is answered; returns the answer."""
    stamp = send(peer, rgb, **frame)

    def answers():
        return [
            m
            for m in peer.distributions
            if graph.image_message(stamp).header.stamp == m.header.stamp
        ]

    peer.spin_until(lambda: answers())
    return answers()[0]


def begin(start, **parameters):
    """A node that is connected, without detections."""
    peer = start(wait_for_topics=False, **({"sync__max_age": 60.0} | parameters))
    peer.spin_until(
        lambda: (
            peer.image.get_subscription_count()
            and peer.camera_info.get_subscription_count()
            and peer.node.count_publishers("estimator/distributions")
        )
    )
    peer.spin(0.3)
    return peer


def values(peer):
    """The first report of /diagnostics that counts every answer received until now."""
    reports = []
    peer.node.create_subscription(DiagnosticArray, "/diagnostics", reports.append, 10)

    def latest():
        return {v.key: v.value for status in reports[-1].status for v in status.values}

    # An answer is received before it is counted: the node has other messages to publish
    answers = len(peer.distributions)
    peer.spin_until(lambda: reports and int(latest()["results published"]) >= answers)
    return latest()


def test_an_image_is_answered_without_a_detections_topic(start, mug_bundle, photograph):
    peer = begin(start, **TIE)
    message = answer(peer, photograph)
    assert peer.detections.get_subscription_count() == 0
    (distribution,) = message.distributions
    check_invariants(distribution)
    assert (distribution.class_id, distribution.detection_id) == ("tie", "")
    found = Detector.from_pretrained(graph.COCO, "cpu").detect(photograph)
    tie = found.names.index("tie")
    assert distribution.detection_score == pytest.approx(found.scores[tie])
    K = np.array(graph.camera_info_message().p).reshape(3, 4)[:, :3]
    estimator = Estimator.from_pretrained(mug_bundle, "cpu", SearchSettings(beam=32))
    (expected,) = estimator.estimate(photograph, K, found.boxes[[tie]])
    positions = [[p.position.x, p.position.y, p.position.z] for p in distribution.poses]
    np.testing.assert_array_equal(positions, expected.top(256).translations.double().numpy())


def test_a_detector_in_the_bundle_of_the_model_is_used_by_itself(start, mug_bundle, many, tmp_path):
    both = shutil.copytree(mug_bundle, tmp_path / "both")
    shutil.copytree(many, both, dirs_exist_ok=True)
    peer = begin(start, objects=[str(both)], detections__max_count=2)
    assert len(answer(peer).distributions) == 2
    assert values(peer)["detectors"] == "both"


def test_diagnostics_and_model_info_say_which_detector_runs(start, photograph):
    peer = begin(start, **TIE)
    infos = []
    peer.node.create_subscription(String, "estimator/model_info", infos.append, LATCHED)
    answer(peer, photograph)
    answer(peer, photograph)
    found = values(peer)
    assert (found["detectors"], found["boxes found"]) == ("nanodet_coco", "2")
    assert float(found["detection (ms, median / 95 %)"].split(" / ")[0]) > 0
    peer.spin_until(lambda: infos)
    detectors = json.loads(infos[-1].data)["detectors"]
    assert detectors == [{"model_id": "nanodet_coco", "class_ids": ["tie"]}]


def test_a_detector_that_finds_nothing_gives_empty_answers(start, photograph):
    peer = begin(start, **TIE)
    assert answer(peer, np.zeros_like(photograph)).distributions == []
    assert len(answer(peer, photograph).distributions) == 1
    assert values(peer)["boxes found"] == "1"
    assert peer.estimator.drops.counts() == {}


def test_the_lowest_score_applies_to_the_next_frame(start, photograph):
    peer = begin(start, **TIE)
    peer.estimator.set_parameters(graph.overrides(detector__min_score=0.99))
    assert answer(peer, photograph).distributions == []


def test_of_many_boxes_those_with_the_best_scores_are_estimated(start, many):
    peer = begin(start, detector=many, detections__max_count=3)
    assert len(answer(peer).distributions) == 3
    assert int(values(peer)["boxes found"]) > 50
    assert peer.estimator.drops.counts().keys() == {Reason.TOO_MANY}


@pytest.mark.parametrize("encoding", ["mono8", "bgr8", "png", "jpeg"])
def test_images_of_all_kinds_are_searched(start, photograph, encoding):
    kinds = {"image_transport": "compressed"} if encoding in ("png", "jpeg") else {}
    peer = start(wait_for_topics=False, sync__max_age=60.0, **TIE, **kinds)
    grey = np.asarray(PillowImage.fromarray(photograph).convert("L"))
    if kinds:
        file = io.BytesIO()
        PillowImage.fromarray(photograph).save(file, encoding)
        message = CompressedImage(format=encoding, data=array("B", file.getvalue()))
        topic = "image_rect/compressed"
        peer.image = peer.node.create_publisher(CompressedImage, topic, 5)
    else:
        pixels = grey if encoding == "mono8" else np.ascontiguousarray(photograph[..., ::-1])
        message = graph.image_message(0, photograph)
        message.encoding, message.step = encoding, pixels.strides[0]
        message.data = array("B", pixels.tobytes())
    peer.spin_until(
        lambda: peer.image.get_subscription_count() and peer.camera_info.get_subscription_count()
    )
    peer.spin_until(lambda: peer.node.count_publishers("estimator/distributions"))
    peer.spin(0.3)
    (distribution,) = answer(peer, photograph, image=message).distributions
    assert distribution.class_id == "tie"


def test_unusable_images_are_counted_and_the_next_is_answered(start, photograph):
    peer = begin(start, **TIE)
    bad = graph.image_message(0, photograph)
    bad.data = bad.data[:-100]
    send(peer, photograph, image=bad)
    peer.spin_until(lambda: peer.estimator.drops.counts())
    assert peer.estimator.drops.counts() == {Reason.BAD_IMAGE: 1}
    assert len(answer(peer, photograph).distributions) == 1


def test_objects_are_followed_between_detections(start, photograph):
    peer = begin(start, **TIE, detector__rate=0.01, temporal__enabled=True, temporal__max_gap=60.0)
    (first,) = answer(peer, photograph).distributions
    black = np.zeros_like(photograph)
    (second,) = answer(peer, black).distributions  # nothing could be detected here
    assert (second.class_id, second.detection_score) == ("tie", first.detection_score)
    assert values(peer)["boxes found"] == "1"


def test_frames_between_detections_are_dropped_without_the_filter(start, photograph):
    peer = begin(start, **TIE, detector__rate=0.01)
    answer(peer, photograph)
    send(peer, photograph)
    peer.spin_until(lambda: peer.estimator.drops.counts())
    assert peer.estimator.drops.counts() == {Reason.NO_DETECTIONS: 1}


def test_several_cameras_are_searched_and_followed_together(start, photograph):
    cameras = ["left", "right"]  # at one place
    peer = start(
        wait_for_topics=False,
        cameras=cameras,
        camera_poses=[f"{camera}=0 0 0 0 0 0 1" for camera in cameras],
        fixed_frame="world",
        views__wait=5.0,
        sync__max_age=60.0,
        detector__rate=0.01,
        temporal__enabled=True,
        temporal__max_gap=60.0,
        **TIE,
    )
    create = peer.node.create_publisher
    images = [create(Image, f"{camera}/image_rect", 5) for camera in cameras]
    infos = [create(CameraInfo, f"{camera}/camera_info", 5) for camera in cameras]
    everything = [*images, *infos]
    peer.spin_until(lambda: all(each.get_subscription_count() for each in everything))
    peer.spin(0.3)

    def found(rgb):
        count, now = len(peer.distributions), peer.now()
        for info, image in zip(infos, images, strict=True):
            info.publish(graph.camera_info_message(now, rgb))
            image.publish(graph.image_message(now, rgb))
        peer.spin_until(lambda: len(peer.distributions) > count)
        return [d.class_id for d in peer.distributions[-1].distributions]

    assert found(photograph) == ["tie"]
    assert found(np.zeros_like(photograph)) == ["tie"]  # followed
    assert values(peer)["boxes found"] == "2"
    assert peer.estimator.drops.counts() == {}


@pytest.mark.parametrize("how", ["parameter", "remapping"])
def test_a_topic_given_by_name_wins(ros, mug_bundle, how):
    given = {"detector": "topic"} if how == "parameter" else {"detector": graph.COCO}
    rules = ["--ros-args", "-r", "detections:=boxes"] if how == "remapping" else []
    overrides = graph.overrides(objects=[mug_bundle], device="cpu", search__beam=32, **given)
    node = EstimatorNode(namespace=f"/wins_{how}", parameter_overrides=overrides, cli_args=rules)
    peer = graph.Peer(f"/wins_{how}", node)
    if how == "remapping":
        peer.detections = peer.node.create_publisher(Detection2DArray, "boxes", 10)
    try:
        peer.connect()
        peer.spin_until(lambda: node.ready)
        peer.send(graph.detection())
        peer.spin_until(lambda: peer.distributions)
        assert peer.distributions[0].distributions[0].class_id == "mug"
    finally:
        peer.close()


def test_a_publisher_that_is_not_listened_to_is_named(start, monkeypatch):
    monkeypatch.setattr(managed_node, "SILENCE_PERIOD", 0.5)
    peer = begin(start, **TIE)  # it also publishes detections
    topic = peer.node.resolve_topic_name("detections")
    said = peer.estimator._session._assembler.warn.logged
    peer.spin_until(lambda: said)
    peer.spin(1.2)
    (text,) = said
    assert text.startswith(f"detections on {topic} are not used")


IMPOSSIBLE = {
    "no detector": ({"detector": "/nowhere"}, "'detector': no model bundle at '/nowhere'"),
    "wrong class map": (
        {"detector": graph.COCO, "class_map": ["neck tie=mug"]},
        "knows person, bicycle, .*, ... but none of the objects mug: map one of its classes, such "
        r"as class_map: \['person=mug'\]",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_detector_that_cannot_work_is_refused_at_the_start(mug_bundle, name):
    given, text = IMPOSSIBLE[name]
    overrides = graph.overrides(objects=[mug_bundle], device="cpu", **given)
    with pytest.raises(ParameterError, match=text):
        EstimatorNode(parameter_overrides=overrides)


def test_configure_fails_with_a_missing_detector_and_can_be_tried_again(start):
    peer = start(False, autostart=False, **(TIE | {"detector": "/nowhere"}))
    node = peer.estimator
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node.set_parameters(graph.overrides(detector=graph.COCO))[0].successful
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert not node.set_parameters(graph.overrides(detector=""))[0].successful  # in use
    peer.spin_until(lambda: node.ready)
