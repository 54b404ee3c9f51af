"""Parameters from params files and name:=value arguments, without a node."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spyropose_ros.ros.pipeline import parameters
from spyropose_ros.ros.pipeline.parameter_fields import (
    FOREIGN,
    TYPE_TEXTS,
    Description,
    ParameterError,
)
from spyropose_ros.ros.pipeline.parameters import Parameters


class _Loader(yaml.SafeLoader):
    """Accepts lists as launch_ros writes them."""


def _sequence(loader: _Loader, node: Any) -> list:
    return loader.construct_sequence(node)


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _sequence)


def read_parameters(
    files: Sequence[Path], assignments: Sequence[str], node: str = "/estimator"
) -> tuple[Parameters, list[str]]:
    """Read parameters as the node would.

    Args:
        files: params files; later ones override earlier ones.
        assignments: 'name:=value' each, as after -p; they override files.
        node: full name of the node.

    Returns:
        The parameters, and a warning for each unknown name, which is ignored.

    Raises:
        ParameterError: if a file or a value cannot be used.
    """
    given: dict[str, Any] = {}
    for file in files:
        given |= _read_file(file, node)
    for assignment in assignments:
        name, found, text = assignment.partition(":=")
        if not (name and found):
            raise ParameterError(f"-p {assignment}: write name:=value")
        given[name] = _load(text, f"-p {assignment}")
    values = parameters.flatten(Parameters())
    for name, description in parameters.descriptions():
        if name in given:
            values[name] = _checked(name, given[name], values[name], description)
    result = parameters.build(values)
    result.check()
    names = [name for name in given if not name.startswith(FOREIGN)]
    return result, parameters.unknown_names(names)


def _checked(name: str, value: Any, default: Any, description: Description) -> Any:
    """Return a value if it has the parameter's type and is in its range."""
    if type(value) is list and all(type(item) is str for item in value):
        value = tuple(text for text in value if text)  # [''] stands for an empty list
    if type(value) is not type(default):
        raise ParameterError(
            f"parameter '{name}' is {value!r} but must be {TYPE_TEXTS[type(default)]}"
        )
    if description.low is not None and not description.low <= value <= description.high:
        raise ParameterError(
            f"parameter '{name}' is {value!r} but must be from {description.low} to "
            f"{description.high}"
        )
    return value


def _read_file(file: Path, node: str) -> dict[str, Any]:
    """Return the node's parameters in a file by full name; specific sections win."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"params file {file} cannot be read ({error})") from error
    content = _load(text, f"params file {file}")
    sections = list(_sections(content, "")) if isinstance(content, Mapping) else []
    if not sections:
        raise ParameterError(
            f"params file {file} has no ros__parameters: begin it as config/estimator.yaml does"
        )
    values: dict[str, Any] = {}
    for path, section in sorted(sections, key=lambda item: "*" not in item[0]):
        if re.fullmatch(_pattern(path), node):
            values |= dict(_flat(section, ""))
    return values


def _load(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ParameterError(
            f"{origin} is not valid YAML: {' '.join(str(error).split())}"
        ) from error


def _sections(tree: Mapping, path: str) -> Iterator[tuple[str, Any]]:
    """Yield node names, which may have wildcards, with their parameters."""
    for key, value in tree.items():
        if key == "ros__parameters":
            yield path, value
        elif isinstance(value, Mapping):
            yield from _sections(value, f"{path}/{str(key).strip('/')}")


def _pattern(path: str) -> str:
    """Return a regular expression for a node name with wildcards, as rcl interprets it."""
    parts = {"**": r"(/\w+)*", "*": r"/\w+"}
    return "".join(parts.get(part, "/" + re.escape(part)) for part in path.split("/")[1:])


def _flat(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in (tree or {}).items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
