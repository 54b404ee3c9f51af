"""The clock of `benchmarks.training.training_speed`."""

from collections.abc import Callable
from dataclasses import dataclass, field

import lightning
import torch

WARM_UP = 2
"""Steps of a turn before the clock starts."""


@dataclass
class Steps(lightning.Callback):
    """What the steps of one variant took and lost, over all its turns.

    Attributes:
        now: gives the time, seconds.
        seconds: of every step after the warm-up, turn by turn.
        losses: of the steps of one turn.
    """

    now: Callable[[], float]
    seconds: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def on_train_start(self, *_args) -> None:
        """Every turn starts from the same weights."""
        self.losses = []
        self.seconds.append([])

    def on_train_batch_end(self, trainer: lightning.Trainer, *_args) -> None:
        """Read the clock."""
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        now = self.now()
        if trainer.global_step > WARM_UP:
            self.seconds[-1].append(now - self._before)
        self._before = now
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
