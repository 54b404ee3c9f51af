"""The pose of an object in photographs: ./run estimate IMAGE... --model BUNDLE.

Estimates the distribution of an object's pose in photographs and videos. The detector of the bundle
finds the object, unless --box says where it is. Each image gets an overlay, a plot of the rotations
and a JSON file.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spyropose_ros.core import interrupts
from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.core.one_line import one_line, printable

if TYPE_CHECKING:
    import numpy as np

    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.photos.cameras import Camera
    from spyropose_ros.photos.estimates import DetectedBoxes, GivenBoxes
    from spyropose_ros.scenes.verification import Verification

_EPILOG = """\
Intrinsics and boxes belong to the image as it is shown: one that EXIF says to turn is turned first.
With --camera-info the lens is corrected; --box then is still in pixels of the image as it was
taken. Integers are the middles of pixels.

exit codes:
  0    the object was found in at least one image
  1    something failed; a line says what to do. Images that could be used have their results
  2    wrong arguments
  3    the object was found in none of the images
  130  Ctrl-C; results that are written are complete
"""
FAILED, NOT_FOUND = 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Estimate the poses of an object in photographs.

    Args:
        arguments: of the command line; sys.argv by default.

    Returns:
        The exit code, see the help.
    """
    args = _parser().parse_args(arguments)
    with interrupts.handled("estimate", f"the results in {args.output} are complete"):
        try:
            return _estimate(args)
        except (OSError, ValueError, SpyroposeError) as error:
            return _fail(error)


def _fail(error: Exception) -> int:
    _say(f"estimate: {one_line(error)}")
    return FAILED


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)


def _estimate(args: argparse.Namespace) -> int:
    """Do what the arguments ask for; return the exit code."""
    from spyropose_ros.photos.files import expand
    from spyropose_ros.photos.results import ResultFolder

    # What can be wrong is found before PyTorch is imported, which takes seconds.
    files = expand(args.images)
    camera = camera_of(args)
    folder = ResultFolder(Path(args.output))

    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.photos import terminal
    from spyropose_ros.photos.run import Run

    estimator = Estimator.from_pretrained(args.model, args.device)
    encoder = terminal.encoder(sys.stdout, os.environ) if args.show else None
    boxes, verification = boxes_of(args, estimator), verification_of(args, estimator)
    run = Run(estimator, boxes, camera, _source(args), folder, encoder, verification)
    code = 0
    for file in files:
        try:
            run.add(file, args.every)
        except SpyroposeError as error:  # the others may be fine
            code = _fail(error)
    name = estimator.bundle.object.name
    images = f"{run.images} image{'s' * (run.images != 1)}"
    if run.found:
        posed = "" if run.posed == run.found else f", {run.posed or 'none'} of them with a mode"
        print(f"{run.found} x {name} in {images}{posed}; results are in {args.output}")
    elif run.images:
        _say(
            f"estimate: no {name} with a score of {args.min_score:g} or more in {images}: give "
            "--min-score a lower value, or say with --box where it is"
        )
        code = code or NOT_FOUND
    return code


def camera_of(args: argparse.Namespace) -> Camera:
    """Return what finds the intrinsics, by the options of `add_options`."""
    from spyropose_ros.photos.cameras import choose_camera

    return choose_camera(_matrix(args.K), args.fov, args.camera_info)


def boxes_of(args: argparse.Namespace, estimator: Estimator) -> GivenBoxes | DetectedBoxes:
    """Return where the boxes come from, by the options of `add_options`."""
    from spyropose_ros.photos.estimates import DetectedBoxes, GivenBoxes, load_detector

    if args.box:
        return GivenBoxes([tuple(box) for box in args.box])
    detector = load_detector(args.detector, args.model, args.device)
    return DetectedBoxes(detector, args.class_name or estimator.bundle.object.name, args.min_score)


def verification_of(args: argparse.Namespace, estimator: Estimator) -> Verification | None:
    """Return what weighs the modes, by the options of `add_options`."""
    if not args.verify:
        return None
    from spyropose_ros.scenes.verification import Verification

    return Verification.of_bundle(estimator)


def _matrix(values: list[float] | None) -> np.ndarray | None:
    if values is None:
        return None
    import numpy as np

    fx, fy, cx, cy = values
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _source(args: argparse.Namespace) -> str:
    """Return where the intrinsics come from, for the record."""
    if args.K:
        return "K"
    if args.fov:
        return f"field of view of {args.fov:g} degrees"
    return args.camera_info or "EXIF"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run estimate",
        description=__doc__.partition("\n\n")[2],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image, video, or folder of images and videos"
    )
    parser.add_argument("--model", required=True, metavar="BUNDLE", help="folder or hub id")
    add_options(parser)
    parser.add_argument("--output", default="estimate_output", help="folder of the results")
    parser.add_argument(
        "--no-show", dest="show", action="store_false",
        help="no pictures in the terminal (kitty, Ghostty, iTerm2, WezTerm and mintty show them)",
    )  # fmt: skip
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for cameras, boxes, modes and device."""
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument(
        "--K", nargs=4, type=float, metavar=("FX", "FY", "CX", "CY"), help="intrinsics in pixels"
    )
    camera.add_argument(
        "--fov", type=float, metavar="DEG", help="horizontal field of view in degrees"
    )
    camera.add_argument(
        "--camera-info",
        metavar="FILE",
        help="calibration of the camera, as camera drivers read it, or the output of `ros2 topic "
        "echo --once camera_info`; the lens is corrected (default: focal length from EXIF data)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--box",
        nargs=4,
        type=float,
        action="append",
        metavar=("X0", "Y0", "X1", "Y1"),
        help="tight around the visible part of the object, pixels; once for each object",
    )
    where.add_argument(
        "--detector", metavar="BUNDLE", help="finds the object (default: that of --model)"
    )
    parser.add_argument(
        "--class", dest="class_name", metavar="NAME",
        help="what the detector calls the object (default: what the model calls it)",
    )  # fmt: skip
    parser.add_argument(
        "--min-score", type=float, default=0.5, metavar="S", help="of detections (default: 0.5)"
    )
    parser.add_argument(
        "--every", type=_positive, default=1, metavar="N", help="take each Nth frame of a video"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="weigh the modes by renderings of the object at them; the bundle needs a mesh that "
        "has colours",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # "| head" ends it silently, like other commands
    raise SystemExit(main())
