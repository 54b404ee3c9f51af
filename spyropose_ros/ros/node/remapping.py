"""Which topics have other names than their own."""

from rclpy.node import Node


def is_remapped(node: Node, name: str) -> bool:
    """Tell whether a rule gives one of a node's topics another name."""
    return node.resolve_topic_name(name) != node.resolve_topic_name(name, only_expand=True)
