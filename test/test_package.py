"""The package's own files agree with each other: versions, rooms, messages, pins."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Which packages of this project each room may import. No other room imports training or demo.
CORE, SCENES, BOP = "spyropose_ros.core", "spyropose_ros.scenes", "spyropose_ros.bop"
DETECTOR, PHOTOS = "spyropose_ros.detector", "spyropose_ros.photos"
MESSAGES = {"spyropose_ros.ros.interfaces", "spyropose_ros.msg", "spyropose_ros.srv"}
PORTRAIT = "spyropose_ros.scenes.portrait"  # for questions that need the object drawn
VERIFICATION = "spyropose_ros.scenes.verification"  # draws it, too
PIPELINE, OUTPUT = "spyropose_ros.ros.pipeline", "spyropose_ros.ros.messages"
MAY_IMPORT = {
    "spyropose_ros/core": {CORE},
    "spyropose_ros/detector": {CORE, DETECTOR},
    "spyropose_ros/photos": {CORE, DETECTOR, VERIFICATION, PHOTOS},
    "spyropose_ros/scenes": {CORE, SCENES},
    "spyropose_ros/bop": {CORE, SCENES, BOP},
    "spyropose_ros/ros": {
        *(CORE, DETECTOR, PORTRAIT, VERIFICATION, "spyropose_ros.ros", *MESSAGES),
    },
    "spyropose_ros/ros/pipeline": {
        *(CORE, DETECTOR, PORTRAIT, VERIFICATION, PIPELINE, *MESSAGES),
    },
    "spyropose_ros/ros/messages": {CORE, PIPELINE, OUTPUT, *MESSAGES},
    "spyropose_ros/ros/bags": {CORE, PIPELINE, OUTPUT, "spyropose_ros.ros.bags", *MESSAGES},
    "spyropose_ros/ros/node": {
        *(CORE, DETECTOR, PIPELINE, OUTPUT, "spyropose_ros.ros.node", *MESSAGES),
    },
    "spyropose_ros/demo": {
        *(CORE, DETECTOR, SCENES, BOP, "spyropose_ros.demo"),
        *("spyropose_ros.ros", "spyropose_ros.msg", "spyropose_ros.srv"),
    },
    "spyropose_ros/viewer": {
        *(CORE, DETECTOR, PHOTOS, "spyropose_ros.viewer"),
        *("spyropose_ros.ros", "spyropose_ros.msg"),
    },
    "training": {CORE, DETECTOR, SCENES, BOP, "training"},
}
PROJECT = ("spyropose_ros", "training", "benchmarks", "test")
NEEDS_NO_ROS = (
    *("spyropose_ros/core", "spyropose_ros/detector", "spyropose_ros/photos"),
    *("spyropose_ros/scenes", "spyropose_ros/bop", "training"),
)
NEEDS_NO_RCLPY = ("spyropose_ros/ros/pipeline", "spyropose_ros/ros/messages")
ROS_MODULES = re.compile(
    r"(rclpy|ament_index_python|launch|launch_ros|cv_bridge|tf_transformations|\w+_msgs|\w+_interfaces)(\.|$)"
)

FIELDS = {
    "FeatureEstimate": [
        "string feature",
        "string class_id",
        "string detection_id",
        "geometry_msgs/Point position",
        "float64[9] covariance",
        "geometry_msgs/Vector3 direction",
        "float64 direction_spread",
    ],
    "FeatureEstimateArray": ["std_msgs/Header header", "FeatureEstimate[] features"],
    "PoseDistribution": [
        "std_msgs/Header header",
        "string class_id",
        "string detection_id",
        "float64 detection_score",
        "float64 presence",
        "geometry_msgs/Pose[] poses",
        "float64[] weights",
        "float64 truncated_mass",
        "float32[] log_densities",
        "float64 rotation_resolution",
        "float64 translation_resolution",
        "uint8 recursion_depth",
        "uint32 num_cells",
        "float64 entropy",
        "float64 effective_sample_size",
        "PoseMode[] modes",
        "string model_id",
        "builtin_interfaces/Duration inference_time",
    ],
    "PoseDistributionArray": ["std_msgs/Header header", "PoseDistribution[] distributions"],
    "PoseMode": ["geometry_msgs/Pose pose", "float64[36] covariance", "float64 mass"],
}


@functools.cache
def imported_modules(file):
    """Every module that a file imports; `from a import b` counts as a.b."""
    return list(_imported_modules(file))


def _imported_modules(file):
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*parents, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imports_of(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"{room} has no Python files"
    return [(file.relative_to(ROOT), name) for file in files for name in imported_modules(file)]


def in_package(name, packages):
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_only_what_it_may(room):
    forbidden = [
        f"{file}: {name}"
        for file, name in imports_of(room)
        if in_package(name, PROJECT) and not in_package(name, MAY_IMPORT[room])
    ]
    assert not forbidden


@pytest.mark.parametrize("room", NEEDS_NO_ROS)
def test_room_imports_no_ros(room):
    assert not [f"{file}: {name}" for file, name in imports_of(room) if ROS_MODULES.match(name)]


def test_no_test_imports_benchmarks():
    assert not [
        f"{file}: {name}" for file, name in imports_of("test") if in_package(name, ["benchmarks"])
    ]


@pytest.mark.parametrize("room", NEEDS_NO_RCLPY)
def test_room_knows_messages_but_no_node(room):
    assert not [f"{file}: {name}" for file, name in imports_of(room) if in_package(name, ["rclpy"])]


def test_every_package_of_the_source_tree_is_a_room():
    packages = {file.parent.relative_to(ROOT) for file in ROOT.glob("spyropose_ros/*/__init__.py")}
    assert {str(package) for package in packages} <= set(MAY_IMPORT)


def test_package_init_only_extends_the_search_path():
    # What is installed last keeps __init__.py, so nothing may depend on its content.
    init = ROOT / "spyropose_ros/__init__.py"
    assert set(imported_modules(init)) == {"pkgutil.extend_path"}
    assert not (ROOT / "spyropose_ros/msg").exists()


def test_one_version():
    version = ElementTree.parse(ROOT / "package.xml").findtext("version")
    result = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout.split()[-1:] == [version], result.stderr
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


IMPORT_WITHOUT_ROS = """
import importlib.util, pkgutil, sys
sys.modules["rclpy"] = None  # importing it fails
for room in ("core", "detector", "photos", "scenes", "bop"):
    package = importlib.import_module("spyropose_ros." + room)
    print(package.__file__)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(".triton_kernel") or importlib.util.find_spec("triton"):
            importlib.import_module(module.name)
"""


def test_pip_installs_core_scenes_and_training_without_ros(tmp_path):
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "package.xml"):
        shutil.copy(ROOT / name, source)
    for name in ("requirements", "spyropose_ros", "training"):
        shutil.copytree(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", installed, source], check=True)

    packages = {str(f.parent.relative_to(installed)) for f in installed.rglob("__init__.py")}
    names = ("core", "core/kernels", "core/lens", "detector", "photos", "scenes", "bop")
    rooms = {f"spyropose_ros/{name}" for name in names}
    assert rooms | {"spyropose_ros", "training", "training/fitting"} <= packages
    assert not packages & {"spyropose_ros/ros", "spyropose_ros/demo", "test"}
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT_ROS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert all(line.startswith(str(installed)) for line in result.stdout.splitlines())


def fields(definition):
    lines = (line.split("#")[0].strip() for line in definition.splitlines())
    return [line for line in lines if line]


def test_every_message_is_checked():
    assert {file.stem for file in (ROOT / "msg").iterdir()} == set(FIELDS)
    built = re.findall(r"msg/(\w+)\.msg", (ROOT / "CMakeLists.txt").read_text())
    assert set(built) == set(FIELDS)


@pytest.mark.parametrize("message", FIELDS)
def test_message_fields(message):
    assert fields((ROOT / "msg" / f"{message}.msg").read_text()) == FIELDS[message]


PIP = """\
Collecting torch
  Downloading torch-2.13.0-cp312-manylinux_2_28_x86_64.whl.metadata (30 kB)
Processing /wheels/numpy-2.4.0.whl
Downloading torch-2.13.0-cp312-manylinux_2_28_x86_64.whl (2.1 GB)
Downloading numba-0.63.0.whl (3.9 MB)
Successfully installed torch
"""


def test_the_set_up_says_how_much_it_downloads(tmp_path):
    log = tmp_path / "setup.log"
    log.write_text("Downloading earlier.whl (500 MB)\n" + PIP)
    run = (ROOT / "run").read_text()
    function = re.search(r"^downloaded\(\) \{.*?^\}", run, re.MULTILINE | re.DOTALL)[0]
    program = f"set -euo pipefail; LOG={log}\n{function}\n"

    def said(first):
        command = ["bash", "-c", f"{program}downloaded {first}"]
        return subprocess.run(command, capture_output=True, text=True).stdout

    for first, expected in ((2, ", 2103 MB downloaded"), (6, ", 3 MB downloaded"), (7, "")):
        assert said(first) == expected
    with log.open("a") as file:
        file.write("WARNING: Retrying (Retry(total=4, connect=None)) after connection broken\n")
    assert said(7) == ", the package index does not answer: pip tries again"
    with log.open("a") as file:
        file.write("Collecting scipy\n")
    assert said(7) == ""


def test_messages_are_generated_before_python_is_installed():
    # The other order silently installs an empty __init__.py.
    cmake = (ROOT / "CMakeLists.txt").read_text()
    assert cmake.index("rosidl_generate_interfaces(") < cmake.index("install(DIRECTORY")


def test_every_requirement_is_pinned_exactly():
    pins = (ROOT / "requirements/constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in pins if "==" in line}
    loose = [line for line in pins if line and not line.startswith("#") and "==" not in line]
    required = {
        re.split(r"[\[=<>;]", line)[0].replace("_", "-")
        for name in ("core", "opencv", "train", "step", "export", "view", "test", "docs", "ros")
        for line in (ROOT / f"requirements/{name}.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    assert not loose
    assert required <= pinned


def test_the_wheels_of_jazzy_are_pinned_and_cover_those_of_kilted():
    lines = (ROOT / "requirements/ros-jazzy.txt").read_text().splitlines()
    jazzy = dict(line.split("==") for line in lines if not line.startswith("#"))
    wanted = (ROOT / "requirements/ros.txt").read_text().splitlines()
    kilted = {line for line in wanted if line.startswith("ros-")}
    assert kilted - jazzy.keys() == {"ros-ament-cmake-ros-core"}  # new in Kilted


@pytest.mark.parametrize(
    "variables, text",
    [
        ({"ROS_WHEELS": "foxy"}, 'ROS_WHEELS is "foxy": choose kilted or jazzy'),
        ({"ROS_WHEELS": "jazzy", "ROS_DISTRO": "humble"}, "unset it"),
    ],
)
def test_wheels_that_do_not_exist_are_refused_before_the_set_up(variables, text):
    ended = subprocess.run(
        [ROOT / "run", "test"], env=os.environ | variables, capture_output=True, text=True
    )
    assert ended.returncode == 1 and text in ended.stderr


@pytest.mark.parametrize("script", sorted(file.name for file in (ROOT / "scripts").iterdir()))
def test_executable_starts_an_existing_main(script):
    text = (ROOT / "scripts" / script).read_text()
    module = re.search(r"^ *from ([\w.]+) import main$", text, re.MULTILINE).group(1)
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
    assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert text.startswith("#!/usr/bin/env python3\n")
    assert f"scripts/{script}\n" in (ROOT / "CMakeLists.txt").read_text()
