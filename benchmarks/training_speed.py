"""Steps per second of the training, before and after: `python -m benchmarks.training_speed ...`.

Arguments are those of `training.train`. The plain twin (`benchmarks.plain_training`) and the
training take turns in one process, from the same weights, on the same batches and random numbers;
the loss curves must be the same up to rounding.
"""

import logging
import time
from dataclasses import dataclass, field

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from benchmarks.plain_training import PlainModule
from training import provenance
from training.config import TrainConfig
from training.data.source import Source
from training.data.streams import TRAIN, item_generator
from training.fit import build_model, crop_settings, make_module, object_info
from training.module import PoseModule
from training.train import parse_args, settings_of, source_of

WARM_UP, MEASURED, ROUNDS = 2, 4, 6
"""Steps of a turn before the clock starts and while it runs; turns of each."""

BEFORE, AFTER = "before", "after"


@dataclass
class Steps(lightning.Callback):
    """What the steps of one variant took and lost, over all its turns.

    Attributes:
        seconds: of every step after the warm-up, turn by turn.
        losses: of the steps of one turn.
    """

    seconds: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def on_train_start(self, *_args) -> None:
        """Every turn starts from the same weights."""
        self.losses = []
        self.seconds.append([])

    def on_train_batch_start(self, *_args) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_args) -> None:
        """Stop the clock."""
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        if trainer.global_step > WARM_UP:
            self.seconds[-1].append(time.perf_counter() - self._started)
        self.losses.append(float(trainer.callback_metrics["train/loss"]))


def compare(
    source: Source, config: TrainConfig, accelerator: str = "auto"
) -> tuple[dict[str, Steps], str]:
    """Train for some steps in both ways, in turns, and throw the results away.

    Args:
        source: data set and object.
        config: settings.
        accelerator: as Lightning names it.

    Returns:
        What the steps took, by name (`BEFORE`, `AFTER`), and the device.
    """
    crop = crop_settings(config, source, training=True)
    items, composer = source.training_items(crop), source.composer(crop)
    size, count = config.optim.batch_size, WARM_UP + MEASURED
    drawn = [items.item(i, item_generator(config.seed, TRAIN, i)) for i in range(2 * size)]
    batches = [composer(default_collate(part)) for part in (drawn[:size], drawn[size:])]
    steps = {BEFORE: Steps(), AFTER: Steps()}
    turns = [(BEFORE, PlainModule), (AFTER, PoseModule)]
    for _ in range(ROUNDS):
        turns.reverse()  # whoever goes first has the colder machine
        for name, kind in turns:
            trainer = lightning.Trainer(
                accelerator=accelerator,
                devices=1,
                precision=config.optim.precision,
                max_steps=count,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[steps[name]],
            )
            lightning.seed_everything(config.seed, verbose=False)
            info = object_info(source, config.network)
            module = make_module(build_model(config.network, info, source), info, source, config)
            module.__class__ = kind
            trainer.fit(module, DataLoader(batches * (count // 2), batch_size=None))
    return steps, str(trainer.strategy.root_device)


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.WARNING)
    args = parse_args()
    config = settings_of(args)
    source = source_of(args, config)
    steps, device = compare(source, config, args.accelerator)
    threads = torch.get_num_threads()
    print(f"{source.name}, {threads} threads, {provenance.hardware(device)}")
    seconds = {name: np.array(found.seconds) for name, found in steps.items()}  # [rounds, steps]
    for name, values in seconds.items():
        print(f"{name:7} {1 / np.median(values):.2f} steps/s, fastest {1 / values.min():.2f}")
    ratios = np.median(seconds[BEFORE], 1) / np.median(seconds[AFTER], 1)
    print(f"ratio   {np.median(ratios):.2f}, by round {ratios.min():.2f} to {ratios.max():.2f}")
    before, after = (np.array(steps[name].losses) for name in (BEFORE, AFTER))
    print(
        f"loss    {before[-1]:.4f} before, {after[-1]:.4f} after, in step {len(after)}; "
        f"largest difference of a step {np.abs(before - after).max():.1e}"
    )


if __name__ == "__main__":
    main()
