"""Why frames and detections were dropped: reasons, counts, and log lines that do not flood."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.core.one_line import printable


class Loss(Enum):
    """What is not used for a reason."""

    IMAGE = "an image, or the frame made from it"
    DETECTIONS = "a detection message"
    DETECTION = "a single detection of a frame that is processed"
    HISTORY = "what was seen before"
    NOTHING = "nothing, but the result or its input is impaired"


class Severity(Enum):
    """How serious a reason is."""

    ROUTINE = "expected while a model is slower than the camera, or requested by the user"
    PROBLEM = "somebody should look into it"
    FAILURE = "the model or the node failed"


class Reason(Enum):
    """Why a message, a frame or a detection did not become a pose distribution, or a worse one.

    Each has a `loss`, what is not used, and a `severity`, how serious that is.
    """

    loss: Loss
    severity: Severity

    IMAGE_STAMP = "image without stamp", Loss.IMAGE
    NO_DETECTIONS = "no detections", Loss.IMAGE, Severity.ROUTINE
    INACTIVE = "inactive", Loss.IMAGE, Severity.ROUTINE
    DISABLED = "disabled", Loss.IMAGE, Severity.ROUTINE
    BUSY = "busy", Loss.IMAGE, Severity.ROUTINE
    STALE = "stale", Loss.IMAGE
    NO_CAMERA_INFO = "no camera_info", Loss.IMAGE
    BAD_CAMERA_INFO = "bad camera_info", Loss.IMAGE
    BAD_IMAGE = "bad image", Loss.IMAGE
    NO_TRANSFORM = "no transform", Loss.IMAGE
    LATE_VIEW = "late view", Loss.IMAGE
    OUT_OF_MEMORY = "out of memory", Loss.IMAGE, Severity.FAILURE
    BAD_OUTPUT = "bad model output", Loss.IMAGE, Severity.FAILURE
    ERROR = "error", Loss.IMAGE, Severity.FAILURE
    DETECTIONS_STAMP = "detections without stamp", Loss.DETECTIONS
    UNMATCHED = "unmatched", Loss.DETECTIONS
    UNKNOWN_CLASS = "unknown class", Loss.DETECTION
    BAD_BOX = "bad box", Loss.DETECTION
    LOW_SCORE = "low score", Loss.DETECTION, Severity.ROUTINE
    TOO_MANY = "too many detections", Loss.DETECTION, Severity.ROUTINE
    TIME_JUMP = "time jump", Loss.HISTORY
    BAD_DEPTH = "bad depth image", Loss.NOTHING
    NO_DEPTH = "no depth image", Loss.NOTHING
    BAD_TRANSFORM = "bad transform", Loss.NOTHING
    UNFILTERED = "without temporal filter", Loss.NOTHING
    UNVERIFIED = "modes not verified", Loss.NOTHING
    FEWER_VIEWS = "fewer views", Loss.NOTHING
    SMALLER_BATCH = "smaller batches", Loss.NOTHING
    INCOMPATIBLE_QOS = "incompatible QoS", Loss.NOTHING
    LOST = "lost by the middleware", Loss.NOTHING

    def __new__(cls, text: str, loss: Loss, severity: Severity = Severity.PROBLEM) -> Reason:
        """Make a member whose value is the text."""
        member = object.__new__(cls)
        member._value_ = text
        member.loss = loss
        member.severity = severity
        return member

    @property
    def drops_image(self) -> bool:
        """Whether it ends an image: with the processed ones these are all images received."""
        return self.loss is Loss.IMAGE

    @property
    def impairs(self) -> bool:
        """Whether nothing is dropped for it."""
        return self.loss is Loss.NOTHING

    @property
    def routine(self) -> bool:
        """Whether it is part of normal work."""
        return self.severity is Severity.ROUTINE


ROUTINE_INTERVAL = 12  # times the period between two log lines of a routine reason
MAX_TEXT = 1000  # characters
MAX_WARNINGS = 100  # different texts of a WarnOnce: they may quote what came in messages


class Drop(Protocol):
    """Called for what is not used: the reason, what to do about it, and how many there are."""

    def __call__(self, reason: Reason, text: str, count: int = 1) -> object:
        """Count and report what is not used."""


class BadInputError(SpyroposeError):
    """An input cannot be used.

    Args:
        reason: what it is counted as.
        text: what is wrong and what to do, in one line.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def one_line(text: str) -> str:
    """Make a text safe to log: it may quote strings from messages that anyone can send.

    Control characters are escaped, so that a class id can neither break nor forge a line, and long
    texts are cut.
    """
    shown = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."
    return printable(shown)


class DropCounter:
    """Counts drops by reason and logs each reason at most once per period. Thread-safe.

    rclpy throttles by source line, so that a frequent reason would silence a rare one.

    Args:
        warn: logs a problem that the user should act on.
        inform: logs a routine drop.
        period: shortest time between two log lines of one reason, in seconds; ROUTINE_INTERVAL
            times as long for routine drops.
        clock: monotonic time in seconds.
        debug: logs the drops that would be too many for the others.
    """

    def __init__(
        self,
        warn: Callable[[str], object],
        inform: Callable[[str], object],
        period: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        debug: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._warn = warn
        self._inform = inform
        self._debug = debug
        self._period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[Reason] = Counter()
        self._logged_at: dict[Reason, float] = {}
        self._last_problem = "none"

    def add(self, reason: Reason, text: str, count: int = 1) -> None:
        """Count drops, which may be 0; log the text unless its reason was logged recently."""
        text = one_line(text)
        with self._lock:
            self._counts[reason] += count
            if not reason.routine:
                self._last_problem = f"{reason.value}: {text}"
            total = self._counts[reason]
            now = self._clock()
            period = self._period * (ROUTINE_INTERVAL if reason.routine else 1)
            recent = now - self._logged_at.get(reason, float("-inf")) < period
            if not recent:
                self._logged_at[reason] = now
        verb = "" if reason.impairs else "dropped "
        line = f"{verb}({reason.value}, {total} so far): {text}"
        if recent:  # separate calls: rclpy refuses two severities from one source line
            self._debug(line)
        elif reason.routine:
            self._inform(line)
        else:
            self._warn(line)

    @property
    def last_problem(self) -> str:
        """Text of the last drop that was not routine; 'none' without one."""
        with self._lock:
            return self._last_problem

    def counts(self) -> dict[Reason, int]:
        """Return the number of drops so far by reason."""
        with self._lock:
            return dict(self._counts)

    def summary(self) -> str:
        """Return the counts as text, the most frequent reason first; 'none' without drops."""
        ordered = sorted(self.counts().items(), key=lambda item: -item[1])
        return ", ".join(f"{reason.value} {count}" for reason, count in ordered) or "none"


class WarnOnce:
    """Logs each text once.

    Args:
        log: logs a line.

    Attributes:
        logged: the texts so far, in their order.
    """

    logged: list[str]

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log
        self.logged = []

    def __call__(self, text: str) -> None:
        """Log a text unless it was logged before."""
        text = one_line(text)
        if text not in self.logged and len(self.logged) < MAX_WARNINGS:
            self.logged.append(text)
            self._log(text)
