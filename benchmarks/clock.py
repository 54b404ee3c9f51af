"""How long training steps take."""

from collections.abc import Callable

import lightning
import torch

WARM_UP, MEASURED = 3, 20
"""Steps before the clock starts, and while it runs."""


def step_seconds(
    module: lightning.LightningModule,
    data: lightning.LightningDataModule | torch.utils.data.DataLoader,
    now: Callable[[], float],
    **options,
) -> tuple[float, str]:
    """Train for some steps and throw the result away.

    Args:
        module: to train.
        data: at least WARM_UP + MEASURED batches.
        now: gives the time, seconds.
        options: of Lightning's trainer.

    Returns:
        Seconds per step after the warm-up, and the device.
    """
    trainer = lightning.Trainer(
        max_steps=WARM_UP + MEASURED,
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock := _Clock(now)],
        **options,
    )
    trainer.fit(module, data)
    return clock.seconds / MEASURED, str(trainer.strategy.root_device)


class _Clock(lightning.Callback):
    """Seconds of the steps after the warm-up."""

    def __init__(self, now: Callable[[], float]):
        self._now = now

    def on_train_batch_end(self, trainer: lightning.Trainer, *_args) -> None:
        if trainer.global_step not in (WARM_UP, WARM_UP + MEASURED):
            return
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        if trainer.global_step == WARM_UP:
            self._started = self._now()
        else:
            self.seconds = self._now() - self._started
