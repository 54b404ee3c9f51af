"""Every command answers before what is slow to import is imported."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from help_tools import check_help, help_of
from spyropose_ros.core import interrupts
from training import cli

ROOT = Path(__file__).resolve().parents[1]

COMMANDS = {
    "training.train": "--preset --crop-resolution --n-samples --max-steps --cj-hue --min-visible",
    "training.evaluate": "--split --beam --paper-protocol",
    "training.train_detector": "--hours --max-steps --run-id --side",
    "training.evaluate_detector": "--dataset --split --min-visible",
    "training.evaluate_chain": "--detector --compare --targets",
    "training.evaluate_presence": "--split --images",
    "training.fit_presence": "--split --images",
    "training.evaluate_multiview": "--views --fusion",
    "training.calibrate": "--images --dataset",
    "training.campaign": "--queue --status",
    "training.card": "--note",
    "training.compare": "--output",
    "training.complete": "dataset",
    "training.convert_nanodet": "--output",
    "training.download": "--root",
    "training.export": "--format --opset",
    "training.generate_data": "--units --occlusion",
    "training.inspect_data": "--crop-resolution",
    "training.label_photographs": "--views --output",
    "training.benchmark": "--bundles",
    "spyropose_ros.demo": "--frames --rviz",
    "spyropose_ros.demo.record": "--objects --rest",
    "spyropose_ros.photos.estimate": "--model --camera-info --fov --box --min-score",
    "spyropose_ros.ros.bags.bag": "--storage --pictures",
    "spyropose_ros.ros.node.check": "--ros-args",
    "spyropose_ros.viewer": "--host --port --fov --box",
}
"""What is typed, and some of what its help names."""


def test_no_command_is_forgotten():
    files = [
        file for file in (ROOT / "training").glob("*.py") if "\nif __name__ ==" in file.read_text()
    ]
    assert {f"training.{file.stem}" for file in files} <= COMMANDS.keys()


@pytest.fixture(scope="module")
def answers():
    return help_of(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command, answers):
    check_help(answers[command], COMMANDS[command])
    assert not re.search(r"--\w+_", answers[command][1])  # flags are shown as they are typed


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_while_a_command_starts_is_no_traceback(command, tmp_path):
    """It comes with the first import that is not Python's own start."""
    (tmp_path / "argparse.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-m", command],
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 130
    assert (ended.stdout, ended.stderr) == ("", "interrupted before anything began\n")


@pytest.mark.parametrize("script", sorted(file.name for file in (ROOT / "scripts").iterdir()))
def test_ctrl_c_while_an_executable_starts_is_no_traceback(script, tmp_path):
    for module in ("numpy", "rclpy"):
        (tmp_path / f"{module}.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, ROOT / "scripts" / script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    text = f"{script}: interrupted; nothing began\n"
    expected = (0, "") if script in ("estimator", "detector") else (130, text)
    assert (ended.returncode, ended.stderr) == expected


def test_a_program_that_imports_a_command_keeps_its_own_handler(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program.py"])
    with restored_handler(signal.default_int_handler):
        interrupts.guard_start()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        sys.argv[0] = "-m"
        interrupts.guard_start()
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        interrupts.expect()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with restored_handler(signal.SIG_IGN):  # in the background
        interrupts.guard_start()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@contextmanager
def restored_handler(handler):
    former = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def test_processes_started_meanwhile_ignore_ctrl_c():
    handler = signal.getsignal(signal.SIGINT)
    program = "import signal; signal.raise_signal(signal.SIGINT); print('goes on')"
    with interrupts.ignored():
        child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (child.stdout, child.stderr) == ("goes on\n", "")
    assert signal.getsignal(signal.SIGINT) is handler


SWALLOWS = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
except BaseException:
    pass
"""
COMMAND = """
from training import cli

def work():
    import interrupted_import
    print("went on")

cli.run(work, [], kept="nothing is lost")
"""


def test_ctrl_c_ends_an_import_that_swallows_it(tmp_path):
    (tmp_path / "interrupted_import.py").write_text(SWALLOWS)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        130,
        "",
        "work: interrupted; nothing is lost\n",
    )


def test_ctrl_c_ends_a_command_in_one_line(capsys):
    def work():
        signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        cli.run(work, [], kept="nothing is lost")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "work: interrupted; nothing is lost\n"
    assert signal.getsignal(signal.SIGINT) is handler
