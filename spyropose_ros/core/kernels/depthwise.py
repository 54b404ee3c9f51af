"""Depthwise convolutions between activations, with gradients that are fast on CPUs.

PyTorch takes several times as long for the gradients of a 5x5 depthwise convolution as its
arithmetic needs. Here a Numba kernel computes them, and those of the activations on both sides, in
one pass.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from spyropose_ros.core.kernels.threads import parts_in_parallel, run


def filtered(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Compute relu6(conv(relu6(x))).

    Args:
        x: [B, C, H, W], overwritten with relu6(x).
        conv: depthwise, padded by half of its odd size.

    Returns:
        [B, C, H / stride, W / stride].
    """
    learns = torch.is_grad_enabled() and (x.requires_grad or conv.weight.requires_grad)
    if x.device.type == "cpu" and conv.training and learns and not torch.compiler.is_compiling():
        return _Filtered.apply(x, conv.weight, conv.bias, conv.stride[0])
    return plain_filtered(x, conv)


def plain_filtered(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Compute the same in PyTorch's operations: for GPUs and for evaluation."""
    return F.relu6(conv(F.relu6(x, inplace=True)), inplace=True)


class _Filtered(torch.autograd.Function):
    """`filtered` on a CPU; bfloat16 under autocast, with gradients computed in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        x = x.data.clamp_(0, 6)  # nothing else needs x, or it is in these bounds already
        y = F.conv2d(x, weight.to(x), bias.to(x), stride, weight.shape[-1] // 2, 1, len(weight))
        y.clamp_(0, 6)
        ctx.save_for_backward(x, y, weight)
        ctx.stride = stride
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight = ctx.saved_tensors
        dx, dweight, dbias = _gradients(x, y, dy, weight, ctx.stride)
        wanted = zip(ctx.needs_input_grad, (dx.to(x), dweight, dbias), strict=False)
        return *(gradient if needed else None for needed, gradient in wanted), None


def _gradients(
    x: Tensor, y: Tensor, dy: Tensor, weight: Tensor, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute gradients to the input before its activation, the weight and the bias, in float32.

    Args:
        x: input after its activation, [B, C, H, W].
        y: output after its activation, [B, C, h, w].
        dy: gradient to y, likewise.
        weight: [C, 1, size, size].
        stride: of the convolution.
    """
    from spyropose_ros.core.kernels import numba_depthwise  # importing Numba takes half a second

    kernel = numba_depthwise.gradients(weight.shape[-1], stride)
    maps = [t.permute(0, 2, 3, 1).float().contiguous() for t in (x, y, dy)]
    taps = weight.detach()[:, 0].permute(1, 2, 0).contiguous()  # [size, size, C]
    dx, dtaps, dbias = torch.empty_like(maps[0]), torch.empty_like(taps), torch.empty(len(weight))
    given = [t.numpy() for t in (*maps, taps)]
    results = [t.numpy() for t in (dx, dtaps, dbias)]
    with parts_in_parallel():
        run(
            lambda first: kernel(*given, first, *results),
            range(0, len(weight), numba_depthwise.BLOCK),
        )
    return dx.permute(0, 3, 1, 2), dtaps.permute(2, 0, 1).unsqueeze(1), dbias
