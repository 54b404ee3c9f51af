"""Run a command of this project as a process that ends with this one."""

import signal
import subprocess
import sys
from collections.abc import Sequence

from training.cli import end_with_parent

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Failed(Exception):
    """A command has ended with an error, which it has said itself.

    Args:
        status: its exit code; 128 plus the number of the signal that ended it.
    """

    def __init__(self, status: int):
        super().__init__(f"exit code {status}")
        self.status = status


def run_module(module: str, arguments: Sequence[str]) -> None:
    """Run `python -m MODULE ARGUMENTS` to its end, with its output on this terminal.

    After SIGINT and SIGTERM of this process, the command gets SIGTERM: it saves its work and ends,
    and says nothing of its own flags, as it does after SIGINT.

    Args:
        module: such as "training.train".
        arguments: of the command.

    Raises:
        Failed: it has ended with an error.
    """
    command = [sys.executable, "-m", module, *arguments]
    # A session of its own, so that it gets a signal of the terminal once: from here.
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent)
    stopped = []

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        process.terminate()

    former = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        status = process.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if status and stopped:
        raise Failed(128 + stopped[0])
    if status:
        raise Failed(128 - status if status < 0 else status)
