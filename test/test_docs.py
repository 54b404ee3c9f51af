"""The documentation names files and commands that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    file.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "models/*/README.md")
    for file in ROOT.glob(pattern)
    if file.name != "CHANGELOG.md"
)
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
TOP = "spyropose_ros|training|benchmarks|test|docs|config|requirements|msg|launch|scripts"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_pages_name_files_and_modules_that_exist(page):
    text = (ROOT / page).read_text()
    files = re.findall(rf"(?<![\w/.-])(?:{TOP})/[\w./]*\w\.\w+", text)
    modules = re.findall(rf"python -m ((?:{TOP})(?:\.\w+)+)", text)
    for name in {module.replace(".", "/") for module in modules} - {"training/NAME"}:
        there = (ROOT / name / "__main__.py").exists()
        files.append(f"{name}/__main__.py" if there else f"{name}.py")
    assert not [file for file in files if not (ROOT / file).exists()]


def test_every_folder_in_the_architecture_exists():
    folders = set(re.findall(rf"`((?:{TOP})(?:/\w+)*)`", ARCHITECTURE))
    assert len(folders) > 20
    assert not [folder for folder in folders if not (ROOT / folder).exists()]


def test_every_file_named_alone_in_the_architecture_is_in_a_room():
    files = {file.name for file in (ROOT / "spyropose_ros").rglob("*.py")}
    assert set(re.findall(r"`(\w+\.py)`", ARCHITECTURE)) <= files | {"setup.py"}


@pytest.mark.parametrize("folder", ("spyropose_ros", "spyropose_ros/ros", "training"))
def test_every_room_is_in_the_architecture(folder):
    rooms = {file.parent.relative_to(ROOT) for file in (ROOT / folder).glob("*/__init__.py")}
    assert not [room for room in rooms if f"`{room}" not in ARCHITECTURE]
