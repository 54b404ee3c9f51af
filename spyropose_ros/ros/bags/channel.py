"""What a recording says of one of its topics, and a message on it."""

from __future__ import annotations

import sqlite3
import struct
import sys
from dataclasses import dataclass

from rosbags.interfaces import Qos
from rosbags.rosbag2.metadata import parse_qos

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAMAGE = (ValueError, EOFError, struct.error, sqlite3.Error, zstd.ZstdError)
"""What reading a damaged file may raise."""
_COMPRESSED = b"\x28\xb5\x2f\xfd"  # how zstd begins; CDR begins with a zero


@dataclass(frozen=True)
class Channel:
    """A topic as a recording describes it.

    Attributes:
        topic: its name.
        kind: name of its type.
        definition: text of the type with those of all nested types; empty if unknown.
        language: of the definition, such as ros2msg; empty if unknown.
        digest: hash of the type (REP-2016, RIHS01); empty if unknown.
        encoding: of its messages, normally cdr.
        qos: the quality of service that its publishers offered.
    """

    topic: str
    kind: str
    definition: str = ""
    language: str = ""
    digest: str = ""
    encoding: str = "cdr"
    qos: tuple[Qos, ...] = ()


@dataclass(frozen=True)
class Record:
    """A serialised message of a bag.

    Attributes:
        topic: its name.
        time: when it was recorded, nanoseconds.
        data: CDR.
    """

    topic: str
    time: int
    data: bytes


def offered_qos(description: str | list) -> tuple[Qos, ...]:
    """Read the offered quality of service; what cannot be read is as if not recorded."""
    try:
        return tuple(parse_qos(description))
    except Exception:  # recorders write it in many ways, and playing is all that it is for
        return ()


def unpacked(data: bytes) -> bytes:
    """Decompress a message if it was recorded with compression by message."""
    return zstd.decompress(data) if data.startswith(_COMPRESSED) else data
