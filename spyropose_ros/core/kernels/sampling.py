"""What a feature map shows at the keypoints of poses, with gradients that are fast on CPUs."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from spyropose_ros.core.camera import project, resized_intrinsics, to_grid_sample
from spyropose_ros.core.kernels.threads import parts_in_parallel, run


def sampled(
    maps: Tensor,
    outside: Tensor,
    keypoints: Tensor,
    K_crop: Tensor,
    rotations: Tensor,
    translations: Tensor,
    resolution: int,
    hidden: float = 0.0,
) -> Tensor:
    """Interpolate maps bilinearly where poses put keypoints; no gradients to the poses.

    Args:
        maps: [B, E, h, w].
        outside: value of keypoints that are not in the crop or not in front of the camera, [E].
        keypoints: metres, [P, 3].
        K_crop: intrinsics of the crops, [B, 3, 3].
        rotations: object to camera, [B, N, 3, 3].
        translations: metres, [B, N, 3].
        resolution: side of the crops, pixels.
        hidden: share of the keypoints whose values are 0 for a whole image.

    Returns:
        Float32 [B, N, P, E].
    """
    learns = torch.is_grad_enabled() and (maps.requires_grad or outside.requires_grad)
    kernel = learns and hidden == 0 and not torch.compiler.is_compiling()
    if not kernel or maps.device.type != "cpu" or min(maps.shape[2:]) < 2:
        poses = rotations, translations
        return plain_sampled(maps, outside, keypoints, K_crop, *poses, resolution, hidden)
    K = resized_intrinsics(K_crop, maps.shape[-1] / resolution)
    geometry = (t.detach().contiguous() for t in (keypoints, K, rotations, translations))
    return _Sampled.apply(maps, outside, *geometry)


def plain_sampled(
    maps: Tensor,
    outside: Tensor,
    keypoints: Tensor,
    K_crop: Tensor,
    rotations: Tensor,
    translations: Tensor,
    resolution: int,
    hidden: float = 0.0,
) -> Tensor:
    """Compute the same in PyTorch's operations: for GPUs, evaluation and hidden keypoints."""
    points = keypoints @ rotations.mT + translations.unsqueeze(2)  # [B, N, P, 3]
    pixels, depth = project(K_crop.unsqueeze(1), points)
    grid = to_grid_sample(pixels, resolution, resolution)  # [B, N, P, 2]
    maps = maps.to(grid)  # so is its gradient, which is a sum
    values = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    values = values.permute(0, 2, 3, 1)  # [B, N, P, E]
    if hidden > 0:
        batch, _, n_points, _ = values.shape
        kept = torch.ones((batch, 1, n_points, 1), device=values.device)
        values = values * F.dropout(kept, hidden)
    beyond = (grid.abs() > 1).any(-1) | (depth <= 0)  # [B, N, P]
    return torch.where(beyond.unsqueeze(-1), outside, values)


class _Sampled(torch.autograd.Function):
    """`sampled` on a CPU, from the maps' own intrinsics."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        outside: Tensor,
        keypoints: Tensor,
        K: Tensor,
        rotations: Tensor,
        translations: Tensor,
    ) -> Tensor:
        from spyropose_ros.core.kernels import numba_sampling  # importing Numba takes half a second

        pixels = maps.detach().permute(0, 2, 3, 1).float().contiguous()  # [B, h, w, E]
        batch, n, p = *rotations.shape[:2], len(keypoints)
        values = torch.empty((batch, n, p, maps.shape[1]))
        corners = torch.empty((batch, n, p), dtype=torch.int32)
        fractions = torch.empty((batch, n, p, 2))
        shared = outside.detach().numpy(), keypoints.numpy()
        own = [t.numpy() for t in (pixels, K, rotations, translations, values, corners, fractions)]

        def one(b: int) -> None:
            image, *others = (t[b] for t in own)
            numba_sampling.sample(image, *shared, *others)

        with parts_in_parallel():
            run(one, range(batch))
        ctx.save_for_backward(corners, fractions)
        ctx.like = maps.dtype, pixels.shape
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dvalues: Tensor) -> tuple[Tensor | None, ...]:
        from spyropose_ros.core.kernels import numba_sampling

        dtype, shape = ctx.like
        dpixels, doutside = torch.zeros(shape), torch.zeros((shape[0], shape[-1]))
        given = dvalues.contiguous(), *ctx.saved_tensors, dpixels, doutside
        own = [t.numpy() for t in given]
        with parts_in_parallel():
            run(lambda b: numba_sampling.scatter(*(t[b] for t in own)), range(len(dpixels)))
        return dpixels.permute(0, 3, 1, 2).to(dtype), doutside.sum(0), *4 * [None]
