"""docs/train_your_object.md from the CAD file to the node: every command as written, in small."""

import ast
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import trimesh

import graph
from spyropose_ros.demo import plan
from spyropose_ros.demo.frames import open_frames
from spyropose_ros.ros.pipeline.assembler import Assembler
from spyropose_ros.ros.pipeline.parameters import Parameters
from training.evaluation.verdict import verdict
from training.object.__main__ import build_parser as object_parser

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "train_your_object.md"

# What makes each command small; it is appended to the command.
SMALL = {
    "training.generate_data": "--images 12 --test-images 2 --resolution 320 240 --distance 0.3 0.4",
    "training.inspect_data": "--n 4",
    "training.train": (
        "--crop-res 32 --recursion-depth 2 --decoder-channels=[16,16,16] --feature-channels 8 "
        "--embed-dim 4 --d-ff 16 --n-layers 1 --batch-size 2 --max-steps 4 --steps-per-epoch 2 "
        "--validation-images 2 --num-workers 0 --accelerator cpu"
    ),
    "training.calibrate": "--images 2 --beam 16 --device cpu",
    "training.evaluate": "--limit 2 --beam 16 --device cpu",
}


def module_of(words):
    """The module of one step, and its arguments; None for a graph and for all steps at once."""
    if words[:3] == ["exec", "python", "-m"]:
        return words[3:]
    return None if words[0] in ("demo", "node", "object") else [f"training.{words[0]}", *words[1:]]


def commands():
    """All command lines of the page's shell blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.strip().splitlines()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with my_part.stl, an angle bracket in millimetres."""
    folder = tmp_path_factory.mktemp("tutorial")
    base = trimesh.creation.box((60, 40, 6))
    wall = trimesh.creation.box((6, 40, 50))
    wall.apply_translation((-27, 0, 25))
    trimesh.util.concatenate([base, wall]).export(folder / "my_part.stl")
    return folder


# One process for all commands, because the imports take most of each one's time.
PROGRAM = """
import json, runpy, sys
for module, *arguments in json.loads(sys.argv[1]):
    print(f"\\f{module}\\n", flush=True)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def outputs(workplace):
    """Output of every Python command of the page, run one after the other."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    calls = []
    for line in commands():
        program, *words = shlex.split(line)
        if program == "./run" and (call := module_of(words)):
            calls.append([*call, *SMALL[call[0]].split()])
    done = subprocess.run(
        [sys.executable, "-W", "ignore::RuntimeWarning", "-c", PROGRAM, json.dumps(calls)],
        cwd=workplace,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout
    parts = done.stdout.split("\f")[1:]
    return {module: output for module, _, output in (part.partition("\n") for part in parts)}


@pytest.mark.timeout(600)
def test_every_command_works_as_written(outputs, workplace):
    assert outputs.keys() == SMALL.keys()
    assert (workplace / "my_part.png").is_file()
    bundle = workplace / "runs" / "my_part" / "bundle"
    report = (bundle / "report.md").read_text()
    assert "my_part" in report and "ADD(-S)" in report
    assert "WARNING" not in outputs["training.inspect_data"]
    # Every command says what comes next, or what to think of the result.
    assert "-m training.calibrate my_part" in outputs["training.train"]
    assert "WARNING: temperatures fitted on" in outputs["training.calibrate"]
    assert re.search(r"^verdict +too few images to judge", outputs["training.evaluate"], re.M)


@pytest.mark.timeout(600)
def test_the_node_takes_the_bundle(outputs, workplace, start):
    """As `ros2 launch … model:=` names it."""
    peer = start(objects=[str(workplace / "runs" / "my_part" / "bundle")], search__beam=16)
    peer.send(graph.detection("my_part"))
    peer.spin_until(lambda: peer.distributions)
    assert peer.distributions[0].distributions[0].class_id == "my_part"


def test_the_demo_takes_the_run(outputs, workplace):
    """As it is named; it shows the part."""
    (line,) = [line for line in commands() if line.startswith("./run demo")]
    model = plan.Model.read(workplace / shlex.split(line)[2])
    assert model.class_id == "my_part"
    frame = open_frames(plan.parameters(model)["demo_camera"]["object"])[0]
    assert frame.visible_fraction > 0.9 and 0.1 < frame.translation[2] < 1


def test_the_node_command_names_what_exists():
    """The bundle of `./run object` has a detector of its own."""
    (line,) = [line for line in commands() if line.startswith("./run node")]
    words = shlex.split(line)
    assigned = [word.split(":=") for word in words if ":=" in word]
    assert assigned.pop(0) == ["objects", "[runs/my_part/bundle]"]
    settings = Parameters(objects=("runs/my_part/bundle",))
    inputs = {entry.name for entry in Assembler(settings, str, print, print, detects=True).inputs}
    assert {name for name, _ in assigned} == inputs


def test_the_one_command_has_flags_that_exist():
    """test/fitting/test_object_run.py runs it."""
    (line,) = [line for line in commands() if line.startswith("./run object")]
    args = object_parser().parse_args(shlex.split(line)[2:])
    assert (args.mesh.name, args.units, args.name, args.hours) == (
        "my_part.stl",
        "mm",
        "my_part",
        2,
    )
    flags = re.findall(r"^\| `(--.*?)` \|", TUTORIAL.read_text().partition("### Symm")[0], re.M)
    named = {flag.split()[0] for entry in flags for flag in entry.replace("`", "").split(", ")}
    known = {text for action in object_parser()._actions for text in action.option_strings}
    assert named == known - {"-h", "--help"}


def test_every_verdict_is_explained():
    """In the page's table, by its first words."""
    table = TUTORIAL.read_text().partition("| verdict | what to do |")[2].partition("\n\n")[0]
    explained = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    tree = ast.parse(inspect.getsource(verdict))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    firsts = [text.values[0] if isinstance(text, ast.JoinedStr) else text for text in texts]
    given = {re.split(r"[:(]", ast.literal_eval(first))[0].strip() for first in firsts}
    assert sorted(given) == sorted(explained)


def test_the_launch_command_has_arguments_that_exist():
    (line,) = [line for line in commands() if line.startswith("ros2 launch")]
    package, file, *arguments = shlex.split(line)[2:]
    assert package == "spyropose_ros"
    text = (ROOT / "launch" / file).read_text()
    for argument in arguments:
        assert f'"{argument.split(":=")[0]}"' in text, argument
