"""Per-image results on disk, so that an interrupted evaluation resumes."""

import json
import logging
from pathlib import Path

from spyropose_ros.core.files import write_text

log = logging.getLogger(__name__)


class RecordFile:
    """A JSON-lines file: a header that says how the records were made, then one record a line.

    Args:
        path: of the file; its folder is created when missing.
        header: plain settings. A file with another header is replaced.

    Attributes:
        records: those read and those appended, in order.
    """

    records: list[dict]

    def __init__(self, path: Path, header: dict):
        self._path = path
        self.records = []
        lines = _whole_lines(path)
        if lines and lines[0] == header:
            self.records = lines[1:]
            log.info("%s: resuming after %d images", path, len(self.records))
        elif lines:
            log.info("%s was made with other settings: starting over", path)
        # Rewritten, so that a line cut short by a kill is gone.
        write_text(path, "".join(map(_line, [header, *self.records])))

    def append(self, record: dict) -> None:
        """Keep a record; it is on disk when this returns."""
        with self._path.open("a") as file:
            file.write(_line(record))
        self.records.append(record)


def read_records(path: Path) -> list[dict]:
    """Return the records of a finished file, without its header."""
    return _whole_lines(path)[1:]


def _line(value: dict) -> str:
    return json.dumps(value) + "\n"


def _whole_lines(path: Path) -> list[dict]:
    """Return what the file holds up to the first incomplete line; nothing without a file."""
    values = []
    for line in path.read_text().splitlines(keepends=True) if path.is_file() else []:
        try:
            value = json.loads(line) if line.endswith("\n") else None
        except json.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            break
        values.append(value)
    return values
