"""The entries of a campaign and the state of each, which follows from its files."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from spyropose_ros.core.bundle_files import CONFIG
from spyropose_ros.core.errors import InputError
from training.evaluation.report import find_reports, read_report

_TRAINING = "--accelerator cpu --num-workers 0 --logger none"
"""Flags of every training: one core, which is all that it may take."""


@dataclass(frozen=True)
class Entry:
    """A training with its evaluation.

    Attributes:
        name: of the run.
        dataset: as for `training.train`.
        object: of the data set.
        hours: core-hours of the training.
        flags: further ones for `training.train`.
        split: to evaluate on; the data set's first by default.
        images: most images of the evaluation.
        calibration: flags for `training.calibrate`.
        data_root: where data sets lie.
    """

    name: str
    dataset: str
    object: str
    hours: float
    flags: str = ""
    split: str | None = None
    images: int = 300
    calibration: str = ""
    data_root: str = "data"


class Stage(NamedTuple):
    """What an entry needs next.

    Attributes:
        name: "training", ...
        command: that does it; the same one goes on after a kill.
    """

    name: str
    command: list[str]


def read_queue(path: Path) -> list[Entry]:
    """Read a queue.

    Args:
        path: of its YAML file.

    Returns:
        The entries in order, each with a name of its own.

    Raises:
        InputError: the file says something else.
        OSError: there is no such file.
    """
    try:
        entries = [Entry(**fields) for fields in yaml.safe_load(path.read_text())]
    except (TypeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    names = [entry.name for entry in entries]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"{path}: more than one entry is called {', '.join(sorted(twice))}")
    return entries


@dataclass(frozen=True)
class EntryRun:
    """An entry's folder and what is in it.

    Attributes:
        entry: of the queue.
        directory: of its run.
    """

    entry: Entry
    directory: Path

    @property
    def config(self) -> dict | None:
        """Of the bundle that the training has made, None before it is finished."""
        path = self.directory / "bundle" / CONFIG
        return json.loads(path.read_text()) if path.is_file() else None

    @property
    def raw(self) -> dict | None:
        """Metrics with all temperatures 1, None before they are measured."""
        return self._metrics(self._raw_directory)

    @property
    def fitted(self) -> dict | None:
        """Metrics with the fitted temperatures, None before they are measured."""
        return self._metrics(self.directory / "bundle")

    @property
    def _raw_directory(self) -> Path:
        return self.directory / "uncalibrated"

    def _metrics(self, directory: Path) -> dict | None:
        for path in find_reports(directory):
            if path.with_suffix(".png").is_file():  # written last
                report = read_report(path)[0]
                if self.entry.split in (None, report["split"]):
                    return report["metrics"]["all"]
        return None

    def next_stage(self) -> Stage | None:
        """Return the first thing that is not there yet, None of a finished entry."""
        entry, run = self.entry, str(self.directory)
        config = self.config
        data = ["--data-root", entry.data_root]
        if config is None:
            location = ["--runs", str(self.directory.parent), "--run-id", entry.name, *data]
            flags = ["--hours", str(entry.hours), *_TRAINING.split(), *shlex.split(entry.flags)]
            train = _module("train", entry.dataset, entry.object, *location, *flags)
            return Stage("training", train)
        chosen = ["--limit", str(entry.images), *data]
        chosen += ["--split", entry.split] if entry.split else []
        evaluate = _module("evaluate", run, "--device", "cpu", *chosen)
        if self.raw is None:  # first: the bundle's temperatures are still 1
            output = ["--output", str(self._raw_directory)]
            return Stage("evaluation without temperatures", [*evaluate, *output])
        if "calibration" not in config["record"]:
            flags = ["--device", "cpu", *data, *shlex.split(entry.calibration)]
            return Stage("calibration", _module("calibrate", run, *flags))
        if self.fitted is None:
            return Stage("evaluation", evaluate)
        return None


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"training.{name}", *arguments]
