"""The fast formulation of the network against the plain one, `PoseModel.logits`."""

from dataclasses import replace

import pytest
import torch

from spyropose_ros.core import so3
from spyropose_ros.core.kernels import torch_heads
from spyropose_ros.core.kernels.threads import parts_in_parallel
from spyropose_ros.core.kernels.torch_heads import FusedHeads
from spyropose_ros.core.network.backbone import NAMED_BACKBONES
from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.keypoint_model import PoseModel

CONFIG = ModelConfig(
    NAMED_BACKBONES["resnet18-slim"][1],
    depth=3,
    crop_resolution=32,
    feature_stride=2,
    decoder_channels=(16, 16, 16, 16),
    feature_channels=8,
    embed_dim=4,
    hidden_dim=16,
    hidden_layers=2,
)
SHAPES = [(6, 8, 8), (1, 72, 8), (3, 8, 1), (2, 100, 1), (2, 1, 70)]
"""Families, rotations and translations of each."""


def make_model(generator, **changes):
    torch.manual_seed(0)
    keypoints = 0.05 * torch.randn((5, 3), generator=generator)
    model = PoseModel(replace(CONFIG, **changes), keypoints).eval()
    for layer in model.modules():  # as after a training
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            layer.weight.data.normal_(generator=generator)
    return model


def make_families(generator, shape, batch=3, depth=0.5, spread=0.05):
    """Images, rotations, translations and intrinsics of families in and around the picture."""
    families, n_rotations, n_translations = shape
    image = torch.randint(batch, (families,), generator=generator)
    rotations = so3.random_rotations(families * n_rotations, generator)
    offset = torch.randn((families, n_translations, 3), generator=generator)
    translations = offset * torch.tensor([spread, spread, 2 * spread])
    translations[..., 2] += depth
    focal = torch.tensor([60.0, 80.0, 100.0])[:batch, None, None]
    K_crop = torch.eye(3) * focal + torch.tensor([[0, 3.0, 15.5], [-3.0, 0, 15.5], [0, 0, 0]])
    K_crop[:, 2, 2] = 1
    return image, rotations.view(families, n_rotations, 3, 3), translations, K_crop


def plain(model, features, K_crop, level, image, rotations, translations):
    """Pose by pose."""
    shape = (len(image), rotations.shape[1], translations.shape[1])
    rotations = rotations.unsqueeze(2).expand(*shape, 3, 3).flatten(1, 2)
    translations = translations.unsqueeze(1).expand(*shape, 3).flatten(1, 2)
    return model.logits(features[image], K_crop[image], level, rotations, translations)


TABLES = {"none": (0, 0.0), "sparse": (0, 1e9), "dense": (10_000, 0.0)}
"""How the first layer is applied: _SMALL_MAP and _CROWDED."""


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_families_score_like_their_poses(generator, monkeypatch, table, shape):
    monkeypatch.setattr(torch_heads, "_SMALL_MAP", TABLES[table][0])
    monkeypatch.setattr(torch_heads, "_CROWDED", TABLES[table][1])
    model = make_model(generator)
    image, rotations, translations, K_crop = make_families(generator, shape)
    features = model.features(torch.rand((3, 3, 32, 32), generator=generator))
    for level in range(3):
        families = image, rotations, translations
        logits = FusedHeads(model).family_logits(features, K_crop, level, *families)
        expected = plain(model, features, K_crop, level, *families)
        assert logits.shape == (shape[0], shape[1] * shape[2])
        assert expected.std() > 1e-3
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_layers": 1},
        {"hidden_layers": 3, "hidden_dim": 24},
        {"batchnorm": True},
        {"embed_dim": 16, "feature_stride": 4},
        {"feature_stride": 1},
    ],
    ids=str,
)
@torch.no_grad()
def test_every_architecture(generator, changes):
    model = make_model(generator, **changes)
    *families, K_crop = make_families(generator, SHAPES[0])
    features = model.features(torch.rand((3, 3, 32, 32), generator=generator))
    torch.testing.assert_close(
        FusedHeads(model).family_logits(features, K_crop, 1, *families),
        plain(model, features, K_crop, 1, *families),
        atol=1e-4,
        rtol=0,
    )


@torch.no_grad()
def test_keypoints_outside_and_behind_the_camera(generator):
    model = make_model(generator)
    *families, K_crop = make_families(generator, SHAPES[0], depth=0.02, spread=0.04)
    features = model.features(torch.rand((3, 3, 32, 32), generator=generator))
    image, rotations, translations = families
    points = rotations @ model.keypoints.mT  # [M, R, 3, P]
    depth = points[:, :, None, 2] + translations[:, None, :, 2:]
    assert 0.1 < (depth <= 0).float().mean() < 0.9
    torch.testing.assert_close(
        FusedHeads(model).family_logits(features, K_crop, 0, *families),
        plain(model, features, K_crop, 0, *families),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize("table", TABLES)
@torch.no_grad()
def test_several_threads_score_as_one_does(generator, monkeypatch, table):
    monkeypatch.setattr(torch_heads, "_SMALL_MAP", TABLES[table][0])
    monkeypatch.setattr(torch_heads, "_CROWDED", TABLES[table][1])
    monkeypatch.setattr(torch_heads, "_POSES_PER_PASS", 256)
    model = make_model(generator)
    *families, K_crop = make_families(generator, (40, 8, 8))
    features = model.features(torch.rand((3, 3, 32, 32), generator=generator))
    heads = FusedHeads(model)
    alone = heads.family_logits(features, K_crop, 1, *families)
    torch.set_num_threads(3)
    try:
        with parts_in_parallel():
            together = heads.family_logits(features, K_crop, 1, *families)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(together, alone)
