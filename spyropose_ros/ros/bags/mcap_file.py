"""Reads MCAP files (https://mcap.dev/spec) of every legal shape, and what is left of damaged ones.

An index is made by walking over the records, so that a file needs neither chunks nor indexes nor a
summary, and may end anywhere.
"""

from __future__ import annotations

import heapq
import struct
from binascii import crc32
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from lz4.frame import LZ4FrameDecompressor

from spyropose_ros.ros.bags.channel import Channel, Record, offered_qos, unpacked, zstd

MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _MESSAGE_INDEX = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
_STATISTICS = 0x0B
_HEAD = struct.Struct("<BQ")  # operation and size of a record
_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK_HEAD = struct.Struct("<QQQII")  # start, end, size, checksum, length of the compression
_DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    # these also decompress the beginning of what is cut off
    "lz4": lambda data: LZ4FrameDecompressor().decompress(data),
    "zstd": lambda data: zstd.ZstdDecompressor().decompress(data),
}


@dataclass
class _Block:
    """A chunk, or a message outside chunks.

    Attributes:
        start: time of its first message, nanoseconds.
        position: of its record in the file.
        size: of the record without its head, as far as it is there, bytes.
        channels: ids of the channels of its messages; empty if unknown.
        chunk: whether it is a chunk.
    """

    start: int
    position: int
    size: int
    channels: set[int] = field(default_factory=set)
    chunk: bool = True


class McapFile:
    """An MCAP file.

    Args:
        path: the file.

    Attributes:
        channels: by id.
        counts: messages by id, as the file says, or as they are.
        start: time of its first message, nanoseconds; 0 without messages.
        problems: what is damaged, as sentences.

    Raises:
        ValueError: if it is not MCAP.
        OSError: if it cannot be read.
    """

    channels: dict[int, Channel]
    counts: Counter[int]
    start: int
    problems: list[str]

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blocks: list[_Block] = []
        self._schemas: dict[int, tuple[str, str, str]] = {}  # name, language, text
        self._damaged: set[int] = set()  # positions of chunks
        self.channels = {}
        self.counts = Counter()
        self.problems = []
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError("it does not begin as MCAP does")
            if not self._walk(file, path.stat().st_size):
                self.problems.append(f"{path.name} is cut off: what follows is lost")
            if not self.counts or not self.counts.keys() <= self.channels.keys():
                self._count(file)
        self.start = min((block.start for block in self._blocks), default=0)

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Yield the messages of some topics in the order of their time."""
        ids = {key for key, channel in self.channels.items() if channel.topic in topics}
        blocks = [b for b in self._blocks if not b.channels or b.channels & ids]
        loose = sorted((b for b in blocks if not b.chunk), key=lambda block: block.start)
        streams = [[block] for block in blocks if block.chunk] + [loose]
        with self._path.open("rb") as file:
            merged = heapq.merge(*(self._messages(file, stream, ids) for stream in streams))
            for time, _, index, channel, data in merged:
                if index >= 0:
                    yield Record(self.channels[channel].topic, time, unpacked(data))

    def _walk(self, file: BinaryIO, length: int) -> bool:
        """Index the records of the file; return whether it is complete."""
        position = len(MAGIC)
        while True:
            file.seek(position)
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size or head[0] == 0:
                return False
            operation, size = _HEAD.unpack(head)
            position += _HEAD.size
            complete = position + size <= length
            if operation == _FOOTER and complete:
                return True
            self._index(file, operation, position, min(size, length - position), complete)
            if not complete:
                return False
            position += size

    def _index(
        self, file: BinaryIO, operation: int, position: int, size: int, complete: bool
    ) -> None:
        """Note what a record of the file says, which may be incomplete if it is a chunk."""
        if operation == _CHUNK and size > _CHUNK_HEAD.size:
            start = struct.unpack("<Q", file.read(8))[0]
            self._blocks.append(_Block(start, position, size))
        elif not complete:
            return
        elif operation == _MESSAGE and size >= _MESSAGE_HEAD.size:
            channel, _, time, _ = _MESSAGE_HEAD.unpack(file.read(_MESSAGE_HEAD.size))
            self._blocks.append(_Block(time, position, size, {channel}, chunk=False))
        elif operation == _MESSAGE_INDEX and self._blocks:
            self._blocks[-1].channels.add(struct.unpack("<H", file.read(2))[0])
        elif operation in (_SCHEMA, _CHANNEL):
            self._describe(operation, memoryview(file.read(size)))
        elif operation == _STATISTICS:
            pairs = file.read(size)[46:]
            self.counts = Counter(dict(struct.iter_unpack("<HQ", pairs)))

    def _count(self, file: BinaryIO) -> None:
        """Find channels and counts in the messages themselves."""
        self.counts.clear()
        for block in self._blocks:
            for channel, _, _ in self._content(file, block):
                self.counts[channel] += 1
                block.channels.add(channel)
        self.counts = Counter({key: n for key, n in self.counts.items() if key in self.channels})

    def _messages(
        self, file: BinaryIO, blocks: list[_Block], ids: set[int]
    ) -> Iterator[tuple[int, int, int, int, bytes]]:
        """Yield the messages of successive blocks: time, two numbers for the order, channel, data.

        A tuple without data stands for each block, which is read only once its time has come.
        """
        for block in blocks:
            yield block.start, block.position, -1, -1, b""
            messages = (
                (time, block.position, index, channel, bytes(data))
                for index, (channel, time, data) in enumerate(self._content(file, block))
                if channel in ids
            )
            yield from sorted(messages)

    def _content(self, file: BinaryIO, block: _Block) -> Iterator[tuple[int, int, memoryview]]:
        """Yield channel, time and data of the messages of a block, in the order of the file."""
        file.seek(block.position)
        data = file.read(block.size)
        whole = [(_MESSAGE, memoryview(data))]
        for operation, record in _records(self._chunk(data, block)) if block.chunk else whole:
            if operation == _MESSAGE and len(record) >= _MESSAGE_HEAD.size:
                channel, _, time, _ = _MESSAGE_HEAD.unpack_from(record)
                yield channel, time, record[_MESSAGE_HEAD.size :]
            elif operation in (_SCHEMA, _CHANNEL):
                self._describe(operation, record)

    def _chunk(self, data: bytes, block: _Block) -> bytes:
        """Decompress a chunk; return what is left of it if it is damaged."""
        *_, size, checksum, length = _CHUNK_HEAD.unpack_from(data)
        start = _CHUNK_HEAD.size + length + 8
        compression = data[_CHUNK_HEAD.size : start - 8].decode(errors="replace")
        packed = data[start : start + int.from_bytes(data[start - 8 : start], "little")]
        if compression not in _DECOMPRESSORS:
            raise ValueError(f"its compression {compression!r} is unknown")
        try:
            content = _DECOMPRESSORS[compression](packed)
        except Exception:  # each library has errors of its own
            content = b""
        whole = len(content) == size
        if whole and checksum and crc32(content) != checksum:
            content, whole = b"", False
        if not whole and block.position not in self._damaged:
            self._damaged.add(block.position)
            self.problems.append(
                f"{self._path.name} is damaged at byte {block.position}: messages there are lost"
            )
        return content

    def _describe(self, operation: int, record: memoryview) -> None:
        """Note a schema or a channel, which may come more than once."""
        fields = _Fields(record)
        key = fields.number(2)
        if key in (self._schemas if operation == _SCHEMA else self.channels):
            return
        if operation == _SCHEMA:
            self._schemas[key] = (fields.text(), fields.text(), fields.text())
            return
        name, language, text = self._schemas.get(fields.number(2), ("", "", ""))
        topic, encoding = fields.text(), fields.text()
        metadata = _Fields(fields.data())
        entries = {}
        while metadata.left:
            entry = metadata.text()
            entries[entry] = metadata.text()
        self.channels[key] = Channel(
            topic=topic,
            kind=name,
            definition=text,
            language=language,
            encoding=encoding,
            qos=offered_qos(entries.get("offered_qos_profiles", "")),
        )


class _Fields:
    """Takes the fields of a record one after the other."""

    def __init__(self, record: memoryview) -> None:
        self.left = record

    def take(self, size: int) -> memoryview:
        taken, self.left = self.left[:size], self.left[size:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def data(self) -> memoryview:
        return self.take(self.number(4))

    def text(self) -> str:
        return bytes(self.data()).decode(errors="replace")


def _records(content: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield operation and content of the records of a chunk that are complete."""
    view, position = memoryview(content), 0
    while position + _HEAD.size <= len(view):
        operation, size = _HEAD.unpack_from(view, position)
        position += _HEAD.size
        if position + size > len(view):
            return
        yield operation, view[position : position + size]
        position += size
