"""The tables of the README are what the code does, and its snippets run as printed."""

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from spyropose_ros.demo.frames import open_frames
from spyropose_ros.ros.interfaces import PoseDistribution, PoseDistributionArray, PoseMode
from spyropose_ros.ros.messages.result_messages import TOPICS
from spyropose_ros.ros.node.questions import SERVICES
from spyropose_ros.ros.pipeline import parameters
from spyropose_ros.ros.pipeline.assembler import Assembler
from spyropose_ros.ros.pipeline.parameters import Parameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs/estimate.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


def rows(first_cell: str) -> list[list[str]]:
    """Cells of the table that begins with a header."""
    _, _, table = README.partition(f"| {first_cell} |")
    lines = table.splitlines()[2:]
    found = []
    for line in lines:
        if not line.startswith("|"):
            return found
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def names(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


def type_text(kind: type) -> str:
    """The README's way to write a message or service class."""
    return f"{kind.__module__.partition('.')[0]}/{kind.__name__}"


def documented(direction: str) -> dict[str, str]:
    return {
        name: row[2] for row in rows("direction") if row[0] == direction for name in names(row[1])
    }


def test_inputs():
    expected = {"/tf": "tf2_msgs/TFMessage", "/tf_static": "tf2_msgs/TFMessage"}
    for transport in ("raw", "compressed"):
        settings = Parameters(image_transport=transport, depth_image=True)
        for entry in Assembler(settings, str, print, print).inputs:
            expected[entry.name] = type_text(entry.kind)
    assert documented("in") == expected


def test_outputs():
    expected = {topic: type_text(kind) for topic, kind in TOPICS.items()}
    expected["~/model_info"] = "std_msgs/String"
    expected["/diagnostics"] = "diagnostic_msgs/DiagnosticArray"
    assert documented("out") == expected


def test_services():
    source = (ROOT / "spyropose_ros/ros/node/managed_node.py").read_text()
    made = {b: a for a, b in re.findall(r'create_service\((\w+), "(.*?)"', source)}
    expected = {name: f"std_srvs/{kind}" for name, kind in made.items()}
    expected |= {name: type_text(kind) for name, kind in SERVICES.items()}
    assert documented("service") == expected


@pytest.mark.parametrize("row", rows("parameter"), ids=lambda row: row[0])
def test_parameters(row):
    (name,), (text,) = names(row[0]), names(row[1])
    value = parameters.flatten(Parameters())[name]
    if isinstance(value, bool):
        value = str(value).lower()
    assert text == {(): "['']", "": "''"}.get(value, str(value))


@pytest.fixture(scope="module")
def mug_frame():
    return open_frames("mug", 60)[0]


def test_the_library_is_used_as_printed(mug_frame, monkeypatch, capsys):
    """Every line, with an image of the demo's camera; the mode is near the truth."""
    (code,) = [code for code in CODE if "boxes x0, y0, x1, y1" in code]
    monkeypatch.chdir(ROOT)
    names = {"image": mug_frame.image, "K": mug_frame.K, "boxes": mug_frame.box[None]}
    exec(code, names)
    R, t = names["R"].double().numpy(), names["t"].double().numpy()
    assert np.degrees(np.arccos((np.trace(mug_frame.rotation.T @ R) - 1) / 2)) < 20
    assert np.linalg.norm(t - mug_frame.translation) < 0.03
    modes = names["distribution"].modes()
    assert capsys.readouterr().out.startswith(f"{modes[0].mass:.0%} tensor(")
    assert names["rotations"].shape == (100, 3, 3)


def test_a_photograph_becomes_distributions_as_printed(monkeypatch):
    """The mug's detector and estimator fit each other without glue; the frame is the demo's."""
    (code,) = [code for code in CODE if "read_photograph" in code]
    assert re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) == [code]
    monkeypatch.chdir(ROOT)
    names = {}
    exec(code, names)
    distribution = names["distributions"][0]  # of the best box
    position = distribution.mode()[1].numpy()
    assert np.linalg.norm(position - [0.065, 0.035, 0.541]) < 0.03


def test_messages_are_read_as_printed(capsys):
    (code,) = [code for code in CODE if "on_distributions" in code]
    names = {}
    exec(code, names)
    modes = [PoseMode(mass=0.75), PoseMode(mass=0.25)]
    modes[0].pose.position.z = 0.5
    mug = PoseDistribution(class_id="mug", modes=modes)
    diffuse = PoseDistribution(class_id="plate")
    names["on_distributions"](PoseDistributionArray(distributions=[diffuse, mug]))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["mug", "75%"], ["mug", "25%"]]
    assert "z=0.5" in lines[0]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("./run ")])
def test_commands_exist(line):
    """The verb, and the module that an environment's Python runs."""
    verb, *words = shlex.split(line, comments=True)[1:]
    verbs = re.search(r"^  (demo \|.*) exec\) ;;$", (ROOT / "run").read_text(), re.MULTILINE)[1]
    assert verb in [*verbs.split(" | "), "exec", "help"]
    if words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2])
