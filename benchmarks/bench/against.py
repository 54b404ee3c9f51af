"""Two commits in one run: `./run bench --against COMMIT`.

The other commit is checked out into a temporary worktree. Each has a process of its own, in the
same environment and with the same network and image, and they make their calls in turn, so that
what else the machine does hits both alike. What counts is the ratio of neighbouring calls.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.bench.networks import DEMO, Scene, open_network
from benchmarks.bench.report import Options
from benchmarks.bench.table import Table, count, milliseconds
from benchmarks.bench.timing import Times
from spyropose_ros.core.errors import InputError
from training import runs

_ROOT = Path(__file__).parents[2]
_SIDE = Path(__file__).with_name("side.py")
_HERE = "this tree"
_LEAST, _MOST = 5, 40  # rounds


class Side:
    """The process that makes one commit's calls.

    Args:
        name: of the commit.
        tree: its files.
        job: for `benchmarks/bench/side.py`.

    Attributes:
        name: of the commit.
        poses: by call, poses that it scores.
        seconds: by call, of each after the warm-up.
        cpu_seconds: likewise, of all threads together.
    """

    def __init__(self, name: str, tree: Path, job: dict):
        self.name = name
        self.poses: dict[str, int] = {}
        self.seconds: dict[str, list[float]] = {}
        self.cpu_seconds: dict[str, list[float]] = {}
        path = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SIDE.read_text(), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
            env=os.environ | {"PYTHONPATH": path},
        )

    def calls(self) -> list[str]:
        """Return what it can measure, once it is ready."""
        return self._answer()["calls"]

    def call(self, name: str, counted: bool) -> None:
        """Make a call, and keep its times if they are counted."""
        assert self._process.stdin is not None
        print(name, file=self._process.stdin, flush=True)
        answer = self._answer()
        self.poses[name] = answer["poses"]
        if counted:
            self.seconds.setdefault(name, []).append(answer["seconds"])
            self.cpu_seconds.setdefault(name, []).append(answer["cpu_seconds"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise InputError(f"the code of {self.name} cannot be measured: its error is above")
        return json.loads(line)


def compare(commit: str, options: Options, threads: int, tell: Callable[[str], None]) -> dict:
    """Measure another commit and this tree in turn.

    Args:
        commit: anything that git takes for one.
        options: network, device, settings, depth and whether it is to be quick.
        threads: of PyTorch.
        tell: called with what comes next.

    Returns:
        Plain numbers: by call, times, poses and ratios.

    Raises:
        InputError: no such commit, or its code cannot be measured.
    """
    with checked_out(commit) as tree, tempfile.TemporaryDirectory() as folder:
        job = _job(options, threads, Path(folder))
        tell(f"both processes start; {commit} compiles its kernels")
        sides = [Side(commit, tree, job), Side(_HERE, _ROOT, job)]
        try:
            known = [side.calls() for side in sides]
            for name in [name for name in known[1] if name in known[0]]:
                tell(name)
                _alternate(sides, name, 3.0 if options.quick else 20.0)
        finally:
            for side in sides:
                side.close()
    return {name: _compared(sides, name) for name in sides[1].seconds}


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Keep a worktree of a commit for a while.

    Args:
        commit: anything that git takes for one.

    Yields:
        Its folder.

    Raises:
        InputError: git does not know it.
    """
    git = ["git", "-C", str(_ROOT), "worktree"]
    with tempfile.TemporaryDirectory(prefix="spyropose_") as folder:
        tree = Path(folder) / "tree"
        done = subprocess.run(
            [*git, "add", "--detach", str(tree), commit], capture_output=True, text=True
        )
        if done.returncode:
            raise InputError(f"--against {commit}: git says {done.stderr.strip().splitlines()[-1]}")
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def _job(options: Options, threads: int, folder: Path) -> dict:
    """Write the image for both processes, and return what they are told."""
    scene = Scene.of(open_network(options.network), options.data_root)
    np.savez(folder / "scene.npz", image=scene.image, K=scene.K, boxes=scene.boxes)
    network = options.network
    if network != "paper":
        network = str(Path(DEMO if network == "demo" else runs.bundle_directory(network)).resolve())
    return {
        "network": network,
        "device": str(options.device),
        "settings": asdict(options.settings) | {"depth": options.depth},
        "scene": str(folder / "scene.npz"),
        "threads": threads,
    }


def _alternate(sides: list[Side], name: str, budget: float) -> None:
    """Let the sides make a call in turn; the first round is a warm-up."""
    started = time.perf_counter()
    for index in range(_MOST + 1):
        if index > _LEAST and time.perf_counter() - started > budget:
            break
        for side in sides if index % 2 else reversed(sides):
            side.call(name, counted=index > 0)


def _compared(sides: list[Side], name: str) -> dict:
    """Return times, poses and ratios of a call, the other commit's over this tree's."""
    compared: dict = {}
    for side in sides:
        compared[side.name] = {
            "poses": side.poses[name],
            "seconds": side.seconds[name],
            "cpu_seconds": side.cpu_seconds[name],
        }
    other, ours = sides
    for key in ("seconds", "cpu_seconds"):
        pairs = zip(getattr(other, key)[name], getattr(ours, key)[name], strict=True)
        compared[f"{key}_ratios"] = [a / max(b, 1e-9) for a, b in pairs]
    return compared


def render(found: dict, machine: str) -> str:
    """Render the table of `compare`."""
    table = Table(27, (11, 10, 9, 13, 9, 19))
    commit = next(name for name in next(iter(found.values())) if name != _HERE)
    table.header(
        "medians of ms", commit[:10], _HERE, "faster", "quartiles", "rounds", "of CPU time"
    )
    for name, compared in found.items():
        wall, cpu = (Times(compared[f"{key}_ratios"]) for key in ("seconds", "cpu_seconds"))
        table.row(
            name,
            *(milliseconds(Times(compared[s]["seconds"]).median) for s in (commit, _HERE)),
            f"{wall.median:.2f} x",
            "{:.2f} - {:.2f}".format(*wall.quartiles),
            str(len(wall.seconds)),
            "{:.2f}, {:.2f} - {:.2f}".format(cpu.median, *cpu.quartiles),
        )
        times = (Times(compared[s]["cpu_seconds"]).median for s in (commit, _HERE))
        table.row("  of CPU time", *map(milliseconds, times))
        poses = [compared[s]["poses"] for s in (commit, _HERE)]
        if poses[0] != poses[1]:
            table.row("  poses", *map(count, poses))
    table.rule()
    notes = (
        machine,
        "faster: ratios of calls that follow each other, median and quartiles; CPU time: of all",
        "threads, which other processes disturb less",
    )
    return "\n".join([*table.lines, *notes])
