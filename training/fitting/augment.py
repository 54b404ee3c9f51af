"""Augmentation of the crops, with kornia on the batch's device."""

from kornia import augmentation as K
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
    return _Clamped(K.AugmentationSequential(*steps))


class _Clamped(nn.Module):
    """Keeps the result in [0, 1]: sharpening and noise leave it."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, crops: Tensor) -> Tensor:
        return self.inner(crops).clamp(0, 1)
