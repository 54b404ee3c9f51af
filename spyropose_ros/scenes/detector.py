"""A stand-in for a detector: realistic boxes from true ones, and what box sizes say of depth."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation
from torch import Tensor

from .chance import Chance

_FARTHEST = 0.4
"""Of an edge from where it should be, in box sides: the edges of a bad box must not cross."""


@dataclass(frozen=True)
class BoxNoise:
    """How far a detector's boxes are off.

    Attributes:
        edge: Standard deviation of every edge, as a share of the box side.
        outlier: The same for the occasional bad box.
        outlier_share: Share of bad boxes.
    """

    edge: float = 0.03
    outlier: float = 0.10
    outlier_share: float = 0.05


def noisy_box(
    box: np.ndarray, rng: np.random.Generator, settings: BoxNoise = BoxNoise()
) -> np.ndarray:
    """A box as a detector might give it.

    Args:
        box: [4] xyxy, tight around the visible object, pixels.
        rng: Source of randomness.
        settings: Strength of the noise.

    Returns:
        [4] xyxy float64, with x1 < x2 and y1 < y2.

    Raises:
        ValueError: The true box is empty or not finite.
    """
    box = np.asarray(box, np.float64)
    size = box[2:] - box[:2]
    if not (np.isfinite(box).all() and (size > 0).all()):
        raise ValueError(f"box {box.tolist()} is empty or not finite: give x1 < x2 and y1 < y2")
    spread = settings.outlier if rng.random() < settings.outlier_share else settings.edge
    shift = np.clip(rng.normal(size=(2, 2)) * spread, -_FARTHEST, _FARTHEST) * size
    return box + shift.ravel()


def noisy_boxes(
    boxes: Tensor, count: int, chance: Chance, settings: BoxNoise = BoxNoise()
) -> Tensor:
    """`noisy_box` for a batch, several times each.

    Args:
        boxes: [B, 4] xyxy, tight around the visible objects, pixels.
        count: Number of boxes for each.
        chance: Random numbers.
        settings: Strength of the noise.

    Returns:
        [B, count, 4] xyxy.
    """
    bad = chance.happens(settings.outlier_share, (count, 1))
    spread = torch.where(bad, settings.outlier, settings.edge)
    shift = (chance.normal((count, 4)) * spread).clamp(-_FARTHEST, _FARTHEST)
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes.unsqueeze(1) + shift * size.unsqueeze(1)


def apparent_size_ratio(
    vertices: np.ndarray, diameter: float, n_views: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """How large an object's box looks, compared with its bounding sphere.

    The ratio of a view is hypot(w / fx, h / fy) * z / diameter for the tight box (w, h) of the
    whole object at depth z. Its mean turns a detector's box into a depth estimate.

    Args:
        vertices: [V, 3], relative to the centre of the bounding sphere, metres.
        diameter: Of the bounding sphere, metres.
        n_views: Number of views, uniform over SO(3).
        seed: Of the views.

    Returns:
        Mean and standard deviation of the ratio over the views.
    """
    vertices = np.asarray(vertices, np.float64)
    vertices = vertices[ConvexHull(vertices).vertices]  # the others bound no projection
    rotations = Rotation.random(n_views, random_state=np.random.default_rng(seed)).as_matrix()
    distance = 6 * diameter
    ratios = np.empty(n_views)
    for index, rotation in enumerate(rotations):
        points = vertices @ rotation.T
        rays = points[:, :2] / (points[:, 2:] + distance)
        ratios[index] = np.hypot(*np.ptp(rays, axis=0)) * distance / diameter
    return float(ratios.mean()), float(ratios.std())
