"""Clocks: calls in turn, and the exclusive times of nested stages."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Times:
    """How long something took, again and again.

    Attributes:
        seconds: of each call, after the warm-up.
    """

    seconds: list[float]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Lower and upper, seconds."""
        if len(self.seconds) < 2:
            return self.seconds[0], self.seconds[0]
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    def to_dict(self) -> dict:
        """Return plain numbers."""
        low, high = self.quartiles
        return {"median_s": self.median, "quartiles_s": [low, high], "seconds": self.seconds}


def synchronise(device: torch.device) -> None:
    """Wait for all that was asked of a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turn(
    calls: Mapping[str, Callable[[], object]],
    device: torch.device,
    budget: float,
    most: int = 30,
    least: int = 3,
) -> dict[str, Times]:
    """Time several calls in the same minutes, so that what else the machine does hits all alike.

    Every round makes each call once, and begins with another one. The first round is a warm-up.

    Args:
        calls: by name.
        device: that is waited for before and after each.
        budget: seconds after which no further round begins.
        most: rounds.
        least: rounds, whatever they take.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    started = time.perf_counter()
    for index in range(most + 1):
        if index > least and time.perf_counter() - started > budget:
            break
        for name in names[index % len(names) :] + names[: index % len(names)]:
            synchronise(device)
            begin = time.perf_counter()
            calls[name]()
            synchronise(device)
            if index:
                seconds[name].append(time.perf_counter() - begin)
    return {name: Times(values) for name, values in seconds.items()}


class Stopwatch:
    """Exclusive times of stages: all time counts for the stage entered last.

    Args:
        device: events are put into its stream where it is a GPU, so that nothing waits.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._marks: list[tuple[str, object]] = []

    def enter(self, stage: str) -> str:
        """From now on time counts for this stage; returns the one before."""
        before = self._marks[-1][0] if self._marks else ""
        self._marks.append((stage, self._now()))
        return before

    def wrapped(self, function: Callable, stage: str) -> Callable:
        """Return the function as a stage of its own within the one that calls it."""

        def call(*args, **kwargs):
            before = self.enter(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.enter(before)

        return call

    def stop(self) -> dict[str, float]:
        """Return each stage's seconds in order of their start, and reset."""
        self.enter("")
        synchronise(self._device)
        seconds: dict[str, float] = {}
        for (stage, begin), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            seconds[stage] = seconds.get(stage, 0.0) + self._between(begin, end)
        self._marks = []
        return seconds

    def _now(self):
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, begin, end) -> float:
        return begin.elapsed_time(end) / 1e3 if self._device.type == "cuda" else end - begin
