"""Boxes (x0, y0, x1, y1) in pixels: from a network's edges, how they overlap, which to keep."""

import torch
from torch import Tensor


def decode(edges: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Turn the distributions of edges into boxes: every edge where it is on average.

    Args:
        edges: logits over distances, as in `network.Prediction`, [..., A, 4, BINS].
        centers: of the cells, see `network.cells`, [A, 2].
        strides: of the cells, [A].

    Returns:
        Boxes, [..., A, 4].
    """
    bins = torch.arange(edges.shape[-1], dtype=edges.dtype, device=edges.device)
    distances = edges.softmax(-1) @ bins * strides[:, None]
    near, far = distances.split(2, dim=-1)
    return torch.cat((centers - near, centers + far), dim=-1)


def area(boxes: Tensor) -> Tensor:
    """Return the areas of boxes [..., 4]; 0 where the edges cross."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of boxes [..., 4], broadcast; 0 for empty ones."""
    return _overlap(a, b)[0]


def generalized_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union, less the share of the hull that neither box covers.

    Unlike `overlap` it has a gradient where boxes are apart.

    Source: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019.

    Args:
        a: boxes, [..., 4].
        b: boxes, broadcast with a.

    Returns:
        From -1, far apart, to 1, equal; [...].
    """
    iou, union = _overlap(a, b)
    lower, upper = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    hull = area(torch.cat((lower, upper), dim=-1))
    return iou - (hull - union) / hull.clamp(min=_smallest(hull))


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the intersection over union and the union."""
    lower, upper = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    common = area(torch.cat((lower, upper), dim=-1))
    union = area(a) + area(b) - common
    return common / union.clamp(min=_smallest(union)), union


def _smallest(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny


def suppress(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, limit: int
) -> Tensor:
    """Choose boxes that overlap with no better box of their class.

    Args:
        boxes: [N, 4].
        scores: [N].
        classes: indices, [N].
        threshold: largest intersection over union of two that are chosen.
        limit: largest number to choose.

    Returns:
        Indices of the chosen boxes, best first, [M].
    """
    left = scores.argsort(descending=True, stable=True)
    chosen: list[Tensor] = []
    while len(left) and len(chosen) < limit:
        best, left = left[0], left[1:]
        chosen.append(best)
        rivals = (overlap(boxes[best], boxes[left]) > threshold) & (classes[left] == classes[best])
        left = left[~rivals]
    return torch.stack(chosen) if chosen else left
