"""Bags of the rosbag2 format, read and written by rosbags: no recorder, no player, no graph."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rclpy.serialization import deserialize_message
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.ros.bags.message_types import (
    definition,
    recorded_hash,
    serialize,
    type_name,
)

VERSION: Literal[8] = 8  # of metadata.yaml: the newest that Humble reads as well
STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_FILES = (".mcap", ".db3")
_INFINITE = QosTime(9223372036, 854775807)


class BagError(SpyroposeError):
    """A bag cannot be read or written."""


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


class BagReader:
    """Reads a bag: the folder with metadata.yaml, or one .mcap or .db3 file. A context manager.

    Args:
        path: the folder or file.

    Raises:
        BagError: if it does not exist, is not a bag or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _require_bag(path)
        try:
            self._reader = Reader(path)
            self._reader.open()
        except Exception as error:  # the parser may raise anything on other files
            raise self._damaged(error) from error
        self.topics = {
            connection.topic: connection.msgtype for connection in self._reader.connections
        }

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def count(self, topics: Collection[str]) -> int:
        """Return the number of messages on some topics."""
        return sum(connection.msgcount for connection in self._connections(topics))

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Yield the messages of some topics in the order of their time.

        Several of these iterators may be used at once.

        Args:
            topics: whose messages; those that the bag does not have are left out.

        Raises:
            BagError: if the bag is damaged.
        """
        connections = self._connections(topics)
        if not connections:
            return
        try:
            with Reader(self.path) as reader:  # its own reader: each moves a file position
                for connection, time, data in reader.messages(
                    [c for c in reader.connections if c.topic in topics]
                ):
                    yield Record(connection.topic, time, data)
        except Exception as error:
            raise self._damaged(error) from error

    def check_type(self, topic: str, kind: type) -> None:
        """Compare the type of a topic with the class that reads it.

        Args:
            topic: in the bag, or not.
            kind: message class.

        Raises:
            BagError: if it is another type, or another version of the type.
        """
        expected, digest = type_name(kind), definition(type_name(kind))[1]
        for connection in self._connections([topic]):
            if connection.msgtype != expected:
                raise BagError(
                    f"{topic} in {self.path} is of type {connection.msgtype} but {expected} is "
                    "needed: remap to a topic of that type"
                )
            if (recorded_hash(connection) or digest) != digest:
                raise BagError(
                    f"{topic} in {self.path} was recorded with another version of {expected}: "
                    "run this with the messages that it was recorded with, or convert the bag"
                )

    def decode(self, record: Record, kind: type) -> Any:
        """Deserialise the message of a record.

        Args:
            record: from `records`.
            kind: message class of the record's topic.

        Returns:
            A message of the class.

        Raises:
            BagError: if it is damaged.
        """
        try:
            return deserialize_message(record.data, kind)
        except Exception as error:
            raise BagError(
                f"a message on {record.topic} in {self.path} is damaged ({error}): record it again"
            ) from error

    def _connections(self, topics: Collection[str]) -> list[Connection]:
        return [connection for connection in self._reader.connections if connection.topic in topics]

    def _damaged(self, error: Exception) -> BagError:
        reason = str(error) or type(error).__name__
        return BagError(
            f"{self.path} is not a bag, damaged or cut off ({reason}): repair it with "
            "`mcap recover` or `ros2 bag reindex`, or record it again"
        )


class BagWriter:
    """Writes a bag, which appears at its path once it is complete. A context manager.

    Args:
        path: folder of the bag.
        storage: one of STORAGES.
        overwrite: whether an existing bag is replaced.

    Raises:
        BagError: if the path exists and must not be replaced.
    """

    def __init__(self, path: Path, storage: str = "mcap", overwrite: bool = False) -> None:
        self.path = path.absolute()
        if self.path.exists():
            if not overwrite:
                raise BagError(f"{path} exists: choose another output or add --overwrite")
            if not (self.path / "metadata.yaml").is_file():
                raise BagError(f"{path} exists and is not a bag: choose another output")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(
                dir=self.path.parent, prefix=f".{self.path.name}."
            )
        except OSError as error:
            raise BagError(f"{path} cannot be written ({error.strerror})") from error
        # The file is named after its folder
        self._writer = Writer(
            Path(self._folder.name, self.path.name),
            version=VERSION,
            storage_plugin=STORAGES[storage],
        )
        self._writer.open()
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self._writer.abort()
                return
            self._writer.close()
            if self.path.exists():
                shutil.rmtree(self.path)
            self._writer.path.rename(self.path)
        finally:
            self._folder.cleanup()

    def write(self, topic: str, message: Any, time: int) -> None:
        """Add a message.

        Args:
            topic: full name.
            message: of any built message type.
            time: nanoseconds.
        """
        self.add_topic(topic, type(message))
        self._writer.write(self._connections[topic], time, serialize(message))

    def add_topic(self, topic: str, kind: type, latched: bool = False) -> None:
        """Add a topic unless it exists.

        Args:
            topic: full name.
            kind: message class.
            latched: whether players offer its last message to late subscribers.
        """
        if topic not in self._connections:
            text, digest = definition(type_name(kind))
            self._connections[topic] = self._writer.add_connection(
                topic,
                type_name(kind),
                msgdef=text,
                rihs01=digest,
                offered_qos_profiles=[_qos(latched)],
            )

    def copy_topics(self, reader: BagReader, topics: Collection[str]) -> list[str]:
        """Add topics of another bag with their type and quality of service.

        Args:
            reader: the other bag.
            topics: those of its topics to add; those that this bag has already stay as they are.

        Returns:
            The topics that cannot be written because the definition of their type is unknown.
        """
        skipped = []
        for connection in reader._connections(topics):
            if connection.topic in self._connections:
                continue
            text, digest = connection.msgdef.data, recorded_hash(connection)
            if not (text and digest):  # bags older than Iron do not have them
                try:
                    text, digest = definition(connection.msgtype)
                except LookupError:
                    skipped.append(connection.topic)
                    continue
            assert isinstance(connection.ext, ConnectionExtRosbag2)  # as of all bags of ROS 2
            self._connections[connection.topic] = self._writer.add_connection(
                connection.topic,
                connection.msgtype,
                msgdef=text,
                rihs01=digest,
                offered_qos_profiles=connection.ext.offered_qos_profiles,
            )
        return skipped

    def copy(self, record: Record) -> None:
        """Copy a message of another bag if its topic was added."""
        if record.topic in self._connections:
            self._writer.write(self._connections[record.topic], record.time, record.data)


def _qos(latched: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_INFINITE,
        lifespan=_INFINITE,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_INFINITE,
        avoid_ros_namespace_conventions=False,
    )


def _require_bag(path: Path) -> None:
    """Raise BagError for common mistakes that rosbags does not explain."""
    if not path.exists():
        raise BagError(f"bag {path} does not exist: give a bag's folder, or its .mcap or .db3 file")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        files = sorted(file.name for file in path.iterdir() if file.suffix in _FILES)
        raise BagError(
            f"{path} has no metadata.yaml, its recording was not closed properly: run "
            f"`ros2 bag reindex {path}`, or give the file {' or '.join(files)} in it"
            if files
            else f"{path} is not a bag: it has neither metadata.yaml nor .mcap or .db3 files"
        )
    if path.suffix == ".bag":
        raise BagError(
            f"{path} is a ROS 1 bag: convert it with `rosbags-convert --src {path} --dst FOLDER`"
        )
    if path.is_file() and path.suffix not in _FILES:
        raise BagError(f"{path} is not a bag: give a bag's folder, or its .mcap or .db3 file")
