"""Settings of a training run and its presets. Every field is a flag of `training.train`."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.network.config import Architecture

LOW_DATA_TRAIN, LOW_DATA_VALIDATION = 9_500, 500
"""SYMSOL's low-data regime: the first training images, and those after them that select a model."""


@dataclass(frozen=True)
class NetworkConfig(Architecture):
    """Architecture of the network and the weights to start from.

    Attributes:
        backbone: "resnet18", "resnet50", "efficientnet-lite0", "resnet18-slim" or a hub id.
        pretrained: start from published weights if available.
        start_from: bundle whose encoder and decoder are the start, and, if it is of the same
            object, those layers of its heads that have the same shape; then its named features
            are kept, too. "" for none.
        keypoints: "fps" (farthest points on the surface), "box" (corners of two cubes, needs no
            mesh) or "none" (an image vector; rotations only).
        n_keypoints: number of farthest points.
        crop_padding: side of the crops over the projected diameter; 0 for the data set's own.
    """

    backbone: str = "resnet18"
    pretrained: bool = True
    start_from: str = ""
    keypoints: Literal["fps", "box", "none"] = "fps"
    n_keypoints: int = 16
    crop_padding: float = 0.0


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the objective; the defaults are the paper's for SE(3).

    Attributes:
        n_samples: families per level with importance sampling (64 evaluations each, 8 where only
            rotations are searched), or poses per level without.
        importance_sampling: off draws the negatives uniformly.
        sampling: how families are chosen with importance sampling: "independent" is the paper,
            "distinct" has less bias and variance.
        rotation_offset: random rotation of the SO(3) grid per sample.
        translation_offset: random shift of the translation grid per sample; the base grid grows
            from 2^3 to 3^3 positions to keep the box covered.
        last_level_only: train only the finest level, with uniform negatives: for an exhaustive
            search of it, after Implicit-PDF (Murphy et al., ICML 2021).
    """

    n_samples: int = 32
    importance_sampling: bool = True
    sampling: Literal["independent", "distinct"] = "independent"
    rotation_offset: bool = True
    translation_offset: bool = True
    last_level_only: bool = False

    def __post_init__(self):
        if self.last_level_only and self.importance_sampling:
            raise InputError("last_level_only needs importance_sampling off: nothing proposes")
        if self.importance_sampling and self.sampling == "distinct" and self.n_samples < 2:
            raise InputError("distinct sampling needs n_samples >= 2: one is the truth's")

    @property
    def positions_per_axis(self) -> int:
        """Of the base level's translation grid."""
        return 3 if self.translation_offset else 2


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser, schedule and numerics.

    Attributes:
        max_steps: optimiser steps; 0 where the hours decide.
        hours: that the training takes, whatever the machine's speed: core-hours on processors,
            hours on a GPU (see `training.fitting.clock`); 0 where max_steps decides. The schedule
            follows the clock, so such a run is not repeated, nor resumed, bit by bit.
        batch_size: images per step and process.
        lr: peak learning rate of AdamW.
        encoder_lr: of the encoder, relative to lr.
        weight_decay: of AdamW.
        warmup_steps: linear warm-up of a training by steps.
        warmup_share: linear warm-up of a training by hours, share of its time.
        gradient_clip: largest gradient norm; 0 is off.
        ema: decay of the running average of the weights that is validated and exported; 0 is off.
        surface_weight: of the auxiliary loss that reads the visible surface's object coordinates
            from the feature map; 0 is the paper.
        steps_per_epoch: validation and checkpoint after so many steps, or at the end of a shorter
            training.
        patience: stop after so many validations without a better last level, and export the best;
            0 is off.
        precision: "auto" multiplies in bfloat16 where that is fast and else in float32; or as
            Lightning names it, e.g. "32-true", "bf16-mixed", "16-mixed".
    """

    max_steps: int = 50_000
    hours: float = 0.0
    batch_size: int = 4
    lr: float = 1e-4
    encoder_lr: float = 1.0
    weight_decay: float = 0.0
    warmup_steps: int = 1000
    warmup_share: float = 0.02
    gradient_clip: float = 0.0
    ema: float = 0.0
    surface_weight: float = 0.0
    steps_per_epoch: int = 1000
    patience: int = 0
    precision: str = "32-true"

    def __post_init__(self):
        if (self.max_steps > 0) == (self.hours > 0):
            raise InputError("either max_steps or hours end a training: give one of them")


@dataclass(frozen=True)
class AugmentationConfig:
    """Augmentation of the crops on the batch's device; not applied to `shapes` and SYMSOL.

    Attributes:
        image_augmentations: on or off as a whole.
        cj_p: share of the crops whose colours are jittered.
        cj_brightness: largest relative change of brightness.
        cj_contrast: of contrast.
        cj_saturation: of saturation.
        cj_hue: of hue, in turns.
        sensor: blur, noise, mosaic artefacts, sharpening and local contrast, as a bad camera has
            them.
        erase: share of the crops with erased patches.
        exposure: share of the crops that a camera with wrong settings takes.
    """

    image_augmentations: bool = True
    cj_p: float = 1.0
    cj_brightness: float = 0.5
    cj_contrast: float = 0.5
    cj_saturation: float = 0.5
    cj_hue: float = 0.1
    sensor: bool = True
    erase: float = 0.5
    exposure: float = 0.0


@dataclass(frozen=True)
class DataConfig:
    """Images.

    Attributes:
        detector_noise: "boxes" simulates a detector (noisy tight box of the visible mask),
            "measured" likewise with the errors of a real one, "paper" draws a truncated Gaussian
            offset around the truth.
        detector: run id or bundle of the detector whose errors are "measured".
        max_roll: largest in-plane turn of a training crop, degrees; 180 is the paper.
        views: of rendered objects: "upright" ones, seen from the side or above, or "uniform" over
            SO(3).
        zoom: largest random change of a training crop's scale, and of its middle in crop sides,
            that the box does not tell; 0 is the paper.
        painted: share of rendered objects whose surface is painted at random.
        harsh: share of rendered objects in harsh, coloured light.
        miscalibration: how wrong the calibration of a rendered crop is, standard deviation of its
            scale, as a logarithm, and of its position, crop sides.
        photographs: folder of labelled photographs, of `training.label_photographs`, that are mixed
            into the renderings; "" for none.
        photographs_share: of the training crops.
        low_data_regime: the first 10,000 images of SYMSOL: 9,500 to train, 500 to validate.
        data_root: where the data sets lie.
        num_workers: loader processes.
        validation_images: watched during training.
    """

    detector_noise: Literal["boxes", "measured", "paper"] = "boxes"
    detector: str = ""
    max_roll: float = 180.0
    views: Literal["upright", "uniform"] = "upright"
    zoom: float = 0.0
    painted: float = 0.0
    harsh: float = 0.0
    miscalibration: float = 0.0
    photographs: str = ""
    photographs_share: float = 0.4
    low_data_regime: bool = False
    data_root: str = "data"
    num_workers: int = 10
    validation_images: int = 64


@dataclass(frozen=True)
class BopOptions:
    """Which images of a data set are used; the defaults are the paper's.

    Attributes:
        train_split: folder of the training images; None for train_pbr, train or train_*.
        train_scenes: first and last training scene; None for all but the validation scenes.
        validation_scenes: of the training split; None for its last two, or for the last 5 % of its
            images if it has fewer than four scenes.
        test_split: folder of the test images; None for test* with public poses, or else val*.
        test_scenes: first and last; None for all.
        camera: whose images to take where scenes have several cameras.
        min_visible: least visible share of the object's silhouette.
        min_pixels: least number of visible pixels.
    """

    train_split: str | None = None
    train_scenes: tuple[int, int] | None = None
    validation_scenes: tuple[int, int] | None = None
    test_split: str | None = None
    test_scenes: tuple[int, int] | None = None
    camera: str | None = None
    min_visible: float = 0.1
    min_pixels: int = 1024


PAPER_BOP = BopOptions()


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines a run, apart from its data set and object.

    Attributes:
        network: architecture.
        objective: loss.
        optim: optimiser.
        augmentation: of the crops.
        data: images.
        bop: which images of a BOP data set.
        seed: of weights, images and sampling.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    data: DataConfig = field(default_factory=DataConfig)
    bop: BopOptions = field(default_factory=BopOptions)
    seed: int = 0

    def to_flat(self) -> dict:
        """Return plain values by field name, for YAML, JSON and flags."""
        flat: dict[str, Any] = {}
        for part in PARTS:
            flat |= asdict(getattr(self, part))
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in flat.items()}
        return plain | {"seed": self.seed}

    @classmethod
    def from_flat(cls, values: dict) -> "TrainConfig":
        """Read what `to_flat` gives.

        Args:
            values: plain values by field name; what is missing has the paper's value.

        Returns:
            The settings.

        Raises:
            InputError: unknown names.
        """
        values = {name: value for name, value in values.items() if name not in _RETIRED}
        parts = {}
        for part, kind in PARTS.items():
            known = {f.name for f in fields(kind)} & values.keys()
            given = {name: values.pop(name) for name in known}
            parts[part] = kind(
                **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
            )
        seed = values.pop("seed", 0)
        if values:
            raise InputError(f"unknown settings: {', '.join(sorted(values))}")
        return cls(**parts, seed=seed)


PARTS = {
    "network": NetworkConfig,
    "objective": ObjectiveConfig,
    "optim": OptimConfig,
    "augmentation": AugmentationConfig,
    "data": DataConfig,
    "bop": BopOptions,
}
"""The settings that are classes of their own."""

_RETIRED = frozenset({"channels_last", "compile"})
"""Former settings, in the records of earlier runs and bundles; they change no result."""

_PAPER = TrainConfig(data=DataConfig(detector_noise="paper"))

_DEFAULT = TrainConfig(
    network=NetworkConfig(
        backbone="efficientnet-lite0",
        n_keypoints=12,
        depth=6,
        crop_resolution=96,
        feature_stride=4,
        decoder_channels=(96, 48),
        feature_channels=48,
        embed_dim=16,
        hidden_dim=96,
        hidden_layers=2,
        dropout=0.0,
        point_dropout=0.0,
    ),
    # From level 2 on, 6 distinct families estimate log Z better than 48 independent ones.
    objective=replace(_PAPER.objective, n_samples=6, sampling="distinct", translation_offset=False),
    optim=OptimConfig(
        max_steps=2000,
        batch_size=16,
        lr=1e-3,
        encoder_lr=0.3,
        weight_decay=1e-2,
        warmup_steps=200,
        gradient_clip=5.0,
        surface_weight=2.0,
        steps_per_epoch=200,
        precision="auto",
    ),
    augmentation=AugmentationConfig(
        cj_p=0.8,
        cj_brightness=0.3,
        cj_contrast=0.3,
        cj_saturation=0.3,
        cj_hue=0.03,
        sensor=False,
        erase=0.2,
    ),
    data=DataConfig(max_roll=0.0, num_workers=1),
)

# A family of rotations has 8 children, not 64; so there can be more families.
_ROTATIONS = replace(
    _DEFAULT,
    objective=replace(_DEFAULT.objective, n_samples=16),
    optim=replace(_DEFAULT.optim, lr=2e-3),
)

PRESETS = {"paper": _PAPER, "default": _DEFAULT, "rotations": _ROTATIONS}
"""paper: the published settings. default: what pays on two CPU cores in about an hour; rotations:
the same for `shapes` and SYMSOL, where translations are known."""
