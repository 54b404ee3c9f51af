"""Photographs among renderings: crops with the right poses, in the batches of a training."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core.errors import DataError, InputError
from spyropose_ros.demo.mug_views import MugViews
from training.config import PAPER_BOP, BopOptions
from training.data.mixture import MixedItems, mixed, photograph_items
from training.data.source import ENDLESS, EvaluationObject
from training.data.streams import TRAIN, item_generator
from training.fitting.stream_data import StreamData
from training_tools import TINY, Numbers, crop, mug_source

HALF_TURN = np.diag([-1.0, -1, 1, 1])
FLIPS = np.stack((np.eye(3), np.diag([1.0, -1, -1])))


@pytest.fixture(scope="module")
def source():
    return mug_source()


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Three photographs of the mug with its pose; the last shows it nowhere."""
    folder = tmp_path_factory.mktemp("labels")
    scene = folder / "000000"
    (scene / "rgb").mkdir(parents=True)
    views, rng, cameras, truths = MugViews(), np.random.default_rng(0), {}, {}
    for number in range(3):
        view = views.view(0.4 * number, 0.5, 0.6, rng)
        cv2.imwrite(str(scene / "rgb" / f"{number:06d}.png"), view.image[..., ::-1])
        R, t = view.camera_from_object[:3, :3], 1000 * view.camera_from_object[:3, 3]
        t[0] += 2000 * (number == 2)
        pose = {"cam_R_m2c": R.ravel().tolist(), "cam_t_m2c": t.tolist()}
        cameras[number] = {"cam_K": views.K.ravel().tolist()}
        truths[number] = [{"obj_id": 1} | pose]
    (scene / "scene_camera.json").write_text(json.dumps(cameras))
    (scene / "scene_gt.json").write_text(json.dumps(truths))
    return folder


def truths(labels):
    entries = json.loads((labels / "000000" / "scene_gt.json").read_text())
    return np.array([np.reshape(e[0]["cam_R_m2c"], (3, 3)) for e in entries.values()])


def test_photographs_become_crops_of_the_object(source, labels):
    items = photograph_items(source, labels, crop(), PAPER_BOP)
    assert len(items) == 2
    item = items.item(0, np.random.default_rng(0))
    np.testing.assert_allclose(item["rotation"], truths(labels)[0], atol=1e-6)
    middle = torch.linalg.inv(item["K_crop"])  # the crop looks at the mug
    ray = middle @ torch.tensor([23.5, 23.5, 1.0])
    assert torch.nn.functional.cosine_similarity(ray, item["translation"], 0) > 0.99
    assert 0.1 < item["surface"][0].mean() < 0.7  # the share of its pixels on the mug


def test_equivalent_poses_count_alike(source, labels, monkeypatch):
    target = source.target()
    symmetric = EvaluationObject(target.vertices, 0.1, np.stack((np.eye(4), HALF_TURN)))
    monkeypatch.setattr(source, "target", lambda: symmetric)
    items = photograph_items(source, labels, crop(), PAPER_BOP)
    assert len(items) == 4
    first, second = (items.item(index, np.random.default_rng(0)) for index in range(2))
    turned = first["rotation"] @ torch.from_numpy(HALF_TURN[:3, :3]).float()
    torch.testing.assert_close(second["rotation"], turned)


def test_of_many_equivalent_poses_any_may_count(source, labels, monkeypatch):
    angles = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    turns = Rotation.from_rotvec(angles[:, None] * [0, 0, 1]).as_matrix()
    symmetries = np.tile(np.eye(4), (200, 1, 1))
    symmetries[:, :3, :3] = (turns[:, None] @ FLIPS).reshape(-1, 3, 3)  # flips innermost, as in BOP
    target = EvaluationObject(source.target().vertices, 0.1, symmetries)
    monkeypatch.setattr(source, "target", lambda: target)
    items = photograph_items(source, labels, crop(), PAPER_BOP)
    drawn = np.linspace(0, len(items) // 2, 20, endpoint=False).astype(int)  # the first photograph
    found = [items.item(i, np.random.default_rng(0))["rotation"].numpy() for i in drawn]
    upright = truths(labels)[0, :, 2] @ np.stack(found)[:, :, 2].T
    np.testing.assert_allclose(np.abs(upright), 1, atol=1e-5)
    assert 4 <= (upright > 0).sum() <= 16


@pytest.mark.parametrize("options", [{"min_pixels": 10**5}, {"min_visible": 0.99}])
def test_photographs_that_show_little_are_left_out(source, labels, tmp_path, options):
    scene = shutil.copytree(labels, tmp_path / "labels") / "000000"
    entries = json.loads((scene / "scene_gt.json").read_text())
    entries["0"][0]["cam_t_m2c"][0] += 300  # the image's border cuts it
    del entries["1"], entries["2"]
    (scene / "scene_gt.json").write_text(json.dumps(entries))
    assert len(photograph_items(source, scene.parent, crop(), PAPER_BOP)) == 1
    with pytest.raises(DataError, match="lower --min-visible and --min-pixels"):
        photograph_items(source, scene.parent, crop(), BopOptions(**options))


def test_what_is_hidden_may_be_annotated(source, labels, tmp_path):
    scene = shutil.copytree(labels, tmp_path / "labels") / "000000"
    hidden = {"px_count_visib": 500, "visib_fract": 0.05, "bbox_visib": [300, 200, 30, 30]}
    (scene / "scene_gt_info.json").write_text(json.dumps({"0": [hidden]}))
    assert len(photograph_items(source, scene.parent, crop(), PAPER_BOP)) == 1


def test_batches_have_the_asked_share_of_photographs(source, labels):
    items, composer = mixed(source, labels, 0.4, crop(), PAPER_BOP)
    optim = replace(TINY.optim, max_steps=5, batch_size=8)
    data = StreamData(items, Numbers(2), TINY.data, optim, 0, composer)
    data.trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
    known = torch.from_numpy(truths(labels)).float()
    shares = []
    for parts in data.train_dataloader():
        batch = data.on_after_batch_transfer(parts, 0)
        assert batch["crop"].shape == (8, 3, 48, 48) and batch["crop"].dtype == torch.uint8
        assert {len(value) for value in batch.values()} == {8}
        apart = (batch["rotation"][:, None] - known).flatten(2).norm(dim=2).amin(1)
        shares.append((apart < 1e-5).float().mean().item())
    assert 0.2 < np.mean(shares) < 0.6 and len(set(shares)) > 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_batches_of_one_kind(source, labels, share):
    items, composer = mixed(source, labels, share, crop(), PAPER_BOP)
    drawn = [items.item(i, item_generator(0, TRAIN, i)) for i in range(2)]
    assert all(("crop" in item) == (share == 1.0) for item in drawn)
    batch = composer({key: torch.stack([item[key] for item in drawn]) for key in drawn[0]})
    assert batch["crop"].shape == (2, 3, 48, 48)


def test_what_cannot_be_mixed_is_refused(source, labels, tmp_path):
    with pytest.raises(InputError, match="goes with objects that are rendered without end"):
        MixedItems(Numbers(5), Numbers(2), 0.5)
    assert len(MixedItems(Numbers(ENDLESS), Numbers(2), 0.5)) == ENDLESS
    with pytest.raises(DataError, match="no photograph of .* shows the object"):
        photograph_items(source, tmp_path, crop(), PAPER_BOP)
