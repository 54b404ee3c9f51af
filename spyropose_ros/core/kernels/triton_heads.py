"""Logits of families of poses by one Triton kernel: feature look-up and all layers on chip.

Neither the gathered features nor a hidden layer ever reach the GPU's memory: per pose only its
logit is stored. Needs Triton, which PyTorch's CUDA builds for Linux bring; without it, and on CPUs,
`torch_heads` does the same in PyTorch.
"""

import logging
from contextlib import nullcontext
from importlib.util import find_spec

import torch
from torch import Tensor

from spyropose_ros.core.kernels.packed_head import PackedHead

log = logging.getLogger(__name__)

_MANY_POSES = 16_384


def available(device: torch.device) -> bool:
    """Return whether Triton is installed and the device is one for it."""
    return device.type == "cuda" and find_spec("triton") is not None


def runs(head: PackedHead, dtype: torch.dtype) -> bool:
    """Run the kernel for a head once with every size of its tile, to find out whether it can.

    This also compiles it, which takes seconds. Where it cannot run, a warning says why.

    Args:
        head: weights, on the device to run on.
        dtype: precision of the feature maps.

    Returns:
        Whether it ran.

    Raises:
        torch.OutOfMemoryError: the device has no memory left.
    """
    keypoints, channels, _ = head.first.shape
    embedded = head.last.new_zeros((1, 2, 2, channels), dtype=dtype)
    try:
        for families in (1, -(-_MANY_POSES // 64)):
            image = torch.zeros(families, dtype=torch.long, device=embedded.device)
            rotated = head.last.new_ones((3, families, 8, keypoints))
            moved = head.last.new_ones((3, families, 8))
            # Reading a value waits for the kernel, which may fail only while it runs.
            family_logits(embedded, image, rotated, moved, head)[0, 0].item()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton's own: no compiler, or a GPU that is too small or too old
        log.warning("the Triton kernel does not run here, PyTorch scores the poses: %s", error)
        return False
    return True


def family_logits(
    embedded: Tensor, image: Tensor, rotated: Tensor, moved: Tensor, head: PackedHead
) -> Tensor:
    """Score families of poses: R rotations times T translations each.

    The first call for a head and a size of the tile compiles the kernel, see `runs`.

    Args:
        embedded: feature maps, embedded for the level of the head, float32, float16 or bfloat16,
            [B, h, w, E]. The layers are multiplied in the same precision and summed in float32.
        image: feature map of each family, integer [M].
        rotated: homogeneous pixels of the keypoints in the map, the rotations' part, float32
            [3, M, R, P].
        moved: the translations' part, which is added to it, float32 [3, M, T].
        head: weights, on the same device.

    Returns:
        Unnormalised log-likelihoods, float32 [M, R T], rotations outer, translations inner.
    """
    import triton

    from spyropose_ros.core.kernels.triton_kernel import score_families

    _, families, n_rotations, points = rotated.shape
    n_translations = moved.shape[2]
    height, map_width, channels = embedded.shape[1:]
    dtype, width = embedded.dtype, len(head.last)
    logits = rotated.new_empty((families, n_rotations * n_translations))
    poses, warps, block = _tile(logits.numel(), width, dtype)
    launch = score_families[(triton.cdiv(logits.numel(), poses),)]
    arguments = (
        embedded.contiguous(),
        image.contiguous(),
        rotated.contiguous(),
        moved.contiguous(),
        head.out_of_image,
        head.first.to(dtype),
        head.first_bias,
        tuple(weight.to(dtype) for weight, _ in head.hidden),
        tuple(bias for _, bias in head.hidden),
        head.last,
        head.last_bias,
        logits,
        logits.numel(),
        n_rotations * n_translations,
        n_translations,
        height,
        map_width,
    )
    sizes = {
        "P": points,
        "E": channels,
        "H": width,
        "POSES": poses,
        "CHANNELS": max(16, triton.next_power_of_2(channels)),
        "BLOCK": block,
        "BLOCKS": triton.cdiv(width, block),
    }
    with torch.cuda.device(logits.device) if logits.is_cuda else nullcontext():
        launch(*arguments, **sizes, num_warps=warps, num_stages=2)
    return logits


def _tile(n: int, width: int, dtype: torch.dtype) -> tuple[int, int, int]:
    """Choose poses per program, warps per program, and columns of a layer computed at a time.

    Every program reads all weights, so large tiles save traffic; but there should be more programs
    than the 100 or so multiprocessors of a GPU, and a tile's sums of a layer have to stay in
    registers: 64 poses x 256 columns take a quarter of the 255 that each thread of 8 warps has.
    Compiled for sm_80 to sm_90 with the sizes of the paper, this needs at most 107 kB of shared
    memory. No more than two sizes, so that a search never compiles more than two kernels a level.
    """
    block = 16
    while block < min(width, 128) and (width % 128 == 0 or block < 64):
        block *= 2
    if dtype == torch.float32:  # three times the products, and twice the memory
        return 16, 4, min(block, 64)
    return (64, 8, block) if n >= _MANY_POSES else (32, 4, block)
