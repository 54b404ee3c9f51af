"""Pictures of a data set, and what they say of mistakes in units, frames and intrinsics."""

import json
import shutil

import cv2
import numpy as np
import pytest

import bop_files
from bop_files import BLOCK, CAN
from spyropose_ros.scenes.detector import BoxNoise
from training.config import PRESETS
from training.data.source import CropSettings
from training.inspect_data import _crop_settings, inspect_data

GREEN, YELLOW = (60, 220, 90), (255, 210, 40)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "toy"
    bop_files.write_models(root)
    for number in range(4):
        bop_files.write_scene(root / "train" / f"{number:06d}", number, n=2)
    bop_files.write_scene(root / "test" / "000000", 100, n=3)
    return root


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copytree(good, tmp_path / "toy")


def inspect(root, object_id=CAN, split="test", **options):
    return inspect_data(str(root), str(object_id), split, output=str(root / "sheet.png"), **options)


def edit_poses(root, edit):
    """Change every pose of the test scene."""

    def edit_all(truth):
        for entries in truth.values():
            for entry in entries:
                edit(entry)

    bop_files.change(root / "test" / "000000" / "scene_gt.json", edit_all)


def sheet(table):
    return cv2.cvtColor(cv2.imread(table["sheet"]), cv2.COLOR_BGR2RGB).astype(int)


def near(image, colour):
    return np.abs(image - colour).max(-1) < 40


def test_a_good_data_set_raises_no_alarm(good):
    table = inspect(good, preset="paper")
    assert "WARNING" not in table
    assert table["data set"] == "toy/2, test"
    assert table["checked"] == "3 images"
    assert table["image size"] == "160 x 120" and table["crop size"] == "224 x 224"
    low, high = (float(text.strip(" m")) for text in table["distance"].split(".. "))
    assert 0.515 < low <= high < 0.525
    assert table["bounding sphere"].startswith("0.1000 m, 7")  # 400 px x 0.1 m / 0.52 m = 77 px
    image = sheet(table)
    assert image.shape == (224 + 40 + 20, 4 * 224, 3)
    assert all(near(image[-20:], colour).sum() > 20 for colour in (GREEN, YELLOW))  # the legend
    # The contour runs along the border between the can (blue) and its surroundings.
    tile = image[:224, :224]
    contour = near(tile, GREEN)
    inside = cv2.erode((tile[..., 2] > tile[..., 1] + 20).astype(np.uint8), np.ones((9, 9)))
    assert contour.sum() > 300
    assert not (contour & (inside > 0)).any()
    assert near(tile, YELLOW).sum() > 200  # the detector's box


def test_training_crops_are_drawn_as_they_are_turned(good):
    table = inspect(good, split="train", n=5, crop_resolution=64, max_roll=180.0)
    assert "WARNING" not in table
    assert "overlap by 0.9" in table["given : projected"]  # of the annotated images
    assert table["checked"] == "4 images"
    image = sheet(table)  # four items, each enlarged four times
    assert image.shape == (256 + 40 + 20, 4 * 256, 3)
    for i in range(4):
        tile = image[:256, 256 * i : 256 * (i + 1)]
        inside = cv2.erode((tile[..., 2] > tile[..., 1] + 20).astype(np.uint8), np.ones((17, 17)))
        contour = near(tile, GREEN)
        assert contour.sum() > 300 and not (contour & (inside > 0)).any()
        assert near(tile, YELLOW).sum() > 200  # the detector's box, turned with the crop
    with pytest.raises(ValueError, match="no split 'dev': choose from test, validation, train"):
        inspect(good, split="dev")


def test_what_cannot_be_true_is_refused(copy):
    edit_poses(copy, lambda e: e.update(cam_R_m2c=[1.2 * v for v in e["cam_R_m2c"]]))
    with pytest.raises(ValueError, match="scene_gt.json, image 0: cam_R_m2c .* scale of 1.2"):
        inspect(copy)


def test_intrinsics_of_larger_images_are_noticed(copy):
    path = copy / "test" / "000000" / "scene_camera.json"
    cameras = json.loads(path.read_text())
    for camera in cameras.values():
        camera["cam_K"] = (np.diag([2, 2, 1]) @ bop_files.K).ravel().tolist()
    path.write_text(json.dumps(cameras))
    assert inspect(copy)["WARNING"].startswith("INTRINSICS: ")


def test_wrong_frames_are_noticed(copy):
    def invert(entry):
        R = np.reshape(entry["cam_R_m2c"], (3, 3))
        entry["cam_t_m2c"] = (-R.T @ entry["cam_t_m2c"]).tolist()
        entry["cam_R_m2c"] = R.T.ravel().tolist()

    def shift(entry):
        entry["cam_t_m2c"][1] += 60

    edit_poses(copy, shift)
    assert inspect(copy)["WARNING"].startswith("FRAMES: annotated and projected boxes overlap")
    edit_poses(copy, invert)
    with pytest.raises(ValueError, match="behind the camera.*not the inverse"):
        inspect(copy, BLOCK)


def test_sources_without_boxes_or_meshes_are_drawn(tmp_path):
    table = inspect_data("shapes", "tet", "test", n=2, output=str(tmp_path / "tet.png"))
    assert "WARNING" not in table and "given : projected" not in table
    image = sheet(table)
    side = 3 * 96
    assert near(image[:side, :side], GREEN).sum() > 200
    assert (image[:side, 2 * side :] == 255).all()  # no third tile


def test_the_crops_are_those_of_the_preset(good):
    """In size, in turn and in the detector; flags go before the preset."""
    crops = {name: _crop_settings(name, None, None) for name in PRESETS}
    assert crops["default"] == CropSettings(96, 96, 0.0, BoxNoise(), 0.0, False)
    assert crops["paper"] == CropSettings(224, 224, 0.0, None, 180.0, False)
    assert _crop_settings("paper", 64, 0.0) == CropSettings(64, 64, 0.0, None, 0.0, False)
    with pytest.raises(ValueError, match="no preset 'papr': choose from paper, default"):
        inspect(good, preset="papr")
    upright = sheet(inspect(good, split="train", n=1))[:288, :288]  # boxes stay upright
    rows, columns = near(upright, YELLOW).nonzero()
    border = sum(near(upright, YELLOW)[[rows.min(), rows.max()]].sum(1))
    assert border > 0.9 * 2 * (columns.max() - columns.min())


def test_a_picture_of_no_known_kind_is_refused(good):
    with pytest.raises(ValueError, match="sheet.nothing: give --output a name that ends with .png"):
        inspect_data(str(good), str(CAN), "test", output=str(good / "sheet.nothing"))
