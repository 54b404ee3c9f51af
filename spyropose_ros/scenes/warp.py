"""Resampling, smoothing and powers of batches of images. Pixel centres lie at integers."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST = 1e-6
"""What is smaller does not count: CPUs are slow with numbers near the smallest."""


def warp(
    images: Tensor, matrix: Tensor, size: int, mode: str = "bilinear", padding: str = "zeros"
) -> Tensor:
    """Resample images, each by an affine map of its own.

    Args:
        images: [N, C, h, w] float.
        matrix: pixels of the result to pixels of the image, [N, 2, 3].
        size: side of the result, pixels.
        mode: as `grid_sample` names it.
        padding: what lies outside the images, as `grid_sample` names it.

    Returns:
        [N, C, size, size].
    """
    shape = torch.tensor((images.shape[3], images.shape[2]), device=images.device)
    linear = 2 * matrix[:, :, :2] / shape.unsqueeze(1)  # grid_sample: [-1, 1] between the edges
    offset = (2 * matrix[:, :, 2] + 1) / shape - 1
    pixel = torch.arange(size, device=images.device, dtype=matrix.dtype).unsqueeze(1)
    columns = linear[:, None, :, 0] * pixel  # [N, size, 2]
    rows = linear[:, None, :, 1] * pixel + offset.unsqueeze(1)
    # As complex numbers: the sum runs over whole lines.
    rows, columns = torch.view_as_complex(rows), torch.view_as_complex(columns)
    grid = torch.view_as_real(rows.unsqueeze(2) + columns.unsqueeze(1))
    return F.grid_sample(images, grid, mode, padding, align_corners=False)


def similarity(scale: Tensor, angle: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Make affine maps that rotate, scale and move.

    Args:
        scale: target pixels per source pixel, [...].
        angle: radians, [...].
        source: a pixel, [..., 2].
        target: where it goes, [..., 2].

    Returns:
        [..., 2, 3].
    """
    cos, sin = scale * angle.cos(), scale * angle.sin()
    linear = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)
    return torch.cat((linear, target.unsqueeze(-1) - linear @ source.unsqueeze(-1)), -1)


def gaussian(covariance: Tensor, radius: int) -> Tensor:
    """Make kernels that blur, each with a covariance of its own.

    Args:
        covariance: square pixels, [N, 2, 2], positive definite.
        radius: of the kernel, pixels.

    Returns:
        [N, 2 radius + 1, 2 radius + 1], each with sum 1.
    """
    pixel = torch.arange(-radius, radius + 1, device=covariance.device, dtype=covariance.dtype)
    x, y = pixel, pixel.unsqueeze(1)
    determinant = covariance[:, 0, 0] * covariance[:, 1, 1] - covariance[:, 0, 1] ** 2
    a, b, c = covariance[:, 1, 1], covariance[:, 0, 1], covariance[:, 0, 0]
    a, b, c = ((value / determinant).view(-1, 1, 1) for value in (a, b, c))
    kernel = torch.exp(-0.5 * (a * x**2 - 2 * b * x * y + c * y**2))
    kernel = F.threshold(kernel, _LEAST, 0)
    return kernel / kernel.sum((1, 2), keepdim=True)


def filter_each(images: Tensor, kernels: Tensor, padding: str = "replicate") -> Tensor:
    """Filter every image with its own kernel.

    Args:
        images: [N, C, h, w].
        kernels: [N, k, k], k odd.
        padding: what lies outside the images, as `torch.nn.functional.pad` names it.

    Returns:
        [N, C, h, w].
    """
    n, channels = images.shape[:2]
    radius = kernels.shape[-1] // 2
    padded = F.pad(images, (radius,) * 4, mode=padding).flatten(0, 1).unsqueeze(0)
    weight = kernels.repeat_interleave(channels, 0).unsqueeze(1)
    return F.conv2d(padded, weight, groups=n * channels)[0].unflatten(0, (n, channels))


def power_(base: Tensor, exponent: Tensor) -> Tensor:
    """Compute powers of numbers in [0, 1], in place; much faster than `pow`.

    Args:
        base: any shape.
        exponent: positive, to be broadcast.

    Returns:
        The powers, at least `_LEAST`: special numbers are slow.
    """
    logarithm = base.clamp_(min=_LEAST).log_().mul_(exponent)
    return logarithm.clamp_(min=math.log(_LEAST)).exp_()
