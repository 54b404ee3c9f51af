"""Ctrl-C ends a command in one line, whenever it comes."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

EXIT_CODE = 128 + signal.SIGINT
NOTHING_KEPT = "nothing is kept: the same command starts again"


def guard_start() -> None:
    """Let Ctrl-C end a command that is starting, in one line.

    A package whose modules are commands calls this first, so that it holds while they import.
    Where the package is imported by another program, nothing changes: only while Python looks for
    the module to run is sys.argv[0] "-m".
    """
    starting = sys.argv[:1] == ["-m"]
    if starting and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_start)


def expect() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again; the caller catches it."""
    if signal.getsignal(signal.SIGINT) is _end_start:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def handled(name: str, kept: str) -> Iterator[None]:
    """End the process in one line after Ctrl-C.

    Args:
        name: of the command.
        kept: what becomes of its work.
    """
    text = f"{name}: interrupted; {kept}"
    former = signal.getsignal(signal.SIGINT)
    if former is not signal.SIG_IGN:  # as it is in the background
        signal.signal(signal.SIGINT, partial(_interrupt, text))
    try:
        yield
    except KeyboardInterrupt:
        print(text, file=sys.stderr)
        raise SystemExit(EXIT_CODE) from None
    finally:
        signal.signal(signal.SIGINT, former)


@contextmanager
def ignored() -> Iterator[None]:
    """Ignore Ctrl-C for a moment, and for ever in the processes that are started meanwhile."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _end_start(*_: object) -> None:
    os.write(2, b"interrupted before anything began\n")
    os._exit(EXIT_CODE)


def _interrupt(text: str, _: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C: an import ends the process at once, as some swallow the exception."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, f"{text}\n".encode())
            os._exit(EXIT_CODE)
        frame = frame.f_back
    raise KeyboardInterrupt
