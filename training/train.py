"""Train a model: `python -m training.train DATASET OBJECT [--preset paper] [flags]`.

Every setting of `training.config` is a flag. A run has an id; `runs/<id>` holds its configuration,
log, TensorBoard logs, checkpoints and the exported bundle. Naming an existing run with --run-id
resumes it with the settings it was started with.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from spyropose_ros.core.bundle_files import CONFIG as BUNDLE_CONFIG
from spyropose_ros.core.errors import InputError
from training import cli
from training.config import (
    LOW_DATA_TRAIN,
    LOW_DATA_VALIDATION,
    PARTS,
    PRESETS,
    TrainConfig,
)
from training.console import console
from training.runs import log_next, settled, stored_settings

if TYPE_CHECKING:
    from training.data.source import Source

log = logging.getLogger(__name__)

SEED_FLAGS = {
    "--kpts": "--keypoints",
    "--n-pts": "--n-keypoints",
    "--vis-model": "--backbone",
    "--d-ff": "--hidden-dim",
    "--n-layers": "--hidden-layers",
    "--recursion-depth": "--depth",
    "--crop-res": "--crop-resolution",
    "--number-fourier-components": "--fourier-components",
    "--no-is": "--importance-sampling=false",
}
"""Flags of the original project that have another name here; the others are called the same."""

UNET_NAMES = {"unet18": "resnet18"}
"""The original's names of backbones that differ from ours."""

_PATIENCE = 5  # validations, of the low-data regime
_RUN_ID = "SPYROPOSE_RUN_ID"


def build_parser(preset: str) -> cli.Parser:
    """Build the parser of the command line with a preset's defaults."""
    parser = cli.Parser(
        prog="python -m training.train",
        description="Train a model. Flags may be written with hyphens; --no-FLAG switches off.",
    )
    parser.add_argument("dataset", type=str, help="rendered, lmo, shapes, symsol, tless, hb, PATH")
    parser.add_argument("object", type=str, help="mug; duck; cube; 1; ...")
    parser.add_argument(
        "--preset", choices=list(PRESETS), default="default", help="values of all other settings"
    )
    parser.add_argument("--config", action="config", help="YAML file with settings by flag name")
    parser.add_argument("--run_id", type=str, help="name of a new run, or of the run to resume")
    parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
    parser.add_argument("--accelerator", type=str, default="auto", help="cpu, gpu or auto")
    parser.add_argument("--devices", type=int, default=1, help="processes or GPUs on this machine")
    parser.add_argument("--gpu_idx", type=int, help="use just this GPU")
    parser.add_argument("--num_nodes", type=int, default=1, help="machines")
    parser.add_argument("--logger", choices=["tensorboard", "csv", "none"], default="tensorboard")
    parser.add_argument(
        "--debug", type=bool, default=False, help="five steps, no logs and no checkpoints"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, images and sampling")
    for kind in PARTS.values():
        parser.add_class_arguments(kind, None)
    parser.set_defaults(PRESETS[preset].to_flat())
    return parser


def parse_args(arguments: list[str] | None = None) -> Namespace:
    """Parse the command line; the preset, or the run to resume, gives the defaults.

    Args:
        arguments: sys.argv by default.

    Returns:
        Data set, object, run, all settings and the command, by name.

    Raises:
        SystemExit: wrong flags, or flags that an existing run was not started with.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    switches = [k for k, v in PRESETS["paper"].to_flat().items() if isinstance(v, bool)]
    arguments = cli.normalise(arguments, [*switches, "debug"], SEED_FLAGS)
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", default="default")
    preset = first.parse_known_args(arguments)[0].preset
    parser = build_parser(preset if preset in PRESETS else "default")
    args = parser.parse_args(arguments)
    if args.low_data_regime:
        parser.set_defaults(_low_data_defaults(args.batch_size))
        args = parser.parse_args(arguments)
    args.backbone = UNET_NAMES.get(args.backbone, args.backbone)
    if args.run_id is None:
        name = f"{Path(args.dataset).name}-{args.object}-{time.strftime('%Y%m%d-%H%M%S')}"
        args.run_id = os.environ.get(_RUN_ID, name)
    return settled(parser, args, arguments)


def _low_data_defaults(batch_size: int) -> dict[str, int]:
    """Return the published regime: validate on 500 images once an epoch, stop when LL stalls."""
    return {
        "steps_per_epoch": -(-LOW_DATA_TRAIN // batch_size),
        "patience": _PATIENCE,
        "validation_images": LOW_DATA_VALIDATION,
    }


def settings_of(args: Namespace) -> TrainConfig:
    """Return the settings among the arguments."""
    return TrainConfig.from_flat({name: args[name] for name in PRESETS["paper"].to_flat()})


def source_of(args: Namespace, config: TrainConfig) -> Source:
    """Open the data set and object of the arguments; see `training.data.open_source` for errors."""
    from training.data import open_source

    return open_source(
        args.dataset,
        args.object,
        config.data.data_root,
        config.data.low_data_regime,
        config.network.crop_resolution,
        config.bop,
        config.data.views,
    )


def train(args: Namespace) -> Path:
    """Run or resume a training.

    Args:
        args: as `parse_args` gives them.

    Returns:
        Folder of the bundle.

    Raises:
        InputError: settings that the data set does not allow, or --debug on an existing run.
        MissingFileError: the data are missing.
        Interrupted: SIGINT or SIGTERM has ended the training.
    """
    config = settings_of(args)
    run_dir = Path(args.runs) / args.run_id
    if args.debug and run_dir.exists():
        raise InputError(f"run '{args.run_id}' exists: choose another --run-id for --debug")
    if stored_settings(run_dir) and (run_dir / "bundle" / BUNDLE_CONFIG).is_file():
        log.info("run %s is finished: its bundle is %s", args.run_id, run_dir / "bundle")
        log_next("see how good it is", "evaluate", run_dir)
        return run_dir / "bundle"
    source = source_of(args, config)
    from training.fitting.fit import fit  # not before there is something to train

    log.info("run %s: %s of %s", args.run_id, args.object, args.dataset)
    # Lightning starts further processes with the same command line, a second later.
    os.environ[_RUN_ID] = args.run_id
    try:
        return fit(
            source,
            config,
            run_dir,
            identity={name: args[name] for name in ("dataset", "object", "preset", "command")},
            accelerator=args.accelerator if args.gpu_idx is None else "gpu",
            devices=args.devices if args.gpu_idx is None else [args.gpu_idx],
            num_nodes=args.num_nodes,
            logger=args.logger,
            debug=args.debug,
        )
    finally:
        os.environ.pop(_RUN_ID)


def main() -> None:
    """Run the command; errors the user can fix end in one line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[console()])
    with cli.one_line_errors("train", "what the run has saved is kept: --run-id goes on with it"):
        train(parse_args())


if __name__ == "__main__":
    main()
