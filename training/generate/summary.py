"""Human-readable description of a generated data set."""

import json
from pathlib import Path

import numpy as np

from training.config import PAPER_BOP
from training.generate.settings import GenerationSettings

_TEXT = """\
# {name}

Images of one object, rendered from a CAD file with random views, light, backgrounds and
occluders, in the [BOP format](https://bop.felk.cvut.cz/datasets).

| | |
|---|---|
| object | 1, `{name}`, {diameter:.1f} mm across, {colours} |
| unchanged by | {symmetry} |
| training images | {images} in `train`; the last two scenes are meant for validation |
| test images | {test_images} in `test` |
| camera | {width} x {height} pixels, horizontal field of view {fov:g} degrees |
| views | {views}, centre of the object {near:.3f} to {far:.3f} m from the camera |
| seed | {seed} |

`coco_train.json` and `coco_test.json` hold boxes and masks of the visible part for COCO's tools,
`yolo/data.yaml` and its folder the boxes for YOLO.

There are no depth images: backgrounds and occluders are images without geometry. Pixels of the
silhouette inside the image count as valid (`px_count_valid`). `generation.json` holds all settings.
"""


def description(
    settings: GenerationSettings,
    diameter: float,
    distance: tuple[float, float],
    coloured: bool,
    lost: list[str],
    symmetry: str,
) -> str:
    """Describe a data set for its readers.

    Args:
        settings: what was made.
        diameter: of the bounding sphere, metres.
        distance: smallest and largest z of the object's centre, metres.
        coloured: the CAD file has colours.
        lost: what of the CAD file's colours could not be read.
        symmetry: what leaves the object's shape as it is, in words.

    Returns:
        Text of dataset_info.md.
    """
    views = settings.views
    colours = "in its own colours" if coloured else "painted differently in every image"
    return _TEXT.format(
        name=settings.name,
        diameter=diameter * 1e3,
        colours="; ".join([colours, *lost]),
        symmetry=symmetry,
        images=settings.images,
        test_images=settings.test_images,
        width=views.resolution[0],
        height=views.resolution[1],
        fov=views.fov,
        views=views.views,
        near=distance[0],
        far=distance[1],
        seed=settings.seed,
    )


def summary(output: Path, splits: list[str], diameter: float, symmetry: str) -> str:
    """Summarise what lies in the folder of a complete data set.

    Args:
        output: the folder.
        splits: names of its splits.
        diameter: of the object's bounding sphere, metres.
        symmetry: what leaves the object's shape as it is, in words.

    Returns:
        A table with one row per split, and a note if trainings leave images out.
    """
    lines = [
        f"{output}: object of {diameter * 1e3:.1f} mm, {_megabytes(output):.1f} MB; its shape "
        f"is unchanged by {symmetry}",
        f"{'split':<8}{'scenes':>8}{'images':>8}{'box diagonal (px)':>20}{'visible':>16}"
        f"{'used':>8}",
    ]
    small = False
    for split in splits:
        files = sorted((output / split).glob("*/scene_gt_info.json"))
        infos = [info for file in files for (info,) in json.loads(file.read_text()).values()]
        diagonal = [np.hypot(*info["bbox_visib"][2:]) for info in infos]
        visible = [info["visib_fract"] for info in infos]
        used = sum(
            info["visib_fract"] >= PAPER_BOP.min_visible
            and info["px_count_visib"] >= PAPER_BOP.min_pixels
            for info in infos
        )
        small |= used < len(infos)
        lines.append(
            f"{split:<8}{len(files):>8}{len(infos):>8}"
            f"{_range(diagonal, '.0f'):>20}{_range(visible, '.2f'):>16}{used:>8}"
        )
    if small:
        lines.append(
            f"Trainings leave out what is visible to less than {PAPER_BOP.min_visible:g} or in "
            f"fewer than {PAPER_BOP.min_pixels} pixels; --min-visible and --min-pixels of "
            "training.train change that."
        )
    return "\n".join(lines)


def _range(values: list[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
