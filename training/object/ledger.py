"""Which phases of a part's training are done: one small file."""

import json
from pathlib import Path

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.files import write_text

FILE = "object.json"


class Ledger:
    """The table of phases.

    Args:
        run_dir: folder of the part's training.
        settings: plain values by name, which must be those that the table was begun with.

    Raises:
        InputError: they are others, or the folder holds something else.
    """

    def __init__(self, run_dir: Path, settings: dict):
        self._path = run_dir / FILE
        if self._path.is_file():
            content = json.loads(self._path.read_text())
            self._seconds: dict[str, float] = content["phases"]
            known = content["settings"]
            other = [name for name in settings if known.get(name) != settings[name]]
            if other:
                changes = ", ".join(
                    f"{name} {known.get(name)}, not {settings[name]}" for name in other
                )
                raise InputError(
                    f"{run_dir} was begun with {changes}: give the same again to go on with it, or "
                    "another --name, or delete the folder"
                )
        elif run_dir.is_dir() and any(run_dir.iterdir()):
            raise InputError(f"{run_dir} holds something else: give another --name")
        else:
            self._seconds = {}
        self._settings = settings
        self._write()

    def seconds(self, phase: str) -> float | None:
        """Return how long a phase has taken, None while it is not done."""
        return self._seconds.get(phase)

    def done(self, phase: str, seconds: float) -> None:
        """Note that a phase is done."""
        self._seconds[phase] = round(seconds, 1)
        self._write()

    def _write(self) -> None:
        content = {"settings": self._settings, "phases": self._seconds}
        write_text(self._path, json.dumps(content, indent=1) + "\n")
