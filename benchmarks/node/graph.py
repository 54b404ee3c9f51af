"""The estimator as a process of its own on a graph of this machine, watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from spyropose_ros.demo.plan import shipped_model
from spyropose_ros.demo.processes import python_command
from spyropose_ros.ros.pipeline.drops import Reason

NODE = "spyropose_ros.ros.node.estimator_node"
MARK = "measured: "
"""Before the figures, a line of JSON, that `measured_node` prints."""
_STATUS = "estimator: pose distributions"


class Estimator:
    """The process, with the demo's mug on the CPU.

    Args:
        parameters: other ROS parameters by name.
        directory: for its output.
        module: that runs the node.
    """

    def __init__(self, parameters: dict[str, Any], directory: Path, module: str = NODE) -> None:
        bundle = str(shipped_model("mug"))
        parameters = {"objects": [bundle], "device": "cpu", "detector": "topic"} | parameters
        self._log = directory / "estimator.log"
        self.started = time.monotonic()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                python_command(module, parameters),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "RCUTILS_LOGGING_BUFFERED_STREAM": "0"},
            )

    def __enter__(self) -> Estimator:
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self._process.kill()
            self._process.wait()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def megabytes(self) -> float:
        """Return the resident memory; nan once it has ended."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return float("nan")
        sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
        return int(sizes[0]) / 1000 if sizes else float("nan")

    def wait_for(self, text: str, timeout: float = 300.0) -> float:
        """Wait until it has written a text; return the seconds since its start.

        Raises:
            RuntimeError: if it ends before, or the time is over.
        """
        while text not in self.output:
            if not self.alive or time.monotonic() > self.started + timeout:
                raise RuntimeError(f"{text!r} did not come:\n{self.output}")
            time.sleep(0.01)
        return time.monotonic() - self.started

    def interrupt(self, timeout: float = 60.0) -> int:
        """End it as Ctrl-C does; return the exit code."""
        if self.alive:
            self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout)

    def figures(self) -> dict[str, list[float]]:
        """End it; return what it measured, for a module that runs `measured_node`."""
        self.interrupt()
        return json.loads(self.output.partition(MARK)[2].partition("\n")[0])


class Diagnostics:
    """The newest status of the estimator.

    Args:
        node: gets the subscription.
    """

    def __init__(self, node: Node) -> None:
        self.values: dict[str, str] = {}
        self.count = 0
        node.create_subscription(DiagnosticArray, "/diagnostics", self._receive, 10)

    def number(self, key: str) -> int:
        """Return a count; 0 if it is absent."""
        return int(self.values.get(key, 0))

    def drops(self) -> dict[Reason, int]:
        """Return the counts of all reasons."""
        return {
            reason: self.number(f"dropped: {reason.value}")
            + self.number(f"impaired: {reason.value}")
            for reason in Reason
        }

    def _receive(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == _STATUS:
                self.values = {entry.key: entry.value for entry in status.values}
                self.count += 1
