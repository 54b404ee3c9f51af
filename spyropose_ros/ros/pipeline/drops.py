"""Why frames and detections were dropped: reasons, counts, and log lines that do not flood."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Protocol


class Reason(str, Enum):
    """Why a message, a frame or a detection did not become a pose distribution."""

    # an image, or the frame made of it
    IMAGE_STAMP = "image without stamp"
    NO_DETECTIONS = "no detections"
    INACTIVE = "inactive"
    DISABLED = "disabled"
    BUSY = "busy"
    STALE = "stale"
    NO_CAMERA_INFO = "no camera_info"
    BAD_CAMERA_INFO = "bad camera_info"
    BAD_IMAGE = "bad image"
    NO_TRANSFORM = "no transform"
    LATE_VIEW = "late view"
    OUT_OF_MEMORY = "out of memory"
    BAD_OUTPUT = "bad model output"
    ERROR = "error"
    # a detection message
    DETECTIONS_STAMP = "detections without stamp"
    UNMATCHED = "unmatched"
    # a single detection of a frame that is processed
    UNKNOWN_CLASS = "unknown class"
    BAD_BOX = "bad box"
    LOW_SCORE = "low score"
    TOO_MANY = "too many detections"
    # nothing is dropped, but something is missing
    TIME_JUMP = "time jump"
    BAD_DEPTH = "bad depth image"
    NO_DEPTH = "no depth image"
    BAD_TRANSFORM = "bad transform"
    UNFILTERED = "without temporal filter"
    FEWER_VIEWS = "fewer views"
    SMALLER_BATCH = "smaller batches"
    INCOMPATIBLE_QOS = "incompatible QoS"
    LOST = "lost by the middleware"


# What can end an image: with the processed ones they add up to the images received
IMAGE_REASONS = tuple(Reason)[: tuple(Reason).index(Reason.ERROR) + 1]

# Nothing is dropped
IMPAIRED = tuple(Reason)[tuple(Reason).index(Reason.BAD_DEPTH) :]

# Expected while a model is slower than the camera, or asked for by the user: no warning
ROUTINE = frozenset(
    {
        Reason.NO_DETECTIONS,
        Reason.INACTIVE,
        Reason.DISABLED,
        Reason.BUSY,
        Reason.LOW_SCORE,
        Reason.TOO_MANY,
    }
)
ROUTINE_SELDOMER = 12  # times as long between two log lines
MAX_TEXT = 1000  # characters


class Drop(Protocol):
    """Called for what is not used: the reason, what to do about it, and how many there are."""

    def __call__(self, reason: Reason, text: str, count: int = 1) -> object:
        """See the class."""


class BadInput(ValueError):
    """An input that cannot be used, with the reason it is counted under.

    Args:
        reason: what it is counted as.
        text: what is wrong and what to do, in one line.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def one_line(text: str) -> str:
    """Makes a text fit for the log, which may quote strings of messages from anybody.

    Control characters are escaped, so that a class id can neither break nor forge a line, and long
    texts are cut.
    """
    shown = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)


class DropCounter:
    """Counts drops by reason and logs each reason at most once per period. Thread-safe.

    rclpy's own throttling is per source line, so that a frequent reason would silence a rare one.

    Args:
        warn: logs a problem that the user should act on.
        inform: logs a drop that is part of normal work.
        period: shortest time between two log lines of one reason, in seconds; ROUTINE_SELDOMER
            times as long for routine drops.
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
        self._last_problem = "none"

    def add(self, reason: Reason, text: str, count: int = 1) -> None:
        """Counts drops, which may be none; logs the text unless its reason was logged lately."""
        text = one_line(text)
        with self._lock:
            self._counts[reason] += count
            if reason not in ROUTINE:
                self._last_problem = f"{reason.value}: {text}"
            total = self._counts[reason]
            now = self._clock()
            period = self._period * (ROUTINE_SELDOMER if reason in ROUTINE else 1)
            if now - self._logged_at.get(reason, float("-inf")) < period:
                return
            self._logged_at[reason] = now
        verb = "" if reason in IMPAIRED else "dropped "
        line = f"{verb}({reason.value}, {total} so far): {text}"
        if reason in ROUTINE:  # two calls: rclpy refuses two severities from one place
            self._inform(line)
        else:
            self._warn(line)

    @property
    def last_problem(self) -> str:
        """Text of the last drop that was no routine; 'none' without one."""
        with self._lock:
            return self._last_problem

    def counts(self) -> dict[Reason, int]:
        """Returns the number of drops so far by reason."""
        with self._lock:
            return dict(self._counts)

    def summary(self) -> str:
        """Returns the counts as text, the most frequent reason first; 'none' without drops."""
        ordered = sorted(self.counts().items(), key=lambda item: -item[1])
        return ", ".join(f"{reason.value} {count}" for reason, count in ordered) or "none"
