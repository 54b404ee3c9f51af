"""Recordings as they really are: every shape of the formats, damaged, cut off, edited."""

import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from std_msgs.msg import Int32, String

from mcap_tools import record, write_mcap
from spyropose_ros.ros.bags.bag_files import BagError, BagReader, BagWriter

MESSAGES = [("/a" if i % 2 else "/b", String(data=f"{i}"), 10 * i) for i in range(8)]
SHAPES = {
    "as recorders write it": {},
    "without message index": {"indexed": False},
    "without statistics": {"statistics": False},
    "without message index and statistics": {"indexed": False, "statistics": False},
    "channels not repeated": {"repeated": False},
    "without summary": {"summary": False},
    "without chunks": {"chunked": False},
    "without chunks and summary": {"chunked": False, "summary": False},
    "lz4": {"compression": "lz4"},
    "zstd without summary": {"compression": "zstd", "summary": False},
}


def texts(reader: BagReader, topics=("/a", "/b")) -> list[str]:
    return [reader.decode(entry, String).data for entry in reader.records(topics)]


def read(path: Path) -> tuple[list[str], list[str]]:
    """The texts of all messages in the order of their time, and the problems."""
    with BagReader(path) as reader:
        found = texts(reader)
        assert reader.count(["/a", "/b"]) == len(found)
        return found, reader.problems


def fill(path: Path, storage: str, count: int = 8) -> Path:
    with BagWriter(path, storage) as writer:
        for i in range(count):
            writer.write("/a", String(data=f"{i}" + 5000 * "x"), 10 * i)
    (file,) = (file for file in path.iterdir() if file.suffix != ".yaml")
    return file


def numbers(path: Path) -> list[int]:
    with BagReader(path) as reader:
        return [int(text.rstrip("x")) for text in texts(reader)]


# ---- MCAP ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("ordered", [True, False], ids=["in order", "out of order"])
def test_every_legal_shape_of_mcap_is_read_in_the_order_of_time(tmp_path, shape, ordered):
    messages = MESSAGES if ordered else [MESSAGES[i] for i in (3, 0, 1, 2, 7, 6, 4, 5)]
    path = write_mcap(tmp_path / "bag.mcap", messages, **shape)
    assert read(path) == ([f"{i}" for i in range(8)], [])
    with BagReader(path) as reader:
        assert reader.topics == dict.fromkeys(("/a", "/b"), "std_msgs/msg/String")
        assert texts(reader, ["/a"]) == ["1", "3", "5", "7"]
        assert reader.announced("/a") == 4
        reader.check_type("/a", String)


@pytest.mark.parametrize(
    "schema", [("ros2msg", "std_msgs/msg/String"), ("ros2msg", ""), ("", ""), ("protobuf", "\0")]
)
def test_a_definition_that_cannot_be_parsed_does_no_harm(tmp_path, schema):
    path = write_mcap(tmp_path / "bag.mcap", MESSAGES, schema=lambda name: schema)
    assert len(read(path)[0]) == 8
    with BagReader(path) as reader, BagWriter(tmp_path / "copy") as writer:
        reader.check_type("/a", String)
        with pytest.raises(BagError, match="std_msgs/msg/Int32 is needed"):
            reader.check_type("/a", Int32)
        assert writer.copy_topics(reader, ["/a"]) == []  # with the definition installed here


def test_topics_that_nobody_needs_may_be_in_any_encoding(tmp_path):
    others = [("/log", "foxglove.Log", "jsonschema", "json", 1), ("/odd", "", "", "x", 2)]
    path = write_mcap(tmp_path / "bag.mcap", MESSAGES, others=others)
    assert len(read(path)[0]) == 8
    with BagReader(path) as reader, BagWriter(tmp_path / "copy") as writer:
        assert writer.copy_topics(reader, reader.topics) == ["/log", "/odd"]
        with pytest.raises(BagError, match="encoded as 'json'"):
            reader.check_type("/log", String)


@pytest.mark.parametrize("shape", [{}, {"compression": "zstd"}, {"chunked": False}])
def test_a_file_that_ends_anywhere_is_read_up_to_there(tmp_path, shape):
    whole = write_mcap(tmp_path / "bag.mcap", MESSAGES, **shape).read_bytes()
    lengths = []
    for end in range(8, len(whole) - 8, 97):
        path = tmp_path / "cut.mcap"
        path.write_bytes(whole[:end])
        found, problems = read(path)
        assert found == [f"{i}" for i in range(len(found))]
        assert any("cut.mcap is cut off" in problem for problem in problems)
        lengths.append(len(found))
    assert lengths == sorted(lengths)
    assert lengths[0] == 0 and lengths[-1] == 8 and len(set(lengths)) > 3


def test_zeros_at_the_end_are_a_cut(tmp_path):
    path = write_mcap(tmp_path / "bag.mcap", MESSAGES)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(record(0x0F, bytes(4)))] + bytes(4096))
    found, (problem,) = read(path)
    assert len(found) == 8 and "cut off" in problem


def test_a_damaged_chunk_costs_its_own_messages_only(tmp_path):
    path = write_mcap(tmp_path / "bag.mcap", MESSAGES, compression="zstd")
    whole = bytearray(path.read_bytes())
    magic = b"\x28\xb5\x2f\xfd"
    second = whole.index(magic, whole.index(magic) + 1)
    whole[second + 4 : second + 20] = bytes(16)
    path.write_bytes(whole)
    with BagReader(path) as reader:
        assert texts(reader) == ["0", "1", "4", "5", "6", "7"]
        assert reader.announced("/a") == 4
        (problem,) = reader.problems
    assert "bag.mcap is damaged at byte" in problem


# ---- sqlite3 ---------------------------------------------------------------------------------


def crash(file: Path, mode: str) -> None:
    """Adds four messages and a fifth that is not committed, and dies."""
    script = f"""
import os, sqlite3
file = sqlite3.connect({str(file)!r}, isolation_level=None)
file.execute("PRAGMA journal_mode = {mode}")
file.execute("PRAGMA wal_autocheckpoint = 0")
file.execute("PRAGMA cache_size = 1")
add = "INSERT INTO messages (topic_id, timestamp, data) SELECT topic_id, timestamp + 80, data "
file.execute(add + "FROM messages WHERE id <= 4")
file.execute("BEGIN")
file.execute(add + "FROM messages")
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", script], check=False)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_what_a_recorder_that_died_had_committed_is_read(tmp_path, mode):
    file = fill(tmp_path / "bag", "sqlite3")
    crash(file, mode)
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    assert len(before) > 2, "no journal was left"
    assert numbers(file) == [*range(8), *range(4)]
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_database_that_was_cut_off_is_read_up_to_there(tmp_path, share):
    file = fill(tmp_path / "bag", "sqlite3", count=40)
    os.truncate(file, int(share * file.stat().st_size) // 4096 * 4096)
    found = numbers(file)
    assert 0 < len(found) < 40
    assert found == list(range(len(found)))
    with BagReader(file) as reader:
        (problem,) = reader.problems
    assert f"{file.name} is damaged after {len(found)} messages" in problem


def test_a_database_of_the_first_recorders_is_read(tmp_path):
    path = tmp_path / "old #1 ä.db3"
    fill(tmp_path / "bag", "sqlite3").rename(path)
    with sqlite3.connect(path) as file:
        for table in ("schema", "metadata", "message_definitions"):
            file.execute(f"DROP TABLE {table}")
        for column in ("offered_qos_profiles", "type_description_hash"):
            file.execute(f"ALTER TABLE topics DROP COLUMN {column}")
    assert numbers(path) == list(range(8))


# ---- folders ---------------------------------------------------------------------------------


@pytest.fixture
def split(tmp_path) -> Path:
    """A recording in eleven files of one message each, whose metadata.yaml names the first two."""
    folder = tmp_path / "split"
    folder.mkdir()
    for i in range(11):
        write_mcap(folder / f"split_{i}.mcap", [("/a", String(data=f"{i}"), i)])
    (folder / "metadata.yaml").write_text(
        "rosbag2_bagfile_information: {relative_file_paths: [split_0.mcap, split_1.mcap], "
        "topics_with_message_count: [{message_count: 3, topic_metadata: "
        "{name: /a, type: std_msgs/msg/String, serialization_format: cdr, "
        "offered_qos_profiles: 'garbage: ['}}]}"
    )
    return folder


def test_metadata_says_which_files_and_how_many_messages_there_should_be(split):
    (split / "split_1.mcap").unlink()
    with BagReader(split) as reader:
        assert texts(reader) == ["0"]
        assert (reader.count(["/a"]), reader.announced("/a")) == (1, 3)
        problems = "\n".join(reader.problems)
    assert "split_1.mcap, which metadata.yaml names, is missing" in problems
    assert "split_10.mcap is not named in metadata.yaml and not read" in problems


@pytest.mark.parametrize(
    "metadata", [None, "", "[", "rosbag2_bagfile_information: {}", "a: 1", b"\xff\xfe"]
)
def test_without_usable_metadata_all_files_are_read_in_the_order_of_their_numbers(split, metadata):
    path = split / "metadata.yaml"
    path.unlink()
    if metadata is not None:
        path.write_bytes(metadata if isinstance(metadata, bytes) else metadata.encode())
    found, (problem,) = read(split)
    assert found == [f"{i}" for i in range(11)]
    assert "metadata.yaml is " + ("missing" if metadata is None else "damaged") in problem


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_recording_may_have_more_files_than_may_be_open(tmp_path, storage):
    folder = tmp_path / "long"
    folder.mkdir()
    for i in range(40):
        path = folder / f"long_{i}{'.mcap' if storage == 'mcap' else '.db3'}"
        if storage == "mcap":
            write_mcap(path, [("/a", String(data=f"{i}"), i)])
        else:
            with BagWriter(tmp_path / f"{i}", storage) as writer:
                writer.write("/a", String(data=f"{i}"), i)
            (tmp_path / f"{i}" / f"{i}.db3").rename(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 12, hard))
    try:
        found = texts(BagReader(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == [f"{i}" for i in range(40)]


def test_a_file_that_is_named_twice_is_read_once(split):
    path = split / "metadata.yaml"
    path.write_text(path.read_text().replace("split_1.mcap]", "split_1.mcap, split_1.mcap]"))
    assert read(split)[0] == ["0", "1"]


def test_renamed_files_are_read(split):
    for i in (0, 1):
        (split / f"split_{i}.mcap").rename(split / f"kitchen_{i}.mcap")
    for i in range(2, 11):
        (split / f"split_{i}.mcap").unlink()
    found, problems = read(split)
    assert found == ["0", "1"]
    assert len(problems) == 2


@pytest.mark.parametrize("storage", ["mcap", "zstd", "sqlite3"])
def test_any_damage_is_survived(tmp_path, storage):
    if storage == "sqlite3":
        path = fill(tmp_path / "bag", storage, count=3)
    else:
        packing = storage.removeprefix("mcap")
        path = write_mcap(tmp_path / "bag.mcap", MESSAGES, compression=packing)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(200):
        damaged = bytearray(whole)
        start = rng.integers(len(whole))
        damaged[start : start + rng.integers(1, 20)] = rng.bytes(rng.integers(20))
        path.write_bytes(damaged)
        try:
            with BagReader(path) as reader:
                outcomes.add(sum(1 for _ in reader.records(reader.topics)))
        except BagError:
            outcomes.add(-1)
    assert {-1, 3 if storage == "sqlite3" else 8} <= outcomes


def test_one_damaged_file_of_several_is_left_out(split):
    (split / "metadata.yaml").unlink()
    (split / "split_4.mcap").write_bytes(b"no MCAP")
    found, (_, problem) = read(split)
    assert found == [f"{i}" for i in range(11) if i != 4]
    assert "split_4.mcap cannot be read" in problem


def test_a_compressed_file_is_read_up_to_where_it_was_cut_off(split):
    for file in split.glob("*.mcap"):
        packed = zstd.compress(file.read_bytes())
        file.with_name(file.name + ".zstd").write_bytes(packed)
        file.unlink()
    (split / "metadata.yaml").unlink()
    assert read(split)[0] == [f"{i}" for i in range(11)]
    last = split / "split_10.mcap.zstd"
    assert read(last)[0] == ["10"]  # given by itself
    last.write_bytes(last.read_bytes()[:-20])
    found, problems = read(split)
    assert found[:10] == [f"{i}" for i in range(10)]
    assert any("split_10.mcap.zstd is cut off" in problem for problem in problems)
