"""NanoDet-g: a CSP backbone, a path aggregation neck and one head per scale.

Plain convolutions only, which CPUs and accelerators run fast. Batch norms are folded into them:
their statistics stay those of natural images, whatever the network is fine-tuned on.

Source: https://github.com/RangiLyu/nanodet, NanoDet-g; the head and its outputs are those of Li et
al., Generalized Focal Loss, NeurIPS 2020.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (8, 16, 32)
"""Input pixels from cell to cell of each scale."""

BINS = 11
"""Distances that an edge's distribution covers: 0 to 10 strides."""

_STEM = 32
# Channels, stride of the entry and number of units of each stage; its output has twice as many.
_STAGES = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 2, 3))
_WIDTH = 128
_SLOPE = 0.1
_PRIOR = 0.01  # score of every class before training: background outnumbers objects


class Prediction(NamedTuple):
    """What the network says about every cell of all scales, fine to coarse, row by row.

    Attributes:
        logits: of the classes; their sigmoid predicts the overlap with an object's box,
            [B, A, C].
        edges: logits over the distances from the cell's centre to the left, top, right and bottom
            edge, in strides, [B, A, 4, BINS].
    """

    logits: Tensor
    edges: Tensor


class DetectionNetwork(nn.Module):
    """Class scores and box edges on a grid of cells.

    Args:
        num_classes: number of classes.

    Attributes:
        mean: RGB of the images that the published weights were trained on, [3, 1, 1].
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes
        self.backbone = Backbone()
        self.neck = Neck([2 * channels for channels, *_ in _STAGES[1:]])
        self.heads = nn.ModuleList(Head(num_classes) for _ in STRIDES)
        mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) / 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) / 255, persistent=False)

    def forward(self, images: Tensor) -> Prediction:
        """Predict for images of any size, RGB in [0, 1], [B, 3, H, W]; see `cells`."""
        maps = self.neck(self.backbone((images - self.mean) / self.std))
        parts = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        return Prediction(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))


class Backbone(nn.Module):
    """Feature maps at the strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, _STEM, stride=2)
        self.stages = nn.ModuleList()
        width = _STEM
        for channels, stride, units in _STAGES:
            self.stages.append(Stage(width, channels, stride, units))
            width = 2 * channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """Encode normalised images [B, 3, H, W] as maps, fine to coarse."""
        x = F.max_pool2d(_activated(self.stem(x)), 3, 2, padding=1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]


class Stage(nn.Module):
    """A cross-stage partial block: some units, and a path around them.

    Args:
        channels_in: of the input.
        channels: inside; the output has twice as many.
        stride: of the first convolution.
        units: number of units.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, units: int):
        super().__init__()
        self.entry = _conv(channels_in, channels, stride)
        self.units = nn.ModuleList(Unit(channels) for _ in range(units))
        self.exit = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels_in, H, W] to [B, 2 channels, H / stride, W / stride], rounded up."""
        around = x = _activated(self.entry(x))
        for unit in self.units:
            x = unit(x)
        return torch.cat((_activated(self.exit(x)), around), dim=1)


class Unit(nn.Module):
    """Two convolutions of half the channels, one after the other, and both their outputs.

    Args:
        channels: of the input and the output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.first = _conv(channels, channels // 2)
        self.second = _conv(channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, H, W] to the same shape."""
        first = _activated(self.first(x))
        return torch.cat((_activated(self.second(first)), first), dim=1)


class Neck(nn.Module):
    """Exchanges information between the scales: coarse to fine, then back, by interpolation.

    Args:
        widths: channels of the maps, fine to coarse.
    """

    def __init__(self, widths: list[int]):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, _WIDTH, 1) for width in widths)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Mix maps [B, widths[i], H_i, W_i] into maps of equal width, same sizes."""
        maps = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        coarse_to_fine = range(len(maps) - 1, 0, -1)
        for i in coarse_to_fine:
            maps[i - 1] = maps[i - 1] + _resized(maps[i], maps[i - 1])
        for i in reversed(coarse_to_fine):
            maps[i] = maps[i] + _resized(maps[i - 1], maps[i])
        return maps


class Head(nn.Module):
    """Answers for every cell of one scale.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self.tower = _conv(_WIDTH, _WIDTH)
        self.classes = nn.Conv2d(_WIDTH, num_classes, 1)
        self.edges = nn.Conv2d(_WIDTH, 4 * BINS, 1)
        nn.init.normal_(self.classes.weight, std=0.01)
        self.classes.bias = nn.Parameter(torch.full((num_classes,), _PRIOR).logit())

    def forward(self, x: Tensor) -> Prediction:
        """Map [B, width, H, W] to logits and edges of H W cells."""
        x = _activated(self.tower(x))
        logits, edges = self.classes(x), self.edges(x)
        return Prediction(
            logits.flatten(2).transpose(1, 2),
            edges.unflatten(1, (4, BINS)).flatten(3).permute(0, 3, 1, 2),
        )


def cells(height: int, width: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return where the cells of a network's prediction are.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        device: of the result.

    Returns:
        The centres (x, y) in pixels, 0 at the middle of the first pixel, [A, 2]; the strides, [A].
    """
    centers, strides = [], []
    for stride in STRIDES:
        rows, columns = (
            torch.arange(math.ceil(size / stride), device=device) + 0.5 for size in (height, width)
        )
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centers.append(torch.stack((x, y), dim=-1).view(-1, 2) * stride - 0.5)
        strides.append(torch.full((len(rows) * len(columns),), stride, device=device))
    return torch.cat(centers), torch.cat(strides)


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE, inplace=True)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
