"""Train a model: `python -m training.train DATASET OBJECT [--preset paper] [flags]`.

Every setting of `training.config` is a flag. A run has an id; runs/<id> holds its configuration,
log, TensorBoard logs, checkpoints and the exported bundle. Naming an existing run with --run-id
resumes it with the settings it was started with.
"""

import argparse
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser, Namespace

from training import cli
from training.config import PARTS, PRESETS, TrainConfig
from training.data import open_source
from training.data.symsol import LOW_DATA_TRAIN, LOW_DATA_VALIDATION
from training.fit import fit

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

CONFIG = "config.yaml"
_PATIENCE = 5  # validations, of the low-data regime


def build_parser(preset: str) -> ArgumentParser:
    """Parser of the command line with a preset's defaults."""
    parser = ArgumentParser(
        prog="python -m training.train",
        description="Train a model. Flags may be written with hyphens; --no-FLAG switches off.",
    )
    parser.add_argument("dataset", type=str, help="rendered, lmo, shapes, symsol, tless, hb, PATH")
    parser.add_argument("object", type=str, help="mug; duck; cube; 1; ...")
    parser.add_argument("--preset", choices=list(PRESETS), default="default")
    parser.add_argument("--config", action="config", help="YAML file with settings by flag name")
    parser.add_argument("--run_id", type=str, help="name of a new run, or of the run to resume")
    parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
    parser.add_argument("--accelerator", type=str, default="auto", help="cpu, gpu or auto")
    parser.add_argument("--devices", type=int, default=1, help="processes or GPUs on this machine")
    parser.add_argument("--gpu_idx", type=int, help="use just this GPU")
    parser.add_argument("--num_nodes", type=int, default=1, help="machines")
    parser.add_argument("--logger", choices=["tensorboard", "csv", "none"], default="tensorboard")
    parser.add_argument("--debug", type=bool, default=False, help="a few steps; nothing is written")
    parser.add_argument("--seed", type=int, default=0)
    for kind in PARTS.values():
        parser.add_class_arguments(kind, None)
    parser.set_defaults(PRESETS[preset].to_flat())
    return parser


def parse_args(arguments: list[str] | None = None) -> Namespace:
    """Command line -> namespace; the preset, or the run to resume, gives the defaults.

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
    if args.run_id is None:
        name = f"{Path(args.dataset).name}-{args.object}-{time.strftime('%Y%m%d-%H%M%S')}"
        args.run_id = name
    stored_path = Path(args.runs) / args.run_id / CONFIG
    if stored_path.is_file():
        stored = yaml.safe_load(stored_path.read_text())
        given = parser.parse_args(arguments, defaults=False)
        other = [k for k in stored if k in given and given[k] != stored[k]]
        if other:
            changes = ", ".join(f"{k} {stored[k]}, not {given[k]}" for k in other)
            parser.error(
                f"run '{args.run_id}' was started with {changes}: leave these out to resume it, or "
                "choose another --run-id"
            )
        for name, value in stored.items():
            args[name] = value
    return args


def settings_of(args: Namespace) -> TrainConfig:
    """The settings among the arguments."""
    known = PRESETS["paper"].to_flat().keys()
    config = TrainConfig.from_flat({name: args[name] for name in known})
    backbone = UNET_NAMES.get(config.network.backbone, config.network.backbone)
    config = replace(config, network=replace(config.network, backbone=backbone))
    return low_data(config) if config.data.low_data_regime else config


def low_data(config: TrainConfig) -> TrainConfig:
    """The published regime: validate on 500 images once an epoch, stop when it gets no better."""
    steps = -(-LOW_DATA_TRAIN // config.optim.batch_size)
    optim = replace(config.optim, steps_per_epoch=steps, patience=_PATIENCE)
    data = replace(config.data, validation_images=LOW_DATA_VALIDATION)
    return replace(config, optim=optim, data=data)


def train(args: Namespace) -> Path:
    """Run or resume what the command line says; returns the folder of the bundle."""
    config = settings_of(args)
    run_dir = Path(args.runs) / args.run_id
    source = open_source(
        args.dataset,
        args.object,
        config.data.data_root,
        config.data.low_data_regime,
        config.network.crop_resolution,
        config.bop,
    )
    identity = {"dataset": args.dataset, "object": args.object}
    if not args.debug:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / CONFIG).write_text(yaml.safe_dump(identity | config.to_flat(), sort_keys=False))
        logging.getLogger().addHandler(logging.FileHandler(run_dir / "log.txt"))
    log.info("run %s: %s on %s", args.run_id, args.dataset, args.object)
    return fit(
        source,
        config,
        run_dir,
        identity=identity,
        accelerator=args.accelerator if args.gpu_idx is None else "gpu",
        devices=args.devices if args.gpu_idx is None else [args.gpu_idx],
        num_nodes=args.num_nodes,
        logger=args.logger,
        debug=args.debug,
    )


def main() -> None:
    """Entry point; what a user can mend ends in one line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_args()
    try:
        train(args)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"train: {error}") from error


if __name__ == "__main__":
    main()
