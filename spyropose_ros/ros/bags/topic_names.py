"""Full topic names from relative names and remappings, as ROS resolves them, without a node."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.exceptions import NameValidationException
from rclpy.expand_topic_name import expand_topic_name
from rclpy.validate_full_topic_name import validate_full_topic_name


class TopicNames:
    """Resolves topic names as ROS does.

    Args:
        rules: 'from:=to' each; __ns and __node set namespace and name of the node.

    Raises:
        ValueError: if a rule is malformed.
    """

    def __init__(self, rules: Sequence[str]) -> None:
        pairs = dict(_rule(text) for text in rules)
        self._node = pairs.pop("__node", pairs.pop("__name", "estimator"))
        self._namespace = pairs.pop("__ns", "/")
        self._remapped = {self._full(old): self._full(new) for old, new in pairs.items()}

    @property
    def node(self) -> str:
        """Full name of the node."""
        return f"{self._namespace.rstrip('/')}/{self._node}"

    def resolve(self, name: str) -> str:
        """Return the full name of one of the node's topics."""
        full = self._full(name)
        return self._remapped.get(full, full)

    def is_remapped(self, name: str) -> bool:
        """Tell whether a rule gives one of the node's topics another name."""
        return self.resolve(name) != self._full(name)

    def _full(self, name: str) -> str:
        try:
            full = expand_topic_name(name, self._node, self._namespace)
            validate_full_topic_name(full)
            return full
        except (ValueError, NameValidationException) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{name!r} is not a valid topic name: {reason}") from error


def _rule(text: str) -> tuple[str, str]:
    old, found, new = text.partition(":=")
    if not (old and found and new):
        raise ValueError(f"-r {text}: write from:=to, such as image_rect:=/camera/image")
    return old, new
