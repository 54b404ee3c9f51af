"""Augmentation of the crops, with kornia on the batch's device."""

import torch
from kornia import augmentation as K
from kornia.color import rgb_to_grayscale
from kornia.filters import box_blur
from torch import Tensor, nn

from training.config import AugmentationConfig


def make_augmentation(config: AugmentationConfig) -> nn.Module:
    """Make the published kinds of change, without the background, which stays.

    Args:
        config: settings.

    Returns:
        A module that maps float [B, 3, H, W] in [0, 1] to the same. It draws from PyTorch's global
        generators.

    Source: Haugaard et al., ICCVW 2023 (its list of changes).
    """
    if not config.image_augmentations:
        return nn.Identity()
    steps: list[K.IntensityAugmentationBase2D] = []
    if config.sensor:
        steps += [
            K.RandomGaussianBlur((3, 3), (0.4, 1.2), p=0.5),
            K.RandomGaussianNoise(std=0.03, p=0.5),
            K.RandomChannelShuffle(p=0.1),
            K.RandomSharpness((0.0, 2.0), p=0.5),
            K.RandomClahe((1.0, 3.0), (4, 4), p=0.25),
        ]
    if config.erase > 0:
        steps.append(K.RandomErasing((0.01, 0.06), p=config.erase, value=0.5))
    steps.append(
        K.ColorJitter(
            config.cj_brightness,
            config.cj_contrast,
            config.cj_saturation,
            config.cj_hue,
            p=config.cj_p,
        )
    )
    changes: list[nn.Module] = [_Clamped(K.AugmentationSequential(*steps))]
    if config.exposure > 0:
        changes.append(WrongExposure(config.exposure))
    return nn.Sequential(*changes)


class WrongExposure(nn.Module):
    """Changes brightness, contrast, saturation and sharpness beyond what a good camera does.

    Args:
        share: of the crops that are changed.

    Source: Labbé et al., CosyPose, ECCV 2020, for the kinds, their ranges and how often each is.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, crops: Tensor) -> Tensor:
        """Change crops, float [B, 3, H, W] in [0, 1]."""
        changed = crops
        for often, most, base in (
            (0.3, (0.0, 50.0), _smooth),
            (0.3, (0.2, 50.0), _mean_grey),
            (0.5, (0.1, 6.0), torch.zeros_like),
            (0.3, (0.0, 20.0), _grey),
        ):
            factor = torch.empty(len(crops), 1, 1, 1, device=crops.device).uniform_(*most)
            chosen = torch.rand_like(factor) < often * self.share
            other = base(changed)
            changed = torch.where(chosen, other + (changed - other) * factor, changed).clamp(0, 1)
        return changed


def _grey(crops: Tensor) -> Tensor:
    return rgb_to_grayscale(crops)


def _mean_grey(crops: Tensor) -> Tensor:
    return rgb_to_grayscale(crops).mean((2, 3), keepdim=True)


def _smooth(crops: Tensor) -> Tensor:
    return box_blur(crops, 3)


class _Clamped(nn.Module):
    """Keeps the result in [0, 1]: sharpening and noise leave it."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, crops: Tensor) -> Tensor:
        return self.inner(crops).clamp(0, 1)
