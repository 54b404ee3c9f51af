"""Crops that differ from a training's renderings about as photographs do."""

from functools import cache

import torch
from torch import Tensor, nn

from training.config import AugmentationConfig
from training.data.crops import miscalibrated
from training.data.looks import Looks
from training.fitting.augment import make_augmentation

LOOKS = Looks(painted=1.0, harsh=0.5)
"""Of the crops."""

_EXPOSURE = 0.5  # share of crops from a camera with wrong settings
_MISCALIBRATION = 0.015  # standard deviation of the errors


def unfamiliar(batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Let a bad camera, whose calibration is a little wrong, take composed crops.

    Args:
        batch: as `training.data.compose.Composer` returns it.
        seed: of all changes.

    Returns:
        The batch with other crops and K_crop.
    """
    torch.manual_seed(seed)  # kornia draws from the global generator
    images = _bad_camera()(batch["crop"].float().div(255))
    errors = _MISCALIBRATION * torch.randn(len(images), 3).to(batch["K_crop"])
    K_crop = miscalibrated(batch["K_crop"], images.shape[-1], errors)
    return batch | {"crop": images.mul(255).round().byte(), "K_crop": K_crop}


@cache
def _bad_camera() -> nn.Module:
    return make_augmentation(AugmentationConfig(exposure=_EXPOSURE))
