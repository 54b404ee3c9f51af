"""Per-image results on disk, so that an evaluation that was killed goes on where it stopped."""

import json
import logging
from pathlib import Path

log = logging.getLogger(__name__)


class RecordFile:
    """A JSON-lines file: a header that says how the records were made, then one record a line.

    Args:
        path: of the file; its folder is created when missing.
        header: plain settings. A file with another header is replaced.

    Attributes:
        records: those read and those appended, in order.
    """

    def __init__(self, path: Path, header: dict):
        self._path = path
        self.records = []
        path.parent.mkdir(parents=True, exist_ok=True)
        first, *rest = _whole_lines(path) or [None]
        if first == header:
            self.records = rest
            log.info("%s: going on after %d images", path, len(rest))
        elif first is not None:
            log.info("%s was made with other settings: starting anew", path)
        # Rewritten, so that a line cut short by a kill is gone.
        partial = path.with_suffix(".partial")
        partial.write_text("".join(map(_line, [header, *self.records])))
        partial.replace(path)

    def append(self, record: dict) -> None:
        """Keep a record; it is on disk when this returns."""
        with self._path.open("a") as file:
            file.write(_line(record))
        self.records.append(record)


def read_records(path: Path) -> list[dict]:
    """The records of a finished file, without its header.

    Args:
        path: of the file.
    """
    return _whole_lines(path)[1:]


def _line(value: dict) -> str:
    return json.dumps(value) + "\n"


def _whole_lines(path: Path) -> list[dict]:
    """What the file holds up to the first line that is not whole; nothing without a file."""
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
