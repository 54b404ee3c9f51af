"""Bags: the estimator over a recording gives what the node gives, every frame, always the same."""

import io
import json
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from ament_index_python.packages import get_package_share_directory
from geometry_msgs.msg import PoseArray, TransformStamped
from PIL import Image as PillowImage
from rclpy.serialization import serialize_message
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from spyropose_ros.msg import FeatureEstimateArray, PoseDistributionArray
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

import graph
from mcap_tools import MAGIC
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.detector.bundle import DetectorBundle, DetectorInfo
from spyropose_ros.detector.network import DetectionNetwork
from spyropose_ros.ros.bags import bag
from spyropose_ros.ros.bags.bag_files import BagError, BagReader, BagWriter
from spyropose_ros.ros.bags.message_types import definition
from spyropose_ros.ros.bags.parameter_files import read_parameters
from spyropose_ros.ros.bags.topic_names import TopicNames
from spyropose_ros.ros.interfaces import type_name
from spyropose_ros.ros.messages.invariants import check_invariants
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.parameters import ParameterError, Parameters
from spyropose_ros.scenes.verification import Verification

START = 1_700_000_000 * graph.SECOND
PERIOD = graph.SECOND // 10
BEAM = 32
DISTRIBUTIONS = "/estimator/distributions"


def stamp_at(index: int) -> int:
    return START + index * PERIOD


def frame(index: int, *detections):
    """The messages of one frame in the order of a live system: (topic, message, time)."""
    now = stamp_at(index)
    rgb = graph.picture(index)
    return [
        ("/camera_info", graph.camera_info_message(now), now),
        ("/image_rect", graph.image_message(now, rgb), now + 1),
        ("/detections", graph.detections_message(now, *detections), now + PERIOD // 2),
    ]


def frames(count: int):
    return [entry for i in range(count) for entry in frame(i, graph.detection(x=60.0 + 5 * i))]


def write(path: Path, entries, storage: str = "mcap") -> Path:
    with BagWriter(path, storage) as writer:
        for topic, message, time in entries:
            writer.write(topic, message, time)
    return path


def read(path: Path, topic: str, kind: type) -> list:
    with BagReader(path) as reader:
        reader.check_type(topic, kind)
        return [reader.decode(record, kind) for record in reader.records([topic])]


def raw(path: Path) -> list:
    with BagReader(path) as reader:
        return [(r.topic, r.time, r.data) for r in reader.records(reader.topics)]


def stamps(messages) -> list[int]:
    return [nanoseconds(message.header.stamp) for message in messages]


@pytest.fixture
def run(mug_bundle, tmp_path, capsys):
    """Runs the command over a bag; gives the exit code, the output bag and the texts."""

    def run_bag(source, *more, objects=mug_bundle):
        output = tmp_path / "output"
        code = bag.main(
            [str(source), "--output", str(output), "-p", f"objects:=['{objects}']"]
            + ["-p", "device:=cpu", "-p", f"search.beam:={BEAM}", *more]
        )
        texts = capsys.readouterr()
        return code, output, texts.out + texts.err

    return run_bag


# ---- outputs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("whole", [True, False], ids=["folder", "file"])
def test_every_frame_gets_the_distribution_of_the_estimator(
    run, mug_bundle, tmp_path, storage, whole
):
    source = write(tmp_path / "in", frames(3), storage)
    if not whole:
        (source,) = (file for file in source.iterdir() if file.suffix in (".mcap", ".db3"))
    code, output, text = run(source, "--storage", storage)
    assert code == 0, text
    found = read(output, DISTRIBUTIONS, PoseDistributionArray)
    assert stamps(found) == [stamp_at(index) for index in range(3)]
    estimator = Estimator.from_pretrained(mug_bundle, "cpu", SearchSettings(beam=BEAM))
    K = np.array(graph.camera_info_message().p).reshape(3, 4)[:, :3]
    for index, message in enumerate(found):
        box = np.array([[30.0 + 5 * index, 35, 90 + 5 * index, 85]])
        (expected,) = estimator.estimate(graph.picture(index), K, box)
        (distribution,) = message.distributions
        check_invariants(distribution)
        assert distribution.header.frame_id == graph.FRAME
        weights = expected.top(256).probabilities.double().numpy()
        np.testing.assert_array_equal(distribution.weights, weights / max(1, weights.sum()))
        positions = [(p.position.x, p.position.y, p.position.z) for p in distribution.poses]
        np.testing.assert_array_equal(positions, expected.top(256).translations.double().numpy())
        assert nanoseconds(distribution.inference_time) == 0
    assert "3 frames processed" in text
    assert "dropped: none" in text


def test_modes_of_a_bag_are_verified_on_request(run, meshed_bundle, tmp_path):
    source = write(tmp_path / "in", frames(1))
    code, output, text = run(source, "-p", "search.verify:=true", objects=meshed_bundle)
    assert code == 0 and "dropped: none" in text, text
    ((message,),) = (m.distributions for m in read(output, DISTRIBUTIONS, PoseDistributionArray))
    estimator = Estimator.from_pretrained(meshed_bundle, "cpu", SearchSettings(beam=BEAM))
    K, box = (
        np.array(graph.camera_info_message().p).reshape(3, 4)[:, :3],
        np.array([30, 35, 90, 85]),
    )
    (before,) = estimator.estimate(graph.picture(), K, box[None])
    after = Verification.of_bundle(estimator)(graph.picture(), K, box, before)
    assert [mode.mass for mode in message.modes] == pytest.approx([m.mass for m in after.modes()])
    assert after is not before


def test_all_messages_about_a_frame_are_there_but_pictures_only_when_asked_for(run, tmp_path):
    source = write(tmp_path / "in", frames(2))
    _, output, _ = run(source)
    with BagReader(output) as reader:
        topics = reader.topics
    assert topics == {
        "/estimator/model_info": type_name(String),
        DISTRIBUTIONS: type_name(PoseDistributionArray),
        "/detections_3d": type_name(Detection3DArray),
        "/estimator/poses": type_name(PoseArray),
        "/estimator/markers": type_name(MarkerArray),
        "/estimator/marginals": type_name(FeatureEstimateArray),
    }
    (info,) = read(output, "/estimator/model_info", String)
    assert [entry["name"] for entry in json.loads(info.data)["objects"]] == ["mug"]
    _, output, _ = run(source, "--pictures", "--overwrite")
    assert stamps(read(output, "/estimator/overlay", Image)) == [stamp_at(0), stamp_at(1)]
    assert len(read(output, "/estimator/rotations", Image)) == 2


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_two_runs_give_the_same_bytes(run, tmp_path, storage):
    source = write(tmp_path / "in", frames(3))
    copies = []
    for _ in range(2):
        _, output, _ = run(source, "--storage", storage, "--overwrite", "--all")
        copies.append({file.name: file.read_bytes() for file in output.iterdir()})
    assert len(copies[0]) == 2
    assert copies[0] == copies[1]


def test_storages_hold_the_same_messages(run, tmp_path):
    outputs = []
    for storage in ("mcap", "sqlite3"):
        source = write(tmp_path / storage, frames(2), storage)
        outputs.append(raw(run(source, "--storage", storage, "--overwrite")[1]))
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 4


def test_outputs_lie_at_the_time_at_which_their_frame_was_complete(run, tmp_path):
    source = write(tmp_path / "in", frames(2))
    _, output, _ = run(source)
    times = [time for topic, time, _ in raw(output) if topic == DISTRIBUTIONS]
    assert times == [stamp_at(0) + PERIOD // 2, stamp_at(1) + PERIOD // 2]


def test_all_copies_everything_but_what_an_estimator_said_while_recording(run, tmp_path):
    old = PoseDistributionArray()
    note = ("/note", String(data="kept"), stamp_at(0))
    source = write(tmp_path / "in", [note, (DISTRIBUTIONS, old, stamp_at(0)), *frames(2)])
    before = [entry for entry in raw(source) if entry[0] != DISTRIBUTIONS]
    _, output, _ = run(source, "--all")
    after = raw(output)
    assert [entry for entry in after if entry[0] in {topic for topic, _, _ in before}] == before
    assert len(read(output, DISTRIBUTIONS, PoseDistributionArray)) == 2
    assert [time for _, time, _ in after] == sorted(time for _, time, _ in after)


def test_node_and_bag_give_the_same_messages(run, start, mug_bundle, tmp_path):
    peer = start(search__beam=BEAM, sync__max_age=0.0)
    images, infos, boxes = (
        peer_list(peer, kind, topic)
        for kind, topic in (
            (Image, "image_rect"),
            (CameraInfo, "camera_info"),
            (Detection2DArray, "detections"),
        )
    )
    detections_3d = peer_list(peer, Detection3DArray, "detections_3d")
    markers = peer.listen(MarkerArray, "markers")
    peer.spin(0.5)
    sent = peer.send(graph.detection(x=50.0, name="left"), graph.detection(x=110.0, name="right"))
    lists = (peer.distributions, peer.poses, detections_3d, markers, images, infos, boxes)
    peer.spin_until(lambda: all(lists))
    source = write(
        tmp_path / "in",
        [
            ("/camera_info", infos[0], sent),
            ("/image_rect", images[0], sent),
            ("/detections", boxes[0], sent),
        ],
    )
    _, output, _ = run(source)
    for distribution in peer.distributions[0].distributions:
        distribution.inference_time.sec = distribution.inference_time.nanosec = 0
    for topic, live in (
        (DISTRIBUTIONS, peer.distributions),
        ("/estimator/poses", peer.poses),
        ("/detections_3d", detections_3d),
        ("/estimator/markers", markers),
    ):
        (offline,) = read(output, topic, type(live[0]))
        assert offline == live[0], topic  # not as bytes: DDS leaves old memory between fields


def peer_list(peer, kind, topic) -> list:
    received: list = []
    peer.node.create_subscription(kind, topic, received.append, 10)
    return received


# ---- without detections ----------------------------------------------------------------------

TIE = ["-p", f"detector:={graph.COCO}", "-p", "class_map:=['tie=mug']"]
TIE += ["-p", "detector.min_score:=0.3"]


def camera_alone(photograph, count=3):
    """Frames without detections: the photograph, moved to the right from frame to frame."""
    return [
        entry
        for index in range(count)
        for now in [stamp_at(index)]
        for rgb in [np.roll(photograph, 5 * index, axis=1)]
        for entry in (
            ("/image_rect", graph.image_message(now, rgb), now + 1),
            ("/camera_info", graph.camera_info_message(now, rgb), now + 2),
        )
    ]


def test_a_detector_finds_the_boxes_of_a_bag_without_detections(run, tmp_path, photograph):
    source = write(tmp_path / "in", camera_alone(photograph))
    copies = []
    for _ in range(2):
        code, output, text = run(source, *TIE, "--overwrite", "--all")
        assert code == 0, text
        copies.append({file.name: file.read_bytes() for file in output.iterdir()})
    assert copies[0] == copies[1]
    found = read(output, DISTRIBUTIONS, PoseDistributionArray)
    assert stamps(found) == [stamp_at(index) for index in range(3)]
    assert [{d.class_id for d in message.distributions} for message in found] == 3 * [{"tie"}]
    (info,) = read(output, "/estimator/model_info", String)
    assert json.loads(info.data)["detectors"][0]["model_id"] == "nanodet_coco"
    assert "3 frames processed" in text and "dropped: none" in text


def test_the_rate_of_detection_is_that_of_the_recording(run, tmp_path, photograph):
    source = write(tmp_path / "in", camera_alone(photograph, count=4))
    _, output, text = run(source, *TIE, "-p", "detector.rate:=5.0")
    assert stamps(read(output, DISTRIBUTIONS, PoseDistributionArray)) == [stamp_at(0), stamp_at(2)]
    assert "dropped: no detections 2" in text
    filtered = [*TIE, "-p", "detector.rate:=5.0", "-p", "temporal.enabled:=true", "--overwrite"]
    _, output, text = run(source, *filtered)
    found = read(output, DISTRIBUTIONS, PoseDistributionArray)
    assert [len(message.distributions) for message in found] == 4 * [1]
    assert "dropped: none" in text


def test_the_detector_of_the_model_is_used_unless_the_topic_is_asked_for(run, mug_bundle, tmp_path):
    both = shutil.copytree(mug_bundle, tmp_path / "both")
    DetectorBundle(DetectionNetwork(1).eval(), DetectorInfo(("mug",), 64)).save_pretrained(both)
    source = write(tmp_path / "in", frames(2))
    counts = {}  # the detector is not trained and finds nothing
    for name, options in {
        "own": [],
        "parameter": ["-p", "detector:=topic"],
        "remapping": ["-r", "detections:=boxes"],
    }.items():
        if name == "remapping":
            entries = [(t.replace("/detections", "/boxes"), m, s) for t, m, s in frames(2)]
            source = write(tmp_path / "boxes", entries)
        _, output, text = run(source, *options, "--overwrite", objects=both)
        found = read(output, DISTRIBUTIONS, PoseDistributionArray)
        assert ("detections on /detections are not used" in text) == (name == "own")
        counts[name] = [len(message.distributions) for message in found]
    assert counts == {"own": [0, 0], "parameter": [1, 1], "remapping": [1, 1]}


def test_the_last_image_is_processed_without_calibration_after_it(run, tmp_path, photograph):
    entries = camera_alone(photograph, count=2)[:3]
    code, output, text = run(write(tmp_path / "in", entries), *TIE)
    assert len(read(output, DISTRIBUTIONS, PoseDistributionArray)) == 2, text


def test_a_bag_without_detections_is_refused_with_both_remedies(run, tmp_path, photograph):
    code, _, text = run(write(tmp_path / "in", camera_alone(photograph)))
    assert code == 1
    assert "record the detector's output as well (docs/bags.md), or name a detector" in text
    assert "-p detector:=BUNDLE" in text


# ---- what goes in ----------------------------------------------------------------------------


def test_what_is_not_used_is_counted_by_reason(run, tmp_path):
    entries = frame(0, graph.detection(), graph.detection("person"))
    entries += frame(1, graph.detection())[:2]  # an image without detections
    entries += frame(2)[:1] + frame(2, graph.detection())[2:]  # detections without image
    entries += frame(3, graph.detection())
    code, output, text = run(write(tmp_path / "in", entries))
    assert code == 0
    assert stamps(read(output, DISTRIBUTIONS, PoseDistributionArray)) == [stamp_at(0), stamp_at(3)]
    assert "2 frames processed" in text
    for reason in ("unknown class 1", "no detections 1", "unmatched 1"):
        assert reason in text


def test_frames_are_never_too_old(run, tmp_path):
    code, output, _ = run(write(tmp_path / "in", frames(2)), "-p", "sync.max_age:=0.01")
    assert code == 0
    assert len(read(output, DISTRIBUTIONS, PoseDistributionArray)) == 2


def test_the_first_image_has_the_calibration_that_was_recorded_after_it(run, tmp_path):
    entries = sorted(frame(0, graph.detection()), key=lambda entry: entry[0] == "/camera_info")
    entries = [(topic, message, stamp_at(0) + i) for i, (topic, message, _) in enumerate(entries)]
    code, output, text = run(write(tmp_path / "in", entries))
    assert code == 0, text
    assert len(read(output, DISTRIBUTIONS, PoseDistributionArray)) == 1


def test_a_calibration_that_changes_is_used_from_then_on(run, tmp_path):
    def calibrated(index, size):
        entries = frame(index, graph.detection())
        entries[0][1].width = size
        return entries

    source = write(tmp_path / "in", [*calibrated(0, graph.WIDTH), *calibrated(1, 7)])
    _, output, text = run(source)
    assert stamps(read(output, DISTRIBUTIONS, PoseDistributionArray)) == [stamp_at(0)]
    assert "bad camera_info 1" in text


def test_topics_are_remapped_and_namespaced_like_those_of_a_node(run, tmp_path):
    names = {
        "/image_rect": "/cam/image",
        "/camera_info": "/cam/info",
        "/detections": "/bot/detections",
    }
    entries = [(names[topic], message, time) for topic, message, time in frames(1)]
    file = tmp_path / "launch_params"
    file.write_text("/bot/estimator:\n  ros__parameters:\n    output.max_poses: 5\n")
    code, output, text = run(  # in the words of launch_ros
        write(tmp_path / "in", entries),
        *("--ros-args", "-r", "__node:=estimator", "-r", "__ns:=/bot", "--params-file", str(file)),
        *("-r", "image_rect:=/cam/image", "-r", "camera_info:=/cam/info"),
        *("-r", "~/distributions:=weighted"),
    )
    assert code == 0, text
    with BagReader(output) as reader:
        assert {"/bot/weighted", "/bot/estimator/poses"} < reader.topics.keys()
    (message,) = read(output, "/bot/weighted", PoseDistributionArray)
    assert len(message.distributions[0].poses) == 5


def camera_transform(stamp: int, x: float) -> TFMessage:
    message = graph.stamp(TransformStamped(child_frame_id=graph.FRAME), stamp)
    message.header.frame_id = "world"
    message.transform.translation.x, message.transform.rotation.w = x, 1.0
    return TFMessage(transforms=[message])


@pytest.mark.parametrize("static", [True, False])
def test_several_cameras_are_fused_with_transforms_that_come_after_their_images(
    run, tmp_path, static
):
    now = stamp_at(0)
    entries = []
    for camera in ("left", "right"):
        entries += [
            (f"/{camera}{topic}", message, time)
            for topic, message, time in frame(0, graph.detection())
        ]
    late = now + PERIOD
    if static:
        entries.append(("/tf_static", camera_transform(0, 0.0), late))
    else:
        entries += [
            ("/tf", camera_transform(now + shift, 0.0), late + shift)
            for shift in (-graph.SECOND // 2, graph.SECOND // 2)
        ]
    entries.sort(key=lambda entry: entry[2])
    code, output, text = run(
        write(tmp_path / "in", entries),
        *("-p", "cameras:=['left', 'right']", "-p", "fixed_frame:=world"),
    )
    assert code == 0, text
    found = read(output, DISTRIBUTIONS, PoseDistributionArray)
    assert [message.header.frame_id for message in found] == ["world"] * len(found)
    assert "no transform" not in text


def test_a_raw_image_that_should_be_rectified_is_said_once_and_in_the_summary(run, tmp_path):
    entries = frames(2)
    for topic, message, _ in entries:
        if topic == "/camera_info":
            message.d = [0.1, 0.0, 0.0, 0.0, 0.0]
    names = {"/image_rect": "/camera/image"}
    entries = [(names.get(topic, topic), message, time) for topic, message, time in entries]
    source = write(tmp_path / "in", entries)
    code, _, text = run(source, "-r", "image_rect:=/camera/image")
    assert code == 0, text
    said = "camera_info has lens distortion and /camera/image"
    assert text.count(said) == 2 and f"warning: {said}" in text


@pytest.mark.parametrize("topic", ["/tf", "/tf_static"])
def test_unusable_transforms_are_counted(run, tmp_path, topic):
    broken = camera_transform(stamp_at(0), float("nan"))
    code, _, text = run(write(tmp_path / "in", [(topic, broken, stamp_at(0)), *frames(1)]))
    assert code == 0, text
    assert "bad transform 1" in text


def test_a_bag_that_was_recorded_over_a_restart_is_processed_to_its_end(run, tmp_path):
    entries = frames(3)
    for topic, message, time in frames(3):
        graph.stamp(message, nanoseconds(message.header.stamp) - 10 * graph.SECOND)
        entries.append((topic, message, time + 3 * PERIOD))
    code, output, text = run(write(tmp_path / "in", entries))
    assert code == 0, text
    assert "time jump 1" in text
    assert len(read(output, DISTRIBUTIONS, PoseDistributionArray)) == 6


# ---- what cannot work ------------------------------------------------------------------------


def test_missing_topics_are_named_with_those_that_would_do(run, tmp_path):
    entries = [(f"/front{topic}", message, time) for topic, message, time in frames(1)]
    code, output, text = run(write(tmp_path / "in", entries))
    assert (code, output.exists()) == (1, False)
    assert "has no topic /image_rect: add -r image_rect:=/front/image_rect" in text
    assert "Traceback" not in text


def test_without_detections_the_error_lists_what_the_bag_has(run, tmp_path):
    entries = [entry for entry in frames(1) if entry[0] != "/detections"]
    code, output, text = run(write(tmp_path / "in", entries))
    assert (code, output.exists()) == (1, False)
    assert "no topic /detections nor another one of type vision_msgs/msg/Detection2DArray" in text
    assert "/image_rect (sensor_msgs/msg/Image)" in text


def compressed(index, raw=False, depth=False):
    """A frame with colour or depth compressed, named as drivers do."""
    (info, image, boxes), now = frame(index, graph.detection()), stamp_at(index)
    file = io.BytesIO()
    PillowImage.fromarray(graph.picture(index)).save(file, "PNG")
    packed = graph.stamp(CompressedImage(format="rgb8; png compressed", data=file.getvalue()), now)
    yield info
    if depth:
        yield "/cam/depth/image_raw/compressedDepth", depth_message(now, 300), now
    yield ("/cam/rgb", image[1], now) if raw else ("/cam/rgb/compressed", packed, now)
    yield boxes


def depth_message(now, millimetres):
    file = io.BytesIO()
    values = np.full((graph.HEIGHT, graph.WIDTH), millimetres, np.uint16)
    PillowImage.fromarray(values).save(file, "PNG")
    message = CompressedImage(format="16UC1; compressedDepth png", data=bytes(12) + file.getvalue())
    return graph.stamp(message, now)


WITH_DEPTH = ("-p", "depth_image:=true")
PACKED = ("-p", "image_transport:=compressed", "-r", "image_rect/compressed:=/cam/rgb/compressed")
RAW = ("-r", "image_rect:=/cam/rgb")


@pytest.mark.parametrize(
    ("bag", "given", "advice"),
    [
        ({}, (), PACKED),
        ({"raw": True}, PACKED[:2], ("-p", "image_transport:=raw", *RAW)),
        (
            {"depth": True},
            (*WITH_DEPTH, *PACKED),
            ("-r", "depth:=/cam/depth/image_raw/compressedDepth"),
        ),
        (
            {"raw": True, "depth": True},
            (*WITH_DEPTH, *RAW),
            ("-r", "depth:=/cam/depth/image_raw/compressedDepth"),
        ),
    ],
)
def test_the_proposed_arguments_work(run, tmp_path, bag, given, advice):
    source = write(tmp_path / "in", compressed(0, **bag))
    code, _, text = run(source, *given)
    assert code == 1
    assert text.rstrip().endswith(f": add {' '.join(advice)}")
    code, _, text = run(source, *given, *advice)
    assert code == 0, text
    assert "dropped: none" in text


def test_a_topic_in_use_is_neither_proposed_nor_taken_twice(run, tmp_path):
    source = write(tmp_path / "in", compressed(0, raw=True))
    code, _, text = run(source, *WITH_DEPTH, *RAW)
    assert code == 1
    assert "no topic /depth" in text and "that is not in use: record the depth image" in text
    assert "-r " not in text
    code, _, text = run(source, *WITH_DEPTH, *RAW, "-r", "depth:=/cam/rgb")
    assert code == 1
    assert "/cam/rgb is given as image_rect and as depth" in text


def test_compressed_depth_counts_as_depth(run, tmp_path):
    depth = ("-r", "depth:=/cam/depth/image_raw/compressedDepth")
    source = write(tmp_path / "in", compressed(0, raw=True, depth=True))
    code, output, text = run(source, *WITH_DEPTH, *RAW, *depth)
    assert code == 0 and "depth image" not in text
    alone = read(output, DISTRIBUTIONS, PoseDistributionArray)
    code, output, _ = run(source, *RAW, "--overwrite")
    assert read(output, DISTRIBUTIONS, PoseDistributionArray) != alone
    entries = list(compressed(0, raw=True, depth=True))
    entries[1][1].format = "16UC1; compressedDepth zfp"
    code, _, text = run(
        write(tmp_path / "other", entries), *WITH_DEPTH, *RAW, *depth, "--overwrite"
    )
    assert "compressed depth of format '16UC1; compressedDepth zfp' is not supported" in text


def test_a_topic_of_another_type_is_refused(run, tmp_path):
    entries = [*frames(1)[:2], ("/detections", String(), stamp_at(0))]
    code, _, text = run(write(tmp_path / "in", entries))
    assert code == 1
    assert "/detections" in text and "std_msgs/msg/String" in text
    assert "vision_msgs/msg/Detection2DArray is needed" in text


def test_another_version_of_a_type_is_refused(run, tmp_path):
    source = write(tmp_path / "in", frames(1))
    metadata = source / "metadata.yaml"
    digest = definition("vision_msgs/msg/Detection2DArray")[1]
    assert digest in metadata.read_text()
    metadata.write_text(metadata.read_text().replace(digest, "RIHS01_" + 64 * "0"))
    code, _, text = run(source)
    assert code == 1
    assert "/detections" in text and "another version of vision_msgs/msg/Detection2DArray" in text


def not_there(folder):
    return folder / "nowhere", "does not exist"


def empty_folder(folder):
    return folder, "it has neither metadata.yaml nor"


def other_file(folder):
    file = folder / "video.mp4"
    file.write_bytes(b"film")
    return file, "give a bag's folder"


def ros_1(folder):
    file = folder / "old.bag"
    file.write_bytes(b"#ROSBAG V2.0\n")
    return file, "rosbags-convert"


def no_mcap(folder):
    file = folder / "text.mcap"
    file.write_bytes(b"no bag at all")
    return file, "damaged or cut off"


def header_only(folder):
    file = folder / "cut.mcap"
    file.write_bytes(MAGIC)
    return file, "has no topic /image_rect"


def no_database(folder):
    file = folder / "text.db3"
    file.write_bytes(b"no database at all")
    return file, "file is not a database"


@pytest.mark.parametrize(
    "make",
    [
        not_there,
        empty_folder,
        other_file,
        ros_1,
        no_mcap,
        no_database,
        header_only,
    ],
)
def test_what_is_no_bag_is_explained_in_one_line(run, tmp_path, make):
    folder = tmp_path / "input"
    folder.mkdir()
    source, expected = make(folder)
    code, output, text = run(source)
    assert code == 1
    assert expected in text and str(source) in text
    assert "Traceback" not in text
    assert not output.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"input"}, "remains of an output"


def cut_mcap(source):
    file = source / "in.mcap"
    file.write_bytes(file.read_bytes()[:-100])
    return "in.mcap is cut off: what follows is lost"


def no_metadata(source):
    (source / "metadata.yaml").unlink()
    return "metadata.yaml is missing"


def bad_metadata(source):
    (source / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    return "metadata.yaml is damaged"


def missing_messages(source):
    metadata = source / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 2", "message_count: 3"))
    return "read: 2 of 3 on /image_rect"


@pytest.mark.parametrize("damage", [cut_mcap, no_metadata, bad_metadata, missing_messages])
def test_what_is_left_of_a_damaged_bag_is_processed_and_the_damage_is_said(run, tmp_path, damage):
    source = write(tmp_path / "in", frames(2))
    expected = damage(source)
    code, output, text = run(source)
    assert code == 0, text
    assert text.count(expected) == 1
    assert stamps(read(output, DISTRIBUTIONS, PoseDistributionArray)) == [stamp_at(0), stamp_at(1)]


@pytest.mark.parametrize("topic", ["/image_rect", "/camera_info", "/detections", "/tf"])
def test_a_damaged_message_costs_no_other(run, tmp_path, topic):
    transforms = [("/tf", TFMessage(transforms=[TransformStamped()]), stamp_at(2))]
    source = write(tmp_path / "in", [*frames(3), *transforms])
    file = source / "in.mcap"
    (*_, good) = (data for name, _, data in raw(source) if name == topic)
    data = file.read_bytes()
    assert good in data
    file.write_bytes(data.replace(good, good[:4] + b"\xff" * (len(good) - 4)))
    code, output, text = run(source)
    assert code == 0, text
    assert len(re.findall(f"a message on {topic} in .* is damaged .*: it is left out", text)) == 1
    assert topic == "/tf" or f"2 of 3 on {topic}" in text
    found = stamps(read(output, DISTRIBUTIONS, PoseDistributionArray))
    assert found[:2] == [stamp_at(0), stamp_at(1)]
    assert len(found) == (2 if topic in ("/image_rect", "/detections") else 3)


def test_nothing_processed_is_a_failure_that_accounts_for_all_messages(run, tmp_path):
    code, output, text = run(write(tmp_path / "in", frame(0, graph.detection())[:2] + frame(1)[2:]))
    assert (code, output.exists()) == (1, False)
    assert "no frame" in text and "no detections 1" in text
    assert "read: 1 of 1 on /image_rect, 1 of 1 on /camera_info, 1 of 1 on /detections" in text


def test_a_bag_without_messages_has_no_frame(run, tmp_path):
    with BagWriter(tmp_path / "in") as writer:
        for topic, message, _ in frame(0):
            writer.add_topic(topic, type(message))
    code, _, text = run(tmp_path / "in")
    assert code == 1
    assert "no frame" in text and "read: 0 of 0 on /image_rect" in text
    assert "dropped" not in text


def test_an_interrupt_leaves_no_half_bag(run, tmp_path, monkeypatch):
    source = write(tmp_path / "in", frames(2))
    write_message = BagWriter.write

    def interrupt(writer, topic, message, time):
        write_message(writer, topic, message, time)
        if topic == DISTRIBUTIONS:
            raise KeyboardInterrupt

    monkeypatch.setattr(BagWriter, "write", interrupt)
    code, output, text = run(source)
    assert (code, output.exists()) == (130, False)
    assert "bag: interrupted; nothing was written" in text
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_a_bag_is_replaced_only_on_demand_and_only_by_a_complete_one(run, tmp_path):
    source = write(tmp_path / "in", frames(1))
    assert run(source)[0] == 0
    before = raw(tmp_path / "output")
    code, output, text = run(source, "-p", "output.max_poses:=8")
    assert code == 1 and "exists: choose another output or add --overwrite" in text
    assert raw(output) == before
    code, _, _ = run(write(tmp_path / "empty", frames(1)[:2]), "--overwrite")
    assert code == 1
    assert raw(output) == before
    code, _, _ = run(source, "-p", "output.max_poses:=8", "--overwrite")
    assert code == 0
    assert raw(output) != before


def test_a_folder_that_is_no_bag_is_never_replaced(run, tmp_path):
    source = write(tmp_path / "in", frames(1))
    precious = tmp_path / "output" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("precious")
    code, _, text = run(source, "--overwrite")
    assert code == 1 and "exists and is not a bag" in text
    assert precious.read_text() == "precious"


def test_the_input_is_never_replaced(run, tmp_path, mug_bundle):
    source = write(tmp_path / "output", frames(1))
    before = raw(source)
    code, _, text = run(source, "--overwrite")
    assert code == 1 and "is the input" in text
    assert raw(source) == before


# ---- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [Image, CameraInfo, Detection2DArray, TFMessage, PoseDistributionArray, MarkerArray]
)
def test_types_have_the_hash_of_the_middleware(kind):
    package, _, name = type_name(kind).split("/")
    description = Path(get_package_share_directory(package), "msg", f"{name}.json")
    hashes = json.loads(description.read_text())["type_hashes"]
    by_name = {entry["type_name"]: entry["hash_string"] for entry in hashes}
    text, digest = definition(type_name(kind))
    assert digest == by_name[type_name(kind)]
    assert "MSG: std_msgs/Header" in text or kind in (TFMessage, MarkerArray)


def test_an_unknown_type_has_no_definition():
    with pytest.raises(LookupError):
        definition("sensor_msgs/msg/Nonsense")
    with pytest.raises(LookupError):
        definition("no_such_msgs/msg/Image")


def test_bags_carry_what_a_player_needs(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/info", String, latched=True)
        writer.write("/info", String(data="once"), 5)
        writer.write("/other", String(data="again"), 6)
    with Reader(tmp_path / "bag") as reader:
        info, other = sorted(reader.connections, key=lambda connection: connection.topic)
        (quality,) = info.ext.offered_qos_profiles
        assert quality.durability == QosDurability.TRANSIENT_LOCAL
        (quality,) = other.ext.offered_qos_profiles
        assert quality.durability == QosDurability.VOLATILE
        assert info.digest == definition("std_msgs/msg/String")[1]
        assert "string data" in info.msgdef.data
        assert (reader.start_time, reader.message_count) == (5, 2)


def test_a_failed_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), BagWriter(tmp_path / "bag") as writer:
        writer.write("/note", String(), 1)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_messages_come_in_the_order_of_their_time(tmp_path):
    times = [5, 3, 9, 1]
    for storage in ("mcap", "sqlite3"):
        path = write(
            tmp_path / storage, [("/n", String(data=str(time)), time) for time in times], storage
        )
        assert [message.data for message in read(path, "/n", String)] == ["1", "3", "5", "9"]


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("version", [8, 9])
def test_bags_of_other_recorders_are_read(tmp_path, plugin, mode, version):
    text, digest = definition("std_msgs/msg/String")
    writer = Writer(tmp_path / "bag", version=version, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        topic = writer.add_connection("/n", "std_msgs/msg/String", msgdef=text, rihs01=digest)
        writer.write(topic, 1, serialize_message(String(data="packed")))
    assert [message.data for message in read(tmp_path / "bag", "/n", String)] == ["packed"]


def test_reading_something_else_is_an_error(tmp_path):
    path = write(tmp_path / "bag", [("/n", String(data="text"), 1)])
    with pytest.raises(BagError, match="std_msgs/msg/String but sensor_msgs/msg/Image"):
        read(path, "/n", Image)


@pytest.fixture
def full_disk():
    """No file may grow beyond 20 kB, which is what a full disk looks like to who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_full_disk_ends_in_one_line_and_leaves_nothing(run, tmp_path, storage, request):
    source = write(tmp_path / "in", frames(2))
    request.getfixturevalue("full_disk")
    code, output, text = run(source, "--storage", storage, "--pictures")
    assert (code, output.exists()) == (1, False)
    (line,) = (line for line in text.splitlines() if line.startswith("bag: "))
    assert f"{output} cannot be written" in line and "free space on its disk" in line
    assert "Traceback" not in text
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_a_folder_where_one_may_not_write_is_named(run, tmp_path):
    source = write(tmp_path / "in", frames(1))
    code, _, text = run(source, "--output", "/sys/out")  # closed to root as well
    assert code == 1
    assert "bag: /sys/out cannot be written" in text
    assert "choose an output in a folder where you may write" in text


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_folders_may_have_spaces_and_letters_of_any_language(run, tmp_path, storage):
    folder = tmp_path / "Aufnahmen größer 測試"
    folder.mkdir()
    source = write(folder / "in put", frames(1), storage)
    code, _, text = run(source, "--storage", storage, "--output", str(folder / "aus gabe"))
    assert code == 0, text
    assert len(read(folder / "aus gabe", DISTRIBUTIONS, PoseDistributionArray)) == 1


def test_a_path_that_sqlite_would_misread_is_refused(tmp_path):
    with pytest.raises(BagError, match="without"):
        BagWriter(tmp_path / "run #1", "sqlite3")
    write(tmp_path / "run #1", frames(1))


# ---- parameters and names --------------------------------------------------------------------


def params(tmp_path, text: str) -> list[Path]:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    return [file]


def test_the_shipped_params_file_gives_the_defaults():
    root = Path(__file__).parents[2]
    assert read_parameters([root / "config" / "estimator.yaml"], []) == (Parameters(), [])


def test_sections_of_a_params_file_apply_as_to_a_node(tmp_path):
    files = params(
        tmp_path,
        "/other:\n  ros__parameters: {device: 'cuda'}\n"
        "/bot/estimator:\n  ros__parameters: {search.beam: 99}\n"
        "estimator:\n  ros__parameters: {search: {beam: 16, crops: 3}}\n"
        "/**:\n  ros__parameters: {search: {beam: 64}, sync.slop: 0.5}\n",
    )
    found, warnings = read_parameters(files, ["output.mesh:=false", "class_map:=['a=b']"])
    assert (found.search.beam, found.search.crops, found.sync.slop) == (16, 3, 0.5)
    assert (found.device, found.output.mesh, found.class_map) == ("auto", False, ("a=b",))
    assert warnings == []
    found, _ = read_parameters(files, [], "/bot/estimator")
    assert (found.search.beam, found.search.crops) == (99, 1)


def test_unknown_names_are_said_and_those_of_every_node_are_not(tmp_path):
    _, warnings = read_parameters([], ["search.beem:=3", "use_sim_time:=true"])
    (warning,) = warnings
    assert "did you mean 'search.beam'?" in warning


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        ("sync.slop:=1", "'sync.slop' is 1 but must be a number with a decimal point"),
        ("search.beam:=64.0", "'search.beam' is 64.0 but must be a whole number"),
        ("search.beam:=true", "'search.beam' is True but must be a whole number"),
        ("objects:=mug", "'objects' is 'mug' but must be a list of texts"),
        ("sync.max_age:=1000.0", "'sync.max_age' is 1000.0 but must be from 0.0 to 60.0"),
        ("sync.slop:=.nan", "'sync.slop' is nan but must be from 0.0 to 1.0"),
        ("qos.reliability:=relaible", "write one of reliable, best_effort"),
        ("class_map:=['mug']", "write 'class_id=object_name'"),
        ("cameras:=['left']", "'cameras' needs 'fixed_frame'"),
        ("search.beam", "write name:=value"),
        ("objects:=[", "is not valid YAML"),
    ],
)
def test_wrong_values_are_refused_with_the_words_of_the_node(assignment, text):
    with pytest.raises(ParameterError) as caught:
        read_parameters([], [assignment])
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1", "a: b", "/**: {ros__parameters: ["])
def test_a_file_without_parameters_is_refused(tmp_path, text):
    with pytest.raises(ParameterError, match=r"params\.yaml"):
        read_parameters(params(tmp_path, text), [])


def test_lists_may_be_written_as_launch_writes_them(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(
        "/estimator:\n  ros__parameters:\n    objects: !!python/tuple\n    - /models/mug\n"
    )
    assert read_parameters([file], [])[0].objects == ("/models/mug",)
    file.write_text("/**:\n  ros__parameters: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ParameterError, match="not valid YAML"):
        read_parameters([file], [])


def test_a_missing_params_file_is_named(tmp_path):
    with pytest.raises(ParameterError, match="nowhere.yaml cannot be read"):
        read_parameters([tmp_path / "nowhere.yaml"], [])


def test_names_are_those_of_ros():
    names = TopicNames(["__ns:=/bot", "__node:=eyes", "image_rect:=/cam/image", "/tf:=tf"])
    assert names.node == "/bot/eyes"
    assert names.resolve("~/poses") == "/bot/eyes/poses"
    assert names.resolve("detections") == "/bot/detections"
    assert names.resolve("image_rect") == "/cam/image"
    assert names.resolve("/tf") == "/bot/tf"
    assert TopicNames([]).resolve("image_rect") == "/image_rect"


@pytest.mark.parametrize("rule", ["image_rect", "image_rect:=", "image:=/cam//image", "a b:=c"])
def test_wrong_rules_are_refused(rule):
    with pytest.raises(ValueError):
        TopicNames([rule])
