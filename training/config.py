"""Settings of a training run and its presets."""

from dataclasses import dataclass, field, replace

from training.objective import ObjectiveConfig


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture by name; see `spyropose_ros.core.model.ModelConfig` for the meanings.

    Attributes:
        backbone: "resnet18", "resnet50", "resnet18-slim" or a hub id.
        pretrained: start from published weights when the hub is reachable.
        start_from: bundle whose encoder and decoder are the start, and whose heads if it is of the same
            object; "" for none.
        keypoints: "fps" (farthest points on the surface) or "box".
        n_keypoints: number of farthest points.
    """

    backbone: str = "resnet18"
    pretrained: bool = True
    start_from: str = ""
    keypoints: str = "fps"
    n_keypoints: int = 16
    depth: int = 7
    crop_resolution: int = 224
    feature_stride: int = 1
    decoder_channels: tuple[int, ...] = (512, 256, 256, 128)
    feature_channels: int = 128
    embed_dim: int = 64
    hidden_dim: int = 256
    hidden_layers: int = 3
    dropout: float = 0.1
    point_dropout: float = 0.1
    batchnorm: bool = False
    crop_padding: float = 1.5


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule.

    Attributes:
        max_steps: optimiser steps.
        batch_size: images per step.
        lr: peak learning rate of AdamW.
        encoder_lr: learning rate of the encoder in units of lr; below 1 for pretrained weights.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up.
        gradient_clip: largest gradient norm; 0 is off.
        augment: colour jitter and erasing of the crops.
        surface_weight: of the auxiliary loss that reads the visible surface's object coordinates
            from the feature map; 0 is the paper.
        steps_per_epoch: validation and checkpoint after so many steps.
    """

    max_steps: int = 50_000
    batch_size: int = 4
    lr: float = 1e-4
    encoder_lr: float = 1.0
    weight_decay: float = 0.0
    warmup_steps: int = 1000
    gradient_clip: float = 0.0
    augment: bool = True
    surface_weight: float = 0.0
    steps_per_epoch: int = 1000


@dataclass(frozen=True)
class DataConfig:
    """Images.

    Attributes:
        detector_noise: "boxes" simulates a detector (noisy tight box of the visible mask), "paper"
            draws a truncated Gaussian offset around the truth.
        max_roll: largest in-plane turn of a training crop, degrees; 180 is the paper.
        data_root: where downloaded data sets lie.
        num_workers: loader processes.
        validation_images: held out by seed.
    """

    detector_noise: str = "boxes"
    max_roll: float = 180.0
    data_root: str = "data"
    num_workers: int = 1
    validation_images: int = 64


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines a run.

    Attributes:
        network: architecture.
        objective: loss.
        optim: optimiser.
        data: images.
        seed: of weights, images and sampling.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    seed: int = 0


_PAPER = TrainConfig()

_SMALL = TrainConfig(
    network=NetworkConfig(
        backbone="resnet18-slim",
        n_keypoints=12,
        depth=6,
        crop_resolution=96,
        feature_stride=4,
        decoder_channels=(128, 96, 64),
        feature_channels=64,
        embed_dim=16,
        hidden_dim=128,
        hidden_layers=2,
        dropout=0.0,
        point_dropout=0.0,
    ),
    objective=replace(_PAPER.objective, n_samples=4, translation_offset=False),
    optim=OptimConfig(
        max_steps=2600,
        batch_size=16,
        lr=1e-3,
        weight_decay=1e-2,
        warmup_steps=200,
        gradient_clip=5.0,
        surface_weight=2.0,
        steps_per_epoch=200,
    ),
    data=DataConfig(max_roll=20.0),
)

_PHOTOGRAPHS = replace(
    _SMALL,
    network=replace(
        _SMALL.network,
        backbone="efficientnet-lite0",
        decoder_channels=(96, 48),
        feature_channels=48,
        hidden_dim=96,
    ),
    objective=replace(_SMALL.objective, n_samples=3),
    optim=replace(_SMALL.optim, encoder_lr=0.3),
    data=replace(_SMALL.data, max_roll=0.0),
)

PRESETS = {"paper": _PAPER, "small": _SMALL, "photographs": _PHOTOGRAPHS}
"""paper: the published settings. small: two CPU cores, under two hours."""
