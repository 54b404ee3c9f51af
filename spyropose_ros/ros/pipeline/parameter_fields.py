"""What describes a parameter, and what every text about parameters shares. Knows no ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# declared by rclpy itself on every node, or by its publishers and subscriptions
FOREIGN = ("use_sim_time", "start_type_description_service", "qos_overrides.")

TYPE_TEXTS = {
    float: "a number with a decimal point, such as 1.0",
    int: "a whole number, such as 16",
    bool: "true or false",
    str: "a text; quote numbers and words such as on: '0'",
    tuple: "a list of texts, such as ['a', 'b']",
}


class ParameterError(ValueError):
    """A parameter cannot be used; the text names it and the remedy in one line."""


@dataclass(frozen=True)
class Description:
    """What a parameter means and what it may be.

    Args:
        text: meaning and unit.
        low: smallest number, None for other types.
        high: largest number, None for other types.
        choices: the only texts allowed; empty allows all.
        dynamic: whether it may change while the node runs.
    """

    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False


def parameter(default: Any, text: str, **constraints: Any) -> Any:
    """A field of a parameter dataclass: its default and its Description."""
    return field(default=default, metadata={"description": Description(text, **constraints)})
