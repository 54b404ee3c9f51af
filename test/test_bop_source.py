"""A data set in BOP format as a source of training items and evaluation samples."""

import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch

import bop_files
from bop_files import BLOCK, CAN
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.scenes.detector import BoxNoise
from training.config import BopOptions
from training.data.bop import BopSource
from training.data.source import CropSettings

CROP = CropSettings(48, 24, 1.5, BoxNoise(), 180.0, True)
EVERYTHING = BopOptions(min_visible=0.0, min_pixels=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Five training scenes, one test scene."""
    root = tmp_path_factory.mktemp("data") / "toy"
    bop_files.write_models(root)
    for number in range(5):
        directory = root / "train_pbr" / f"{number:06d}"
        bop_files.write_scene(directory, number, n=2, extension=".jpg")
    bop_files.write_scene(root / "test" / "000003", 100, n=3)
    return root


def scenes_of(source, split):
    return sorted({target.frame.scene_id for target in source.targets(split)})


def test_the_last_two_scenes_are_held_out(root):
    source = BopSource(root, BLOCK)
    assert (source.name, source.object_name) == ("toy/1", "obj_000001")
    assert source.splits == ("test", "validation", "train")
    assert not source.rotation_only
    assert scenes_of(source, "train") == [0, 1, 2]
    assert scenes_of(source, "validation") == [3, 4]
    assert scenes_of(source, "test") == [3]
    assert len(source.training_items(CROP)) == 6 and len(source.validation_items(CROP)) == 4


def test_scenes_can_be_chosen(root):
    options = BopOptions(train_scenes=(1, 4), validation_scenes=(2, 2), test_split="train_pbr")
    source = BopSource(root, BLOCK, options)
    assert scenes_of(source, "train") == [1, 3, 4]
    assert scenes_of(source, "validation") == [2]
    assert scenes_of(source, "test") == [0, 1, 2, 3, 4]
    # Fewer than four scenes: a twentieth of the images, and at least one, is held out.
    source = BopSource(root, BLOCK, BopOptions(train_split="test"))
    assert [t.frame.frame_id for t in source.targets("train")] == [0, 10]
    assert [t.frame.frame_id for t in source.targets("validation")] == [20]


def test_what_is_not_there_is_said(root, tmp_path):
    source = BopSource(root, BLOCK, BopOptions(min_pixels=10**6))
    with pytest.raises(ValueError, match=r"show object 1 nowhere.*1000000 visible pixels"):
        source.training_items(CROP)
    with pytest.raises(ValueError, match="no split 'dev': choose from test, validation, train"):
        next(source.samples("dev", 0))
    bop_files.write_models(tmp_path)
    with pytest.raises(FileNotFoundError, match="no split with annotated scenes"):
        BopSource(tmp_path, BLOCK)
    bop_files.write_scene(tmp_path / "val" / "000000", 0, n=1)
    source = BopSource(tmp_path, BLOCK)
    assert source.splits == ("test",)
    with pytest.raises(ValueError, match="no split 'train': choose from test"):
        source.training_items(CROP)


def test_samples_have_noisy_boxes_that_the_seed_fixes(root):
    source = BopSource(root, BLOCK, EVERYTHING)
    first, again, other = (list(source.samples("test", seed)) for seed in (0, 0, 1))
    targets = source.targets("test")
    assert [s.id for s in first] == ["000003/000000/0", "000003/000010/0", "000003/000020/0"]
    shifts = []
    for sample, same, different, target in zip(first, again, other, targets, strict=True):
        np.testing.assert_array_equal(sample.box, same.box)
        assert (sample.box != different.box).all()
        box = target.instance.visibility.box
        shifts.append((sample.box - box) / np.tile(box[2:] - box[:2], 2))
        assert (sample.scene_id, sample.image_id) == (3, target.frame.frame_id)
        assert (sample.instance, sample.object_id) == (0, BLOCK)
        assert sample.visible_fraction == target.instance.visibility.fraction
        np.testing.assert_allclose(sample.translation, [-0.02, 0, 0.6], atol=0.005)
        assert sample.equivalents is None
    assert 0 < np.abs(shifts).max() < 0.4
    cans = BopSource(root, CAN).samples("test", 0)
    assert {s.instance for s in cans} == {1}


def test_items_are_crops_around_the_object(root):
    source = BopSource(root, CAN, EVERYTHING)
    items = source.training_items(CROP)
    for index in range(len(items)):
        item = items.item(index, np.random.default_rng(index))
        assert item["crop"].shape == (3, 48, 48) and item["crop"].dtype == torch.uint8
        # The can is blue and fills about two thirds of the crop, whose middle is the estimate's.
        visible = item["surface"][0] > 0
        small = item["crop"].float().view(3, 24, 2, 24, 2).mean((2, 4))
        blue = small[2] > small[1] + 10
        assert 0.15 < visible.float().mean() < 0.7
        assert (visible != blue).float().mean() < 0.1  # edges
        box = TranslationBox.from_view(item["estimate"][None], source.diameter)
        assert (box.coordinates(item["translation"].view(1, 1, 3)) - 0.5).norm() < 0.5
        target = source.targets("train")[index].instance
        center = target.rotation @ source.center + target.translation
        np.testing.assert_allclose(item["translation"], center, atol=1e-6)


def test_items_show_only_the_visible_surface(root, tmp_path):
    source = BopSource(root, BLOCK, EVERYTHING)
    upright = CropSettings(48, 24, 1.5, None, 0.0, True)
    index = int(np.argmin([t.instance.visibility.fraction for t in source.targets("train")]))
    item = source.training_items(upright).item(index, np.random.default_rng(0))
    mask, surface = item["surface"][0] > 0, item["surface"][1:]
    small = item["crop"].float().view(3, 24, 2, 24, 2).mean((2, 4))
    assert (mask & (small[2] > small[0] + 40)).float().mean() < 0.02  # not on the blue can
    # The surface's object coordinates, projected, give the pixels that show them.
    rows, columns = torch.nonzero(mask, as_tuple=True)
    points = surface[:, mask].T * source.diameter / 2  # relative to the centre
    pixels = (points @ item["rotation"].T + item["translation"]) @ item["K_crop"].T
    pixels = pixels[:, :2] / pixels[:, 2:]
    expected = torch.stack([columns, rows], 1) * 2 + 0.5
    assert (pixels - expected).norm(dim=1).max() < 1.5
    without = CropSettings(48, 24, 1.5, BoxNoise(), 0.0, False)
    assert "surface" not in source.training_items(without).item(0, np.random.default_rng(0))


def test_items_repeat_and_can_be_sent_to_workers(root):
    source = BopSource(root, BLOCK)
    items = source.training_items(CROP)
    first = items.item(1, np.random.default_rng(5))
    again = pickle.loads(pickle.dumps(items)).item(1, np.random.default_rng(5))
    other = items.item(1, np.random.default_rng(6))
    assert first.keys() == {
        "crop", "K_crop", "estimate", "rotation", "translation", "box", "surface",
    }  # fmt: skip
    for key, value in first.items():
        assert torch.equal(value, again[key])
    assert not torch.equal(first["K_crop"], other["K_crop"])
    # Validation crops are not turned.
    held_out = source.validation_items(CROP).item(0, np.random.default_rng(0))
    assert held_out["K_crop"][0, 1] == 0 and first["K_crop"][0, 1] != 0


def test_an_object_that_a_detector_misjudges_is_still_trained_on(root, tmp_path):
    source = BopSource(root, BLOCK, EVERYTHING)
    visibility = source.targets("train")[0].instance.visibility
    visibility.box[2:] = visibility.box[:2] + 3  # as if nearly all of it were hidden
    item = source.training_items(CROP).item(0, np.random.default_rng(0))
    assert (item["estimate"] - item["translation"]).norm() < 0.5


@pytest.fixture
def small(root, tmp_path):
    """A copy of the test scene with its models."""
    return shutil.copytree(root, tmp_path / "toy", ignore=shutil.ignore_patterns("train_pbr"))


def edit_translation(root, edit):
    bop_files.change(
        root / "test" / "000003" / "scene_gt.json",
        lambda truth: truth["10"][0].update(cam_t_m2c=edit(np.array(truth["10"][0]["cam_t_m2c"]))),
    )


def test_translations_in_metres_are_refused(small):
    edit_translation(small, lambda t: (t / 1000).tolist())
    with pytest.raises(
        ValueError,
        match=r"test/000003, image 10: cam_t_m2c is \[.*0\.\d+\] mm, inside.*millimetres",
    ):
        BopSource(small, BLOCK, EVERYTHING).targets("test")
    assert BopSource(small, CAN, EVERYTHING).targets("test")


def test_small_parts_in_metres_are_refused(small):
    """Of 10 mm: the origin is then more than a twentieth of its diameter from the camera."""
    for number, mesh in bop_files.meshes().items():
        mesh.apply_scale(0.1).export(small / "models" / f"obj_{number:06d}.ply")
    bop_files.change(
        small / "models" / "models_info.json",
        lambda infos: [info.update(diameter=info["diameter"] / 10) for info in infos.values()],
    )
    assert BopSource(small, CAN, EVERYTHING).targets("test")
    edit_translation(small, lambda t: (t / 1000).tolist())
    with pytest.raises(ValueError, match="image 10: cam_t_m2c is .* inside .*millimetres"):
        BopSource(small, BLOCK, EVERYTHING).targets("test")


@pytest.mark.parametrize("scale", [1e-3, -1])
def test_poses_are_checked_before_what_is_visible(small, scale):
    """As after a completion of wrong poses: what is inside or behind is seen nowhere."""
    edit_translation(small, lambda t: (scale * t).tolist())
    bop_files.change(
        small / "test" / "000003" / "scene_gt_info.json",
        lambda infos: infos["10"][0].update(visib_fract=0.0),
    )
    with pytest.raises(ValueError, match="image 10: cam_t_m2c is"):
        BopSource(small, BLOCK).targets("test")


def test_hidden_objects_may_be_behind_the_camera(small):
    edit_translation(small, lambda t: (-t).tolist())
    bop_files.change(
        small / "test" / "000003" / "scene_gt_info.json",
        lambda infos: infos["10"][0].update(visib_fract=0.0, px_count_visib=0),
    )
    assert len(BopSource(small, BLOCK, EVERYTHING).targets("test")) == 2


def test_objects_behind_the_camera_are_refused(small):
    edit_translation(small, lambda t: (-t).tolist())
    with pytest.raises(
        ValueError, match=r"image 10: cam_t_m2c is .*, the object.s centre 0\.\d+ m behind"
    ):
        BopSource(small, BLOCK, EVERYTHING).targets("test")


def test_meshes_in_metres_are_refused(small):
    for number, mesh in bop_files.meshes().items():
        mesh.apply_scale(1e-3).export(small / "models" / f"obj_{number:06d}.ply")
    with pytest.raises(ValueError, match=r"obj_000002\.ply measures 0\.1 mm: .* in millimetres"):
        BopSource(small, CAN)


def test_a_stated_diameter_in_metres_is_refused(small):
    bop_files.change(
        small / "models" / "models_info.json", lambda infos: infos["2"].update(diameter=0.1)
    )
    with pytest.raises(ValueError, match=r"models_info\.json gives object 2 .* 0\.1 mm, but"):
        BopSource(small, CAN)


def test_masks_of_another_size_are_refused(small):
    source = BopSource(small, BLOCK, BopOptions(train_split="test", min_visible=0.0, min_pixels=1))
    items = source.training_items(CROP)
    items.item(0, np.random.default_rng(0))
    path = small / "test" / "000003" / "mask_visib" / "000000_000000.png"
    cv2.imwrite(str(path), cv2.imread(str(path))[::2, ::2])
    with pytest.raises(ValueError, match=r"000000_000000\.png has 80 x 60 .* 160 x 120"):
        items.item(0, np.random.default_rng(0))


def test_metrics_use_the_meshes_made_for_them(root, tmp_path):
    source = BopSource(root, CAN)
    target = source.target()
    assert target.symmetries.shape == (630, 4, 4)
    assert target.diameter == pytest.approx(0.1, rel=1e-3)
    np.testing.assert_allclose(np.ptp(target.vertices, axis=0), [0.06, 0.06, 0.08], rtol=1e-3)
    assert source.diameter == pytest.approx(0.1, rel=1e-3)
    bop_files.write_models(tmp_path)
    bop_files.write_models(tmp_path, "models_eval")
    infos = tmp_path / "models_eval" / "models_info.json"
    bop_files.change(infos, lambda content: content["2"].update(diameter=123.0))
    bop_files.write_scene(tmp_path / "val" / "000000", 0, n=1)
    assert BopSource(tmp_path, CAN).target().diameter == pytest.approx(0.123)
