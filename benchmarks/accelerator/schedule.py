"""Parts one after the other, each within its limit and all within theirs."""

import enum
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.accelerator.figures import last_line
from benchmarks.accelerator.processes import run_python

START = 10.0
"""Seconds of every part's limit that are for its imports."""

_PACKING = 0.03
"""Share of all time that is kept for the end."""

_LINE = 160
"""Characters of a log's last line that tell why a part has failed."""


class State(enum.Enum):
    """How a part has ended."""

    DONE = "done"
    FAILED = "failed"
    KILLED = "killed at its limit"
    SKIPPED = "skipped"
    NO_GPU = "needs a GPU"


@dataclass(frozen=True)
class Part:
    """Something to do in a process of its own.

    Attributes:
        name: of the part and its log.
        command: arguments of Python, from the seconds that it may take.
        share: of all time besides the imports, that it may take.
        figures: what matters of its log.
        packages: it does nothing without.
        files: it does nothing without.
        after: parts that must have been done.
        takes_rest: it may also take what the later parts have no claim to.
        expects_failure: the device is not the GPU that it is about.
    """

    name: str
    command: Callable[[float], list[str]]
    share: float
    figures: Callable[[str], str]
    packages: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    after: tuple[str, ...] = ()
    takes_rest: bool = False
    expects_failure: bool = False

    @cached_property
    def missing(self) -> str:
        """What is not here, in words; "" where nothing is missing."""
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        absent += [str(path) for path in self.files if not path.exists()]
        return f"no {', '.join(absent)}" if absent else ""


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        part: its name.
        state: how it has ended.
        seconds: that it took.
        figures: what matters, or why it was skipped or failed.
    """

    part: str
    state: State
    seconds: float
    figures: str


def run_parts(
    parts: Sequence[Part],
    logs: Path,
    started: float,
    seconds: float,
    tell: Callable[[list[Outcome]], None],
) -> list[Outcome]:
    """Run all parts.

    Args:
        parts: the most valuable first.
        logs: folder for <part>.log.
        started: when the time began, of `time.monotonic`.
        seconds: for everything.
        tell: called with the outcomes so far, after each part.
    """
    spare = max(0.0, seconds - START * len(parts))
    claims = {part.name: START + part.share * spare for part in parts if not part.missing}
    outcomes: list[Outcome] = []
    for part in parts:
        own = claims.pop(part.name, 0.0)
        left = started + (1 - _PACKING) * seconds - time.monotonic()
        limit = left - sum(claims.values()) if part.takes_rest else min(own, left)
        undone = [o.part for o in outcomes if o.part in part.after and o.state is not State.DONE]
        reason = part.missing or ", ".join(f"{name} was not done" for name in undone)
        if not reason and limit < START:
            reason = "no time left"
        if reason:
            outcomes.append(Outcome(part.name, State.SKIPPED, 0.0, reason))
        else:
            outcomes.append(_run(part, logs / f"{part.name}.log", limit))
        tell(outcomes)
    return outcomes


def _run(part: Part, log: Path, limit: float) -> Outcome:
    print(f"{part.name}: {limit:.0f} s at most", flush=True)
    began = time.monotonic()
    status = run_python(part.command(limit), log, limit)
    taken = time.monotonic() - began
    if status is None:
        state = State.KILLED
    elif status == 0:
        state = State.DONE
    else:
        state = State.NO_GPU if part.expects_failure else State.FAILED
    text = log.read_text(errors="replace")
    figures = part.figures(text)
    if not figures and state is not State.DONE:
        figures = last_line(text)[:_LINE]
    return Outcome(part.name, state, taken, figures)
