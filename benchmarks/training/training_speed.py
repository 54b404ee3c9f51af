"""Time the training against its plain twin: `python -m benchmarks.training.training_speed ...`.

Arguments are those of `training.train`. The twin (`benchmarks.training.plain_training`) and the
training take turns in one process, from the same weights, on the same batches and random numbers;
the loss curves must be the same up to rounding. On a CPU the seconds are those that the process
computes, so that others on the machine do not count; both include the making of the items.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from training import provenance
from training.config import TrainConfig
from training.fitting.memory import keep_freed_memory, return_freed_memory
from training.train import parse_args, settings_of, source_of

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.step_times import Steps
    from training.data.source import Source

MEASURED, ROUNDS = 4, 6
"""Steps of a turn while the clock runs; turns of each."""

BEFORE, AFTER = "before", "after"


def make_batches(
    source: Source, config: TrainConfig, now: Callable[[], float]
) -> tuple[list[dict[str, Tensor]], dict[str, float]]:
    """Two batches, and the seconds that an item of the second takes: before, and after."""
    from torch import nn
    from torch.utils.data import default_collate

    from benchmarks.training.plain_training import plain_items
    from training.data.streams import TRAIN, item_generator
    from training.fitting.assembly import crop_settings

    crop, size = crop_settings(config, source, training=True), config.optim.batch_size
    items, composer = source.training_items(crop), source.composer(crop)
    kinds = {BEFORE: (plain_items(source, crop), nn.Identity()), AFTER: (items, composer)}
    seconds = {}
    for name, (drawn_from, finish) in kinds.items():
        batches = []
        for first in (0, size):
            started = now()
            drawn = [
                drawn_from.item(i, item_generator(config.seed, TRAIN, i))
                for i in range(first, first + size)
            ]
            batches.append(finish(default_collate(drawn)))
            seconds[name] = (now() - started) / size
    return batches, seconds


def compare(
    source: Source,
    config: TrainConfig,
    batches: list[dict[str, Tensor]],
    now: Callable[[], float],
    accelerator: str,
    precision: str,
) -> tuple[dict[str, Steps], str]:
    """Train for some steps in both ways, in turns, and throw the results away.

    Args:
        source: data set and object.
        config: settings.
        batches: to train on, over and over.
        now: gives the time, seconds.
        accelerator: as Lightning names it.
        precision: of the steps after, likewise; those before are in float32.

    Returns:
        What the steps took, by name (`BEFORE`, `AFTER`), and the device.
    """
    import lightning
    from torch.utils.data import DataLoader

    from benchmarks.step_times import WARM_UP, Steps
    from benchmarks.training.plain_training import PlainModule
    from training.fitting.assembly import assemble
    from training.fitting.module import PoseModule

    count = WARM_UP + MEASURED
    steps = {BEFORE: Steps(now), AFTER: Steps(now)}
    turns = [
        (BEFORE, PlainModule, "32-true", return_freed_memory),
        (AFTER, PoseModule, precision, keep_freed_memory),
    ]
    for _ in range(ROUNDS):
        turns.reverse()  # whoever goes first has the colder machine
        for name, kind, multiplied, treat_memory in turns:
            treat_memory()
            trainer = lightning.Trainer(
                accelerator=accelerator,
                devices=1,
                precision=multiplied,
                max_steps=count,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[steps[name]],
            )
            lightning.seed_everything(config.seed, verbose=False)
            module = assemble(source, config).module
            module.__class__ = kind
            trainer.fit(module, DataLoader(batches * (count // len(batches)), batch_size=None))
    return steps, str(trainer.strategy.root_device)


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.WARNING)
    args = parse_args()

    import torch

    from training.fitting.precision import trainer_precision

    config = settings_of(args)
    source = source_of(args, config)
    on_gpu = args.accelerator != "cpu" and torch.cuda.is_available()
    now = time.perf_counter if on_gpu else time.process_time
    batches, items = make_batches(source, config, now)
    precision = trainer_precision(config.optim.precision, args.accelerator)
    steps, device = compare(source, config, batches, now, args.accelerator, precision)
    print(f"{source.name}, {precision} after, {provenance.hardware(device)}")
    print("ms per image, items included")
    size = config.optim.batch_size
    seconds = {name: np.array(found.seconds) / size for name, found in steps.items()}
    for name, values in seconds.items():  # [rounds, steps]
        total, item = np.median(values) + items[name], items[name]
        print(f"{name:7} {1e3 * total:.2f}, of it items {1e3 * item:.2f}")
    for title, rest in (("ratio", items), ("of step", dict.fromkeys(items, 0.0))):
        before, after = (np.median(seconds[k], 1) + rest[k] for k in (BEFORE, AFTER))
        ratios = before / after
        print(
            f"{title:7} {np.median(ratios):.2f}, by round {ratios.min():.2f} to {ratios.max():.2f}"
        )
    before, after = (np.array(steps[name].losses) for name in (BEFORE, AFTER))
    print(
        f"loss    {before[-1]:.4f} before, {after[-1]:.4f} after, in step {len(after)}; "
        f"largest difference of a step {np.abs(before - after).max():.1e}"
    )


if __name__ == "__main__":
    main()
