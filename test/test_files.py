"""Files are complete or not there, and checksums are those of hashlib."""

import hashlib
from pathlib import Path

import pytest

from spyropose_ros.core.files import sha256, write_bytes, write_text


def test_a_file_is_written_into_a_new_folder_and_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "file.json"
    write_text(path, "Größe\n")
    assert path.read_bytes() == "Größe\n".encode()
    write_bytes(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(self, content):
        if step == "write_bytes":
            self.touch()  # as much as a full disk takes
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, step, fail)
    with pytest.raises(OSError, match="no space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_checksum_is_that_of_all_parts_in_order(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 5000)  # more than a block
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sha256(b"a", path, b"b") == sha256(b"a" + path.read_bytes() + b"b")
    assert sha256() == hashlib.sha256().hexdigest()
