"""The network: sizes of the paper, what a score depends on and what it does not."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from spyropose_ros.core import so3
from spyropose_ros.core.network.backbone import NAMED_BACKBONES, FeatureExtractor, resolve_backbone
from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.keypoint_model import PoseModel, make_model

RESNET18 = NAMED_BACKBONES["resnet18"][1]


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def scene(tiny_model, generator):
    """Feature maps of 3 crops, intrinsics, and 20 poses per crop in and around the picture."""
    crops = torch.rand((3, 3, 32, 32), generator=generator)
    K_crop = torch.tensor([[80.0, 0, 15.5], [0, 80.0, 15.5], [0, 0, 1]]).repeat(3, 1, 1)
    rotation = so3.random_rotations(60, generator).view(3, 20, 3, 3)
    offset = torch.randn((3, 20, 3), generator=generator) * torch.tensor([0.05, 0.05, 0.1])
    return tiny_model.features(crops), K_crop, rotation, offset + torch.tensor([0, 0, 0.5])


def test_sizes_of_the_paper():
    """Table 2.3, to the parameter."""
    model = PoseModel(ModelConfig(RESNET18), torch.zeros(16, 3))
    encoder = size(model.extractor.encoder)
    assert encoder == 11_176_512
    assert size(model.extractor) - encoder == 6_637_952
    assert [size(head) for head in model.heads] == [402_497] * 7
    assert model.out_of_image.numel() == 64
    assert size(model) == 20_632_007
    with torch.no_grad():
        features = model.eval().features(torch.zeros(1, 3, 224, 224))
    assert features.shape == (1, 128, 224, 224)


def test_taps_of_the_paper():
    """Stem at half resolution, then /4 to /32 with 64, 64, 128, 256, 512 channels."""
    model = PoseModel(ModelConfig(RESNET18), torch.zeros(16, 3)).eval()
    with torch.no_grad():
        taps = model.extractor.encoder(torch.zeros(1, 3, 224, 224))
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (64, 112, 112),
        (64, 56, 56),
        (128, 28, 28),
        (256, 14, 14),
        (512, 7, 7),
    ]
    steps = [(step.in_channels, step.out_channels) for step in model.extractor.steps]
    assert steps == [(768, 512), (640, 256), (320, 256), (320, 128)]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet18-slim"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_feature_maps_have_their_stride(name, stride):
    extractor = FeatureExtractor(NAMED_BACKBONES[name][1], (32, 32, 32, 32), 16, 64, stride)
    assert extractor.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 16, 64 // stride, 64 // stride)


def test_another_family_of_backbones():
    """ConvNeXt V2 has no stem tap; nothing else changes."""
    architecture = {"model_type": "convnextv2", "hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4}
    config = ModelConfig(
        architecture,
        depth=2,
        crop_resolution=64,
        feature_stride=4,
        decoder_channels=(16, 16, 16),
        feature_channels=8,
        embed_dim=4,
        hidden_dim=16,
        hidden_layers=1,
    )
    model = PoseModel(config, torch.zeros(4, 3)).eval()
    assert model.features(torch.zeros(1, 3, 64, 64)).shape == (1, 8, 16, 16)


def test_a_hub_out_of_reach_is_said(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert resolve_backbone("resnet18") == (NAMED_BACKBONES["resnet18"][1], None)
    assert "no pretrained weights for resnet18, from scratch" in caplog.text
    with pytest.raises(ValueError, match="'some/model' is not built in .*the hub did not provide"):
        resolve_backbone("some/model")


def test_unpretrained_backbones_need_no_network():
    assert resolve_backbone("resnet18-slim") == (NAMED_BACKBONES["resnet18-slim"][1], None)
    assert resolve_backbone("resnet18", pretrained=False) == (NAMED_BACKBONES["resnet18"][1], None)


def test_a_feature_map_of_one_pixel_is_refused():
    with pytest.raises(ValueError, match="a feature map needs two pixels a side: 32 px"):
        ModelConfig({}, crop_resolution=32, feature_stride=32)


def test_configuration_survives_a_dict():
    config = ModelConfig(RESNET18, depth=5, feature_stride=2, batchnorm=True)
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(TypeError, match="colour"):
        ModelConfig.from_dict(config.to_dict() | {"colour": 1})


def test_images_are_normalised_as_published(tiny_model, generator):
    """(x - 0.5) / 0.2 before the encoder."""
    seen = []
    encoder = tiny_model.extractor.encoder.backbone
    encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    crops = torch.rand((1, 3, 32, 32), generator=generator)
    tiny_model.features(crops)
    torch.testing.assert_close(seen[0], (crops - 0.5) / 0.2)


def test_scores_by_the_definition(tiny_model, scene):
    """Keypoint by keypoint: project, look up bilinearly, or take the vector for outside."""
    features, K_crop, rotation, translation = scene
    for level in range(3):
        head = tiny_model.heads[level]
        embedded = head.embed(features)  # [3, 4, 16, 16]
        logits = tiny_model.logits(features, K_crop, level, rotation, translation)
        outside = 0
        for b in range(3):
            for n in range(20):
                values = []
                for keypoint in tiny_model.keypoints:
                    x, y, z = rotation[b, n] @ keypoint + translation[b, n]
                    u = (80 * x / z + 15.5 + 0.5) / 32  # 0 and 1 at the edges of the crop
                    v = (80 * y / z + 15.5 + 0.5) / 32
                    if not (0 <= u <= 1 and 0 <= v <= 1):
                        values.append(tiny_model.out_of_image)
                        outside += 1
                        continue
                    column, row = u * 16 - 0.5, v * 16 - 0.5  # of the feature map
                    value = torch.zeros(4)
                    for i in (math.floor(row), math.floor(row) + 1):
                        for j in (math.floor(column), math.floor(column) + 1):
                            weight = (1 - abs(row - i)) * (1 - abs(column - j))
                            pixel = embedded[b, :, min(max(i, 0), 15), min(max(j, 0), 15)]
                            value = value + weight * pixel
                    values.append(value)
                expected = head.mlp(torch.cat(values).view(1, -1)).item()
                assert float(logits[b, n]) == pytest.approx(expected, abs=1e-4)
        assert 10 < outside < 200


def test_levels_have_their_own_heads(tiny_model, scene):
    first, second = (tiny_model.logits(scene[0], scene[1], r, *scene[2:]) for r in (0, 1))
    assert float((first - second).abs().max()) > 1e-3


def test_poses_are_scored_one_by_one(tiny_model, scene):
    """Neither their order nor their number nor the rest of the batch matters."""
    features, K_crop, rotation, translation = scene
    logits = tiny_model.logits(features, K_crop, 1, rotation, translation)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = tiny_model.logits(features, K_crop, 1, rotation[:, order], translation[:, order])
    torch.testing.assert_close(shuffled, logits[:, order])
    few = tiny_model.logits(features, K_crop, 1, rotation[:, :3], translation[:, :3])
    torch.testing.assert_close(few, logits[:, :3])
    for b in range(3):
        one = (x[b : b + 1] for x in (features, K_crop))
        single = tiny_model.logits(*one, 1, rotation[b : b + 1], translation[b : b + 1])
        torch.testing.assert_close(single[0], logits[b])


def test_points_behind_the_camera_count_as_outside(tiny_model, scene):
    """Mirrored they would fall into the picture; so does a point on the camera's plane."""
    features, K_crop, rotation, _ = scene
    behind = torch.tensor([0.0, 0.0, -0.5]).expand(3, 20, 3)
    head = tiny_model.heads[0]
    nothing = head.mlp(tiny_model.out_of_image.repeat(4).view(1, -1)).item()
    logits = tiny_model.logits(features, K_crop, 0, rotation, behind)
    torch.testing.assert_close(logits, torch.full((3, 20), nothing))
    sideways = torch.tensor([50.0, 0.0, 0.5]).expand(3, 20, 3)
    logits = tiny_model.logits(features, K_crop, 0, rotation, sideways)
    torch.testing.assert_close(logits, torch.full((3, 20), nothing))
    at_camera = tiny_model.logits(features, K_crop, 0, rotation, torch.zeros(3, 20, 3))
    assert bool(at_camera.isfinite().all())


def test_point_dropout_hides_keypoints_from_whole_images(generator):
    """Same keypoints for all poses of an image, others for other images, and none in eval mode."""
    config = ModelConfig(
        NAMED_BACKBONES["resnet18-slim"][1],
        depth=1,
        crop_resolution=32,
        feature_stride=4,
        decoder_channels=(8, 8, 8),
        feature_channels=8,
        embed_dim=4,
        hidden_dim=8,
        hidden_layers=0,
        dropout=0.0,
        point_dropout=0.5,
    )
    points = 0.01 * torch.randn((12, 3), generator=generator)
    model = PoseModel(config, points)
    model.heads[0].mlp = torch.nn.Identity()  # look at the features themselves
    features = torch.rand((2, 8, 8, 8), generator=generator) + 1
    K_crop = torch.tensor([[80.0, 0, 15.5], [0, 80.0, 15.5], [0, 0, 1]]).repeat(2, 1, 1)
    rotation = so3.random_rotations(10, generator).view(2, 5, 3, 3)
    translation = torch.tensor([0.0, 0, 0.5]).expand(2, 5, 3).clone()
    translation[:, 4, 0] = 9.0  # out of the picture: the vector is put in after the dropout

    def values(training):
        torch.manual_seed(0)
        model.train(training)
        flat = []
        model.heads[0].mlp.register_forward_hook(lambda m, i, o: flat.append(i[0]))
        with pytest.raises(RuntimeError):  # the identity's width is not 1
            model.logits(features, K_crop, 0, rotation, translation)
        return flat[0].view(2, 5, 12, 4)

    plain, dropped = values(False), values(True)
    inside = dropped[:, :4]
    zero = (inside == 0).all(-1)  # [2, 4, 12]
    assert bool((zero == zero[:, :1]).all())
    assert not torch.equal(zero[0], zero[1])
    assert 4 < int(zero[:, 0].sum()) < 20
    torch.testing.assert_close(inside[~zero], 2 * plain[:, :4][~zero])
    torch.testing.assert_close(dropped[:, 4], model.out_of_image.expand(2, 12, 4))


def test_batchnorm_is_an_option(tiny_model):
    config = replace(tiny_model.config, batchnorm=True, hidden_layers=2)
    head = PoseModel(config, torch.zeros(4, 3)).heads[0]
    kinds = [type(layer).__name__ for layer in head.mlp]
    assert kinds == ["Linear", "BatchNorm1d", "GELU", "Dropout"] * 2 + ["Linear"]


def test_a_crop_of_the_wrong_size_is_named(tiny_model):
    with pytest.raises(ValueError, match="crops of 32 px, got 64"):
        tiny_model.features(torch.zeros(1, 3, 64, 64))


def test_malformed_keypoints_are_named(tiny_model):
    with pytest.raises(ValueError, match=r"keypoints must be \[P, 3\], got \(4, 2\)"):
        PoseModel(tiny_model.config, torch.zeros(4, 2))


def test_gradients_reach_every_parameter(tiny_model, scene):
    """The backbone through the feature map, the vector for outside, and the level's head."""
    model = tiny_model.requires_grad_(True).train()
    _, K_crop, rotation, translation = scene
    features = model.features(torch.rand(3, 3, 32, 32))
    loss = sum(
        F.softplus(model.logits(features, K_crop, r, rotation, translation)).sum() for r in range(3)
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    assert float(model.out_of_image.grad.abs().max()) > 0


# --- without keypoints ---


def vector_config(**changes):
    return ModelConfig(
        NAMED_BACKBONES["resnet50"][1], "vector", rotation_only=True, batchnorm=True, **changes
    )


def test_size_of_the_papers_model_without_keypoints():
    """Table 2.3: 24.98 M with batch norm, exactly by section 2.2."""
    model = make_model(vector_config(), torch.empty(0, 3))
    assert size(model.encoder) == 23_508_032
    assert size(model.image) == 2048 * 256 + 256 and size(model.rotation) == 54 * 256 + 256
    assert [size(head) for head in model.heads] == [133_377] * 7
    assert size(model) == 24_980_295


def test_the_rotation_encoding(generator):
    """Sines and cosines of 2^k times the nine entries, k = 0 .. 2, through one shared layer."""
    architecture = NAMED_BACKBONES["resnet18-slim"][1]
    config = ModelConfig(architecture, "vector", True, depth=2, hidden_dim=16)
    model = make_model(config, torch.empty(0, 3)).eval()
    rotations = so3.random_rotations(10, generator).view(2, 5, 3, 3)
    features = model.features(torch.rand((2, 3, 64, 64), generator=generator))
    found = model.logits(features, None, 1, rotations, None)
    entries = rotations.reshape(2, 5, 9)
    encoding = torch.stack(
        [
            f(2**k * entries[..., i])
            for i in range(9)
            for f in (torch.sin, torch.cos)
            for k in range(3)
        ],
        -1,
    )
    summed = features[:, None] + model.rotation(encoding)
    expected = model.heads[1](summed.reshape(10, 16)).view(2, 5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_vector_scorer_knows_rotations_only():
    with pytest.raises(ValueError, match="rotation_only"):
        ModelConfig(RESNET18, "vector")
    with pytest.raises(ValueError, match="keypoints, vector"):
        ModelConfig(RESNET18, "point cloud")
