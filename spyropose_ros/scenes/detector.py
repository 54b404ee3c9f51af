"""A simulated detector: realistic boxes from true ones."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from spyropose_ros.core.errors import DataError
from spyropose_ros.scenes.chance import Chance

_FARTHEST = 0.4
"""Of an edge from where it should be, in box sides: the edges of a bad box must not cross."""


class EdgeNoise(Protocol):
    """How far a detector's boxes are off: every edge, as a share of the box side."""

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the shifts of x0, y0, x1 and y1 of one box, [4]."""

    def deal(self, chance: Chance, count: int) -> Tensor:
        """Return those of several boxes for each item of a batch, [B, count, 4]."""


@dataclass(frozen=True)
class BoxNoise:
    """Gaussian errors of all edges, with occasional bad boxes.

    Attributes:
        edge: standard deviation of every edge, as a share of the box side.
        outlier: the same for the occasional bad box.
        outlier_share: share of bad boxes.
    """

    edge: float = 0.03
    outlier: float = 0.10
    outlier_share: float = 0.05

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the shifts of x0, y0, x1 and y1 of one box, [4]."""
        spread = self.outlier if rng.random() < self.outlier_share else self.edge
        return rng.normal(size=4) * spread

    def deal(self, chance: Chance, count: int) -> Tensor:
        """Return those of several boxes for each item of a batch, [B, count, 4]."""
        bad = chance.happens(self.outlier_share, (count, 1))
        return chance.normal((count, 4)) * torch.where(bad, self.outlier, self.edge)


class MeasuredNoise:
    """The errors of a real detector: each box is off as one of its boxes was.

    Args:
        errors: shift of the centre in x and y over the true width and height, and logarithms of
            width and height over the true ones, [N, 4].
    """

    def __init__(self, errors: np.ndarray):
        shift, growth = errors[:, :2], np.expm1(errors[:, 2:]) / 2
        self._edges = np.concatenate((shift - growth, shift + growth), 1).astype(np.float32)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the shifts of x0, y0, x1 and y1 of one box, [4]."""
        return self._edges[rng.integers(len(self._edges))]

    def deal(self, chance: Chance, count: int) -> Tensor:
        """Return those of several boxes for each item of a batch, [B, count, 4]."""
        chosen = chance.integers(0, len(self._edges) - 1, (count,))
        return torch.from_numpy(self._edges).to(chosen.device)[chosen]


def noisy_box(
    box: np.ndarray, rng: np.random.Generator, noise: EdgeNoise = BoxNoise()
) -> np.ndarray:
    """Return a box as a detector might give it.

    Args:
        box: [4] xyxy, tight around the visible object, pixels.
        rng: source of randomness.
        noise: how far off the edges are.

    Returns:
        [4] xyxy float64, with x1 < x2 and y1 < y2.

    Raises:
        DataError: the true box is empty or not finite.
    """
    box = np.asarray(box, np.float64)
    size = box[2:] - box[:2]
    if not (np.isfinite(box).all() and (size > 0).all()):
        raise DataError(f"box {box.tolist()} is empty or not finite: give x1 < x2 and y1 < y2")
    return box + noise.draw(rng).clip(-_FARTHEST, _FARTHEST) * np.tile(size, 2)


def noisy_boxes(boxes: Tensor, count: int, chance: Chance, noise: EdgeNoise) -> Tensor:
    """Apply `noisy_box` to a batch, several times each.

    Args:
        boxes: [B, 4] xyxy, tight around the visible objects, pixels.
        count: number of boxes for each.
        chance: random numbers.
        noise: how far off the edges are.

    Returns:
        [B, count, 4] xyxy.
    """
    shift = noise.deal(chance, count).clamp(-_FARTHEST, _FARTHEST)
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes.unsqueeze(1) + shift * size.unsqueeze(1)
