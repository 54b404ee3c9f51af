"""A process with its own log and a limit that it cannot outlive."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",  # the log of a killed process is complete
    "HF_HUB_OFFLINE": "1",  # published weights from the cache, or none: no waiting for a network
}
_REAP = 5.0
"""Seconds that a killed process gets to be gone; one that hangs in a driver never is."""


def run_python(arguments: Sequence[str], log: Path, seconds: float) -> int | None:
    """Run Python in the source tree, and end it with all processes that it has started.

    Args:
        arguments: of the interpreter.
        log: file for the command and all that it prints.
        seconds: it is killed after these.

    Returns:
        Its exit status; None where it was killed.
    """
    command = [sys.executable, *arguments]
    with log.open("w") as file:
        file.write(f"$ python {shlex.join(arguments)}\n")
        file.flush()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | _ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_REAP)
