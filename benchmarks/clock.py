"""How long training steps take."""

from collections.abc import Callable

import lightning
import torch

WARM_UP, MEASURED = 3, 20
"""Steps before the clock starts, and while it runs."""


class Clock(lightning.Callback):
    """Seconds of the steps after the warm-up; train for WARM_UP + MEASURED steps.

    Args:
        now: gives the time, seconds.
    """

    def __init__(self, now: Callable[[], float]):
        self._now = now

    def on_train_batch_end(self, trainer: lightning.Trainer, *_args) -> None:
        """Start or stop."""
        if trainer.global_step not in (WARM_UP, WARM_UP + MEASURED):
            return
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        if trainer.global_step == WARM_UP:
            self._started = self._now()
        else:
            self.seconds = self._now() - self._started
