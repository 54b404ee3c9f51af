"""The CPU's GELU against PyTorch's."""

import torch
from torch.nn import functional as F

from spyropose_ros.core.kernels.packed_head import gelu_


def test_gelu_is_as_exact_as_that_of_pytorch():
    x = torch.linspace(-12, 12, 2_000_000)
    no_bias = torch.zeros(64)
    expected = F.gelu(x.double())
    of_pytorch = (F.gelu(x) - expected).abs().max()
    assert (gelu_(x.view(-1, 64), no_bias).flatten() - expected).abs().max() < 1.2 * of_pytorch


def test_gelu_is_in_place():
    x, bias = torch.randn(5, 7), torch.randn(7)
    expected = F.gelu(x + bias)
    assert gelu_(x, bias) is x
    torch.testing.assert_close(x, expected)


def test_far_values_and_those_that_are_none():
    x = torch.tensor([[float("nan"), -1e4, 1e4, 0.0]])
    expected = torch.tensor([[float("nan"), 0, 1e4, 0]])
    found = gelu_(x, torch.zeros(4))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0, equal_nan=True)
