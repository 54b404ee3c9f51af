"""Architecture of a model, as a bundle stores it."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from spyropose_ros.core.errors import InputError

SCORERS = ("keypoints", "vector")

_BOUNDS = {
    "depth": (1, 16),  # a cell's number has 64 bits
    "crop_resolution": (1, 2048),
    "feature_stride": (1, 64),
    "feature_channels": (1, 8192),
    "embed_dim": (1, 8192),
    "hidden_dim": (1, 8192),
    "hidden_layers": (0, 64),
    "fourier_components": (0, 32),
}
_PADDINGS = (0.5, 10.0)
_MOST_STEPS = 8
_WIDEST = 8192
"""Most channels of a decoder's step."""

_DEPTHS = ("depths", "num_hidden_layers", "num_layers", "num_stages", "stages")
_DEEPEST = 256
"""Most layers of a backbone, which each take time to build; its widths must fit the weights."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Settings that a training and the bundle it writes share. The defaults are the paper's.

    Attributes:
        depth: number of pyramid levels, each with its own head.
        crop_resolution: side of the crops, pixels.
        crop_padding: side of the crops over the projected diameter.
        feature_stride: crop pixels per feature-map pixel.
        decoder_channels: of the decoder's steps, coarse to fine.
        feature_channels: of the feature map.
        embed_dim: features per keypoint.
        hidden_dim: width of the heads' MLPs, and of the image vector.
        hidden_layers: hidden layers of each MLP.
        dropout: after each hidden layer of a keypoint head.
        point_dropout: probability that a keypoint's features are zeroed for a whole image.
        batchnorm: batch norm in the MLPs.
        fourier_components: octaves of the vector scorer's rotation encoding.
    """

    depth: int = 7
    crop_resolution: int = 224
    crop_padding: float = 1.5
    feature_stride: int = 1
    decoder_channels: tuple[int, ...] = (512, 256, 256, 128)
    feature_channels: int = 128
    embed_dim: int = 64
    hidden_dim: int = 256
    hidden_layers: int = 3
    dropout: float = 0.1
    point_dropout: float = 0.1
    batchnorm: bool = False
    fourier_components: int = 3

    def shared(self) -> dict[str, Any]:
        """Return the values of these fields alone, by name."""
        return {field.name: getattr(self, field.name) for field in fields(Architecture)}


@dataclass(frozen=True)
class ModelConfig(Architecture):
    """Architecture of a model.

    Attributes:
        backbone: `transformers` configuration of the encoder, with its model_type.
        scorer: "keypoints" reads a feature map where the pose puts the object's keypoints;
            "vector" adds an encoding of the rotation to one vector per image (rotations only).
        rotation_only: the translation is known, only the rotation is estimated.
    """

    backbone: dict
    scorer: str = "keypoints"
    rotation_only: bool = False

    def __post_init__(self) -> None:
        self._check_bounds()
        if self.scorer not in SCORERS:
            raise InputError(f"scorer must be one of {', '.join(SCORERS)}, got '{self.scorer}'")
        if self.scorer == "keypoints" and self.crop_resolution < 2 * self.feature_stride:
            raise InputError(
                f"a feature map needs two pixels a side: {self.crop_resolution} px at a stride of "
                f"{self.feature_stride} have one"
            )
        if self.scorer == "vector" and not self.rotation_only:
            raise InputError("the vector scorer sees no translation: it needs rotation_only")

    def _check_bounds(self) -> None:
        """Refuse sizes that no network has, before time and memory are spent on them."""
        named = {name: getattr(self, name) for name in _BOUNDS}
        for name, value in named.items():
            low, high = _BOUNDS[name]
            if type(value) is not int or not low <= value <= high:
                raise InputError(f"{name} must be a whole number from {low} to {high}, got {value}")
        channels = self.decoder_channels
        if not 1 <= len(channels) <= _MOST_STEPS or not all(map(_is_width, channels)):
            raise InputError(
                f"decoder_channels must be 1 to {_MOST_STEPS} numbers from 1 to {_WIDEST}, got "
                f"{str(channels)[:60]}"
            )
        least, most = _PADDINGS
        if not least <= self.crop_padding <= most:
            raise InputError(f"crop_padding must be {least:g} to {most:g}, got {self.crop_padding}")
        for name in ("dropout", "point_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be from 0 to below 1, got {getattr(self, name)}")
        _check_backbone(self.backbone)

    def to_dict(self) -> dict:
        """Return plain values for JSON; their order is part of a bundle's fingerprint."""
        shared = self.shared()
        own = {name: value for name, value in asdict(self).items() if name not in shared}
        return own | shared

    @classmethod
    def from_dict(cls, values: dict) -> "ModelConfig":
        """Read what `to_dict` gives; TypeError on unknown or missing keys."""
        return cls(**(values | {"decoder_channels": tuple(values["decoder_channels"])}))


def _is_width(value: object) -> bool:
    return type(value) is int and 1 <= value <= _WIDEST


def _check_backbone(backbone: dict) -> None:
    """Refuse what is no configuration, and numbers of layers beyond any network's."""
    if not isinstance(backbone, dict):
        raise InputError(f"backbone must be a configuration with its model_type, got {backbone}")
    for name in _DEPTHS:
        value = backbone.get(name, 0)
        layers = sum(value) + len(value) if isinstance(value, (list, tuple)) else value
        if not 0 <= layers <= _DEEPEST:
            raise InputError(f"{name} of the backbone must be up to {_DEEPEST} layers in all")
