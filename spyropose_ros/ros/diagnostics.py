"""Why frames and detections were dropped: reasons, counts, and log lines that do not flood."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum


class Reason(str, Enum):
    """Why a frame or a detection did not become a pose distribution."""

    # whole frames
    NO_STAMP = "no stamp"
    UNMATCHED = "unmatched"
    TIME_JUMP = "time jump"
    BUSY = "busy"
    STALE = "stale"
    NO_CAMERA_INFO = "no camera_info"
    BAD_CAMERA_INFO = "bad camera_info"
    BAD_IMAGE = "bad image"
    ERROR = "error"
    # single detections of a frame that is processed
    UNKNOWN_CLASS = "unknown class"
    BAD_BOX = "bad box"
    LOW_SCORE = "low score"
    TOO_MANY = "too many detections"


# Expected while a model is slower than the camera, or asked for by a parameter: no warning.
ROUTINE = frozenset({Reason.BUSY, Reason.LOW_SCORE, Reason.TOO_MANY})


class BadInput(ValueError):
    """An input that cannot be used, with the reason it is counted under.

    Args:
        reason: what it is counted as.
        text: what is wrong and what to do, in one line.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class DropCounter:
    """Counts drops by reason and logs each reason at most once per period. Thread-safe.

    rclpy's own throttling is per source line, so that a frequent reason would silence a rare one.

    Args:
        warn: logs a problem that the user should act on.
        inform: logs a drop that is part of normal work.
        period: shortest time between two log lines of one reason, in seconds.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        warn: Callable[[str], object],
        inform: Callable[[str], object],
        period: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warn = warn
        self._inform = inform
        self._period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[Reason] = Counter()
        self._logged_at: dict[Reason, float] = {}

    def add(self, reason: Reason, text: str, count: int = 1) -> None:
        """Counts ``count`` drops; logs ``text`` unless the reason was logged within the period."""
        with self._lock:
            self._counts[reason] += count
            total = self._counts[reason]
            now = self._clock()
            if now - self._logged_at.get(reason, float("-inf")) < self._period:
                return
            self._logged_at[reason] = now
        line = f"dropped ({reason.value}, {total} so far): {text}"
        if reason in ROUTINE:  # two calls: rclpy refuses two severities from one place
            self._inform(line)
        else:
            self._warn(line)

    def counts(self) -> dict[Reason, int]:
        """Returns the number of drops so far by reason."""
        with self._lock:
            return dict(self._counts)

    def summary(self) -> str:
        """Returns the counts as text, the most frequent reason first; 'none' without drops."""
        ordered = sorted(self.counts().items(), key=lambda item: -item[1])
        return ", ".join(f"{reason.value} {count}" for reason, count in ordered) or "none"


class Activity:
    """Counts what arrives and what is published. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: Counter[str] = Counter()
        self._published = 0

    def receive(self, topic: str) -> None:
        """Counts a message that arrived."""
        with self._lock:
            self._received[topic] += 1

    def publish(self) -> int:
        """Counts a published frame; returns how many there are."""
        with self._lock:
            self._published += 1
            return self._published

    def snapshot(self) -> tuple[Counter[str], int]:
        """Returns the messages by topic and the published frames, both since the start."""
        with self._lock:
            return self._received.copy(), self._published


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
