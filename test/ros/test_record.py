"""The recorder's bags: images, calibration, boxes, truth and camera belong together."""

import json

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray

import bop_files
from spyropose_ros.demo import record, stage
from spyropose_ros.demo.frames import open_frames
from spyropose_ros.demo.trajectory import mug_pose
from spyropose_ros.ros.bags import bag
from spyropose_ros.ros.bags.bag_files import BagReader
from spyropose_ros.ros.pipeline import rotations
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.images import rgb_image


def read(path, topic, kind):
    with BagReader(path) as reader:
        reader.check_type(topic, kind)
        return [reader.decode(entry, kind) for entry in reader.records([topic])]


def pose_matrix(place, turn):
    matrix = np.eye(4)
    matrix[:3, :3] = rotations.matrices([[turn.x, turn.y, turn.z, turn.w]])[0]
    matrix[:3, 3] = place.x, place.y, place.z
    return matrix


def truths(path, name):
    """Object to world [N, 4, 4], by the truth and the camera of the same stamp."""
    cameras = {}
    for message in read(path, "/tf", TFMessage):
        (entry,) = message.transforms
        assert (entry.header.frame_id, entry.child_frame_id) == ("world", record.FRAME_ID)
        cameras[nanoseconds(entry.header.stamp)] = pose_matrix(
            entry.transform.translation, entry.transform.rotation
        )
    return np.array(
        [
            cameras[nanoseconds(message.header.stamp)]
            @ pose_matrix(message.pose.position, message.pose.orientation)
            for message in read(path, f"/truth/{name}", PoseStamped)
        ]
    )


def box_of(detection):
    center = detection.bbox.center.position
    half = np.array([detection.bbox.size_x, detection.bbox.size_y]) / 2
    return np.concatenate([[center.x, center.y] - half, [center.x, center.y] + half])


def test_mug_bag_has_the_frames_of_the_demo(tmp_path):
    path = tmp_path / "mug"
    assert record.main(["mug", str(path), "--frames", "2"]) == 0
    frames = open_frames("mug", 2)
    images = read(path, "/image_rect", Image)
    np.testing.assert_array_equal([rgb_image(m) for m in images], [f.image for f in frames])
    stamps = [nanoseconds(message.header.stamp) for message in images]
    assert stamps == [record.START, record.START + record.PERIOD]
    for message, shot in zip(read(path, "/detections", Detection2DArray), frames, strict=True):
        (detection,) = message.detections
        assert detection.results[0].hypothesis.class_id == "mug"
        np.testing.assert_allclose(box_of(detection), shot.box)
    for message in read(path, "/camera_info", CameraInfo):
        np.testing.assert_array_equal(np.reshape(message.p, (3, 4))[:, :3], stage.K)
    for index, world in enumerate(truths(path, "mug")):
        rotation, translation = mug_pose(index / 2)
        camera_from_world = np.column_stack([stage.CAMERA_FROM_WORLD, stage.CAMERA_OFFSET])
        np.testing.assert_allclose(camera_from_world[:, :3] @ world[:3, :3], rotation, atol=1e-6)
        place = camera_from_world @ world[:, 3]
        np.testing.assert_allclose(place, translation, atol=1e-6)


def test_noisy_boxes_differ_from_the_exact_ones_and_are_the_same_every_time(tmp_path):
    boxes = []
    for name, more in (("exact", []), ("a", ["--noisy"]), ("b", ["--noisy"])):
        record.main(["mug", str(tmp_path / name), "--frames", "1", *more])
        (message,) = read(tmp_path / name, "/detections", Detection2DArray)
        boxes.append(box_of(message.detections[0]))
    assert (boxes[0] != boxes[1]).all()
    assert (boxes[1] == boxes[2]).all()


@pytest.fixture
def photographs(tmp_path):
    """Three photographs in the layout of LM-O, of an ape (1) and a can (5)."""
    scene = tmp_path / "data" / "lmo" / "test" / "000002"
    bop_files.write_scene(scene, seed=0)
    text = (scene / "scene_gt.json").read_text()
    (scene / "scene_gt.json").write_text(text.replace('"obj_id": 2', '"obj_id": 5'))
    return tmp_path / "data"


def test_photographs_come_with_boxes_truth_and_camera(tmp_path, photographs):
    path = tmp_path / "bag"
    arguments = ["lmo", str(path), "--objects", "can,ape", "--data", str(photographs)]
    assert record.main([*arguments, "--storage", "sqlite3"]) == 0
    assert len(read(path, "/image_rect", Image)) == 3
    np.testing.assert_allclose(truths(path, "can"), np.tile(np.eye(4), (3, 1, 1)), atol=1e-6)
    scene = photographs / "lmo" / "test" / "000002"
    (x, y, width, height) = json.loads((scene / "scene_gt_info.json").read_text())["10"][1][
        "bbox_visib"
    ]
    message = read(path, "/detections", Detection2DArray)[1]
    boxes = {d.results[0].hypothesis.class_id: box_of(d) for d in message.detections}
    assert boxes.keys() == {"can", "ape"}
    np.testing.assert_allclose(boxes["can"], [x - 0.5, y - 0.5, x + width + 0.5, y + height + 0.5])


def test_hidden_objects_have_truth_but_no_box(tmp_path, photographs):
    scene = photographs / "lmo" / "test" / "000002"
    bop_files.change(
        scene / "scene_gt_info.json", lambda info: info["0"][1].update(visib_fract=0.05)
    )
    record.main(["lmo", str(tmp_path / "bag"), "--objects", "can", "--data", str(photographs)])
    counts = [len(m.detections) for m in read(tmp_path / "bag", "/detections", Detection2DArray)]
    assert counts == [0, 1, 1]
    assert len(read(tmp_path / "bag", "/truth/can", PoseStamped)) == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["lmo", "out", "--objects", "can,banana"], "no object 'banana': choose from ape, can"),
        (["lmo", "out", "--data", "nowhere"], "python -m training.download lmo"),
        (["mug", "out", "--frames", "-1"], "--frames is -1"),
    ],
)
def test_what_cannot_be_recorded_is_explained(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    assert record.main(arguments) == 1
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_named(tmp_path, capsys):
    assert record.main(["mug", "/sys/out", "--frames", "1"]) == 1
    assert "record: /sys/out cannot be written" in capsys.readouterr().err


def test_the_estimator_runs_over_what_was_recorded(tmp_path, mug_bundle, capsys):
    record.main(["mug", str(tmp_path / "mug"), "--frames", "2"])
    code = bag.main(
        [str(tmp_path / "mug"), "--output", str(tmp_path / "out"), "-p", "search.beam:=16"]
        + ["-p", f"objects:=['{mug_bundle}']", "-p", "device:=cpu"]
    )
    assert code == 0
    assert "2 frames processed" in capsys.readouterr().out
