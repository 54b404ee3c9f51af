"""Pose distributions in a browser: ./run view [BAG | BUNDLE IMAGE... | TOPIC].

Shows a bag with distributions, as ./run bag FILE --all writes it; images and videos that a model
is run on; or what an estimator publishes on a topic, by default estimator/distributions. Prints the
address for the browser. The page needs no network.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from spyropose_ros.core import interrupts
from spyropose_ros.core.errors import InputError, MissingFileError, SpyroposeError
from spyropose_ros.core.one_line import one_line, printable
from spyropose_ros.photos.estimate import add_options

_EPILOG = """\
With a topic, all that follows --ros-args goes to the node, such as -r image_rect:=/camera/image or
-p cameras:="['left', 'right']"; see config/viewer.yaml.
"""
_TOPIC = "estimator/distributions"
_TOPIC_NAME = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


def main(arguments: Sequence[str] | None = None) -> int:
    """Show distributions until interrupted.

    Args:
        arguments: of the command line; sys.argv by default.

    Returns:
        The exit code: 0 after an interrupt, 1 if something failed; a line says what to do.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--ros-args") if "--ros-args" in given else len(given)
    args = _parser().parse_args(given[:cut])
    try:
        if args.images or Path(args.model).exists():
            return _serve(args)
        if not _TOPIC_NAME.fullmatch(args.model):
            raise MissingFileError(f"{args.model}: no such file or folder, and no topic's name")
        return _listen(args, given[cut:])
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError, SpyroposeError) as error:
        _say(f"view: {one_line(error)}")
        return 1


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def _serve(args: argparse.Namespace) -> int:
    """Show images or a bag, and go on serving until interrupted."""
    interrupts.expect()
    is_bundle = bool(args.images) or (Path(args.model) / "config.json").is_file()
    if is_bundle and not args.images:
        raise InputError(f"{args.model} is a model: name images after it")

    from spyropose_ros.viewer.viewer import Viewer

    viewer = Viewer(args.host, args.port, _say)
    try:
        if is_bundle:
            from spyropose_ros.viewer.estimates import show_estimates

            show_estimates(args, viewer, _say)
        else:
            from spyropose_ros.viewer.recording import play

            play(Path(args.model), viewer, _say)
        signal.pause()
    finally:
        viewer.close()
    return 0


def _listen(args: argparse.Namespace, ros: list[str]) -> int:
    """Run the node on a topic."""
    from spyropose_ros.viewer.node import main as run_node

    folder = args.model.rpartition("/")[0]
    rules = {_TOPIC: args.model, "estimator/model_info": f"{folder}/model_info"}
    remaps = [word for pair in rules.items() for word in ("-r", ":=".join(pair))]
    settings = ["-p", f"host:={args.host}", "-p", f"port:={args.port}"]
    return run_node([*(ros or ["--ros-args"]), *remaps, *settings])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run view",
        description=__doc__.partition("\n\n")[2],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", default=_TOPIC, metavar="BAG|BUNDLE|TOPIC",
        help="folder or file of a bag, folder or hub id of a model, or a topic",
    )  # fmt: skip
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="for a model: images, videos and folders"
    )
    parser.add_argument(
        "--host", default="127.0.0.1",
        help="address to listen on; 0.0.0.0 shows the images to the whole network",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=8080, help="the next free one if it is in use")
    add_options(parser)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
