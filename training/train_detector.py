"""Train a detector: `python -m training.train_detector rendered mug [--hours 1]`.

For one object or several: `python -m training.train_detector lmo duck cat`, `lmo all`, or
objects of any BOP data set: `data/my_part 1`. As in
`training.train`, `runs/<id>` holds configuration, log, checkpoints and the exported bundle, here
with the files detector.safetensors and detector.json; naming an existing run with --run-id resumes
it with the settings it was started with.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from jsonargparse import Namespace

from training import cli
from training.console import console
from training.detector.config import DetectorConfig
from training.runs import log_next, settled, stored_settings

log = logging.getLogger(__name__)


def build_parser() -> cli.Parser:
    """Build the parser of the command line."""
    parser = cli.Parser(
        prog="python -m training.train_detector",
        description="Train a detector of one object or several on rendered images.",
    )
    parser.add_argument("source", type=str, help="rendered, lmo, PATH of a BOP data set")
    parser.add_argument("objects", type=str, nargs="+", help="mug; duck cat ...; all")
    parser.add_argument("--run_id", type=str, help="name of a new run, or of the run to resume")
    parser.add_argument("--runs", type=str, default="runs", help="folder of all runs")
    parser.add_argument("--accelerator", type=str, default="auto", help="cpu, gpu or auto")
    parser.add_argument("--logger", choices=["tensorboard", "csv", "none"], default="tensorboard")
    parser.add_argument(
        "--debug", type=bool, default=False, help="five steps, no logs and no checkpoints"
    )
    parser.add_class_arguments(DetectorConfig, None)
    return parser


def parse_args(arguments: list[str] | None = None) -> Namespace:
    """Parse the command line; the run to resume gives the defaults.

    Args:
        arguments: sys.argv by default.

    Returns:
        Source, objects, run, all settings and the command, by name.

    Raises:
        SystemExit: wrong flags, or flags that an existing run was not started with.
    """
    arguments = cli.normalise(sys.argv[1:] if arguments is None else arguments, ["debug"])
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.run_id is None:
        names = "-".join(Path(name).name for name in args.objects)
        args.run_id = f"detector-{args.source}-{names}-{time.strftime('%Y%m%d-%H%M%S')}"
    return settled(parser, args, arguments)


def train_detector(args: Namespace) -> Path:
    """Run or resume a training.

    Args:
        args: as `parse_args` gives them.

    Returns:
        Folder of the bundle.

    Raises:
        InputError: unknown source or object, settings that exclude each other, or --debug on an
            existing run.
        BundleError: there is no detector to start from.
        MissingFileError: the data are missing.
        Interrupted: SIGINT or SIGTERM has ended the training.
    """
    from spyropose_ros.core.errors import InputError
    from spyropose_ros.detector.bundle import CONFIG
    from training.detector.images import open_objects

    config = DetectorConfig(**{name: args[name] for name in DetectorConfig().to_flat()})
    run_dir = Path(args.runs) / args.run_id
    if args.debug and run_dir.exists():
        raise InputError(f"run '{args.run_id}' exists: choose another --run-id for --debug")
    if stored_settings(run_dir) and (run_dir / "bundle" / CONFIG).is_file():
        log.info("run %s is finished: its bundle is %s", args.run_id, run_dir / "bundle")
        log_next("see how good it is", "evaluate_detector", run_dir)
        return run_dir / "bundle"
    looks = config.side, config.views, config.painted
    known = open_objects(args.source, args.objects, config.data_root, *looks)
    from training.detector.fit import fit  # not before there is something to train

    log.info("run %s: detector of %s", args.run_id, ", ".join(known.classes))
    return fit(
        known,
        config,
        run_dir,
        identity={name: args[name] for name in ("source", "objects", "command")},
        accelerator=args.accelerator,
        logger=args.logger,
        debug=args.debug,
    )


def main() -> None:
    """Run the command; errors the user can fix end in one line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[console()])
    kept = "what the run has saved is kept: --run-id goes on with it"
    with cli.one_line_errors("train_detector", kept):
        train_detector(parse_args())


if __name__ == "__main__":
    main()
