"""Every command answers before what is slow to import is imported."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from help_tools import check_help, help_of
from training import cli

ROOT = Path(__file__).resolve().parents[1]

COMMANDS = {
    "training.train": "--preset --crop_resolution --n_samples --max_steps --cj_hue --min_visible",
    "training.evaluate": "--split --beam --paper_protocol",
    "training.evaluate_multiview": "--views --fusion",
    "training.calibrate": "--images --dataset",
    "training.campaign": "--queue --status",
    "training.card": "--note",
    "training.compare": "--output",
    "training.complete": "dataset",
    "training.download": "--root",
    "training.export": "--format --opset",
    "training.generate_data": "--units --occlusion",
    "training.inspect_data": "--crop_resolution",
    "training.benchmark": "--bundles",
    "spyropose_ros.demo": "--frames --rviz",
    "spyropose_ros.demo.record": "--objects --rest",
    "spyropose_ros.ros.bags.bag": "--storage --pictures",
    "spyropose_ros.ros.node.check": "--ros-args",
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

cli.run(work, [])
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
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "work: interrupted\n")


def test_ctrl_c_ends_a_command_in_one_line(capsys):
    def work():
        signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        cli.run(work, [])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "work: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is handler
