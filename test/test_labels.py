"""Labels of photographs of a resting object: what views agree on, and the mug's."""

import json
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spyropose_ros.bop import BopScene, read_photographs
from spyropose_ros.core.errors import DataError, InputError, MissingFileError
from spyropose_ros.demo.mug_views import MugViews
from training.label_photographs import label_photographs
from training.labels.agreement import Agreement, agreed_place, agreed_pose

sys.path.append(str(Path(__file__).parent))
from test_triangulation import CAMERAS, CENTER, DIAMETER, RATIO, K, box_of

MUG = Path(__file__).parents[1] / "models" / "demo_mug"
WORLD_FROM_MUG = np.eye(4)
WORLD_FROM_MUG[:3, :3] = Rotation.from_rotvec([0.4, -1.1, 0.3]).as_matrix()
WORLD_FROM_MUG[:3, 3] = [0.3, -0.2, 0.5]


def test_most_boxes_decide_on_the_place():
    cameras = np.concatenate((CAMERAS, CAMERAS))
    boxes = np.stack([box_of(CENTER, camera) for camera in cameras])
    boxes[1] += 150
    boxes[5, 2:] += 400
    place = agreed_place(boxes, np.tile(K, (6, 1, 1)), cameras, DIAMETER, RATIO)
    assert place.agreeing.tolist() == [True, False, True, True, True, False]
    np.testing.assert_allclose(place.position, CENTER, atol=1e-6)


def test_most_poses_decide_modulo_symmetries():
    center, half_turn = np.array([0.02, 0.01, 0.0]), np.diag([-1.0, -1, 1, 1])
    half_turn[:2, 3] = 2 * center[:2]  # about an axis through the centre
    rng = np.random.default_rng(0)
    truth = Rotation.from_rotvec([0.2, 1.0, -0.5])
    near = Rotation.from_rotvec(rng.normal(size=(5, 3)) * 0.02)
    rotations = (truth * near).as_matrix()
    translations = np.array([0.1, 0.2, 0.9]) + rng.normal(size=(5, 3)) * 0.001
    turned = rotations[1] @ half_turn[:3, :3], rotations[1] @ half_turn[:3, 3] + translations[1]
    poses = [np.append(a, [b], 0) for a, b in zip((rotations, translations), turned, strict=True)]
    poses[0][3] = Rotation.from_rotvec([0, 0, 1.0]).as_matrix() @ rotations[3]  # wrong
    poses[1][4] += 0.05  # wrong
    symmetries = np.stack((np.eye(4), half_turn))
    found = agreed_pose(*poses, symmetries, center, 0.1)
    assert found.agreeing.tolist() == [True, True, True, False, False, True]
    best = [0, 1, 2, 1]
    mean = Rotation.from_matrix(rotations[best]).mean()
    equivalent = found.rotation @ symmetries[:, :3, :3]
    errors = [(Rotation.from_matrix(R).inv() * mean).magnitude() for R in equivalent]
    assert min(errors) < 1e-6
    middle = (rotations @ center + translations)[best].mean(0)
    np.testing.assert_allclose(found.rotation @ center + found.translation, middle, atol=1e-3)
    assert agreed_pose(*poses, symmetries[:1], center, 0.1).agreeing.sum() == 3


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Eight photographs of the mug, whose handle is seen in all, from all sides of it."""
    folder = tmp_path_factory.mktemp("photographs of the mug")
    (folder / "rgb").mkdir()
    views, rng, cameras = MugViews(), np.random.default_rng(0), {}
    for number, azimuth in enumerate(np.linspace(-1.2, 1.2, 8)):
        view = views.view(azimuth, 0.4 + 0.05 * number, 0.6, rng)
        cv2.imwrite(str(folder / "rgb" / f"{number:06d}.png"), view.image[..., ::-1])
        pose = view.camera_from_object @ np.linalg.inv(WORLD_FROM_MUG)
        cameras[number] = {
            "cam_K": views.K.ravel().tolist(),
            "cam_R_w2c": pose[:3, :3].ravel().tolist(),
            "cam_t_w2c": (1000 * pose[:3, 3]).tolist(),
        }
    (folder / "scene_camera.json").write_text(json.dumps(cameras))
    return folder


def test_photographs_say_where_their_camera_was(photographs, tmp_path):
    taken = read_photographs(photographs)
    assert [photograph.number for photograph in taken] == list(range(8))
    mug = WORLD_FROM_MUG[:3, :3] @ MugViews().center + WORLD_FROM_MUG[:3, 3]
    seen = np.linalg.inv(taken[3].world_from_camera)[:3] @ np.append(mug, 1)
    np.testing.assert_allclose(seen, [0, 0, 0.6], atol=1e-6)
    (tmp_path / "rgb").symlink_to(photographs / "rgb")
    with pytest.raises(MissingFileError, match=r"scene_camera\.json is missing"):
        read_photographs(tmp_path)
    cameras = json.loads((photographs / "scene_camera.json").read_text())
    del cameras["5"]["cam_R_w2c"]
    (tmp_path / "scene_camera.json").write_text(json.dumps(cameras))
    with pytest.raises(DataError, match="image 5.*cam_R_w2c"):
        read_photographs(tmp_path)


def test_the_mug_is_labelled(photographs, tmp_path):
    output = label_photographs(str(MUG), str(photographs), str(tmp_path / "a b"), beam=64, views=4)
    frames = BopScene(output / "000000").frames
    assert [frame.frame_id for frame in frames] == list(range(8))
    for frame, photograph in zip(frames, read_photographs(photographs), strict=True):
        np.testing.assert_array_equal(frame.image(), photograph.image())
        (instance,) = frame.instances
        truth = np.linalg.inv(photograph.world_from_camera) @ WORLD_FROM_MUG
        turn = Rotation.from_matrix(truth[:3, :3].T @ instance.rotation)
        assert np.degrees(turn.magnitude()) < 5
        np.testing.assert_allclose(instance.translation, truth[:3, 3], atol=0.01)
    summary = json.loads((output / "labels.json").read_text())
    assert summary == {"photographs": 8, "detected": 8, "groups": 6, "agreeing": 6}


def test_photographs_that_contradict_each_other_get_no_labels(photographs, tmp_path):
    (tmp_path / "rgb").symlink_to(photographs / "rgb")
    cameras = json.loads((photographs / "scene_camera.json").read_text())
    rng = np.random.default_rng(0)
    for camera in cameras.values():
        camera["cam_t_w2c"] = (camera["cam_t_w2c"] + rng.uniform(-500, 500, 3)).tolist()
    (tmp_path / "scene_camera.json").write_text(json.dumps(cameras))
    with pytest.raises(DataError, match="finds 'mug' in one place in . of 8 .*check cam_R_w2c"):
        label_photographs(str(MUG), str(tmp_path), str(tmp_path / "labels"))
    assert not (tmp_path / "labels").exists()
    with pytest.raises(InputError, match="--views must be 4 or more"):
        label_photographs(str(MUG), str(photographs), views=1)


def test_nothing_but_labels_is_replaced(photographs, tmp_path):
    mine = shutil.copytree(photographs, tmp_path / "photos")
    kept = sorted(mine.rglob("*"))
    for output in (mine, mine / "..", mine / "rgb" / "000000.png"):
        with pytest.raises(InputError, match="holds something else than labels .* --output"):
            label_photographs(str(MUG), str(mine), str(output))
    (tmp_path / "labels.json").write_text("{}")  # labels, but with the photographs among them
    with pytest.raises(InputError, match="holds something else than labels"):
        label_photographs(str(MUG), str(mine), str(tmp_path))
    assert sorted(mine.rglob("*")) == kept


def test_a_majority_is_more_than_half(photographs, tmp_path, monkeypatch):
    output = tmp_path / "labels"
    for agreeing, labelled in ((3, False), (4, True)):  # of 6 groups
        found = Agreement(np.eye(3), np.zeros(3), np.arange(6) < agreeing)
        monkeypatch.setattr("training.labels.agreement.agreed_pose", lambda *_, it=found: it)
        with nullcontext() if labelled else pytest.raises(DataError, match="3 of 6 groups"):
            label_photographs(str(MUG), str(photographs), str(output), beam=1)  # two of 4, not 8
        assert (output / "labels.json").is_file() == labelled
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_too_few_photographs_check_nothing(photographs, tmp_path):
    (tmp_path / "rgb").symlink_to(photographs / "rgb")
    cameras = json.loads((photographs / "scene_camera.json").read_text())
    (tmp_path / "scene_camera.json").write_text(json.dumps({n: cameras[n] for n in "0123456"}))
    with pytest.raises(DataError, match="has 7 photographs, too few .* take 8 or more"):
        label_photographs(str(MUG), str(tmp_path), str(tmp_path / "labels"))
