"""What the node did in the last seconds, in words: for /diagnostics and for the log."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from spyropose_ros.ros.pipeline.camera_frame import Detection
from spyropose_ros.ros.pipeline.drops import Reason, Severity

_WINDOW = 100  # frames that the timings are taken over
_MEMORY = 5  # seconds that a problem stays in the status


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


class State(Enum):
    """What the node is doing, with the level of its status while that lasts and all goes well."""

    level: Level

    NOT_CONFIGURED = "not configured", Level.OK
    LOADING = "loading the models", Level.WARN
    INACTIVE = "inactive", Level.OK
    DISABLED = "disabled", Level.OK
    RUNNING = "running", Level.OK

    def __new__(cls, text: str, level: Level) -> State:
        """Make a member whose value is the text."""
        member = object.__new__(cls)
        member._value_ = text
        member.level = level
        return member


@dataclass(frozen=True)
class Work:
    """What one result took.

    Attributes:
        images: that took part.
        age: of the newest image when work on it started, seconds; nan without a clock.
        inference: seconds.
        latency: age of the image when the result was published, seconds.
        detection: what detectors in this process did for it; None if none ran.
        presences: probabilities that the objects are there; NaN where unknown.
    """

    images: int
    age: float
    inference: float
    latency: float
    detection: Detection | None = None
    presences: Sequence[float] = ()


@dataclass(frozen=True)
class Counts:
    """Totals since the start.

    Attributes:
        received: messages by topic.
        matched: images that got their detections.
        processed: images in published results.
        published: results.
        found: boxes that detectors in this process found for them.
    """

    received: Counter[str]
    matched: int
    processed: int
    published: int
    found: int


class Activity:
    """Counts what arrives and what is published. Thread-safe.

    Args:
        clock: monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._received: Counter[str] = Counter()
        self._matched = self._processed = self._published = self._found = 0
        self._work: deque[tuple[float, Work]] = deque(maxlen=_WINDOW)

    def receive(self, topic: str) -> None:
        """Count a message that arrived."""
        with self._lock:
            self._received[topic] += 1

    def match(self, images: int) -> None:
        """Count images that got their detections."""
        with self._lock:
            self._matched += images

    def publish(self, work: Work) -> int:
        """Count a published result; return their number."""
        with self._lock:
            self._processed += work.images
            self._published += 1
            self._found += work.detection.boxes if work.detection else 0
            self._work.append((self._clock(), work))
            return self._published

    def counts(self) -> Counts:
        """Return the totals."""
        with self._lock:
            return Counts(
                self._received.copy(),
                self._matched,
                self._processed,
                self._published,
                self._found,
            )

    def timings(self) -> dict[str, str]:
        """Return medians and 95th percentiles over the last results, their rate and presences."""
        with self._lock:
            entries = list(self._work)
        if not entries:
            return {}
        rows = {
            "age at start": [work.age for _, work in entries],
            "inference": [work.inference for _, work in entries],
            "latency": [work.latency for _, work in entries],
        }
        if found := [work.detection.seconds for _, work in entries if work.detection]:
            rows["detection"] = found
        texts = {f"{name} (ms, median / 95 %)": _quantiles(row) for name, row in rows.items()}
        elapsed = self._clock() - entries[0][0]
        texts["publish rate (Hz)"] = f"{len(entries) / elapsed:.2f}" if elapsed > 0 else "-"
        known = [p for _, work in entries for p in work.presences if not math.isnan(p)]
        if known:
            texts["presence (mean, lowest)"] = f"{statistics.fmean(known):.2f}, {min(known):.2f}"
        return texts


class Verdict:
    """Judges the status by the problems of the last seconds. Not thread-safe."""

    def __init__(self) -> None:
        self._history: deque[Mapping[Reason, int]] = deque(maxlen=_MEMORY)
        self._published = self._quiet = 0  # results, and seconds without a new one

    def judge(self, state: State, drops: Mapping[Reason, int], published: int) -> tuple[Level, str]:
        """Judge how the node is doing; call it once a second.

        Args:
            state: of the node.
            drops: counts by reason.
            published: results so far.

        Returns:
            Level and message of the status.
        """
        before = self._history[0] if self._history else {}
        self._history.append(dict(drops))
        waits = state is State.RUNNING and published == self._published
        self._published, self._quiet = published, self._quiet + 1 if waits else 0
        if state is not State.RUNNING:
            return state.level, state.value
        new = {r: n - before.get(r, 0) for r, n in drops.items() if n > before.get(r, 0)}
        failures = [reason for reason in new if reason.severity is Severity.FAILURE]
        if failures:
            return Level.ERROR, _list(failures, new)
        problems = [reason for reason in new if not reason.routine]
        if problems:
            return Level.WARN, _list(problems, new)
        if self._quiet >= _MEMORY:
            return Level.WARN, f"nothing published for {self._quiet} s"
        return state.level, state.value


def explain_silence(
    seconds: float, received: Mapping[str, int], publishers: Mapping[str, int], drops: str
) -> str:
    """Explain why nothing was published, and what to do.

    Args:
        seconds: how long nothing was published.
        received: messages in that time, by topic.
        publishers: present publishers, by topic.
        drops: summary of the drops so far.

    Returns:
        One line of text.
    """
    seen = ", ".join(
        f"{count} on {topic} ({publishers[topic]} publishers)" for topic, count in received.items()
    )
    absent = [topic for topic, count in publishers.items() if count == 0]
    silent = [topic for topic, count in received.items() if count == 0 and publishers[topic]]
    if absent:
        remedy = f"start a publisher of {' and '.join(absent)}, or remap"
    elif silent:
        remedy = (
            f"nothing arrives on {' and '.join(silent)}: check that it publishes, and "
            "qos.reliability (large images need reliable)"
        )
    elif drops == "none":
        remedy = "the model is still working on the last frame"
    else:
        remedy = f"all frames were dropped or are still being processed; drops so far: {drops}"
    return f"nothing published for {seconds:.0f} s; received {seen}; {remedy}"


def drop_values(drops: Mapping[Reason, int]) -> dict[str, str]:
    """Return the values of /diagnostics for counts by reason."""
    return {
        f"{'impaired' if reason.impairs else 'dropped'}: {reason.value}": str(count)
        for reason, count in drops.items()
    }


def _quantiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    high = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"{1e3 * statistics.median(ordered):.0f} / {1e3 * high:.0f}"


def _list(reasons: list[Reason], counts: Mapping[Reason, int]) -> str:
    texts = (f"{reason.value} {counts[reason]}" for reason in reasons)
    return f"in the last {_MEMORY} s: {', '.join(texts)}"
