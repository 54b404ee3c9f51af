"""From a CAD file to a model: `./run object my_part.stl --units mm --name my_part --hours 2`.

Checks the mesh, finds its symmetries, renders a held-out set, trains detector and pose model,
calibrates and evaluates them, and writes runs/<name>/bundle and the page runs/<name>/index.html.
Whatever ends it, the same command goes on where it was; after the end, more hours go on from there.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from training import cli
from training.generate.settings import UNITS

_KEPT = "what is done is kept: the same command goes on"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="./run object",
        description=__doc__.split("\n\n")[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("mesh", type=Path, help="CAD file: STL, OBJ, PLY, GLB, 3MF or STEP")
    add("--units", choices=list(UNITS), help="of the file; asked for if it does not say")
    add("--name", help="of the part, the class id of its detections; None for that of the file")
    add("--hours", type=float, default=2.0, help="in all: core-hours on processors, hours on a GPU")
    add(
        "--symmetry",
        default="auto",
        help="auto finds it; or none, or such as z2, 'z4,x2', continuous_z",
    )
    add("--views", choices=["uniform", "upright"], default="uniform", help="sides that are seen")
    add("--distance", type=float, nargs=2, help="z of the centre, m; None for 3.5 to 8 diameters")
    add(
        "--photos",
        type=Path,
        help="photographs of the part at rest, without labels, with the camera's motion",
    )
    add("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    add("--seed", type=int, default=0, help="of everything random")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command; errors the user can fix end in one line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(arguments)
    with cli.one_line_errors("object", _KEPT):
        from training.object.work import work

        status = work(args)
        if status:
            raise SystemExit(status)


if __name__ == "__main__":
    main()
