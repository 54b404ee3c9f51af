"""The files of a recording, and what its metadata.yaml says of them."""

from __future__ import annotations

import dataclasses
import heapq
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath
from typing import Any

import yaml

from spyropose_ros.ros.bags.channel import DAMAGE, Channel, Record, offered_qos, zstd
from spyropose_ros.ros.bags.mcap_file import McapFile
from spyropose_ros.ros.bags.sqlite_file import SqliteFile, journals

METADATA = "metadata.yaml"
READERS: dict[str, type[McapFile] | type[SqliteFile]] = {".mcap": McapFile, ".db3": SqliteFile}
_PACKED = ".zstd"  # of files compressed as a whole
SUFFIXES = (*READERS, *(suffix + _PACKED for suffix in READERS))


class Recording:
    """A recording of one or several files.

    Args:
        path: its folder, or one file.

    Attributes:
        channels: its topics; one topic twice if it was recorded with two types.
        announced: messages by topic, as the recording says.
        counts: messages by topic, as the files say or as they are.

    Raises:
        ValueError: if it is not a recording.
        OSError: if it cannot be read.
    """

    channels: list[Channel]
    announced: Counter[str]
    counts: Counter[str]

    def __init__(self, path: Path) -> None:
        self._problems: list[str] = []
        self._copies: tempfile.TemporaryDirectory | None = None
        metadata = self._metadata(path) if path.is_dir() else {}
        self._files: list[McapFile | SqliteFile] = []
        for each in self._paths(path, metadata):
            try:
                self._files.append(READERS[each.suffix](each))
            except DAMAGE as error:
                self._problems.append(f"{each.name} cannot be read ({error})")
        if not self._files:
            raise ValueError("; ".join(self._problems) or "it has no files")
        listed = _listed(metadata)
        self.channels = _merged(
            [channel for channel, _ in listed],
            [channel for file in self._files for channel in file.channels.values()],
        )
        self.counts = Counter()
        for file in self._files:
            for key, count in file.counts.items():
                self.counts[file.channels[key].topic] += count
        self.announced = self.counts | sum(
            (Counter({channel.topic: count}) for channel, count in listed), Counter[str]()
        )

    @property
    def problems(self) -> list[str]:
        """What is damaged or missing as far as it was read, as sentences."""
        return self._problems + [text for file in self._files for text in file.problems]

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Yield the messages of some topics in the order of their time."""
        streams = (_opened_late(file, topics) for file in self._files)
        for _, record in heapq.merge(*streams, key=lambda entry: entry[0]):
            if record is not None:
                yield record

    def close(self) -> None:
        """Remove what was decompressed or copied."""
        if self._copies is not None:
            self._copies.cleanup()

    def _metadata(self, path: Path) -> dict[str, Any]:
        """Read metadata.yaml; without it, or if it is damaged, the files speak for themselves."""
        try:
            text = (path / METADATA).read_text("utf-8")
            content = yaml.safe_load(text)["rosbag2_bagfile_information"]
            _listed(content)
            [PurePath(name) for name in content["relative_file_paths"]]
        except FileNotFoundError:
            self._problems.append(
                f"{METADATA} is missing, as if the recording was not closed: all files in the "
                "folder are read"
            )
        except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            self._problems.append(
                f"{METADATA} is damaged ({reason}): all files in the folder are read"
            )
        else:
            return content
        return {}

    def _paths(self, path: Path, metadata: dict[str, Any]) -> list[Path]:
        """Return the files of the recording, decompressed."""
        if not path.is_dir():
            return [self._readable(path)]
        there = recorded_files(path)
        if metadata:
            there = self._named(there, metadata["relative_file_paths"])
        return [self._readable(file) for file in there]

    def _named(self, there: list[Path], names: list[str]) -> list[Path]:
        """Return the files that metadata.yaml names; all if they were renamed."""
        by_name = {file.name: file for file in there}
        named = list(dict.fromkeys(PurePath(name).name for name in names))
        for name in named:
            if name not in by_name:
                self._problems.append(f"{name}, which {METADATA} names, is missing")
        found = [by_name[name] for name in named if name in by_name]
        if not found:
            return there
        for name in sorted(by_name.keys() - set(named)):
            self._problems.append(f"{name} is not named in {METADATA} and not read")
        return found

    def _readable(self, file: Path) -> Path:
        """Return the file, or a copy: decompressed, or for sqlite to complete."""
        left = journals(file)
        if file.suffix != _PACKED and not left:
            return file
        if self._copies is None:
            self._copies = tempfile.TemporaryDirectory()
        folder = Path(self._copies.name)
        if left:
            for each in (file, *left):
                shutil.copyfile(each, folder / each.name)
            return folder / file.name
        with zstd.open(file, "rb") as source, (folder / file.stem).open("wb") as target:
            try:
                shutil.copyfileobj(source, target)
            except (zstd.ZstdError, EOFError):
                self._problems.append(f"{file.name} is cut off: what follows is lost")
        return folder / file.stem


def _opened_late(
    file: McapFile | SqliteFile, topics: Collection[str]
) -> Iterator[tuple[int, Record | None]]:
    """Yield the messages of a file with their time; it is opened only once its time has come.

    An entry without a message comes first: a long recording has more files than may be open.
    """
    yield file.start, None
    for record in file.records(topics):
        yield record.time, record


def recorded_files(folder: Path) -> list[Path]:
    """Return the files of messages in a folder, in the order of their numbers."""
    files = (f for f in folder.iterdir() if f.name.endswith(SUFFIXES))
    return sorted(files, key=lambda file: (_numbers(file.name), file.name))


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _listed(metadata: dict[str, Any]) -> list[tuple[Channel, int]]:
    """Return the topics in metadata.yaml with their number of messages."""
    channels = []
    for entry in metadata.get("topics_with_message_count", []):
        topic = entry["topic_metadata"]
        channel = Channel(
            topic=topic["name"],
            kind=topic["type"],
            digest=topic.get("type_description_hash", ""),
            encoding=topic.get("serialization_format", "cdr"),
            qos=offered_qos(topic.get("offered_qos_profiles", [])),
        )
        channels.append((channel, int(entry["message_count"])))
    return channels


def _merged(listed: list[Channel], found: list[Channel]) -> list[Channel]:
    """Return every topic once per type: as listed, with the definitions of the files."""
    merged = {(channel.topic, channel.kind): channel for channel in listed}
    for channel in found:
        key = channel.topic, channel.kind
        known = merged.get(key)
        if known is None:
            merged[key] = channel
        elif not known.definition:
            merged[key] = dataclasses.replace(
                known, definition=channel.definition, language=channel.language
            )
    return list(merged.values())
