"""Bags of the rosbag2 format, read and written without recorder, player or graph."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from rclpy.serialization import deserialize_message
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.ros.bags.channel import DAMAGE, Channel, Record
from spyropose_ros.ros.bags.message_types import (
    definition,
    recorded_hash,
    serialize,
)
from spyropose_ros.ros.bags.recording import METADATA, SUFFIXES, Recording, recorded_files
from spyropose_ros.ros.interfaces import type_name

VERSION: Literal[8] = 8  # of metadata.yaml: the newest that Humble reads as well
STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_INFINITE = QosTime(9223372036, 854775807)


class BagError(SpyroposeError):
    """A bag cannot be read or written."""


class BagReader:
    """Reads a bag: its folder, or one .mcap or .db3 file. A context manager.

    What is damaged or missing is left out and said by `problems`.

    Args:
        path: the folder or file.

    Attributes:
        topics: type by name.

    Raises:
        BagError: if it does not exist, is not a bag or nothing of it can be read.
    """

    topics: dict[str, str]

    def __init__(self, path: Path) -> None:
        self.path = path
        _require_bag(path)
        try:
            self._recording = Recording(path)
        except OSError as error:
            raise self._unreadable(error) from error
        except ValueError as error:
            raise self._damaged(error) from error
        self.topics = {channel.topic: channel.kind for channel in self._recording.channels}

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._recording.close()

    @property
    def problems(self) -> list[str]:
        """What is damaged or missing, as far as it was read: one sentence each."""
        return self._recording.problems

    def count(self, topics: Collection[str]) -> int:
        """Return the number of messages that the files of the bag have on some topics."""
        return sum(self._recording.counts[topic] for topic in set(topics))

    def announced(self, topic: str) -> int:
        """Return the number of messages that the bag says it has on a topic."""
        return self._recording.announced[topic]

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Yield the messages of some topics in the order of their time.

        Several of these iterators may be used at once.

        Args:
            topics: whose messages; those that the bag does not have are left out.

        Raises:
            BagError: if the bag is damaged in a way that hides where messages are.
        """
        if not self.topics.keys() & set(topics):
            return
        try:
            yield from self._recording.records(topics)
        except OSError as error:
            raise self._unreadable(error) from error
        except DAMAGE as error:
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
        for channel in self.channels([topic]):
            if channel.encoding != "cdr":
                raise BagError(
                    f"{topic} in {self.path} is encoded as {channel.encoding!r}, not as ROS 2 does "
                    "('cdr'): convert the bag"
                )
            if channel.kind != expected:
                raise BagError(
                    f"{topic} in {self.path} is of type {channel.kind} but {expected} is "
                    "needed: remap to a topic of that type"
                )
            if (recorded_hash(channel) or digest) != digest:
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
                f"a message on {record.topic} in {self.path} is damaged ({error})"
            ) from error

    def channels(self, topics: Collection[str]) -> list[Channel]:
        """Return what the bag says of some topics."""
        return [channel for channel in self._recording.channels if channel.topic in topics]

    def _unreadable(self, error: OSError) -> BagError:
        remedy = "check that you may read it"
        if error.errno in _FULL:
            remedy = f"free space in {tempfile.gettempdir()}, or set TMPDIR to another folder"
        return BagError(f"{self.path} cannot be read ({error.strerror}): {remedy}")

    def _damaged(self, error: Exception) -> BagError:
        reason = str(error) or type(error).__name__
        return BagError(
            f"{self.path} is not a bag, damaged or cut off ({reason}): repair its files with "
            "`mcap recover FILE` (.mcap) or `sqlite3 FILE .recover` (.db3), or record it again"
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
        if storage == "sqlite3" and set(str(self.path)) & set("?#%"):
            raise BagError(f"sqlite3 cannot write {path}: choose an output without ?, # and %")
        with self._writing():
            if self.path.exists():
                if not overwrite:
                    raise BagError(f"{path} exists: choose another output or add --overwrite")
                if not (self.path / METADATA).is_file():
                    raise BagError(f"{path} exists and is not a bag: choose another output")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(
                dir=self.path.parent, prefix=f".{self.path.name}."
            )
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
                with suppress(OSError, sqlite3.Error):  # the disk may be full
                    self._writer.abort()
                return
            with self._writing():
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
        with self._writing():
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
            qos = (_qos(latched),)
            self._connect(Channel(topic, type_name(kind), text, digest=digest, qos=qos))

    def copy_topics(self, reader: BagReader, topics: Collection[str]) -> list[str]:
        """Add topics of another bag with their type and quality of service.

        Args:
            reader: the other bag.
            topics: those of its topics to add; those that this bag has already stay as they are.

        Returns:
            The topics that cannot be written because the definition of their type is unknown.
        """
        skipped = []
        for channel in reader.channels(topics):
            if channel.topic in self._connections:
                continue
            text, digest = channel.definition, recorded_hash(channel)
            if not (text and digest):  # bags older than Iron do not have them
                try:
                    text, digest = definition(channel.kind)
                except (LookupError, ValueError):
                    skipped.append(channel.topic)
                    continue
            self._connect(dataclasses.replace(channel, definition=text, digest=digest))
        return skipped

    def copy(self, record: Record) -> None:
        """Copy a message of another bag if its topic was added."""
        if record.topic in self._connections:
            with self._writing():
                self._writer.write(self._connections[record.topic], record.time, record.data)

    def _connect(self, channel: Channel) -> None:
        with self._writing():
            self._connections[channel.topic] = self._writer.add_connection(
                channel.topic,
                channel.kind,
                msgdef=channel.definition,
                rihs01=channel.digest,
                serialization_format=channel.encoding,
                offered_qos_profiles=channel.qos,
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what the disk refuses into a BagError that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise BagError(
                f"{self.path} cannot be written ({error}): free space on its disk, or choose an "
                "output on another"
            ) from error
        except OSError as error:
            remedy = "choose an output in a folder where you may write"
            if error.errno in _FULL:
                remedy = "free space on its disk, or choose an output on another"
            raise BagError(f"{self.path} cannot be written ({error.strerror}): {remedy}") from error


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
    """Raise BagError with the remedy for common mistakes."""
    if not path.exists():
        raise BagError(f"bag {path} does not exist: give a bag's folder, or its .mcap or .db3 file")
    if path.is_dir() and not (path / METADATA).is_file() and not recorded_files(path):
        raise BagError(f"{path} is not a bag: it has neither {METADATA} nor .mcap or .db3 files")
    if path.suffix == ".bag":
        raise BagError(
            f"{path} is a ROS 1 bag: convert it with `rosbags-convert --src {path} --dst FOLDER`"
        )
    if path.is_file() and not path.name.endswith(SUFFIXES):
        raise BagError(f"{path} is not a bag: give a bag's folder, or its .mcap or .db3 file")
