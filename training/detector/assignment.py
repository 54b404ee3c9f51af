"""Which cells answer for which object: those that do it best at the moment (task alignment).

The better the cells near an object outline it, the more of them it gets. The box edges come from
published weights, which outline most things from the first step on: the overlaps mean something
while the classes do not yet know anything, and decide alone as long as all scores are equal.
Assignments by geometry alone (ATSS, for one) leave objects whose sizes lie between those of the
three scales without any cell, and give long ones cells that cannot reach their ends.

Sources: Feng et al., TOOD: Task-aligned One-stage Object Detection, ICCV 2021; the number of cells
is that of Ge et al., YOLOX, 2021; the cost of distance that of Lyu et al., RTMDet, 2022.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from spyropose_ros.detector.boxes import overlap

BACKGROUND = -1

_MOST = 13
"""Largest number of cells of an object."""

_OVERLAP_POWER = 6.0
"""How much more a box counts than its score."""

_FREE = 3.0
"""Strides from an object's centre up to which distance costs next to nothing."""


def assign(
    logits: Tensor,
    found: Tensor,
    boxes: Tensor,
    classes: Tensor,
    centers: Tensor,
    strides: Tensor,
) -> Tensor:
    """Give every cell of an image one object, or none.

    Args:
        logits: of the classes, as predicted, [A, C].
        found: boxes as predicted, x0, y0, x1, y1 in pixels, [A, 4].
        boxes: of the objects, [N, 4].
        classes: of the objects, [N].
        centers: of the cells, see `spyropose_ros.detector.network.cells`, [A, 2].
        strides: of the cells, [A].

    Returns:
        Indices of the objects, or BACKGROUND, [A].
    """
    nobody = torch.full((len(centers),), BACKGROUND, device=centers.device)
    if len(boxes) == 0:
        return nobody
    inside = (centers > boxes[:, None, :2]) & (centers < boxes[:, None, 2:])
    fits = overlap(boxes[:, None], found) * inside.all(-1)  # [N, A]
    distances = torch.cdist((boxes[:, :2] + boxes[:, 2:]) / 2, centers) / strides
    cost = (
        -F.logsigmoid(logits[:, classes].T)
        - _OVERLAP_POWER * fits.clamp(min=1e-7).log()
        + 10 ** (distances - _FREE)
    )
    most = min(_MOST, len(centers))
    counts = fits.topk(most).values.sum(1).int().clamp(min=1)
    order = cost.topk(most, largest=False).indices
    chosen = torch.zeros_like(cost, dtype=torch.bool)
    chosen.scatter_(1, order, torch.arange(most, device=cost.device) < counts[:, None])
    lowest, objects = torch.where(chosen, cost, torch.inf).min(0)
    return torch.where(lowest.isfinite(), objects, nobody)
