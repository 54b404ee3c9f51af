"""How fast training steps are."""

import logging
import time
import warnings
from dataclasses import replace

import lightning
import numpy as np
import torch
from torch.utils.data import default_collate

from benchmarks.bench.timing import Times
from spyropose_ros.core.bundle import ModelBundle
from training import runs
from training.config import TrainConfig
from training.data.source import Source
from training.fitting.assembly import assemble, crop_settings
from training.fitting.precision import trainer_precision

_STEPS, _QUICK_STEPS = 8, 2


def training_curve(
    bundle: ModelBundle,
    device: torch.device,
    samples: list[int],
    batch_sizes: list[int],
    quick: bool,
    data_root: str,
) -> dict[str, list[Times]]:
    """Time a step by batch size, for every number of families drawn per level.

    The settings are those that the network was trained with; its data is read once.

    Args:
        bundle: the network.
        device: where.
        samples: of the objective.
        batch_sizes: images in a step.
        quick: fewer steps.
        data_root: where data sets lie.
    """
    source = runs.bundle_source(bundle, data_root)
    config = TrainConfig.from_flat(bundle.record["config"])
    crop = crop_settings(config, source, training=True)
    items, composer = source.training_items(crop), source.composer(crop)
    generator = torch.Generator().manual_seed(0)
    seeds = torch.randint(1 << 31, (max(batch_sizes),), generator=generator).tolist()
    drawn = [items.item(n, np.random.default_rng(seed)) for n, seed in enumerate(seeds)]
    steps = _QUICK_STEPS if quick else _STEPS
    return {
        f"batch of {size}": [
            _steps(config, source, composer(default_collate(drawn[:size])), count, device, steps)
            for count in samples
        ]
        for size in batch_sizes
    }


class _Clock(lightning.Callback):
    """Times of the steps; the first two are a warm-up."""

    def __init__(self):
        self.marks: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *_args) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())


def _steps(
    config: TrainConfig, source: Source, batch: dict, samples: int, device: torch.device, steps: int
) -> Times:
    """Train for some steps and throw the result away."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    config = replace(config, objective=replace(config.objective, n_samples=samples))
    module = assemble(source, config).module
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    trainer = lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=trainer_precision(config.optim.precision, accelerator),
        max_steps=steps + 2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock := _Clock()],
    )
    same = torch.utils.data.DataLoader([batch] * (steps + 2), batch_size=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no validation, for one
        trainer.fit(module, same)
    marks = clock.marks[1:]
    return Times([end - begin for begin, end in zip(marks, marks[1:], strict=False)])
