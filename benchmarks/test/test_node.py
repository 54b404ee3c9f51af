"""The benchmarks of the node in small: they run as a user runs them, each on its own graph."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np

from benchmarks.accuracy.coverage import coverage
from benchmarks.node.soak_faults import FAULTS


def run(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        capture_output=True,
        text=True,
        timeout=250,
    )


def test_soak_counts_every_image(tmp_path):
    faults = '["image cut off", "detector dead", "burst of images"]'
    file = tmp_path / "soak.json"
    process = run(
        "node.soak", "--minutes=0.35", "--warm-up=8", f"--faults={faults}", f"--output={file}"
    )
    assert process.returncode == 0, process.stdout + process.stderr
    record = json.loads(file.read_text())
    end = record["minutes"][-1]
    assert end["published"] == end["received"] + end["lost by the middleware"]
    assert end["processed"] > 0
    assert end["bad image"] > 0
    assert end["no detections"] > 0


def test_the_soak_ends_its_changes_of_parameters_as_it_began():
    now = start = {"search.beam": 64, "publish_tf": False}
    bench = SimpleNamespace(rng=np.random.default_rng(0), parameters=start)
    bench.set_parameters = lambda given: now.update({p.name: p.value for p in given})
    changed = set()
    for _ in range(20):
        now = dict(start)
        fault = FAULTS["parameters"](bench)
        next(fault)
        changed |= {name for name in start if now[name] != start[name]}
        assert next(fault, None) is None
        assert {name: now[name] for name in start} == start
    assert changed == start.keys()


def test_latency_prints_its_table():
    process = run("node.latency", "--seconds=2", "--warm-up=1")
    assert process.returncode in (0, 1), process.stderr  # the limits are not for busy machines
    for row in ("| age of the image when work starts |", "| gap of a timer of 50 ms", "memory "):
        assert row in process.stdout


def test_startup_prints_its_stages():
    process = run("node.startup", "--runs=1")
    assert process.returncode == 0, process.stderr
    (line,) = [line for line in process.stdout.splitlines() if line.startswith("| median |")]
    seconds = [float(cell) for cell in line.split("|")[2:-1]]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_coverage_prints_its_table(capsys):
    assert coverage(frames=2) in (0, 1)  # two frames say nothing
    printed = capsys.readouterr().out
    assert "2 of 2 frames estimated" in printed
    assert "| region, all frames | 2 |" in printed
