"""The fastest tile of the kernel on this GPU: `python -m benchmarks.accelerator.tiles`.

The network has the paper's sizes and random weights; times are medians in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING

from spyropose_ros.core.network.config import ModelConfig

if TYPE_CHECKING:
    import torch

    from spyropose_ros.core.network.keypoint_model import PoseModel

TILES = [
    (poses, warps, block) for poses in (32, 64, 128) for warps in (4, 8) for block in (64, 128)
]


def median_ms(call: Callable[[], object], repeats: int = 50) -> float:
    """Return the median time of a call on the GPU, after a warm-up."""
    import torch

    for _ in range(5):
        call()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def sweep_tiles(model: PoseModel, families: int, dtype: torch.dtype) -> None:
    """Time one level of 8 x 8 children per family with every size of the tile."""
    import torch

    from spyropose_ros.core import so3
    from spyropose_ros.core.kernels import triton_heads
    from spyropose_ros.core.kernels.packed_head import PackedHead

    head = PackedHead.of(model, 1)
    generator = torch.Generator("cuda").manual_seed(0)
    embedded = torch.randn((1, 224, 224, 64), generator=generator, device="cuda", dtype=dtype)
    image = torch.zeros(families, dtype=torch.int64, device="cuda")
    rotations = so3.random_rotations(families * 8, generator, "cuda")
    rotated = rotations.view(families, 8, 3, 3) @ model.keypoints.mT
    rotated = (400 * rotated).permute(2, 0, 1, 3).contiguous()  # pixels
    rotated[2] = 0.0
    moved = torch.rand((3, families, 8), generator=generator, device="cuda") * 80 + 72
    moved[2] = 1.0
    operations = (
        2 * families * 64 * sum(w.numel() for w in [head.first, *(h[0] for h in head.hidden)])
    )
    chosen = triton_heads._tile(families * 64, 256, dtype)
    for tile in TILES:
        triton_heads._tile = lambda *_, tile=tile: tile
        try:
            time = median_ms(
                lambda: triton_heads.family_logits(embedded, image, rotated, moved, head)
            )
        except Exception as error:  # of Triton's own: too much shared memory
            print(f"{families:6d} families  tile {tile}: {type(error).__name__}")
            continue
        rate = operations / time / 1e9
        mark = " <- the default" if tile == chosen else ""
        print(f"{families:6d} families  tile {tile}: {time:.3f} ms, {rate:.1f} TFLOP/s{mark}")


def main() -> None:
    """Print a line per size of the level and tile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), default="float16")
    args = parser.parse_args()

    import torch

    from spyropose_ros.core.network.backbone import NAMED_BACKBONES
    from spyropose_ros.core.network.keypoint_model import PoseModel

    dtype = getattr(torch, args.dtype)
    if not torch.cuda.is_available():
        raise SystemExit("tiles: torch finds no GPU")
    print(torch.cuda.get_device_name(), torch.__version__, dtype)
    torch.manual_seed(0)
    points = 0.05 * torch.randn(16, 3)
    model = PoseModel(ModelConfig(NAMED_BACKBONES["resnet18"][1]), points).eval().cuda()
    model.requires_grad_(False)
    for families in (9, 64, 512, 8192):
        sweep_tiles(model, families, dtype)


if __name__ == "__main__":
    main()
