"""Runs the estimator over a recorded bag: ./run bag FILE.

Every frame is processed, in order, however slow the model is: no node, no middleware, no clock. The
messages are those that the node would publish, except that inference_time is 0, so that the same
bag gives the same bytes. They are written to a new bag at the time when the last message of their
frame was recorded. Parameters and remappings are those of the node: --params-file FILE,
-p name:=value, -r image_rect:=/camera/image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from spyropose_ros.core import interrupts
from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.ros.bags.bag_files import STORAGES, BagError, BagReader, BagWriter
from spyropose_ros.ros.bags.bag_run import BagRun
from spyropose_ros.ros.bags.parameter_files import read_parameters
from spyropose_ros.ros.bags.topic_names import TopicNames


def _log(text: str) -> None:
    tqdm.write(text, file=sys.stderr)  # print would tear the progress bar


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the estimator over a bag.

    Args:
        arguments: of the command line; sys.argv by default.

    Returns:
        The exit code: 0 if at least one frame was processed.
    """
    args = _parser().parse_args(arguments)
    source = Path(args.file)
    output = Path(args.output or f"{source.resolve().stem}_estimated")
    try:
        interrupts.expect()
        names = TopicNames(args.remap)
        parameters, warnings = read_parameters(
            [Path(file) for file in args.params_file], args.param, names.node
        )
        for warning in warnings:
            _log(warning)
        if source.resolve() in (output.resolve(), *output.resolve().parents) or (
            output.resolve() in source.resolve().parents
        ):
            raise BagError(f"{output} is the input: choose another output")
        with (
            BagReader(source) as reader,
            BagWriter(output, args.storage, args.overwrite) as writer,
        ):
            bag_run = BagRun(reader, names, parameters, args.pictures, _log)
            bag_run.run(writer, args.all)
            if not bag_run.seconds:
                raise BagError(bag_run.failure())
    except KeyboardInterrupt:
        _log("bag: interrupted; nothing was written")
        return interrupts.EXIT_CODE
    except (SpyroposeError, ValueError, OSError) as error:
        _log(f"bag: {error}")
        return 1
    print(f"{bag_run.summary()}\noutput: {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run bag", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="folder of a bag, or its .mcap or .db3 file")
    parser.add_argument("--output", help="folder of the new bag (default: FILE_estimated, here)")
    parser.add_argument("--storage", choices=list(STORAGES), default="mcap", help="file format")
    parser.add_argument("--overwrite", action="store_true", help="replace a bag of that name")
    parser.add_argument(
        "--all", action="store_true", help="copy all other topics too, to view one bag in RViz"
    )
    parser.add_argument(
        "--pictures", action="store_true", help="draw ~/overlay and ~/rotations as well"
    )
    ros = parser.add_argument_group("as for a node")
    ros.add_argument("--params-file", action="append", default=[], help="YAML file of parameters")
    ros.add_argument("-p", "--param", action="append", default=[], metavar="NAME:=VALUE")
    ros.add_argument("-r", "--remap", action="append", default=[], metavar="FROM:=TO")
    # launch_ros puts it before the arguments of every node
    ros.add_argument("--ros-args", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
