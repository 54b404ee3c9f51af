"""Declares the parameters on a node, and keeps a snapshot of them up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import rclpy.exceptions
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from spyropose_ros.ros.pipeline import parameters
from spyropose_ros.ros.pipeline.parameter_fields import (
    FOREIGN,
    TYPE_TEXTS,
    Description,
    ParameterError,
)
from spyropose_ros.ros.pipeline.parameters import NodeParameters

P = TypeVar("P", bound=NodeParameters)


class ParameterServer(Generic[P]):
    """The parameters of a node as an immutable snapshot.

    Args:
        node: declares them.
        defaults: all parameters.
        changed: called with the new snapshot after a change at run time, in the executor's thread.
        in_use: tells whether parameters that are not dynamic are in use and must not change.

    Raises:
        ParameterError: if a value has the wrong type, is out of range or not among the choices.
    """

    def __init__(
        self,
        node: Node,
        defaults: P,
        changed: Callable[[P], object],
        in_use: Callable[[], bool],
    ) -> None:
        # rclpy has no public access to overrides that were never declared
        given = [name for name in node._parameter_overrides if not name.startswith(FOREIGN)]
        for text in parameters.unknown_names(given, type(defaults)):
            node.get_logger().warning(text)
        self._changed = changed
        self._in_use = in_use
        flat = parameters.flatten(defaults)
        self._descriptions = dict(parameters.descriptions(type(defaults)))
        values = {
            name: _from_ros(_declare(node, name, flat[name], description))
            for name, description in self._descriptions.items()
        }
        self.current: P = parameters.build(values, defaults)
        self.current.check()
        node.add_on_set_parameters_callback(self._set)

    def _set(self, changes: Iterable[Parameter]) -> SetParametersResult:
        values = parameters.flatten(self.current)
        new = {change.name: _from_ros(change.value) for change in changes if change.name in values}
        fixed = [name for name in new if not self._descriptions[name].dynamic]
        if fixed and self._in_use():
            return SetParametersResult(
                successful=False,
                reason=f"parameter '{fixed[0]}' is in use: restart the node, or set it while the "
                "node is not configured (ros2 lifecycle set <node> deactivate, then cleanup)",
            )
        try:
            current = parameters.build(values | new, self.current)
            current.check()
            self.current = current
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._changed(self.current)
        return SetParametersResult(successful=True)


def _declare(node: Node, name: str, default: Any, description: Description) -> Any:
    descriptor = ParameterDescriptor(description=description.text)
    if description.choices:
        descriptor.additional_constraints = "one of " + ", ".join(description.choices)
    if description.low is not None:
        if isinstance(default, float):
            limits = FloatingPointRange(from_value=description.low, to_value=description.high)
            descriptor.floating_point_range = [limits]
        else:
            limits = IntegerRange(from_value=description.low, to_value=description.high)
            descriptor.integer_range = [limits]
    try:
        return node.declare_parameter(name, _to_ros(default), descriptor).value
    except rclpy.exceptions.InvalidParameterTypeException as error:
        given = node._parameter_overrides[name].value
        raise ParameterError(
            f"parameter '{name}' is {given!r} but must be {TYPE_TEXTS[type(default)]}"
        ) from error
    except rclpy.exceptions.InvalidParameterValueException as error:
        given = node._parameter_overrides[name].value
        raise ParameterError(
            f"parameter '{name}' is {given!r} but must be from {description.low} to "
            f"{description.high}"
        ) from error


def _to_ros(value: Any) -> Any:
    # an empty list has no element type in ROS: a list of one empty text stands for it
    return (list(value) or [""]) if isinstance(value, tuple) else value


def _from_ros(value: Any) -> Any:
    return tuple(text for text in value if text) if isinstance(value, list) else value
