"""Which phases of a part's training are done, in all its stages: one small file."""

import json
from pathlib import Path

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.files import write_text
from training.runs import PART


class Ledger:
    """The table of phases.

    More hours than those of a finished training begin a new stage of it, with all phases to do.
    Nothing is written before `begin`.

    Args:
        run_dir: folder of the part's training.
        settings: plain values by name, "hours" among them, which must be those that the table was
            begun with.
        last: phase with which a stage is finished.

    Attributes:
        earlier: hours and seconds by phase of the finished stages.

    Raises:
        InputError: the settings are others, or the folder holds something else.
    """

    earlier: list[dict]

    def __init__(self, run_dir: Path, settings: dict, last: str):
        self._path = run_dir / PART
        self._settings = settings
        self._seconds: dict[str, float] = {}
        self.earlier = []
        if self._path.is_file():
            self._go_on(run_dir, last)
        elif run_dir.is_dir() and any(run_dir.iterdir()):
            raise InputError(f"{run_dir} holds something else: give another --name")

    def _go_on(self, run_dir: Path, last: str) -> None:
        """Take over what is done, as part of this stage or as an earlier one."""
        content = json.loads(self._path.read_text())
        known, phases = content["settings"], content["phases"]
        self.earlier = content.get("earlier", [])
        other = [name for name, value in self._settings.items() if known.get(name) != value]
        more = other == ["hours"] and self._settings["hours"] > known["hours"]
        if more and last in phases:
            self.earlier = [*self.earlier, {"hours": known["hours"], "phases": phases}]
        elif more:
            raise InputError(
                f"{run_dir} has not yet had the {known['hours']:g} hours it was begun with: give "
                "these again; when they are done, it goes on with more"
            )
        elif other:
            changes = ", ".join(
                f"{name} {known.get(name)}, not {self._settings[name]}" for name in other
            )
            raise InputError(
                f"{run_dir} was begun with {changes}: give the same again to go on with it, or "
                "another --name, or delete the folder"
            )
        else:
            self._seconds = phases

    @property
    def hours(self) -> float:
        """All hours of the finished stages."""
        return self.earlier[-1]["hours"] if self.earlier else 0.0

    def seconds(self, phase: str) -> float | None:
        """Return how long a phase has taken, None while it is not done."""
        return self._seconds.get(phase)

    def begin(self) -> None:
        """Write the table."""
        content = {"settings": self._settings, "phases": self._seconds, "earlier": self.earlier}
        write_text(self._path, json.dumps(content, indent=1) + "\n")

    def done(self, phase: str, seconds: float) -> None:
        """Note that a phase is done."""
        self._seconds[phase] = round(seconds, 1)
        self.begin()
