"""Generate a training set from a CAD file: `python -m training.generate_data part.stl --units mm`.

Writes a data set in the BOP format with random views, light, backgrounds and occluders. After a
kill, the same command completes the set.
"""

import argparse
import os
from pathlib import Path

from training import cli
from training.generate.settings import UNITS, GenerationSettings, ViewSettings


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.generate_data",
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, data, views = parser.add_argument, GenerationSettings, ViewSettings
    add("mesh", type=Path, help="CAD file: STL, OBJ, PLY, GLB, 3MF or STEP")
    add("--output", type=Path, help="folder of the data set; None for data/bop/<name>")
    add("--name", help="of the object; None for that of the file")
    add("--units", choices=list(UNITS), default=data.units, help="of the CAD files")
    add(
        "--symmetry",
        default=data.symmetry,
        help="auto finds it in the mesh; or such as z2, z4, 'z2,x2', continuous_z",
    )
    add(
        "--images",
        type=int,
        default=data.images,
        help="of the training split; 0 for a held-out set, the training then renders its own",
    )
    add("--test-images", type=int, default=data.test_images, help="for the test split")
    add("--seed", type=int, default=data.seed, help="of everything random")
    add(
        "--views",
        choices=["uniform", "upright"],
        default=views.views,
        help="sides that are seen",
    )
    add("--distance", type=float, nargs=2, help="z of the centre, m; None for 3.5 to 8 diameters")
    add(
        "--resolution",
        type=int,
        nargs=2,
        default=views.resolution,
        help="width and height, pixels",
    )
    add("--fov", type=float, default=views.fov, help="horizontal field of view, degrees")
    add(
        "--occlusion",
        type=float,
        default=views.occlusion,
        help="share of images with something in front",
    )
    add("--occluders", type=Path, nargs="*", default=[], help="CAD files of things found nearby")
    add("--workers", type=int, default=os.cpu_count(), help="processes")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    args = _parse(arguments)
    name = args.name or args.mesh.stem
    with cli.one_line_errors("generate_data", "what is done is kept: the same command goes on"):
        views = ViewSettings(
            args.views,
            tuple(args.distance) if args.distance else None,
            tuple(args.resolution),
            args.fov,
            args.occlusion,
        )
        settings = GenerationSettings(
            name, args.units, args.symmetry, args.images, args.test_images, args.seed, views
        )
        output = args.output or Path("data/bop") / name
        from training.generate.dataset import generate

        print(generate(args.mesh, output, settings, args.occluders, args.workers))


if __name__ == "__main__":
    main()
