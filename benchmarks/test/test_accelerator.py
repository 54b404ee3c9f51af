"""All that needs a GPU in one command: its limits, its summary, and what it leaves behind."""

import json
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch

from benchmarks.accelerator import __main__ as command
from benchmarks.accelerator import evaluation, figures, parts, schedule
from benchmarks.accelerator.schedule import Part, State, run_parts
from benchmarks.bench import networks
from model_tools import untrained_model
from spyropose_ros.core.bundle import ModelBundle
from training.train import parse_args, settings_of

MEGABYTES = 64

HANGS = """
import subprocess, sys, time
wait = "import time; time.sleep(600)"
print(subprocess.Popen([sys.executable, "-c", wait]).pid)
exec(wait)
"""


def part(name, code="print('all is well')", share=0.4, **options):
    return Part(name, lambda _: ["-c", code], share, figures.last_line, **options)


@pytest.fixture
def short_starts(monkeypatch):
    monkeypatch.setattr(schedule, "START", 4.0)


def run(some, folder, seconds=60.0):
    told = []
    outcomes = run_parts(some, folder, time.monotonic(), seconds, lambda o: told.append(len(o)))
    assert told == list(range(1, len(some) + 1))
    return {outcome.part: outcome for outcome in outcomes}


def is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.is_file() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_part_that_hangs_or_fails_costs_no_other(tmp_path, short_starts):
    some = [
        part("hangs", HANGS, share=0.0),
        part("fails", "raise SystemExit('out of luck')"),
        part("works"),
    ]
    found = run(some, tmp_path)
    states = [outcome.state for outcome in found.values()]
    assert states == [State.KILLED, State.FAILED, State.DONE]
    assert found["fails"].figures == "out of luck"
    assert found["works"].figures == "all is well"
    child = int((tmp_path / "hangs.log").read_text().splitlines()[-1])
    assert not is_running(child)


def test_a_part_waits_for_others_and_for_what_it_needs(tmp_path, short_starts):
    some = [
        part("fails", "raise SystemExit(1)", expects_failure=True),
        part("after", after=("fails",)),
        part("packages", packages=("torch", "no_such_package")),
        part("files", files=(tmp_path / "absent",)),
    ]
    found = run(some, tmp_path)
    assert found["fails"].state is State.NO_GPU
    assert all(found[p.name].state is State.SKIPPED for p in some[1:])
    assert found["after"].figures == "fails was not done"
    assert found["packages"].figures == "no no_such_package"
    assert found["files"].figures == f"no {tmp_path / 'absent'}"
    assert [path.name for path in tmp_path.iterdir()] == ["fails.log"]


def test_nothing_begins_when_the_time_is_over(tmp_path):
    found = run([part("late"), part("later", takes_rest=True)], tmp_path, seconds=1.0)
    assert [outcome.figures for outcome in found.values()] == ["no time left"] * 2


def test_the_rest_is_what_later_parts_leave(tmp_path, short_starts):
    code = "import sys; print(sys.argv[1])"
    limits = [
        Part(name, lambda s: ["-c", code, f"{s}"], 0.1, figures.last_line, takes_rest=rest)
        for name, rest in (("first", False), ("greedy", True), ("last", True))
    ]
    found = run(limits, tmp_path)
    first, greedy, last = (float(outcome.figures) for outcome in found.values())
    claim = 4 + 0.1 * (60 - 3 * 4)
    assert first == pytest.approx(claim)
    assert first < greedy < 0.97 * 60 - claim
    assert greedy < last < 0.97 * 60


def start(monkeypatch, output, *options):
    arguments = ["accelerator", "--output", str(output), "--device", "cpu", *options]
    monkeypatch.setattr(sys, "argv", arguments)
    command.main()


def test_few_files_and_small(tmp_path, monkeypatch, short_starts, capsys):
    def stand_ins(device, data_root, output, run):
        train = (
            "import pathlib, sys; folder = pathlib.Path(sys.argv[1]); folder.mkdir(parents=True);"
            "[(folder / f'file{n}').write_text('x') for n in range(20)]"
        )
        return [
            part(parts.TILES, "print('8192 families')"),
            part("absent", packages=("no_such_package",)),
            Part("trains", lambda _: ["-c", train, str(run / "bundle")], 0.2, figures.last_line),
            part("fails", "raise SystemExit('out of luck')"),
        ]

    monkeypatch.setattr(command, "make_parts", stand_ins)
    output = tmp_path / "output"
    with pytest.raises(SystemExit, match="1"):
        start(monkeypatch, output, "--minutes", "1")
    names = {path.name for path in output.iterdir()}
    assert names == {"summary.md", "tiles.txt", "logs.tar.gz", "bundle.tar.gz"}
    with tarfile.open(output / "bundle.tar.gz") as archive:
        assert len(archive.getnames()) == 20
    with tarfile.open(output / "logs.tar.gz") as archive:
        assert archive.getnames() == ["logs/fails.log", "logs/tiles.log", "logs/trains.log"]
    printed = capsys.readouterr().out
    assert printed.startswith("absent is left out: no no_such_package\n")
    summary = (output / "summary.md").read_text()
    assert summary in printed
    assert "| fails | failed | 0 | out of luck |" in summary
    with pytest.raises(SystemExit, match="2"):
        start(monkeypatch, output, "--minutes", "1")
    assert "is not empty" in capsys.readouterr().err


def test_the_command_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parts, "_TEST_FILES", ("test/test_activation.py",))
    try:
        start(monkeypatch, tmp_path, "--minutes", "0.9", "--data-root", str(tmp_path / "none"))
    except SystemExit as end:
        assert end.code == 1  # a busy machine may run out of time
    assert "training is left out: no" in capsys.readouterr().out
    rows = (tmp_path / "summary.md").read_text().splitlines()[4:]
    found = {row.split(" | ")[0].strip("| "): row.split(" | ")[1] for row in rows}
    names = ["machine", "tests", "tiles", "bench", "training", "photographs", "renderings"]
    assert list(found) == names
    left_out = State.SKIPPED.value
    assert [found[name] for name in names[4:]] == [left_out] * 3
    assert found["tiles"] != State.FAILED.value
    files = list(tmp_path.rglob("*"))
    assert len(files) <= 8 and all(path.parent == tmp_path for path in files)
    assert sum(path.stat().st_size for path in files) < 1e6 * MEGABYTES


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_training_knows_its_flags(tmp_path, device):
    by_name = {p.name: p for p in parts.make_parts(device, tmp_path, tmp_path, tmp_path / "run")}
    args = parse_args(by_name["training"].command(200.0)[2:])
    config = settings_of(args)
    assert Path(args.runs) / args.run_id == tmp_path / "run"
    assert 0 < config.optim.hours < 200 / 3600
    published = (config.network.crop_resolution, config.network.hidden_dim) == (224, 256)
    assert published == (device == "cuda")


def test_no_part_sees_the_test_photographs(tmp_path):
    for p in parts.make_parts("cuda", tmp_path, tmp_path, tmp_path / "run"):
        assert "test" not in p.command(60.0)


def test_an_evaluation_ends_with_a_report(tmp_path, monkeypatch, capsys):
    demo = ModelBundle.from_pretrained(networks.DEMO)
    model = untrained_model(torch.tensor(demo.object.keypoints[:4]))
    info = networks.replace(demo.object, keypoints=demo.object.keypoints[:4])
    ModelBundle(model, info, [1.0] * 3, demo.record).save_pretrained(tmp_path)
    monkeypatch.setattr(evaluation, "_FIRST", 2)
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), "renderings", "0", "cpu", "data"])
    evaluation.main()
    assert json.loads((tmp_path / "report.json").read_text())["metrics"]["all"]["images"] == 2
    assert figures.evaluation(capsys.readouterr().out).startswith("2 images: ")


def test_figures_of_the_tests():
    count = "1 failed, 34 passed, 2 warnings in 61.2s"
    log = f"test_a.py::test_b[in 3s] PASSED\n=== {count} (0:01:01) ==="
    assert figures.tests(log) == count
    assert figures.tests("test_a.py::test_b PASSED") == ""


def test_figures_of_the_tiles():
    log = """
     9 families  tile (32, 4, 64): 0.020 ms, 99.0 TFLOP/s
  8192 families  tile (32, 4, 64): 0.900 ms, 40.5 TFLOP/s
  8192 families  tile (64, 4, 64): 0.800 ms, 51.2 TFLOP/s <- the default
  8192 families  tile (128, 8, 128): OutOfResources
"""
    assert figures.tiles(log) == ("8192 families: tile (64, 4, 64) <- the default, 51.2 TFLOP/s")
    assert figures.tiles("") == ""


def test_figures_of_the_benchmark():
    log = """
levels                4        5
this search, ms    19.2     39.4

summary                                          CPU               GPU
----------------------------------------------------------------------
search against the reference, depth 7   not measured            18.2 x
memory above the weights                not measured            140 MB
----------------------------------------------------------------------
written to somewhere
"""
    assert figures.bench(log) == (
        "search against the reference, depth 7: 18.2 x; memory above the weights: 140 MB"
    )
    assert figures.bench("begun") == ""


def test_figures_of_the_training(tmp_path):
    assert figures.training(tmp_path, "") == ""
    record = {"config": {"batch_size": 32, "pretrained": True}, "steps": 1000, "seconds": 160}
    (tmp_path / "config.json").write_text(json.dumps({"record": record}))
    expected = "1000 steps of 32 in 160 s (200 images/s), from {}, 0 MB"
    assert figures.training(tmp_path, "") == expected.format("published weights")
    log = "no pretrained weights for resnet18, from scratch: offline"
    assert figures.training(tmp_path, log) == expected.format("scratch")
