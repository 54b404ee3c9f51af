"""Errors of the system as one line with a remedy."""

from pathlib import Path

import pytest
from torch._utils import ExceptionWrapper

from spyropose_ros.core.errors import DataError
from spyropose_ros.core.files import write_bytes
from training import cli


def ended(work):
    with pytest.raises(SystemExit) as end, cli.one_line_errors("work"):
        work()
    assert "\n" not in end.value.code
    return end.value.code


def of_a_worker(work):
    """Raise as a loader process of PyTorch passes an error on."""
    try:
        work()
    except Exception:
        ExceptionWrapper(where="in DataLoader worker process 0").reraise()


def fill_the_disk():
    Path("/dev/full").write_bytes(b"x")


def write_where_nobody_may():
    write_bytes(Path("/sys/part.json"), b"{}")


def test_a_full_disk():
    for work in (fill_the_disk, lambda: of_a_worker(fill_the_disk)):
        assert ended(work).startswith("work: the disk is full: free some space and run")


def test_a_full_disk_is_named():
    def fail():
        raise OSError(28, "No space left on device", "/data/set/000000.jpg")

    assert "the disk of /data/set/000000.jpg is full" in ended(fail)


def test_a_folder_that_cannot_be_written():
    for work in (write_where_nobody_may, lambda: of_a_worker(write_where_nobody_may)):
        assert ended(work).startswith("work: no permission for /sys/part.json (")
        assert ended(work).endswith("give a folder that you may write to")


@pytest.mark.parametrize("name", ["a file", "the user's file", 'a "file"'])
def test_whatever_the_path_is_it_is_named(name):
    def fail():
        raise PermissionError(13, "Permission denied", f"/data/{name}")

    for work in (fail, lambda: of_a_worker(fail)):
        assert ended(work) == (
            f"work: no permission for /data/{name} (Permission denied): make it readable, or give "
            "a folder that you may write to"
        )


def test_files_that_move_to_a_full_disk():
    def fail():
        raise OSError(28, "No space left on device", "/tmp/a", None, "/data/b")

    assert "the disk of /data/b is full" in ended(fail)


def test_errors_of_workers_lose_their_traceback():
    def fail():
        raise DataError("mask.png has 80 x 60 pixels: make it larger")

    assert ended(fail) == "work: mask.png has 80 x 60 pixels: make it larger"
    assert ended(lambda: of_a_worker(fail)) == ended(fail)
