"""Image encoder and U-Net decoder: a crop in, a feature map out.

The default is the paper's ResNet-18 U-Net (Haugaard et al., ICCVW 2023); its decoder here takes any
list of taps, so other backbones and coarser feature maps need no other code. ResNet and
EfficientNet-Lite are built here; `transformers`, which takes seconds to import, for other families
and for weights from the hub.
"""

import logging

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.network import efficientnet_lite
from spyropose_ros.core.network.efficientnet_lite import EfficientNetLite
from spyropose_ros.core.network.resnet import ResNet

log = logging.getLogger(__name__)

_RESNET18 = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 64,
    "hidden_sizes": [64, 128, 256, 512],
    "depths": [2, 2, 2, 2],
}
NAMED_BACKBONES: dict[str, tuple[str | None, dict]] = {
    "resnet18": ("microsoft/resnet-18", _RESNET18),
    "resnet50": (
        "microsoft/resnet-50",
        _RESNET18
        | {
            "layer_type": "bottleneck",
            "hidden_sizes": [256, 512, 1024, 2048],
            "depths": [3, 4, 6, 3],
        },
    ),
    # For CPUs, with published weights: EfficientNet-Lite0 up to stride 16.
    "efficientnet-lite0": (
        efficientnet_lite.PACKAGE,
        {"model_type": "efficientnet_lite", "stages": 5, "frozen_stages": 1},
    ),
    # For CPUs: no published weights.
    "resnet18-slim": (
        None,
        _RESNET18 | {"embedding_size": 32, "hidden_sizes": [32, 64, 128, 192]},
    ),
}
"""Short name -> (where pretrained weights are: hub id, package or None; architecture)."""

_FAMILIES = {"resnet": ResNet, "efficientnet_lite": EfficientNetLite}  # the others: `transformers`


def resolve_backbone(name: str, pretrained: bool = True) -> tuple[dict, dict | None]:
    """Look up an architecture and, if available, its pretrained weights.

    Args:
        name: a key of `NAMED_BACKBONES` or a hub id that `AutoBackbone` knows.
        pretrained: whether to look for weights.

    Returns:
        The architecture for `ModelConfig.backbone` and a state dict or None.

    Raises:
        InputError: if the name is neither built in nor available from the hub.
    """
    source: str | None = name
    architecture: dict | None = None
    if name in NAMED_BACKBONES:
        source, architecture = NAMED_BACKBONES[name]
    if source is not None and (pretrained or architecture is None):
        try:
            if architecture is not None and source == efficientnet_lite.PACKAGE:
                return architecture, efficientnet_lite.published_weights(architecture["stages"])
            from transformers import AutoBackbone

            backbone = AutoBackbone.from_pretrained(source)
            return backbone.config.to_diff_dict(), backbone.state_dict()
        except Exception as error:  # the hub's HTTP client has errors of its own
            if architecture is None:
                known = ", ".join(NAMED_BACKBONES)
                raise InputError(
                    f"backbone '{name}' is not built in ({known}) and the hub did not provide it: "
                    f"{error}"
                ) from error
            log.warning("no pretrained weights for %s, from scratch: %s", name, error)
    assert architecture is not None  # a name without one comes from the hub, or not at all
    return architecture, None


class Encoder(nn.Module):
    """Taps of a backbone, fine to coarse, one for each resolution.

    For a ResNet they include the stem at half resolution.

    Args:
        architecture: `transformers` configuration with its model_type.

    Raises:
        InputError: for an unknown model_type or unsupported options of a ResNet.
        TypeError: for unknown options of an EfficientNet-Lite.
    """

    def __init__(self, architecture: dict):
        super().__init__()
        options = dict(architecture)
        family = options.pop("model_type")
        if family in _FAMILIES:
            self.backbone = _FAMILIES[family](**options)
            self.width = self.backbone.width  # channels of the coarsest tap
        else:
            self.backbone = _from_transformers(family, options)
            self.width = self.backbone.channels[-1]
        # Of images in [0, 1]; the paper's unless the backbone has its own.
        self.image_mean = getattr(self.backbone, "image_mean", 0.5)
        self.image_std = getattr(self.backbone, "image_std", 0.2)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode images [B, 3, H, W] in [0, 1] as taps [B, C_i, H_i, W_i], fine to coarse."""
        maps = self.backbone((image - self.image_mean) / self.image_std)
        maps = getattr(maps, "feature_maps", maps)  # as `transformers` wraps them
        return list({tap.shape[-1]: tap for tap in maps}.values())  # the last of each size


def _from_transformers(family: str, options: dict) -> nn.Module:
    """Make a backbone of another family, with fresh weights."""
    from transformers import AutoBackbone, AutoConfig

    config = AutoConfig.for_model(family, **options)
    config.out_features = config.stage_names[1:]
    return AutoBackbone.from_config(config)


class FeatureExtractor(nn.Module):
    """Encoder and decoder.

    Args:
        architecture: of the encoder.
        decoder_channels: of the decoder's steps, coarse to fine, then of the final convolutions;
            steps finer than the feature map are not built.
        feature_channels: of the feature map.
        resolution: side of the crops.
        stride: of the feature map; 1 as in the paper, 2 or 4 for speed.
    """

    def __init__(
        self,
        architecture: dict,
        decoder_channels: tuple[int, ...],
        feature_channels: int,
        resolution: int,
        stride: int,
    ):
        super().__init__()
        self.encoder = Encoder(architecture)
        self.size = resolution // stride
        with torch.no_grad():  # tap sizes differ between families: look instead of a table
            self.encoder.eval()
            taps = self.encoder(torch.zeros(1, 3, resolution, resolution))
            self.encoder.train()
        channels = [tap.shape[1] for tap in taps if tap.shape[-1] <= self.size]
        self.finest = len(taps) - len(channels)  # taps finer than the feature map are skipped
        self.taps = nn.ModuleList(nn.Conv2d(c, c, 1) for c in channels)
        steps, width = [], channels[-1]
        for skip, out in zip(reversed(channels[:-1]), decoder_channels, strict=False):
            steps.append(nn.Conv2d(width + skip, out, 3, padding=1))
            width = out
        self.steps = nn.ModuleList(steps)
        self.final = nn.Conv2d(width, feature_channels, 3, padding=1)
        self.out = nn.Conv2d(feature_channels, feature_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, 3, H, W] in [0, 1] to [B, feature_channels, H / stride, W / stride]."""
        taps = self.encoder(image)[self.finest :]
        taps = [F.relu(conv(tap)) for conv, tap in zip(self.taps, taps, strict=True)]
        x = taps.pop()
        for step in self.steps:
            skip = taps.pop()
            x = F.relu(step(torch.cat((_resize(x, skip.shape[-1]), skip), 1)))
        return self.out(F.relu(self.final(_resize(x, self.size))))


def _resize(x: Tensor, size: int) -> Tensor:
    """Resize bilinearly to size x size."""
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)
