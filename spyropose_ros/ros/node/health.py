"""What the node has done lately, in words: for /diagnostics and for the log."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from spyropose_ros.ros.pipeline.drops import IMPAIRED, ROUTINE, Reason

_WINDOW = 100  # frames that the timings are taken over
_MEMORY = 5  # seconds that a problem stays in the status


@dataclass(frozen=True)
class Work:
    """What one result took.

    Args:
        images: that took part.
        age: of the newest image when work on it started, seconds; nan without a clock.
        inference: seconds.
        latency: age of the image when the result was published, seconds.
    """

    images: int
    age: float
    inference: float
    latency: float


@dataclass(frozen=True)
class Counts:
    """Totals since the start.

    Args:
        received: messages by topic.
        matched: images that got their detections.
        processed: images in published results.
        published: results.
    """

    received: Counter[str]
    matched: int
    processed: int
    published: int


class Activity:
    """Counts what arrives and what is published. Thread-safe.

    Args:
        clock: monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._received: Counter[str] = Counter()
        self._matched = self._processed = self._published = 0
        self._work: deque[tuple[float, Work]] = deque(maxlen=_WINDOW)

    def receive(self, topic: str) -> None:
        """Counts a message that arrived."""
        with self._lock:
            self._received[topic] += 1

    def match(self, images: int) -> None:
        """Counts images that got their detections."""
        with self._lock:
            self._matched += images

    def publish(self, work: Work) -> int:
        """Counts a published result; returns how many there are."""
        with self._lock:
            self._processed += work.images
            self._published += 1
            self._work.append((self._clock(), work))
            return self._published

    def counts(self) -> Counts:
        """Returns the totals."""
        with self._lock:
            return Counts(self._received.copy(), self._matched, self._processed, self._published)

    def timings(self) -> dict[str, str]:
        """Returns medians and 95th percentiles over the last results, and their rate."""
        with self._lock:
            entries = list(self._work)
        if not entries:
            return {}
        rows = {
            "age at start": [work.age for _, work in entries],
            "inference": [work.inference for _, work in entries],
            "latency": [work.latency for _, work in entries],
        }
        texts = {f"{name} (ms, median / 95 %)": _quantiles(row) for name, row in rows.items()}
        elapsed = self._clock() - entries[0][0]
        texts["publish rate (Hz)"] = f"{len(entries) / elapsed:.2f}" if elapsed > 0 else "-"
        return texts


class Verdict:
    """The level and message of the status: problems of the last seconds count. Not thread-safe."""

    def __init__(self) -> None:
        self._history: deque[tuple[Mapping[Reason, int], int]] = deque(maxlen=_MEMORY)

    def judge(self, state: str, drops: Mapping[Reason, int], published: int) -> tuple[bytes, str]:
        """Call once a second.

        Args:
            state: 'running', or why nothing is expected.
            drops: counts by reason.
            published: results so far.

        Returns:
            Level of diagnostic_msgs/DiagnosticStatus and message.
        """
        before, published_before = self._history[0] if self._history else ({}, published)
        known = len(self._history) == _MEMORY
        self._history.append((dict(drops), published))
        if state != "running":
            return (b"\x01" if state == "loading the models" else b"\x00"), state
        new = {r: n - before.get(r, 0) for r, n in drops.items() if n > before.get(r, 0)}
        failures = [r for r in new if r in (Reason.ERROR, Reason.BAD_OUTPUT, Reason.OUT_OF_MEMORY)]
        if failures:
            return b"\x02", _list(failures, new)
        problems = [r for r in new if r not in ROUTINE]
        if problems:
            return b"\x01", _list(problems, new)
        if known and published == published_before:
            return b"\x01", f"nothing published for {_MEMORY} s"
        return b"\x00", "running"


def explain_silence(
    seconds: float, received: Mapping[str, int], publishers: Mapping[str, int], drops: str
) -> str:
    """Says why nothing was published, and what to do.

    Args:
        seconds: how long nothing was published.
        received: messages in that time, by topic.
        publishers: publishers found now, by topic.
        drops: summary of the drops so far.
    """
    seen = ", ".join(
        f"{count} on {topic} ({publishers[topic]} publishers)" for topic, count in received.items()
    )
    absent = [topic for topic, count in publishers.items() if count == 0]
    silent = [topic for topic, count in received.items() if count == 0 and publishers[topic]]
    if absent:
        remedy = f"start what publishes {' and '.join(absent)}, or remap"
    elif silent:
        remedy = (
            f"nothing arrives on {' and '.join(silent)}: check that it publishes, and "
            "qos.reliability (large images need reliable, some drivers only offer best_effort)"
        )
    elif drops == "none":
        remedy = "the model is still working on the last frame"
    else:
        remedy = f"all frames were dropped or are still in work; drops so far: {drops}"
    return f"nothing published for {seconds:.0f} s; received {seen}; {remedy}"


def drop_values(drops: Mapping[Reason, int]) -> dict[str, str]:
    """The keys of /diagnostics for counts by reason."""
    return {
        f"{'impaired' if reason in IMPAIRED else 'dropped'}: {reason.value}": str(count)
        for reason, count in drops.items()
    }


def _quantiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    high = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"{1e3 * statistics.median(ordered):.0f} / {1e3 * high:.0f}"


def _list(reasons: list[Reason], counts: Mapping[Reason, int]) -> str:
    texts = (f"{reason.value} {counts[reason]}" for reason in reasons)
    return f"in the last {_MEMORY} s: {', '.join(texts)}"
