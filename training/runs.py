"""Where runs and their bundles are stored, and which data a bundle was trained on."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from jsonargparse import Namespace

from spyropose_ros.core.bundle_files import is_hub_id, read_object
from spyropose_ros.core.commands import starter
from spyropose_ros.core.errors import DataError, InputError
from spyropose_ros.core.files import sha256
from training import provenance
from training.cli import Parser
from training.config import TrainConfig

if TYPE_CHECKING:
    from spyropose_ros.core.bundle import ModelBundle
    from training.data.source import Source

log = logging.getLogger(__name__)

RUNS = Path("runs")

PART = "object.json"
"""File in the folder of a part, whose trainings are those of `./run object`."""

IDENTITY, SETTINGS = "run.yaml", "config.yaml"
"""Files of a run: data set, object and processes; all settings."""


def bundle_directory(run_or_bundle: str) -> str:
    """Find the bundle of a run.

    Args:
        run_or_bundle: run id, folder of a run, folder of a bundle or hub id.

    Returns:
        Folder of the run's bundle, or the name itself if there is no such run.
    """
    for run in (RUNS / run_or_bundle, Path(run_or_bundle)):
        if (run / "bundle").is_dir():
            return str(run / "bundle")
    return run_or_bundle


def next_command(module: str, run_dir: Path) -> str:
    """Return a command that works on a finished run.

    Args:
        module: of `training`.
        run_dir: folder of the run.

    Returns:
        The command line, as it is typed in the folder that this process was started in.
    """
    run = run_dir.name if run_dir.parent == RUNS else str(run_dir)
    return f"{starter()} -m training.{module} {shlex.quote(run)}"


def log_next(words: str, module: str, run_dir: Path) -> None:
    """Log what to do next, unless `./run object` does that itself.

    Args:
        words: what it is for.
        module: as for `next_command`.
        run_dir: folder of the run, or its bundle.
    """
    if not (run_dir.parent / PART).is_file():
        log.info("%s: %s", words, next_command(module, run_dir))


def steps_of(record: dict) -> str:
    """Return in words how many steps the weights of a record took, and out of how many."""
    steps, done = record["steps"], record.get("steps_done", record["steps"])
    return f"{steps} steps" + (f" (the best of {done})" if done > steps else "")


def require_bundle(run_or_bundle: str) -> None:
    """Look whether there is a bundle, before PyTorch is imported to load it.

    Args:
        run_or_bundle: as for `bundle_directory`.

    Raises:
        BundleError: missing, damaged or foreign, with the reason.
    """
    read_object(bundle_directory(run_or_bundle))


def stored_bundle(run_or_bundle: str) -> Path:
    """Find a bundle that something is to be written into.

    Args:
        run_or_bundle: as for `bundle_directory`.

    Returns:
        Its folder, which has a bundle.

    Raises:
        InputError: it is on the hub.
        BundleError: missing, damaged or foreign, with the reason.
    """
    directory = bundle_directory(run_or_bundle)
    if is_hub_id(directory):
        raise InputError(
            f"{directory} is no folder here, and nothing can be stored on the hub: get it with "
            f"'hf download {directory} --local-dir FOLDER' and give the folder"
        )
    read_object(directory)
    return Path(directory)


def bundle_source(bundle: ModelBundle, data_root: str, dataset: str | None = None) -> Source:
    """Open the data that a bundle was trained for, or another data set that shows its object.

    Args:
        bundle: whose object it is.
        data_root: where data sets lie.
        dataset: see `training.data.open_source`; that of the training by default.

    Returns:
        The data set, with the bundle's object chosen.

    Raises:
        DataError: if the bundle does not say.
    """
    from training.data import open_source

    try:
        dataset, object_name = dataset or bundle.record["dataset"], bundle.record["object"]
    except KeyError as error:
        raise DataError(
            f"the record of {bundle.name} has no {error}: it was not made by training.train of "
            "this version; train it again"
        ) from error
    resolution = bundle.model.config.crop_resolution
    config = TrainConfig.from_flat(bundle.record["config"])
    low_data = config.data.low_data_regime
    return open_source(
        dataset, object_name, data_root, low_data, resolution, config.bop, config.data.views
    )


def fingerprint(bundle: ModelBundle) -> str:
    """Return the SHA-256 of all that decides a bundle's answers: weights, temperatures, object."""
    weights = bundle.model.state_dict().items()
    tensors = (name.encode() + tensor.cpu().numpy().tobytes() for name, tensor in weights)
    rest = [bundle.temperatures, vars(bundle.object), bundle.model.config.to_dict()]
    return sha256(*tensors, json.dumps(rest).encode())


def variant(bundle: ModelBundle) -> str:
    """Return the paper's name for how a bundle was trained: "Ours", "w/o IS", "w/ box KP", ...

    "Implicit-PDF style" is trained, and searched, on the finest level alone.
    """
    config = bundle.record.get("config", {})
    if config.get("last_level_only"):
        return "Implicit-PDF style"
    keypoints = config.get("keypoints")
    lacks = ["KP"] * (keypoints == "none") + ["IS"] * (not config.get("importance_sampling", True))
    parts = ["w/ box KP"] * (keypoints == "box") + [f"w/o {' & '.join(lacks)}"] * bool(lacks)
    return " ".join(parts) or "Ours"


def stored_settings(run_dir: Path) -> dict:
    """Return what an existing run was started with; empty for a new one."""
    paths = [run_dir / name for name in (IDENTITY, SETTINGS)]
    if not all(path.is_file() for path in paths):
        return {}
    identity, settings = (yaml.safe_load(path.read_text()) for path in paths)
    return identity | settings


def settled(parser: Parser, args: Namespace, arguments: list[str]) -> Namespace:
    """Complete the arguments of a training; those that an existing run was started with win.

    Ends the process if the command line asks for others.

    Args:
        parser: of the command.
        args: all arguments, the id of the run among them.
        arguments: the command line.

    Returns:
        The same namespace, with the command and, for an existing run, its settings.
    """
    stored = stored_settings(Path(args.runs) / args.run_id)
    given = parser.parse_args(arguments, defaults=False)
    if args.hours and "max_steps" not in given:
        args.max_steps = 0
    if args.precision == "auto":  # the run has what that was
        given.pop("precision", None)
    other = [k for k in stored if k in given and _plain(args[k]) != stored[k]]
    if other:
        changes = ", ".join(f"{k} {stored[k]}, not {_plain(args[k])}" for k in other)
        parser.error(
            f"run '{args.run_id}' was started with {changes}: leave these out to resume it, or "
            "choose another --run-id"
        )
    args.command = provenance.command()
    for name, value in stored.items():
        args[name] = value
    return args


def _plain(value):
    """Return the value as YAML gives it back."""
    return list(value) if isinstance(value, tuple) else value
