"""Writes MCAP files in the shapes that the format allows; bag recorders use only some of them."""

import struct
from pathlib import Path

import lz4.frame
from backports import zstd
from rclpy.serialization import serialize_message

from spyropose_ros.ros.bags.message_types import definition
from spyropose_ros.ros.interfaces import type_name

MAGIC = b"\x89MCAP0\r\n"
COMPRESSORS = {"": bytes, "lz4": lz4.frame.compress, "zstd": zstd.compress}


def described(name):
    """The schema of an installed type: language and text."""
    return "ros2msg", definition(name)[0]


def write_mcap(
    path: Path,
    entries,
    *,
    chunked=True,
    indexed=True,
    statistics=True,
    repeated=True,
    summary=True,
    compression="",
    schema=described,
    others=(),
) -> Path:
    """Writes messages, two per chunk.

    Args:
        path: of the file.
        entries: topic, message and time each.
        chunked: with chunks.
        indexed: with a message index after each chunk, and chunk indexes in the summary.
        statistics: with statistics in the summary.
        repeated: with schemas and channels in the summary, too.
        summary: with a summary.
        compression: of the chunks.
        schema: gives language and text of the definition of a type.
        others: topic, type, schema language, message encoding and time of further messages.
    """
    messages, descriptions = [], {}
    for topic, message, time in entries:
        name = type_name(type(message))
        descriptions.setdefault(topic, (name, *schema(name), "cdr"))
        messages.append((topic, time, serialize_message(message)))
    for topic, name, language, encoding, time in others:
        descriptions[topic] = (name, language, "?", encoding)
        messages.append((topic, time, b"?"))
    ids = {topic: number for number, topic in enumerate(descriptions, start=1)}
    about = b"".join(_description(ids[topic], topic, *descriptions[topic]) for topic in ids)
    content = MAGIC + record(0x01, text("ros2") + text("test"))
    if not chunked:
        content += about + b"".join(_message(ids, *message) for message in messages)
    indexes = b""
    for first in range(0, len(messages), 2) if chunked else ():
        part = messages[first : first + 2]
        times = [time for _, time, _ in part]
        data = (b"" if first else about) + b"".join(_message(ids, *message) for message in part)
        packed = COMPRESSORS[compression](data)
        head = struct.pack("<QQQI", min(times), max(times), len(data), 0) + text(compression)
        start = len(content)
        content += record(0x06, head + struct.pack("<Q", len(packed)) + packed)
        for topic in {topic for topic, _, _ in part} if indexed else ():
            content += record(0x07, struct.pack("<HI", ids[topic], 0))
        head = struct.pack("<QQQQ", min(times), max(times), start, len(content) - start)
        indexes += record(0x08, head + struct.pack("<IQ", 0, 0) + text(compression) + bytes(16))
    content += record(0x0F, bytes(4))
    start = len(content)
    if summary:
        content += (about if repeated else b"") + (indexes if indexed else b"")
        if statistics:
            counts = [(ids[t], sum(topic == t for topic, _, _ in messages)) for t in ids]
            pairs = b"".join(struct.pack("<HQ", *pair) for pair in counts)
            head = struct.pack("<QHIIIIQQ", len(messages), len(ids), len(ids), 0, 0, 1, 0, 0)
            content += record(0x0B, head + struct.pack("<I", len(pairs)) + pairs)
    content += record(0x02, struct.pack("<QQI", start if summary else 0, 0, 0)) + MAGIC
    path.write_bytes(content)
    return path


def record(operation: int, content: bytes) -> bytes:
    """A record of a file."""
    return struct.pack("<BQ", operation, len(content)) + content


def text(value: str) -> bytes:
    """A text with its length."""
    return struct.pack("<I", len(value.encode())) + value.encode()


def _description(number: int, topic: str, name: str, language: str, definition: str, encoding: str):
    schema = struct.pack("<H", number) + text(name) + text(language) + text(definition)
    channel = struct.pack("<HH", number, number) + text(topic) + text(encoding)
    return record(0x03, schema) + record(0x04, channel + struct.pack("<I", 0))


def _message(ids, topic: str, time: int, data: bytes) -> bytes:
    return record(0x05, struct.pack("<HIQQ", ids[topic], 0, time, time) + data)
