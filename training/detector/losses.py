"""The loss of a detector: class scores that predict how well the box fits, and the box.

Source: Li et al., Generalized Focal Loss, NeurIPS 2020; its weights are those of NanoDet.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from spyropose_ros.detector.boxes import decode, generalized_overlap, overlap
from spyropose_ros.detector.network import Prediction
from training.detector.assignment import BACKGROUND, assign
from training.detector.focal import distribution_focal_loss, quality_focal_loss

_OVERLAP_WEIGHT = 2.0
_EDGE_WEIGHT = 0.25


class DetectionLoss(NamedTuple):
    """Parts of the loss; scalars.

    Attributes:
        quality: of the class scores.
        overlap: of the boxes as a whole.
        edges: of the distributions of their edges.
    """

    quality: Tensor
    overlap: Tensor
    edges: Tensor

    @property
    def total(self) -> Tensor:
        """Return what is minimised."""
        return self.quality + _OVERLAP_WEIGHT * self.overlap + _EDGE_WEIGHT * self.edges


def detection_loss(
    prediction: Prediction,
    boxes: list[Tensor],
    classes: list[Tensor],
    centers: Tensor,
    strides: Tensor,
    ignored: list[Tensor] | None = None,
) -> DetectionLoss:
    """Compare a prediction with the objects in the images.

    The boxes' parts are means over the cells of objects, weighted with their scores: what a
    detector does not find, it need not outline.

    Args:
        prediction: of B images.
        boxes: of the objects of each image, x0, y0, x1, y1 in pixels, B times [N, 4].
        classes: their indices, B times [N].
        centers: of the cells, see `spyropose_ros.detector.network.cells`, [A, 2].
        strides: of the cells, [A].
        ignored: boxes of what may be found or not, as of objects with little visible, B times
            [K, 4]: the cells in them that answer for no object have no scores to learn.

    Returns:
        The loss.
    """
    logits, found = prediction.logits.detach(), decode(prediction.edges.detach(), centers, strides)
    answers = zip(logits, found, boxes, classes, strict=True)
    assigned = torch.stack([assign(*each, centers, strides) for each in answers])  # [B, A]
    image, cell = (assigned != BACKGROUND).nonzero(as_tuple=True)
    first = torch.tensor([0, *map(len, boxes)], device=centers.device).cumsum(0)  # of each image
    index = assigned[image, cell] + first[image]
    truth, label = torch.cat(boxes)[index], torch.cat(classes)[index]  # [P, 4], [P]
    edges, center, stride = prediction.edges[image, cell], centers[cell], strides[cell]
    found = decode(edges, center, stride)

    quality = torch.zeros_like(prediction.logits)
    quality[image, cell, label] = overlap(found.detach(), truth).to(quality.dtype)
    losses = quality_focal_loss(prediction.logits, quality)  # [B, A, C]
    if ignored is not None:
        inside = torch.stack([_inside(centers, each) for each in ignored])
        losses = losses * ~(inside & (assigned == BACKGROUND)).unsqueeze(-1)
    scores = losses.sum() / max(1, len(cell))

    weight = logits[image, cell].sigmoid().amax(-1)
    weight = weight / weight.sum().clamp(min=torch.finfo(weight.dtype).eps)
    distances = torch.cat((center - truth[:, :2], truth[:, 2:] - center), dim=1) / stride[:, None]
    return DetectionLoss(
        scores,
        (weight * (1 - generalized_overlap(found, truth))).sum(),
        (weight * distribution_focal_loss(edges, distances).sum(1)).sum(),
    )


def _inside(centers: Tensor, boxes: Tensor) -> Tensor:
    """Tell which centres [A, 2] lie in at least one of boxes [K, 4]; [A]."""
    centers = centers.unsqueeze(1)
    return ((centers > boxes[:, :2]) & (centers < boxes[:, 2:])).all(-1).any(1)
