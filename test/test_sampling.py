"""What a map shows at keypoints: the CPU's kernel against PyTorch's operations."""

import pytest
import torch

from spyropose_ros.core.kernels.sampling import plain_sampled, sampled
from spyropose_ros.core.so3 import random_rotations

RESOLUTION, BATCH, N, P = 64, 3, 40, 5


def scene(generator, channels, height, width):
    """Maps and poses whose keypoints are in, at the edges of, around and behind the crop."""
    maps = torch.randn((BATCH, channels, height, width), generator=generator)
    outside = torch.randn(channels, generator=generator)
    keypoints = 0.1 * torch.randn((P, 3), generator=generator)
    K = torch.tensor([[70.0, 0.5, 31.5], [0, 75.0, 30.0], [0, 0, 1]]).repeat(BATCH, 1, 1)
    K[1, :2, 2] += 3
    rotations = random_rotations(BATCH * N, generator, "cpu").view(BATCH, N, 3, 3).float()
    translations = 0.2 * torch.randn((BATCH, N, 3), generator=generator)
    translations[..., 2] += 0.5 - 0.6 * (torch.arange(N) % 4 == 0)
    return maps, outside, keypoints, K, rotations, translations


def results(function, maps, outside, *geometry):
    """Values and gradients of their weighted sum."""
    maps, outside = maps.clone().requires_grad_(), outside.clone().requires_grad_()
    values = function(maps, outside, *geometry, RESOLUTION)
    weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(4))
    return values, *torch.autograd.grad((values * weights).sum(), (maps, outside))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(16, 16, 16), (5, 8, 8), (1, 64, 64), (64, 2, 2), (3, 1, 1)])
def test_values_and_gradients_are_those_of_pytorch(generator, size, layout):
    maps, *rest = scene(generator, *size)
    maps = maps.to(memory_format=layout)
    found, expected = results(sampled, maps, *rest), results(plain_sampled, maps, *rest)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    outside = (expected[0] == rest[0]).all(-1)
    assert 0.2 < float(outside.float().mean()) < 0.9


def test_bfloat16_maps_get_their_gradient_in_bfloat16(generator):
    maps, *rest = scene(generator, 4, 8, 8)
    exact = results(plain_sampled, maps, *rest)
    rough = results(sampled, maps.bfloat16(), *rest)
    assert rough[0].dtype == torch.float32 and rough[1].dtype == torch.bfloat16
    for a, b in zip(rough, exact, strict=True):
        torch.testing.assert_close(a.float(), b, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("function", [sampled, plain_sampled])
def test_pixels_by_hand(function):
    """Columns count; at the edge the pixel next to it, beyond it and behind: the outside."""
    maps = torch.arange(4.0).expand(1, 1, 4, 4).clone().requires_grad_()
    outside = torch.tensor([-9.0])
    K = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]])
    x = torch.tensor([0.0, 1.25, -0.4, 3.4, 3.6, -0.6, 1.0])
    translations = torch.stack((x, torch.ones(7), torch.ones(7)), 1)
    translations[-1] *= -1
    rotations = torch.eye(3).expand(1, 7, 3, 3)
    geometry = torch.zeros(1, 3), K, rotations, translations.unsqueeze(0)
    values = function(maps, outside, *geometry, 4)[0, :, 0, 0]
    expected = [0, 1.25, 0, 3, -9, -9, -9]
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float32))
