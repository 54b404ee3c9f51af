"""Checkpoints of a run: at intervals, after every validation, and on a signal to stop."""

import os
import shutil
import signal
import time
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Checkpoint

from training.cli import Interrupted

INTERVAL = 120.0
"""Seconds of training between checkpoints: what a kill can cost."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Checkpoints(Checkpoint):
    """Keeps the latest state of a training in a file that is complete at any time.

    SIGINT and SIGTERM end the training with `Interrupted` after the current step, or after the
    validation where one runs. The same signal again ends the process at once.

    Args:
        directory: of the files.
        watched: metric whose highest validation is kept too; None for none.
    """

    def __init__(self, directory: Path, watched: str | None):
        self.last, self.best = directory / "last.ckpt", directory / "best.ckpt"
        self._watched = watched
        self._highest = float("-inf")
        self._saved = time.monotonic()
        self._signal = 0

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Listen to signals; Lightning restores the former handlers in the end."""
        self._saved = time.monotonic()
        for number in _SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, _) -> None:
        self._signal = number
        signal.signal(number, signal.SIG_DFL)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_) -> None:
        """Save from time to time; not before a validation, which a resumed run would miss."""
        if trainer.global_step % trainer.val_check_interval == 0 or trainer.should_stop:
            return
        due = time.monotonic() - self._saved >= INTERVAL
        if _any_process(trainer, due or self._signal > 0):
            self._save(trainer)
            self._stop_if_told(trainer)

    def on_validation_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Save after a validation."""
        value = float(trainer.callback_metrics[self._watched]) if self._watched else self._highest
        better = value > self._highest
        self._highest = max(value, self._highest)
        self._save(trainer, better)
        self._stop_if_told(trainer)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Save after the last step."""
        self._save(trainer)

    def _save(self, trainer: lightning.Trainer, best: bool = False) -> None:
        """Write beside, then rename."""
        partial = self.last.with_suffix(".partial")
        trainer.save_checkpoint(partial, weights_only=False)
        if trainer.is_global_zero:
            if best:  # first: the latest knows that it is there
                copy = self.best.with_suffix(".copy")
                shutil.copyfile(partial, copy)
                os.replace(copy, self.best)
            os.replace(partial, self.last)
        self._saved = time.monotonic()

    def _stop_if_told(self, trainer: lightning.Trainer) -> None:
        if _any_process(trainer, self._signal > 0):
            raise Interrupted(self._signal or signal.SIGTERM, trainer.global_step)

    def state_dict(self) -> dict[str, float]:
        """Return the state for the checkpoint."""
        return {"highest": self._highest}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Restore the state from a checkpoint."""
        self._highest = state_dict["highest"]


def _any_process(trainer: lightning.Trainer, decision: bool) -> bool:
    """Tell whether at least one of the training's processes says so; all of them get the answer."""
    return trainer.strategy.reduce_boolean_decision(decision, all=False)
