"""Descriptions of parameters, and texts about them. Independent of ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from spyropose_ros.core.errors import SpyroposeError

# declared by rclpy itself on every node, or by its publishers and subscriptions
FOREIGN = ("use_sim_time", "start_type_description_service", "qos_overrides.")

TYPE_TEXTS = {
    float: "a number with a decimal point, such as 1.0",
    int: "a whole number, such as 16",
    bool: "true or false",
    str: "a text; quote numbers and words such as on: '0'",
    tuple: "a list of texts, such as ['a', 'b']",
}


class ParameterError(SpyroposeError):
    """A parameter cannot be used."""


@dataclass(frozen=True)
class Description:
    """Meaning and range of a parameter.

    Attributes:
        text: meaning and unit.
        low: smallest number; None for other types.
        high: largest number; None for other types.
        choices: allowed texts; empty allows all.
        dynamic: whether it may change while the node runs.
        of_group: whether its name is that of its group.
    """

    text: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False
    of_group: bool = False


def parameter(default: Any, text: str, **constraints: Any) -> Any:
    """Make a field of a parameter dataclass from its default and its Description."""
    return field(default=default, metadata={"description": Description(text, **constraints)})
