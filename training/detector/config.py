"""Settings of a detector's training."""

from dataclasses import asdict, dataclass
from typing import Literal

from training.config import DataConfig, OptimConfig

MIN_VISIBLE = 0.2
"""Share of an object that must be visible for it to count."""

_DECAY = 1e-3
_CLIP = 35.0
_WARMUP = 0.05


@dataclass(frozen=True)
class DetectorConfig:
    """Images, optimiser and schedule.

    Attributes:
        max_steps: optimiser steps; 0 where the hours decide.
        hours: that the training takes, see `training.config.OptimConfig`.
        batch_size: images per step.
        lr: peak learning rate of AdamW.
        steps_per_epoch: validation and checkpoint after so many steps.
        precision: see `training.config.OptimConfig`.
        start_from: detector whose weights are the start; those of its classes too, if it has the
            same.
        side: images are scaled so that their longer side has this many pixels.
        views: "upright" objects, seen from the side or above, or "uniform" over SO(3); a set of
            `training.generate_data` is seen as it was generated.
        painted: share of the objects whose surface is painted at random.
        data_root: where the data sets lie.
        num_workers: loader processes.
        validation_images: watched during training.
        calibration_images: that the scores are calibrated on afterwards.
        seed: of weights and images.
    """

    max_steps: int = 2500
    hours: float = 0.0
    batch_size: int = 8
    lr: float = 8e-4
    steps_per_epoch: int = 250
    precision: str = "auto"
    start_from: str = "models/nanodet_coco"
    side: int = 416
    views: Literal["upright", "uniform"] = "upright"
    painted: float = 0.0
    data_root: str = "data"
    num_workers: int = 1
    validation_images: int = 64
    calibration_images: int = 300
    seed: int = 0

    @property
    def optim(self) -> OptimConfig:
        """The part that every training has."""
        return OptimConfig(
            max_steps=self.max_steps,
            hours=self.hours,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=_DECAY,
            warmup_steps=round(_WARMUP * self.max_steps),
            warmup_share=_WARMUP,
            gradient_clip=_CLIP,
            steps_per_epoch=self.steps_per_epoch,
            precision=self.precision,
        )

    @property
    def data(self) -> DataConfig:
        """How items are loaded."""
        return DataConfig(num_workers=self.num_workers, validation_images=self.validation_images)

    def to_flat(self) -> dict:
        """Return plain values by field name."""
        return asdict(self)
