"""The demo as users start it: four processes on a real graph."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rclpy.node import Node
from vision_msgs.msg import Detection2DArray

from spyropose_ros.demo.processes import free_domain
from spyropose_ros.detector.bundle import DetectorBundle, DetectorInfo
from spyropose_ros.detector.network import DetectionNetwork

MUG_CARD = {
    "all": {"coverage": {"0.9": 0.9}},
    "handle visible (>= 5 %)": {
        "rotation_median_deg": 1.0,
        "lateral_median_m": 0.001,
        "axis_entropy_mean": -1.0,
    },
    "handle hidden": {"axis_entropy_mean": 0.0},
}
pytestmark = pytest.mark.timeout(300)
PROCESSES = ("estimator", "camera", "detector", "summary")
ROW = "     0  "  # the first frame in the table


@pytest.fixture
def bundle(mug_bundle, tmp_path):
    """The untrained mug with what the demo reads besides: its training object and a card."""
    return demo_bundle(mug_bundle, tmp_path, "mug")


def demo_bundle(source, tmp_path, object_name):
    copy = tmp_path / "model with a space"
    copy.mkdir()
    for file in Path(source).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    config["record"] = {"object": object_name}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "report.json").write_text(json.dumps({"metrics": MUG_CARD}))
    return copy


class Demo:
    """A running demo with its output."""

    def __init__(self, directory: Path, *arguments: str):
        self.output = directory / "output"
        self._log = directory / "terminal.txt"
        self._errors = directory / "errors.txt"
        command = [sys.executable, "-m", "spyropose_ros.demo", "--output", str(self.output)]
        with self._log.open("w") as log, self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, "--device", "cpu", *arguments],
                stdout=log,
                stderr=errors,
                env=os.environ | {"ROS_DOMAIN_ID": str(free_domain())},
            )

    @property
    def text(self) -> str:
        return self._log.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def children(self) -> dict[int, str]:
        """Command lines of the processes that it has started."""
        pid = self.process.pid
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in pids}

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 200
        while text not in self.text:
            assert self.process.poll() is None, f"ended early:\n{self.text}\n{self.errors}"
            assert time.monotonic() < deadline, f"{text!r} did not come:\n{self.text}"
            time.sleep(0.1)

    def exit_code(self) -> int:
        return self.process.wait(250)

    def logs(self) -> str:
        return "".join(file.read_text() for file in (self.output / "log").iterdir())


@pytest.fixture
def start_demo(tmp_path):
    demos = []

    def start(*arguments):
        demos.append(Demo(tmp_path, *map(str, arguments)))
        return demos[-1]

    yield start
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.send_signal(signal.SIGINT)
            demo.process.wait(40)


def all_gone(pids):
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_every_frame_is_answered_and_a_bad_model_fails_the_demo(start_demo, bundle):
    demo = start_demo("--model", bundle, "--frames", 5)
    assert demo.exit_code() == 1, demo.errors
    assert "distributions for 5 of 5 frames" in demo.text
    assert "Demo FAILED" in demo.text and "rotation error" in demo.text
    lines = [line for line in demo.text.splitlines() if str(demo.output) not in line]
    assert max(map(len, lines[3:14])) <= 100
    summary = json.loads((demo.output / "summary.json").read_text())
    assert [frame["frame"] for frame in summary["frames"]] == list("01234")
    assert summary["published"] == 5 and summary["passed"] is False
    assert all(frame["latency"] > frame["inference"] > 0 for frame in summary["frames"])
    assert sum(check["passed"] for check in summary["checks"]) >= 1
    assert {file.name for file in demo.output.iterdir()} == {
        "summary.json", "summary.png", "animation.webp", "log",
    }  # fmt: skip
    assert "Traceback" not in demo.logs()
    # While the nodes discover each other, detections may come without their images
    assert "unmatched" not in demo.logs().partition("first result published")[2]


@pytest.mark.parametrize("row", ["no distribution", "something else was found"])
def test_what_its_own_detector_misses_is_missed(start_demo, bundle, many, row):
    if row == "no distribution":
        untrained = DetectorBundle(DetectionNetwork(1).eval(), DetectorInfo(("mug",), 64))
        untrained.save_pretrained(bundle)
    else:  # the first of many equal boxes is in a corner of the image
        shutil.copytree(many, bundle, dirs_exist_ok=True)
    demo = start_demo("--model", bundle, "--frames", 3)
    assert demo.exit_code() == 1, demo.errors
    assert f"by the detector in {bundle}" in demo.text
    assert demo.text.count(row) == 3, f"{demo.text}\n{demo.logs()}"
    assert "distributions for 0 of 3 frames" in demo.text
    assert {file.stem for file in (demo.output / "log").iterdir()} == {
        "camera", "estimator", "summary",
    }  # fmt: skip
    assert "Traceback" not in demo.logs()


def test_the_shipped_model_passes(start_demo):
    demo = start_demo("--frames", 20)
    assert demo.exit_code() == 0, f"{demo.text}\n{demo.errors}"
    assert "distributions for 20 of 20 frames" in demo.text
    assert "Demo passed" in demo.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_processes(start_demo, bundle, number, monkeypatch):
    """Also where there is no RViz, which is said."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    demo = start_demo("--model", bundle, *["--rviz"] * (number == signal.SIGTERM))
    demo.wait_for(ROW)
    assert ("RViz is not installed" in demo.text) == (number == signal.SIGTERM)
    pids = list(demo.children())
    assert len(pids) == len(PROCESSES)
    demo.process.send_signal(number)
    assert demo.exit_code() == 130
    assert all_gone(pids)
    assert "Interrupted" in demo.text
    assert "Traceback" not in demo.errors + demo.logs()


def test_a_process_that_dies_is_named_with_the_end_of_its_log(start_demo, bundle):
    demo = start_demo("--model", bundle)
    demo.wait_for(ROW)
    pids = demo.children()
    (estimator,) = (pid for pid, command in pids.items() if "estimator_node" in command)
    os.kill(estimator, signal.SIGKILL)
    assert demo.exit_code() == 1
    assert all_gone(pids)
    assert "The estimator ended too early (signal 9" in demo.errors
    assert "[estimator]: ready after" in demo.errors


def test_missing_photographs_are_named_with_the_remedy(start_demo, mug_bundle, tmp_path):
    bundle = demo_bundle(mug_bundle, tmp_path, "lmo/duck")
    demo = start_demo("--model", bundle, "--data", tmp_path / "nowhere")
    assert demo.exit_code() == 1
    assert "The camera ended too early" in demo.errors
    assert "nowhere" in demo.errors and "python -m training.download lmo" in demo.errors


def test_the_camera_finds_a_remapped_detector(tmp_path):
    peer = Node("detector")
    peer.create_publisher(Detection2DArray, "found", 1)
    log = tmp_path / "camera.txt"
    command = [sys.executable, "-m", "spyropose_ros.demo.camera", "--ros-args"]
    settings = ["-p", "frames:=1", "-r", "detections:=found"]
    with log.open("w") as file:
        camera = subprocess.Popen([*command, *settings], stderr=file)
    try:
        deadline = time.monotonic() + 60
        while "waiting for the summary and the estimator" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
    finally:
        camera.send_signal(signal.SIGINT)
        assert camera.wait(60) == 0
        peer.destroy_node()
