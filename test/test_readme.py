"""The tables of the README are what the code does."""

import re
from pathlib import Path

import pytest

from spyropose_ros.ros.messages.result_messages import TOPICS
from spyropose_ros.ros.pipeline import parameters
from spyropose_ros.ros.pipeline.assembler import Assembler
from spyropose_ros.ros.pipeline.parameters import Parameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


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
    source = (ROOT / "spyropose_ros/ros/node/lifecycle_node.py").read_text()
    made = {b: a for a, b in re.findall(r'create_service\((\w+), "(.*?)"', source)}
    assert documented("service") == {name: f"std_srvs/{kind}" for name, kind in made.items()}


@pytest.mark.parametrize("row", rows("parameter"), ids=lambda row: row[0])
def test_parameters(row):
    (name,), (text,) = names(row[0]), names(row[1])
    value = parameters.flatten(Parameters())[name]
    if isinstance(value, bool):
        value = str(value).lower()
    assert text == {(): "['']", "": "''"}.get(value, str(value))
