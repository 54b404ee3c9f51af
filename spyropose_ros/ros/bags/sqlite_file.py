"""Reads the sqlite3 files of rosbag2, and what is left of damaged ones."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from spyropose_ros.ros.bags.channel import Channel, Record, offered_qos, unpacked

_MESSAGES = "FROM messages WHERE typeof(timestamp) = 'integer' AND typeof(data) = 'blob'"


class SqliteFile:
    """A .db3 file.

    Args:
        path: the file; with a journal beside it, a copy, which sqlite completes.

    Attributes:
        channels: by id.
        counts: messages by id.
        start: time of the first message, nanoseconds; 0 without messages.
        problems: what is damaged, as sentences.

    Raises:
        ValueError: if it is not a recording, or too damaged to be one.
        OSError: if it cannot be read.
    """

    channels: dict[int, Channel]
    counts: Counter[int]
    start: int
    problems: list[str]

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problems = []
        self._intact: list[tuple[int, int, int]] | None = None  # of a damaged file: time, id, topic
        self._options = "" if journals(path) else "?mode=ro&immutable=1"
        try:
            with closing(self._connect()) as connection:
                self.channels = _channels(connection)
                self.counts = self._count(connection)
        except sqlite3.Error as error:
            raise ValueError(str(error)) from error

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Yield the messages of some topics in the order of their time."""
        names = {key: c.topic for key, c in self.channels.items() if c.topic in topics}
        with closing(self._connect()) as connection:
            rows = self._undamaged(connection, names) if self._intact else _rows(connection, names)
            for topic, time, data in rows:
                yield Record(names[topic], time, unpacked(data))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path.absolute().as_uri() + self._options, uri=True)
        connection.execute("PRAGMA writable_schema = ON")  # or a shortened file is refused
        connection.text_factory = lambda text: text.decode(errors="replace")
        return connection

    def _count(self, connection: sqlite3.Connection) -> Counter[int]:
        """Count the messages by topic; those before the damage if the file is damaged."""
        with suppress(sqlite3.DatabaseError):
            if not _shortened(self._path):
                query = f"SELECT topic_id, count(*), min(timestamp) {_MESSAGES} GROUP BY topic_id"
                topics = connection.execute(query).fetchall()
                self.start = min((start for _, _, start in topics), default=0)
                return self._known((key, count) for key, count, _ in topics)
        self._intact = []
        with suppress(sqlite3.DatabaseError):
            for row in connection.execute(f"SELECT timestamp, id, topic_id, data {_MESSAGES}"):
                self._intact.append(row[:3])
        if not self._intact:
            raise ValueError("the database is damaged and no message is left")
        self.problems.append(
            f"{self._path.name} is damaged after {len(self._intact)} messages: the others are lost"
        )
        self.start = min(start for start, _, _ in self._intact)
        return self._known(Counter(topic for _, _, topic in self._intact).items())

    def _known(self, counts: Iterable[tuple[int, int]]) -> Counter[int]:
        return Counter({key: count for key, count in counts if key in self.channels})

    def _undamaged(
        self, connection: sqlite3.Connection, topics: Collection[int]
    ) -> Iterator[tuple[int, int, bytes]]:
        for _, key, topic in sorted(self._intact or []):
            if topic in topics:
                yield from connection.execute(
                    f"SELECT topic_id, timestamp, data {_MESSAGES} AND id = ?", [key]
                )


def journals(path: Path) -> list[Path]:
    """Return what a recorder that died has left beside a file."""
    files = (path.with_name(path.name + suffix) for suffix in ("-wal", "-journal"))
    return [file for file in files if file.is_file() and file.stat().st_size]


def _shortened(path: Path) -> bool:
    """Tell whether a file is shorter than it says."""
    with path.open("rb") as file:
        head = file.read(32)
    page = int.from_bytes(head[16:18], "big")
    pages = int.from_bytes(head[28:32], "big")
    return path.stat().st_size < (65536 if page == 1 else page) * pages


def _rows(
    connection: sqlite3.Connection, topics: Collection[int]
) -> Iterator[tuple[int, int, bytes]]:
    marks = ", ".join("?" * len(topics))
    return connection.execute(
        f"SELECT topic_id, timestamp, data {_MESSAGES} AND topic_id IN ({marks}) "
        "ORDER BY timestamp, id",
        list(topics),
    )


def _channels(connection: sqlite3.Connection) -> dict[int, Channel]:
    """Read the topics; older recorders wrote fewer columns and no definitions."""
    definitions = {
        name: (text, language)
        for name, text, language in _columns(
            connection,
            "message_definitions",
            ("topic_type", "encoded_message_definition", "encoding"),
        )
    }
    columns = ("id", "name", "type", "serialization_format")
    optional = ("offered_qos_profiles", "type_description_hash")
    channels = {}
    for key, topic, kind, encoding, qos, digest in _columns(
        connection, "topics", columns + optional
    ):
        if not (isinstance(topic, str) and isinstance(kind, str)):
            continue
        text, language = definitions.get(kind, ("", ""))
        channels[key] = Channel(
            topic, kind, text, language, digest, encoding or "cdr", offered_qos(qos)
        )
    return channels


def _columns(connection: sqlite3.Connection, table: str, names: tuple[str, ...]) -> list[tuple]:
    """Return columns of a table; empty texts for columns or rows that it does not have."""
    there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    if not there:
        return []
    wanted = ", ".join(name if name in there else "''" for name in names)
    return connection.execute(f"SELECT {wanted} FROM {table}").fetchall()
