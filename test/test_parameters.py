"""Parameters: one truth in the dataclass; YAML and node agree with it; mistakes are explained."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from spyropose_ros.ros.pipeline import parameters
from spyropose_ros.ros.pipeline.parameters import ParameterError, Parameters
from spyropose_ros.viewer.parameters import ViewerParameters

ROOT = Path(__file__).parents[1]
YAML = ROOT / Parameters.file


def yaml_values(file=YAML):
    content = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]

    def flat(tree, prefix=""):
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return dict(flat(content))


@pytest.mark.parametrize("group", [Parameters, ViewerParameters])
def test_yaml_lists_every_parameter_with_its_default_and_type(group):
    defaults = {
        name: list(value) or [""] if isinstance(value, tuple) else value
        for name, value in parameters.flatten(group()).items()
    }
    values = yaml_values(ROOT / group.file)
    assert values == defaults
    assert {name: type(value) for name, value in values.items()} == {
        name: type(value) for name, value in defaults.items()
    }


def test_yaml_comments_state_the_range_of_every_number():
    lines = YAML.read_text().splitlines()
    for name, description in parameters.descriptions():
        if description.low is None:
            continue
        group, _, key = name.rpartition(".")
        if group == "detector":  # itself a parameter, so that YAML has no group of that name
            group, key = "", name
        begin = lines.index(f"    {group}:") if group else 0
        row = next(
            r for r, line in enumerate(lines) if r >= begin and line.strip().startswith(f"{key}:")
        )
        comment, above = [], row - 1
        while lines[above].strip().startswith("#"):
            comment.insert(0, lines[above].strip("# "))
            above -= 1
        text = " ".join(comment)
        assert f"{description.low} to {description.high}" in text, name
        assert bool(re.search(r"\blive\b", text)) == description.dynamic, name


def test_every_default_is_in_its_range_and_described():
    values = parameters.flatten(Parameters())
    described = dict(parameters.descriptions())
    assert described.keys() == values.keys()
    for name, description in described.items():
        assert description.text
        if description.low is not None:
            assert description.low <= values[name] <= description.high
            assert type(description.low) is type(description.high) is type(values[name])
        if description.choices:
            assert values[name] in description.choices


def test_flatten_and_build_are_inverse():
    changed = dataclasses.replace(
        Parameters(),
        objects=("a", "b"),
        class_map=("41=mug",),
        sync=parameters.SyncParameters(slop=0.5),
    )
    assert parameters.build(parameters.flatten(changed)) == changed


def test_snapshot_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Parameters().sync.slop = 1.0


def test_class_map_is_read():
    assert Parameters(class_map=("41=mug", "a=b=c")).classes == {"41": "mug", "a": "b=c"}
    assert Parameters().classes == {}


@pytest.mark.parametrize("entry", ["mug", "=mug", "41=", "="])
def test_malformed_class_map_is_refused(entry):
    with pytest.raises(ParameterError, match="write 'class_id=object_name'"):
        assert Parameters(class_map=(entry,)).classes


def test_unknown_choice_is_refused():
    values = parameters.flatten(Parameters()) | {"qos.reliability": "relaible"}
    with pytest.raises(ParameterError, match="'qos.reliability' is 'relaible': write one of"):
        parameters.build(values)


@pytest.mark.parametrize(
    "name, hint",
    [
        ("sync.slopp", "did you mean 'sync.slop'?"),
        ("max_age", "did you mean 'sync.max_age'?"),
        ("object", "did you mean 'objects'?"),
        ("zzz", "see config/estimator.yaml"),
    ],
)
def test_unknown_names_get_the_closest_one_suggested(name, hint):
    (text,) = parameters.unknown_names([name, "sync.slop"])
    assert name in text and hint in text
