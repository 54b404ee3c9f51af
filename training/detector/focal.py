"""Losses of a score and of an edge that end where the quality and the place are right.

Source: Li et al., Generalized Focal Loss, NeurIPS 2020.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def quality_focal_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """Return the cross-entropy of scores, less of it where they are nearly right.

    Args:
        logits: of the scores.
        quality: what the scores should be, in [0, 1]: 0 for other classes and background.

    Returns:
        The loss of each score.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (logits.sigmoid() - quality).square() * entropy


def distribution_focal_loss(edges: Tensor, distances: Tensor) -> Tensor:
    """Return the cross-entropy of distributions with the two bins around the truth.

    Args:
        edges: logits over the distances 0, 1, ..., [..., BINS].
        distances: true ones; those that the bins do not reach count as the nearest bin, [...].

    Returns:
        The loss of each distribution, [...].
    """
    last = edges.shape[-1] - 1
    distances = distances.clamp(0, last)
    lower = distances.floor().clamp(max=last - 1)
    share = (distances - lower)[..., None]
    logs = edges.log_softmax(-1).gather(-1, torch.stack((lower, lower + 1), -1).long())
    return -(torch.cat((1 - share, share), -1) * logs).sum(-1)
