"""Message types as bags describe them: names, definitions, hashes, and bytes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from rclpy.serialization import serialize_message
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from spyropose_ros.ros.bags.channel import Channel
from spyropose_ros.ros.interfaces import type_name

_LISTS = (Nodetype.ARRAY, Nodetype.SEQUENCE)


@functools.cache
def definition(name: str) -> tuple[str, str]:
    """Return the definition of an installed message type, as stored in bags.

    Args:
        name: such as sensor_msgs/msg/Image.

    Returns:
        The text with those of all nested types, and the hash (REP-2016, RIHS01).

    Raises:
        LookupError: if the type is not installed.
    """
    store = _typestore(name)
    return store.generate_msgdef(name, ros_version=2)[0], store.hash_rihs01(name)


@functools.cache
def _typestore(name: str) -> Typestore:
    """Return a rosbags type store with an installed type."""
    store = get_typestore(Stores.EMPTY)
    store.register(_installed_types(name))
    return store


def _installed_types(name: str) -> dict:
    """Parse the .msg files of a type and of all types nested in it."""
    package, _, short = name.partition("/msg/")
    file = Path(get_package_share_directory(package), "msg", f"{short}.msg")
    if not file.is_file():
        raise LookupError(f"{file} does not exist")
    types = get_types_from_msg(file.read_text(), name)
    for _, fields in list(types.values()):
        field: Any  # of rosbags: a node type with its content, which depends on it
        for _, field in fields:
            node, content = field[1][0] if field[0] in _LISTS else field
            if node == Nodetype.NAME and content not in types:
                types |= _installed_types(content)
    return types


def serialize(message: Any) -> memoryview:
    """Serialise a message to CDR that depends on the message alone.

    The middleware leaves the padding between fields uninitialised; rosbags writes zeros.
    """
    name = type_name(type(message))
    store = _typestore(name)
    return store.serialize_cdr(store.deserialize_cdr(serialize_message(message), name), name)


def recorded_hash(channel: Channel) -> str:
    """Return the hash of the type that a topic was recorded with; empty if unknown."""
    if channel.digest or channel.language != "ros2msg" or not channel.definition:
        return channel.digest
    try:
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg(channel.definition, channel.kind))
        return store.hash_rihs01(channel.kind)
    except Exception:  # converters write definitions that cannot be parsed
        return ""
