"""Precision and recall of a distribution against the set of admissible poses.

With D(P, Q) the largest distance between corresponding vertices at two poses, on the surface (MSD)
over the diameter or projected (MPD) in pixels, and a threshold:

* precision is the mass of the poses within the threshold of an admissible one;
* recall is the share of the admissible poses that have mass within the threshold: at least a tenth
  of what a distribution spread evenly over all admissible poses has there.

Both are means over the thresholds of the BOP challenge.

Source: Brazi et al., BOP-Distrib, WACV 2026; docs/training.md says what differs.
"""

import numpy as np
import torch

from spyropose_ros.core.distribution import PoseDistribution
from training.data.source import EvaluationObject
from training.evaluation.metrics import MSPD_THRESHOLDS, MSSD_THRESHOLDS
from training.symmetry.surface import spread_directions

EVEN_SHARE = 0.1
"""Of the mass that an even distribution has around an admissible pose: what must be there."""

_SAMPLES = 1000
_VERTICES = 32  # the outermost ones in so many directions
_SLICE = 32  # admissible poses that are compared at a time


def ambiguity_metrics(
    distribution: PoseDistribution,
    admissible: np.ndarray,
    target: EvaluationObject,
    K: np.ndarray,
    width: int,
) -> dict[str, float]:
    """Compare a distribution with the admissible poses.

    Args:
        distribution: of one image.
        admissible: object to camera, metres, [A, 4, 4].
        target: the object.
        K: intrinsics of the image, [3, 3].
        width: of the image, pixels.

    Returns:
        Number of admissible poses, precision and recall by MSD and by MPD.
    """
    generator = torch.Generator(distribution.box.center.device).manual_seed(0)
    rotations, translations = distribution.sample(_SAMPLES, generator, systematic=True)
    poses = np.tile(np.eye(4), (_SAMPLES, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotations.cpu().numpy(), translations.cpu().numpy()
    outermost = np.unique((target.vertices @ spread_directions(_VERTICES).T).argmax(0))
    vertices = target.vertices[outermost]
    predicted, true = _places(poses, vertices), _places(admissible, vertices)
    metrics = {"admissible": float(len(admissible))}
    for name, (a, b), thresholds in (
        ("msd", (predicted / target.diameter, true / target.diameter), MSSD_THRESHOLDS),
        ("mpd", (_pixels(predicted, K, width), _pixels(true, K, width)), MSPD_THRESHOLDS),
    ):
        found = precision_recall(distances(a, b), distances(b, b), thresholds)
        metrics |= dict(zip((f"{name}_precision", f"{name}_recall"), found, strict=True))
    return metrics


def precision_recall(
    predicted: np.ndarray, mutual: np.ndarray, thresholds: np.ndarray
) -> tuple[float, float]:
    """Compute precision and recall, each a mean over thresholds.

    Args:
        predicted: distances of predicted poses of equal mass to the admissible ones, [N, A].
        mutual: distances between the admissible ones, [A, A].
        thresholds: [T].

    Returns:
        Precision and recall.
    """
    precision = (predicted.min(1)[:, None] < thresholds).mean()
    recall = [
        ((predicted < limit).mean(0) >= EVEN_SHARE * (mutual < limit).mean(0)).mean()
        for limit in thresholds
    ]
    return float(precision), float(np.mean(recall))


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the largest distances between corresponding points [N, V, C] and [M, V, C], [N, M]."""
    slices = (b[start : start + _SLICE] for start in range(0, len(b), _SLICE))
    squares = [np.square(a[:, None] - some).sum(-1).max(-1) for some in slices]
    return np.sqrt(np.concatenate(squares, 1))


def _places(poses: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Return vertices [V, 3] in the camera frame at each pose, float32 [N, V, 3]."""
    moved = vertices @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    return moved.astype(np.float32)


def _pixels(points: np.ndarray, K: np.ndarray, width: int) -> np.ndarray:
    """Return the pixels of points [N, V, 3] at an image width of 640, [N, V, 2]."""
    homogeneous = points @ K.T.astype(np.float32)
    return homogeneous[..., :2] / homogeneous[..., 2:] * (640 / width)
