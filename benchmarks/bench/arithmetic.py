"""Least work of each stage, and how long this machine needs for it at its own best rates.

A stage cannot be faster than its multiply-adds at the rate of large matrices, nor than the bytes
that must pass through memory once (inputs, weights, results, and what is too large to be kept) at
the rate of a copy. What is read again and again from a cache is free here, and so are activation
functions: the bound is lower than anything that will run.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.bench.networks import features_of
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.network.config import ModelConfig

_CORNERS = 4  # pixels that a bilinear look-up reads


@dataclass(frozen=True)
class Rates:
    """What a machine can do.

    Attributes:
        macs: multiply-adds per second.
        bytes: copied per second, those read and those written.
        itemsize: bytes of the numbers that are multiplied.
    """

    macs: float
    bytes: float
    itemsize: int


@dataclass(frozen=True)
class Work:
    """What a stage has to do at least.

    Attributes:
        macs: multiply-adds.
        bytes: through memory.
    """

    macs: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.macs + other.macs, self.bytes + other.bytes)

    def seconds(self, rates: Rates) -> float:
        """Return the longer of computing and moving."""
        return max(self.macs / rates.macs, self.bytes / rates.bytes)


def crop_work(image_pixels: int, config: ModelConfig) -> Work:
    """Return the work of upload and crop: the image enters as bytes, the crop leaves as floats."""
    pixels = config.crop_resolution**2
    return Work(3 * _CORNERS * pixels, 3 * image_pixels + 4 * 3 * pixels)


@torch.inference_mode()
def backbone_work(estimator: Estimator, crops: Tensor, rates: Rates) -> Work:
    """Return the work of all layers before the heads on a batch of crops."""
    total = []

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        macs = output.numel() * module.weight[0].numel()
        moved = inputs[0].numel() + output.numel() + module.weight.numel()
        total.append(Work(macs, moved * rates.itemsize))

    layers = [
        m for m in estimator.model.extractor.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    features_of(estimator, crops)
    for hook in hooks:
        hook.remove()
    return sum(total, Work(0, 0))


def level_work(config: ModelConfig, keypoints: int, poses: int, rates: Rates) -> Work:
    """Return the work of scoring a level, by the cheaper of two equivalent ways.

    Either every pose's features are interpolated and go through the first layer; or the first layer
    is applied to every pixel as each keypoint, and its outputs are interpolated.

    Args:
        config: of the model.
        keypoints: of the object.
        poses: that are scored.
        rates: of the machine.
    """
    embed, hidden, size = config.embed_dim, config.hidden_dim, rates.itemsize
    pixels = (config.crop_resolution // config.feature_stride) ** 2
    seen = min(pixels, _CORNERS * poses * keypoints)  # pixels that anything is looked up in
    later = hidden * hidden * (config.hidden_layers - 1) + hidden
    weights = config.feature_channels * embed + keypoints * embed * hidden + later
    common = Work(
        seen * config.feature_channels * embed + poses * (3 * keypoints + later),
        size * (seen * config.feature_channels + weights) + 4 * poses,
    )
    by_pose = Work(poses * keypoints * embed * (_CORNERS + hidden), 2 * size * seen * embed)
    rows = min(seen * keypoints, _CORNERS * poses * keypoints)
    by_table = Work(
        rows * embed * hidden + poses * keypoints * _CORNERS * hidden,
        2 * size * (seen * embed + rows * hidden),
    )
    return min((common + by_pose, common + by_table), key=lambda work: work.seconds(rates))


def selection_work(poses: int, expanded: int) -> Work:
    """Return the work of reading logits, and writing log masses and the next level's cells."""
    return Work(0, 8 * poses + 16 * expanded)
