"""Dotted paths of message fields, checked against the message type."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

from spyropose_ros.core.errors import SpyroposeError

_TYPE = re.compile(r"([A-Za-z]\w*)/(?:msg/)?([A-Za-z]\w*)")
_LIST = re.compile(r"sequence<(?P<sequence>.+?)(?:, \d+)?>|(?P<array>.+)\[\d+\]")
_NUMBER = re.compile(r"float|double|boolean|char|u?int(8|16|32|64)")
_TEXT = re.compile(r"w?string(<.*>)?")


class AdapterError(SpyroposeError):
    """The parameters do not fit the message type."""


class MissingElementError(SpyroposeError):
    """A list in a message is shorter than a path assumes."""


def is_message(kind: str) -> bool:
    """Tell whether a field type is a message."""
    return _TYPE.fullmatch(kind) is not None


def is_number(kind: str) -> bool:
    """Tell whether a field type is a number."""
    return _NUMBER.fullmatch(kind) is not None


def is_text(kind: str) -> bool:
    """Tell whether a field type is text."""
    return _TEXT.fullmatch(kind) is not None


def message_class(parameter: str, name: str) -> Any:
    """Import a message class.

    Args:
        parameter: that names it, for errors.
        name: such as sensor_msgs/msg/Image.

    Returns:
        The class of that name.

    Raises:
        AdapterError: if the name is malformed or the type is not available.
    """
    match = _TYPE.fullmatch(name)
    if match is None:
        raise AdapterError(
            f"parameter '{parameter}' is '{name}': write a type, such as sensor_msgs/msg/Image"
        )
    try:
        return getattr(importlib.import_module(f"{match[1]}.msg"), match[2])
    except (ImportError, AttributeError) as error:
        raise AdapterError(
            f"message type '{name}' is not available ({error}): build {match[1]} and source its "
            "workspace"
        ) from error


def element_type(kind: str) -> str | None:
    """Return the element type of a list type; None for other types."""
    match = _LIST.fullmatch(kind)
    return (match["sequence"] or match["array"]) if match else None


def follow(start: Any, parameter: str, path: str) -> tuple[Callable[[Any], Any], str]:
    """Check a path against a message type.

    Args:
        start: message class.
        parameter: that has the path, for errors.
        path: dotted names of fields; numbers pick from lists.

    Returns:
        A function that reads the field from a message, and the field's type.

    Raises:
        AdapterError: if the path is empty or leaves the declared fields.
    """
    if not path:
        raise AdapterError(f"parameter '{parameter}' is missing: give the path of a field")
    owner: Any = start
    kind = ""
    steps: list[str | int] = []
    for part in path.split("."):
        if owner is None and _TYPE.fullmatch(kind):
            owner = message_class(parameter, kind)
        element = element_type(kind) if owner is None else None
        if element is not None and part.isascii() and part.isdigit():
            steps.append(int(part))
            kind = element
            continue
        declared = owner.get_fields_and_field_types() if owner else {}
        if part not in declared:
            known = f"{owner.__name__} has {', '.join(declared)}" if owner else f"{kind} has none"
            if element is not None:
                known += "; pick from a list by a number"
            raise AdapterError(
                f"parameter '{parameter}' names '{path}' but there is no field '{part}': {known}"
            )
        steps.append(part)
        kind, owner = declared[part], None

    def get(message: Any) -> Any:
        value = message
        for step in steps:
            if isinstance(step, str):
                value = getattr(value, step)
            elif step < len(value):
                value = value[step]
            else:
                raise MissingElementError(
                    f"'{path}' is not there, the list has {len(value)} elements"
                )
        return value

    return get, kind
