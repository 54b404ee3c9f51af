"""ResNet encoder: images in, a feature map of every resolution out.

Parameters have the names that `transformers` gives them: stored bundles and published weights fit.

Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from spyropose_ros.core.errors import InputError

_FIXED = {"num_channels": 3, "hidden_act": "relu"}  # the only values a configuration may have
_REDUCTION = 4  # channels of a bottleneck over those of its 3x3 convolution


class ResNet(nn.Module):
    """Feature maps of the stem, at half resolution, and of all stages.

    The arguments are those that describe the network in `transformers`' ResNetConfig, with the
    defaults from there.

    Args:
        embedding_size: channels of the stem.
        hidden_sizes: channels of each stage.
        depths: blocks of each stage.
        layer_type: of the blocks: "basic", two 3x3 convolutions, or "bottleneck", a 3x3 one
            between two 1x1.
        downsample_in_first_stage: let the first stage halve the resolution as well.
        downsample_in_bottleneck: let the first convolution of a bottleneck do so, not the second.
        **others: the rest of a stored configuration, such as the names of its classes; ignored.

    Raises:
        InputError: for unsupported blocks, channels or activations.
    """

    def __init__(
        self,
        embedding_size: int = 64,
        hidden_sizes: Sequence[int] = (256, 512, 1024, 2048),
        depths: Sequence[int] = (3, 4, 6, 3),
        layer_type: str = "bottleneck",
        downsample_in_first_stage: bool = False,
        downsample_in_bottleneck: bool = False,
        **others: object,
    ):
        super().__init__()
        if layer_type not in ("basic", "bottleneck"):
            raise InputError(f"layer_type must be 'basic' or 'bottleneck', got {layer_type!r}")
        if not 0 < len(hidden_sizes) == len(depths):
            raise InputError(f"{len(hidden_sizes)} hidden_sizes need as many depths, got {depths}")
        for name, value in _FIXED.items():
            if others.get(name, value) != value:
                raise InputError(f"{name} of a ResNet must be {value!r}, got {others[name]!r}")
        stem = _convolution(3, embedding_size, 7, 2)
        self.embedder = nn.ModuleDict({"embedder": stem, "pooler": nn.MaxPool2d(3, 2, padding=1)})
        stages = nn.ModuleList()
        for number, (width, channels) in enumerate(pairwise((embedding_size, *hidden_sizes))):
            stride = 2 if number > 0 or downsample_in_first_stage else 1
            blocks = nn.Sequential()
            for _ in range(depths[number]):
                if layer_type == "basic":
                    layer = _basic(width, channels, stride)
                else:
                    layer = _bottleneck(width, channels, stride, downsample_in_bottleneck)
                blocks.append(Residual(layer, width, channels, stride))
                width, stride = channels, 1
            stages.append(nn.Sequential(OrderedDict(layers=blocks)))
        self.encoder = nn.ModuleDict({"stages": stages})
        self.width = hidden_sizes[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode normalised images [B, 3, H, W] as maps [B, C_i, H_i, W_i], fine to coarse."""
        stem = self.embedder["embedder"](image)
        maps, x = [stem], self.embedder["pooler"](stem)
        for stage in cast(nn.ModuleList, self.encoder["stages"]):
            x = stage(x)
            maps.append(x)
        return maps


class Residual(nn.Module):
    """Convolutions and a shortcut around them.

    Args:
        layer: the convolutions.
        channels_in: of the input.
        channels_out: of the output.
        stride: of the convolutions together.
    """

    def __init__(self, layer: nn.Sequential, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            self.shortcut = _convolution(channels_in, channels_out, 1, stride, activation=False)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels_in, H, W] to [B, channels_out, H / stride, W / stride]."""
        y = self.layer(x)
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


def _basic(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(channels_in, channels, 3, stride),
        _convolution(channels, channels, 3, activation=False),
    )


def _bottleneck(channels_in: int, channels: int, stride: int, early: bool) -> nn.Sequential:
    inner = channels // _REDUCTION
    return nn.Sequential(
        _convolution(channels_in, inner, 1, stride if early else 1),
        _convolution(inner, inner, 3, 1 if early else stride),
        _convolution(inner, channels, 1, activation=False),
    )


def _convolution(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, activation: bool = True
) -> nn.Sequential:
    """Make a convolution and its batch norm, with a ReLU behind them if asked for."""
    convolution = nn.Conv2d(
        channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False
    )
    layers = OrderedDict(convolution=convolution, normalization=nn.BatchNorm2d(channels_out))
    if activation:
        layers["activation"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)
