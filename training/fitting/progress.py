"""Progress of a training in one line, and nothing else on the terminal."""

import logging
import sys
import time
import warnings
from collections import deque
from typing import NamedTuple, cast

import lightning
from lightning.pytorch.callbacks import Callback

from training.console import PROGRESS
from training.fitting.clock import TrainingClock
from training.fitting.module import PoseModule

log = logging.getLogger(PROGRESS)

LOGGED = 60.0
"""Seconds between two lines of a log."""

_DRAWN = 1.0  # seconds between two readings
_SURE = 20.0  # seconds of readings that the time left is told from
_RECENT = 60  # readings that rates and losses are averaged over


class _Reading(NamedTuple):
    """The training at a moment.

    Attributes:
        time: monotonic, seconds.
        step: number of steps.
        share: of the training that is done.
        loss: of the latest step.
    """

    time: float
    step: int
    share: float
    loss: float


class Progress(Callback):
    """Shows a training in one line, which is redrawn on a terminal.

    The log gets the line after the first step, then once a minute, and every validation; `console`
    keeps these from a terminal.

    Args:
        clock: of a training by hours.
        steps: of a training by steps, 0 of one by hours.
        images: per step, of all processes.
    """

    def __init__(self, clock: TrainingClock, steps: int, images: int):
        self._clock = clock
        self._steps = steps
        self._images = images
        self._terminal = sys.stderr.isatty()
        self._recent: deque[_Reading] = deque(maxlen=_RECENT)
        self._logged = 0.0
        self._found = ""  # by the latest validation

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Begin; the first look is after a step, as what comes before takes other times."""
        self._recent.clear()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_) -> None:
        """Look again, if it is time."""
        now = time.monotonic()
        first = not self._recent
        if not trainer.is_global_zero or not (first or now - self._recent[-1].time >= _DRAWN):
            return
        self._recent.append(self._read(trainer))
        if self._terminal:
            print(f"\r{self._line()}\x1b[K", end="", file=sys.stderr, flush=True)
        if first or now - self._logged >= LOGGED:
            log.info(self._line())
            self._logged = now

    def on_validation_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Log what the validation has found, level by level."""
        metrics = trainer.callback_metrics
        if trainer.is_global_zero and "val/ll_gain" in metrics:
            self._found = f"LL {metrics['val/ll_gain']:.2f}"
            depth = cast(PoseModule, module).model.config.depth
            levels = [f"{metrics[f'val/ll_gain_{r}']:.2f}" for r in range(depth)]
            log.info("step %d: validation LL %s", trainer.global_step, " ".join(levels))
        if trainer.is_global_zero and "val/loss" in metrics:  # of a detector
            self._found = f"validation {metrics['val/loss']:.3f}"
            log.info("step %d: validation loss %.3f", trainer.global_step, metrics["val/loss"])

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Leave the last state on the screen."""
        self._end_line()

    def on_exception(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, error: BaseException
    ) -> None:
        """Leave the last state on the screen."""
        self._end_line()

    def _end_line(self) -> None:
        if self._terminal and self._recent:
            print(file=sys.stderr)

    def _read(self, trainer: lightning.Trainer) -> _Reading:
        step = trainer.global_step
        share = step / self._steps if self._steps else self._clock.share
        loss = float(trainer.callback_metrics.get("train/loss", float("nan")))
        return _Reading(time.monotonic(), step, share, loss)

    def _line(self) -> str:
        first, last = self._recent[0], self._recent[-1]
        seconds = last.time - first.time
        losses = [look.loss for look in self._recent if look.loss == look.loss]
        parts = [f"step {last.step}", f"{last.share:.1%}"]
        if seconds >= _SURE and last.share > first.share:
            left = (1 - last.share) * seconds / (last.share - first.share)
            parts.append(f"{_duration(left)} left")
        if seconds > 0:
            rate = (last.step - first.step) * self._images / seconds
            parts.append(f"{rate:.1f} images/s")
        if losses:
            parts.append(f"loss {sum(losses) / len(losses):.3f}")
        if self._found:
            parts.append(self._found)
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def silence_lightning() -> None:
    """Keep its news, tips and advice on loaders from the screen; its errors are raised anyway."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
