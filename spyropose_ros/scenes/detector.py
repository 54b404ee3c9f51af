"""A simulated detector: realistic boxes from true ones."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spyropose_ros.core.errors import DataError
from spyropose_ros.scenes.chance import Chance

_FARTHEST = 0.4
"""Of an edge from where it should be, in box sides: the edges of a bad box must not cross."""


@dataclass(frozen=True)
class BoxNoise:
    """How far a detector's boxes are off.

    Attributes:
        edge: standard deviation of every edge, as a share of the box side.
        outlier: the same for the occasional bad box.
        outlier_share: share of bad boxes.
    """

    edge: float = 0.03
    outlier: float = 0.10
    outlier_share: float = 0.05


def noisy_box(
    box: np.ndarray, rng: np.random.Generator, settings: BoxNoise = BoxNoise()
) -> np.ndarray:
    """Return a box as a detector might give it.

    Args:
        box: [4] xyxy, tight around the visible object, pixels.
        rng: source of randomness.
        settings: strength of the noise.

    Returns:
        [4] xyxy float64, with x1 < x2 and y1 < y2.

    Raises:
        DataError: the true box is empty or not finite.
    """
    box = np.asarray(box, np.float64)
    size = box[2:] - box[:2]
    if not (np.isfinite(box).all() and (size > 0).all()):
        raise DataError(f"box {box.tolist()} is empty or not finite: give x1 < x2 and y1 < y2")
    spread = settings.outlier if rng.random() < settings.outlier_share else settings.edge
    shift = np.clip(rng.normal(size=(2, 2)) * spread, -_FARTHEST, _FARTHEST) * size
    return box + shift.ravel()


def noisy_boxes(
    boxes: Tensor, count: int, chance: Chance, settings: BoxNoise = BoxNoise()
) -> Tensor:
    """Apply `noisy_box` to a batch, several times each.

    Args:
        boxes: [B, 4] xyxy, tight around the visible objects, pixels.
        count: number of boxes for each.
        chance: random numbers.
        settings: strength of the noise.

    Returns:
        [B, count, 4] xyxy.
    """
    bad = chance.happens(settings.outlier_share, (count, 1))
    spread = torch.where(bad, settings.outlier, settings.edge)
    shift = (chance.normal((count, 4)) * spread).clamp(-_FARTHEST, _FARTHEST)
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes.unsqueeze(1) + shift * size.unsqueeze(1)
