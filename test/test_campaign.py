"""Queues of tiny trainings: broken, killed, through to the end, looked at and stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from spyropose_ros.core.bundle_files import CONFIG
from training.campaign.__main__ import QUEUE, last_line
from training.campaign.queue import Entry, EntryRun, read_queue

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "--preset rotations --crop-res 32 --depth 2 --backbone resnet18-slim --feature-channels 8 "
    "--decoder-channels [16,16,16] --embed-dim 4 --d-ff 16 --n-samples 8 --validation-images 4 "
    "--steps-per-epoch 40"
)
SECONDS = 5  # of a training


def entry(name, **changes):
    tiny = {"dataset": "shapes", "object": "cone", "hours": SECONDS / 3600, "flags": TINY}
    return {"name": name, **tiny, "images": 4, **changes}


def write(path, *entries):
    path.write_text(yaml.safe_dump(list(entries)))
    return path


class Command:
    """`./run campaign` with a queue and runs in a folder of its own."""

    def __init__(self, directory):
        self.queue, self.runs = directory / "queue.yaml", directory / "runs"
        self.table = directory / "table.md"
        self.processes = []

    def start(self, *flags):
        call = [sys.executable, "-m", "training.campaign", "--queue", self.queue]
        path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)])
        process = subprocess.Popen(
            [*map(str, call), "--runs", str(self.runs), *map(str, flags)],
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def run(self, *flags):
        process = self.start(*flags)
        output = process.communicate()[0]
        return process.returncode, output

    def holder(self):
        lock = self.runs / "campaign.lock"
        return (yaml.safe_load(lock.read_text()) or {}) if lock.is_file() else {}

    def rows(self, text):
        """Cells of the table by name of the entry."""
        lines = [line for line in text.splitlines() if line.startswith("| ")]
        head, *rest = ([cell.strip() for cell in line[1:-1].split(" | ")] for line in lines)
        return {row[0]: dict(zip(head, row, strict=True)) for row in rest}


@pytest.fixture
def command(tmp_path):
    made = Command(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.terminate()
            process.wait()


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return result


def finished(row):
    return row["state"] == "finished" and "-" not in row.values()


@pytest.mark.timeout(900)
def test_a_queue_goes_through_although_an_entry_is_broken_and_all_is_killed(command):
    """kill -9 of everything while the second entry trains; it then ends with all its results."""
    a = entry("a", calibration="--images 3")
    write(command.queue, entry("broken", object="banana"), a)
    process = command.start()
    until((command.runs / "a" / "checkpoints" / "last.ckpt").is_file)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGSTOP)  # or it would record that its child was killed
    for pid in (*map(int, children), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    assert not (command.runs / "a" / "bundle").exists()
    status = command.run("--status")[1]
    assert status.endswith("nothing is running\n")
    assert command.rows(status)["a"]["state"] == "begun"

    assert command.run("--table", command.table)[0] == 0
    assert "resuming from" in (command.runs / "a" / "log.txt").read_text()
    text = command.table.read_text()
    assert text == (command.runs / "campaign.md").read_text()
    rows = command.rows(text)
    assert list(rows) == ["broken", "a"]
    assert rows["broken"]["state"].startswith("failed: training: train: there is no shape 'banana'")
    assert finished(rows["a"])
    assert int(rows["a"]["images"]) == 16 * int(rows["a"]["steps"]) > 0
    assert all(rows["a"][name].count(", ") == 1 for name in ("temperatures", "LL per level, T"))
    config = json.loads((command.runs / "a" / "bundle" / CONFIG).read_text())
    assert config["record"]["calibration"]["images"] == 3
    output = (command.runs / "a" / "campaign.log").read_text()
    assert [line.split()[3] for line in output.splitlines() if line.startswith("$ ")] == [
        *("training.train", "training.train"),
        *("training.evaluate", "training.calibrate", "training.evaluate"),
    ]
    before = (command.runs / "a" / "bundle" / "config.json").stat().st_mtime
    write(command.queue, entry("a"))
    assert command.run()[0] == 0  # at once: nothing is left to do
    assert (command.runs / "a" / "bundle" / "config.json").stat().st_mtime == before


STAND_IN = """
import signal, sys, time
from pathlib import Path

flags = dict(zip(sys.argv, sys.argv[1:]))
run = Path(flags["--runs"], flags["--run-id"])

def note(line):
    with (run / "log.txt").open("a") as log:
        log.write(line + "\\n")

def stop(*_):
    note("stopped")
    sys.exit(1)

signal.signal(signal.SIGTERM, stop)
note("step 7")
time.sleep(600)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """`python -m training.train` waits for its end; all else of `training` is as it is."""
    package = tmp_path / "first" / "training"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"__path__.append({str(ROOT / 'training')!r})")
    (package / "train.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)  # else the source tree comes first


def test_one_campaign_at_a_time_in_the_background(command, stand_in):
    """It is looked at, refuses a second one and is stopped cleanly."""
    write(command.queue, entry("a"))
    code, output = command.run("--background")
    assert code == 0 and str(command.runs / "campaign.log") in output
    log = command.runs / "a" / "log.txt"
    until(lambda: log.is_file() and "step 7" in log.read_text())
    pid = command.holder()["pid"]
    assert os.getsid(pid) == pid and os.getpriority(os.PRIO_PROCESS, pid) == 10
    status = command.run("--status")[1]
    assert command.rows(status)["a"]["state"] == "training"
    assert status.endswith(f"running: a, training (process {pid}). step 7\n")
    code, output = command.run()
    assert code != 0 and "a campaign is already running: a, training" in output
    assert command.run("--stop")[0] == 0
    assert log.read_text().endswith("stopped\n")
    assert "stopped; results" in (command.runs / "campaign.log").read_text()
    assert command.run("--status")[1].endswith("nothing is running\n")
    code, output = command.run("--stop")
    assert code != 0 and "no campaign is running" in output


def test_the_queue_of_the_project_is_readable():
    entries = read_queue(QUEUE)
    assert len(entries) >= 6 and all(entry.hours > 0 for entry in entries)


def test_the_data_root_is_every_commands(tmp_path):
    command = EntryRun(Entry("a", "lmo", "can", 1.0, data_root="elsewhere"), tmp_path).next_stage()
    assert " --data-root elsewhere " in " ".join(command.command)


def test_mistakes_in_a_queue_are_named(tmp_path):
    for wrong, text in (
        ("- {name: a}", "missing.*'dataset'"),
        ("- {name: a, dataset: b, object: c, hours: 1, colour: red}", "colour"),
        ("- [", "expected"),
        ("7", "queue.yaml"),
    ):
        (tmp_path / "queue.yaml").write_text(wrong)
        with pytest.raises(ValueError, match=text):
            read_queue(tmp_path / "queue.yaml")
    with pytest.raises(ValueError, match="more than one entry is called a"):
        read_queue(write(tmp_path / "queue.yaml", entry("a"), entry("b"), entry("a")))


def test_an_entry_says_how_it_is_trained(tmp_path):
    run = EntryRun(Entry("x", "shapes", "cone", 1.5, "--depth 3"), tmp_path / "x")
    name, command = run.next_stage()
    assert name == "training"
    assert command[2:6] == ["training.train", "shapes", "cone", "--runs"]
    flags = dict(zip(command, command[1:], strict=False))
    assert flags["--runs"] == str(tmp_path)
    assert flags["--run-id"] == "x" and flags["--hours"] == "1.5"
    assert command[-2:] == ["--depth", "3"]


def test_the_last_line_of_a_log(tmp_path):
    log = tmp_path / "log.txt"
    assert last_line(log) == ""
    log.write_text("first\n 10%|\r 20%| more\r\n\n")
    assert last_line(log) == "20%| more"
