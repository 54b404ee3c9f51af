"""The learning rate over a training."""

import math
from collections.abc import Callable

from training.config import OptimConfig
from training.fitting.clock import TrainingClock

_START = 1e-3  # of the peak


def relative_rate(spent: float, warmup: float) -> float:
    """Compute the learning rate: linear warm-up, then a cosine to zero.

    Args:
        spent: share of the training, 0 to 1.
        warmup: share of the training until the peak, 0 to 1.

    Returns:
        Learning rate over its peak, 0 to 1.
    """
    if spent < warmup:
        return _START + (1 - _START) * spent / warmup
    if warmup >= 1:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (spent - warmup) / (1 - warmup))))


def schedule_of(optim: OptimConfig, clock: TrainingClock | None) -> Callable[[int], float]:
    """Return the schedule of a training by steps, or by the hours of its clock.

    Args:
        optim: settings.
        clock: of a training by hours.

    Returns:
        The learning rate over its peak, by step.
    """

    def rate(step: int) -> float:
        if optim.hours:
            assert clock is not None
            return relative_rate(clock.share, optim.warmup_share)
        return relative_rate(step / optim.max_steps, optim.warmup_steps / optim.max_steps)

    return rate
