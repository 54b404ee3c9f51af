"""Depthwise convolutions between activations: the CPU's gradients against PyTorch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spyropose_ros.core.kernels import depthwise
from spyropose_ros.core.kernels.depthwise import filtered, plain_filtered
from spyropose_ros.core.network.efficientnet_lite import EfficientNetLite


def convolution(channels, size, stride):
    torch.manual_seed(1)
    conv = nn.Conv2d(channels, channels, size, stride, padding=size // 2, groups=channels)
    nn.init.normal_(conv.weight)
    return conv


def outputs_and_gradients(function, x, conv, dtype=None):
    """Of a weighted sum of the output's values: output, gradients to x, weight and bias."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        y = function(x * 1, conv)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    return y, *torch.autograd.grad((y.float() * weights).sum(), (x, conv.weight, conv.bias))


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "shape", [(3, 7, 12, 12), (1, 96, 16, 16), (2, 100, 5, 9), (1, 1, 1, 1), (2, 48, 3, 2)]
)
def test_gradients_are_those_of_pytorch(generator, shape, size, stride):
    x = 4 * torch.randn(shape, generator=generator) + 2
    conv = convolution(shape[1], size, stride)
    expected = outputs_and_gradients(plain_filtered, x, conv)
    for layout in (torch.channels_last, torch.contiguous_format):
        found = outputs_and_gradients(filtered, x.to(memory_format=layout), conv)
        for a, b in zip(found, expected, strict=True):
            scale = 1 + float(b.detach().abs().max())
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * scale)


def test_bfloat16_gives_about_the_same_gradients(generator):
    x = 2 * torch.randn((2, 20, 9, 9), generator=generator) + 2
    conv = convolution(20, 5, 2)
    expected = outputs_and_gradients(plain_filtered, x, conv)
    found = outputs_and_gradients(filtered, x.bfloat16(), conv, torch.bfloat16)
    assert [t.dtype for t in found] == [torch.bfloat16, torch.bfloat16, *2 * [torch.float32]]
    for a, b in zip(found, expected, strict=True):
        assert float(F.cosine_similarity(a.float().flatten(), b.flatten(), 0)) > 0.99


def test_what_the_activations_cut_off_learns_nothing():
    conv = convolution(1, 3, 1)
    x = torch.tensor([-1.0, 0.0, 6.0, 7.0]).view(1, 1, 2, 2)
    assert not outputs_and_gradients(filtered, x, conv)[1].any()


def test_evaluation_and_frozen_stages_take_the_plain_path(monkeypatch):
    """The first stage is frozen: only the other convolutions compute gradients."""
    backbone = EfficientNetLite(stages=3, frozen_stages=1)
    seen, gradients = [], depthwise._gradients

    def noted(x, *others):
        seen.append(x.shape[1])
        return gradients(x, *others)

    monkeypatch.setattr(depthwise, "_gradients", noted)
    image = torch.rand(1, 3, 32, 32)
    backbone.train()(image)[-1].sum().backward()
    assert sorted(seen) == [96, 144, 144, 240]
    backbone.eval()(image)[-1].sum().backward()
    assert len(seen) == 4
