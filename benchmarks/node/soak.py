"""A bad day on the demo's graph: `python -m benchmarks.node.soak --minutes 30 --seed 0`.

The estimator runs as its own process with the demo's model; this process is camera, detector,
operator and viewer. First come the most demanding results, for their memory; then, in the warm-up,
every fault of `soak_faults` once, and from then on faults at random. Prints a row every minute,
writes a JSON file, and ends with 1 unless

- the estimator lives to the end, without an unexpected error, and then leaves with exit code 0;
- every published image was received or counted as lost by the middleware, and every received one
  processed or dropped with a reason;
- all distributions are valid, and come again once the faults are over;
- its memory grows by at most 5 % after the warm-up.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rclpy

from benchmarks.node import graph
from benchmarks.node.soak_faults import FAULTS, QUEUE
from spyropose_ros.demo.processes import isolate
from spyropose_ros.demo.results import Check
from spyropose_ros.ros.pipeline.drops import Reason
from training import cli, provenance

if TYPE_CHECKING:
    from benchmarks.node.soak_peer import Peer

MAX_GROWTH = 0.05  # of the resident memory
_CLEAN, _LONGEST = 10.0, 7.0  # seconds without faults at the end; of the longest fault
_PARAMETERS = {
    "threads": 1,
    "search.beam": 64,
    # Exact stamps only: two detection messages for one image would be two frames
    "sync.slop": 0.0,
    # Only images get lost, in bursts: what is lost is counted without its topic
    "qos_overrides./camera_info.subscription.depth": QUEUE,
    "qos_overrides./detections.subscription.depth": QUEUE,
}


def soak(
    minutes: float = 30.0,
    seed: int = 0,
    warm_up: float = 60.0,
    output: Path = Path("soak.json"),
    faults: list[str] | None = None,
) -> int:
    """Inject faults into the graph and count what becomes of every image.

    Args:
        minutes: how long, with the warm-up.
        seed: of the faults.
        warm_up: seconds at the beginning in which every fault comes once.
        output: file for the figures.
        faults: names; all by default.

    Returns:
        The exit code.
    """
    from benchmarks.node.soak_peer import Peer

    isolate()
    directory = Path(tempfile.mkdtemp(prefix="soak_"))
    print(f"{provenance.command()}; {provenance.hardware('cpu')}; output in {directory}")
    with rclpy.init(args=[]), graph.Estimator(_PARAMETERS, directory) as estimator:
        estimator.wait_for("ready after")
        peer = Peer(rclpy.create_node("soak"), np.random.default_rng(seed), _PARAMETERS)
        peer.connect()
        peer.exert()
        end = 60 * minutes - _CLEAN
        peer.start(faults or list(FAULTS), min(warm_up, end), end - _LONGEST)
        rows, memory = _watch(peer, estimator, end)
        answers = peer.answers
        peer.work(_CLEAN)
        answers = peer.answers - answers
        peer.settle()
        rows.append(_measure(peer, estimator, minutes))
        checks = [
            *_count_checks(peer),
            Check(f"{answers} results in the last {_CLEAN:g} s, without faults", answers > 0),
            _memory_check(memory, warm_up),
            _end_check(estimator),
        ]
    for check in checks:
        print(f"{'ok  ' if check.passed else 'FAIL'} {check.text}")
    record = {
        "command": provenance.command(),
        "hardware": provenance.hardware("cpu"),
        "commit": provenance.git_commit(),
        "checks": [asdict(check) for check in checks],
        "minutes": rows,
        "memory": memory,
    }
    output.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if all(check.passed for check in checks) else 1


def _watch(peer: Peer, estimator: graph.Estimator, seconds: float) -> tuple[list, list]:
    """Let the graph work; return figures of every minute, and megabytes of every second."""
    started = time.monotonic()
    rows: list[dict[str, float]] = []
    memory: list[tuple[float, float]] = []
    while estimator.alive and (elapsed := time.monotonic() - started) < seconds:
        memory.append((elapsed, estimator.megabytes()))
        if elapsed >= 60 * len(rows):
            rows.append(_measure(peer, estimator, len(rows)))
        peer.work(1.0)
    return rows, memory


def _measure(peer: Peer, estimator: graph.Estimator, minute: float) -> dict[str, float]:
    """Return the figures so far, and print them."""
    counts, memory = peer.counts(), estimator.megabytes()
    print(
        f"minute {minute:g}: {memory:.0f} MB; images: "
        f"{', '.join(f'{name} {count}' for name, count in counts.items() if count)}",
        flush=True,
    )
    return {"minute": minute, "megabytes": memory, **counts}


def _count_checks(peer: Peer) -> list[Check]:
    counts = peer.counts()
    published, received = counts["published"], counts["received"]
    lost = counts[Reason.LOST.value]
    dropped = sum(counts[reason.value] for reason in Reason if reason.drops_image)
    return [
        Check(
            f"{published} images published = {received} received + {lost} lost by the middleware",
            published == received + lost,
        ),
        Check(
            f"{received} received = {counts['processed']} processed + {dropped} dropped with a "
            "reason",
            received == counts["processed"] + dropped,
        ),
        Check(f"{counts[Reason.ERROR.value]} unexpected errors", not counts[Reason.ERROR.value]),
        Check(
            f"{len(peer.invalid)} invalid of {peer.answers} results {peer.invalid[:1] or ''}",
            not peer.invalid,
        ),
    ]


def _memory_check(memory: list[tuple[float, float]], warm_up: float) -> Check:
    """Compare half a minute after the warm-up with the last half minute."""
    first = [size for at, size in memory if warm_up <= at < warm_up + 30]
    last = [size for at, size in memory if at >= memory[-1][0] - 30]
    if not first:
        return Check("memory not judged: shorter than the warm-up", True)
    growth = statistics.median(last) / statistics.median(first) - 1
    return Check(
        f"memory after the warm-up: {growth:+.1%}, at most {MAX_GROWTH:+.0%}", growth <= MAX_GROWTH
    )


def _end_check(estimator: graph.Estimator) -> Check:
    alive, code = estimator.alive, estimator.interrupt()
    tracebacks = estimator.output.count("Traceback")
    end = "interrupted" if alive else "ended by itself"
    return Check(
        f"the estimator {end}, exit code {code}, {tracebacks} tracebacks in its log",
        alive and code == 0 and not tracebacks,
    )


if __name__ == "__main__":
    raise SystemExit(cli.run(soak))
