"""What a feature map says of whether the object is there."""

from collections.abc import Callable

import torch
from torch import Tensor

from spyropose_ros.core.presence import PresenceModel


def evidence(features: Tensor) -> Tensor:
    """Summarise feature maps.

    Args:
        features: [B, C, h, w].

    Returns:
        Float32 [B, 2 C]: the maximum of each channel over the map, and its mean over the middle of
        the map, where the object is.
    """
    features = features.float()
    height, width = features.shape[2:]
    top, left = height // 4, width // 4
    middle = features[:, :, top : height - top, left : width - left]
    return torch.cat((features.amax((2, 3)), middle.mean((2, 3))), 1)


def log_odds(model: PresenceModel, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Put a model on a device.

    Args:
        model: with weights for the feature maps.
        device: of the feature maps.

    Returns:
        A function of feature maps [B, C, h, w]: the log odds that the objects are there, [B].
    """
    weights = torch.tensor(model.weights, dtype=torch.float32, device=device)
    return lambda features: evidence(features) @ weights + model.offset
