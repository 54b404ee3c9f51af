"""The time that a training has taken over all its starts, and when to end it."""

import multiprocessing
import resource
import time
from typing import NamedTuple

import lightning
from lightning.pytorch.callbacks import Callback


class Seconds(NamedTuple):
    """Time taken.

    Attributes:
        wall: by the clock on the wall, seconds.
        core: of processors, by this process, all its threads and its loader processes, seconds.
    """

    wall: float
    core: float


def _now() -> Seconds:
    """Return the seconds since some moment in the past."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Linux numbers the processor clock of a process so; see clock_getcpuclockid(3).
    pids = [p.pid for p in multiprocessing.active_children() if p.pid is not None]
    running = (time.clock_gettime((~pid << 3) | 2) for pid in pids)
    core = time.process_time() + ended.ru_utime + ended.ru_stime + sum(running)
    return Seconds(time.monotonic(), core)


class TrainingClock(Callback):
    """Counts the time of a training and ends it when its hours are over.

    From the first step to now, validations and checkpoints included; nothing while the training
    does not run, and what a kill has lost counts once. On processors the hours are core-hours,
    which a busy machine leaves as they are; on a GPU, whose work no processor's clock shows, they
    are hours of the wall clock. Several processes follow the first one's clock.

    Args:
        hours: that the training may take; 0 for no end.

    Attributes:
        share: of the hours that had passed when the current step began, 0 to 1.
    """

    share: float

    def __init__(self, hours: float = 0.0):
        self._limit = 3600 * hours
        self._before = Seconds(0.0, 0.0)
        self._started: Seconds | None = None
        self.share = 0.0

    @property
    def seconds(self) -> Seconds:
        """Taken so far."""
        if self._started is None:
            return self._before
        return Seconds(
            *(b + n - s for b, n, s in zip(self._before, _now(), self._started, strict=True))
        )

    def enough(self, trainer: lightning.Trainer) -> bool:
        """Tell whether the hours are over."""
        return self._limit > 0 and self._share(trainer) >= 1

    def _share(self, trainer: lightning.Trainer) -> float:
        on_cpu = trainer.strategy.root_device.type == "cpu"
        spent = self.seconds.core if on_cpu else self.seconds.wall
        return min(1.0, spent / self._limit)

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Start counting."""
        self._started = _now()
        if self._limit > 0:
            self.share = trainer.strategy.broadcast(self._share(trainer))

    def on_train_batch_start(self, trainer: lightning.Trainer, *_) -> None:
        """Read the clock for this step's schedule."""
        if self._limit > 0:
            self.share = trainer.strategy.broadcast(self._share(trainer))

    def on_train_batch_end(self, trainer: lightning.Trainer, *_) -> None:
        """End the training after the step whose schedule has come to its end."""
        if self.share >= 1:
            trainer.should_stop = True

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Stop counting."""
        self._before, self._started = self.seconds, None

    def state_dict(self) -> dict[str, float]:
        """Return the state for the checkpoint."""
        return self.seconds._asdict()

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Restore the state from a checkpoint, before the training goes on."""
        self._before = Seconds(**state_dict)
