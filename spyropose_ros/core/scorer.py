"""Scores of poses by the network, from one or several views of the object."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core.kernels.torch_heads import FusedHeads
from spyropose_ros.core.network.keypoint_model import PoseModel
from spyropose_ros.core.network.rotation_model import RotationModel


@dataclass(frozen=True)
class View:
    """What the network knows of one view of each detection.

    Attributes:
        features: of the crops, [B, ...].
        K_crop: intrinsics of the crops, third row (0, 0, 1), [B, 3, 3].
        rotation: from the frame of the search into the camera's, [3, 3]; None if they are one.
        translation: likewise, metres, [3].
    """

    features: Tensor
    K_crop: Tensor
    rotation: Tensor | None = None
    translation: Tensor | None = None


def search_heads(model: PoseModel | RotationModel) -> FusedHeads | RotationModel:
    """Return what scores families of poses for a model in evaluation with fixed weights."""
    return model if isinstance(model, RotationModel) else FusedHeads(model)


class NetworkScorer:
    """Calibrated logits, added up over views; a `search.FamilyScorer`.

    Args:
        heads: `search_heads` of the network that the features come from.
        temperatures: of the levels; logits are divided by them.
        views: crops of the same image and other cameras alike.
        divisor: of the sum: their number for the mean.

    Attributes:
        views: those given.
    """

    views: Sequence[View]

    def __init__(
        self,
        heads: FusedHeads | RotationModel,
        temperatures: Sequence[float],
        views: Sequence[View],
        divisor: float,
    ):
        self._heads = heads
        self._temperatures = temperatures
        self.views = views
        self._divisor = divisor

    def family_logits(
        self, level: int, image: Tensor, rotations: Tensor, translations: Tensor
    ) -> Tensor:
        """Score families, [M, R T]; see `search.FamilyScorer`."""
        total = torch.zeros((), device=rotations.device)
        for view in self.views:
            R, t = rotations, translations
            if view.rotation is not None and view.translation is not None:
                R, t = view.rotation @ R, t @ view.rotation.mT + view.translation
            total = total + self._heads.family_logits(
                view.features, view.K_crop, level, image, R, t
            )
        return total / (self._divisor * self._temperatures[level])
