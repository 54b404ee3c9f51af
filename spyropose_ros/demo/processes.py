"""Processes on a ROS graph of this machine: started with a log, watched, stopped together."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PATIENCE = 25.0  # seconds to end after an interrupt; the estimator finishes its frame first


def free_domain() -> int:
    """Return a DDS domain whose ports nobody on this machine uses."""
    with open("/proc/net/udp") as table:
        ports = {int(line.split()[1].rpartition(":")[2], 16) for line in table.readlines()[1:]}
    taken = {(port - 7400) // 250 for port in ports}
    return random.choice([domain for domain in range(1, 100) if domain not in taken])


def isolate() -> None:
    """Choose a DDS domain of its own that never leaves the machine; call before rclpy.init."""
    os.environ["ROS_DOMAIN_ID"] = str(free_domain())
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


class Process:
    """A running process.

    Attributes:
        name: What it is.
        log: File with its output.
    """

    name: str
    log: Path

    def __init__(self, name: str, command: Sequence[str], log: Path, show: bool = False):
        """Start the process.

        Args:
            name: What it is.
            command: Program and arguments.
            log: File for its output.
            show: Its standard output goes to the terminal and only its errors to the log.
        """
        self.name, self.log = name, log
        with open(log, "wb") as file:
            # Its own session: Ctrl-C reaches only the demo, which then stops all in order.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=None if show else file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal unless it has ended."""
        if self.exit_code is None:
            self._process.send_signal(number)

    def describe_end(self, lines: int = 12) -> str:
        """Describe how it ended, with the end of its log."""
        code = self.exit_code
        cause = f"exit code {code}"
        if code is not None and code < 0:
            cause = f"signal {-code}"
            if -code == signal.SIGKILL:
                cause += ", perhaps out of memory"
        text = self.log.read_text(errors="replace").rstrip()
        tail = "\n".join(f"  | {line}" for line in text.splitlines()[-lines:]) or "  | (empty)"
        return f"The {self.name} ended too early ({cause}). The end of {self.log}:\n{tail}"


def python_command(module: str, parameters: dict[str, Any]) -> list[str]:
    """Write the command that runs a node.

    Args:
        module: Module of the node.
        parameters: ROS parameters by name.

    Returns:
        Program and arguments.
    """
    arguments = [f"{name}:={json.dumps(value)}" for name, value in parameters.items()]
    pairs = [part for argument in arguments for part in ("-p", argument)]
    return [sys.executable, "-m", module, *(["--ros-args", *pairs] if pairs else [])]


def stop_all(processes: Sequence[Process]) -> None:
    """Stop all processes by an interrupt, or by force if that takes too long."""
    for number, patience in ((signal.SIGINT, _PATIENCE), (signal.SIGKILL, 5.0)):
        for process in processes:
            process.send(number)
        deadline = time.monotonic() + patience
        while any(process.exit_code is None for process in processes):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
