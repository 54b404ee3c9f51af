"""Inspect a data set: `python -m training.inspect_data lmo duck`.

Writes a sheet of crops as the network sees them, with what the annotation says drawn on top: the
object's silhouette (green), its axes (x red, y green, z blue), keypoints (white) and the
detector's box (yellow; a circle where only its estimate is known). If the drawings do not
sit on the object, then units, frames or intrinsics are wrong; the likeliest of these is named.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.files import write_bytes
from spyropose_ros.core.network.keypoints import box_keypoints, farthest_points
from training.cli import run
from training.config import PRESETS, BopOptions

if TYPE_CHECKING:
    import torch

    from training.data.inspection_sheet import View
    from training.data.source import CropSettings, Sample, Source

    Check = tuple[View, np.ndarray | None]
    """A crop, and [2, 4] the given and the projected box, xyxy in pixels, where both are known."""

log = logging.getLogger(__name__)

CHECKED = 100
"""So many annotated images are checked; the sheet shows some of them, evenly spread."""

MIN_OVERLAP = 0.7
"""Median overlap (IoU) of given and projected boxes below which the data are called wrong."""

_TRAINING = ("train", "validation")
_WHOLE = 0.8  # visible fraction from which the box of the visible part is that of the object
_KEYPOINTS = 16
_UNENDING = 10_000  # of a set without end, only the first items are looked at


def inspect_data(
    dataset: str,
    object_name: str,
    split: str = "train",
    n: int = 12,
    output: str | None = None,
    preset: str = "default",
    crop_resolution: int | None = None,
    max_roll: float | None = None,
    seed: int = 0,
    data_root: str = "data",
    camera: str | None = None,
) -> dict[str, str]:
    """Draw crops of a data set and check its units, frames and intrinsics.

    Args:
        dataset: name, as for training, or the folder of a data set in BOP format.
        object_name: name or number of the object.
        split: "train" and "validation" show what the training sees, turned crops and all; the
            other splits, such as "test", what the evaluation sees.
        n: number of crops on the sheet.
        output: the image; inspect_<dataset>_<object>_<split>.png by default.
        preset: of the training; it decides how the crops are cut.
        crop_resolution: side of the crops, pixels; the preset's by default.
        max_roll: largest in-plane turn of the training's crops, degrees; the preset's by default.
        seed: of the simulated detector.
        data_root: where data sets lie.
        camera: whose images to take where the scenes of a BOP data set have several cameras.

    Returns:
        The table that is printed; a warning is its last entry.
    """
    from training.data import open_source
    from training.data.inspection_sheet import draw_sheet

    crop = _crop_settings(preset, crop_resolution, max_roll)
    bop = BopOptions(camera=camera)
    source = open_source(dataset, object_name, data_root, resolution=crop.resolution, bop=bop)
    crop = replace(crop, padding=source.crop_padding)
    checked, shown = _inspected(source, split, n, crop, seed)
    sheet = draw_sheet(shown, source.mesh, _keypoints(source), source.diameter)
    path = Path(output or f"inspect_{source.name.replace('/', '_')}_{split}.png")
    if not cv2.haveImageWriter(str(path)):
        raise InputError(f"cannot write {path}: give --output a name that ends with .png")
    picture = cv2.imencode(path.suffix, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1]
    write_bytes(path, picture.tobytes())

    table = {"data set": f"{source.name}, {split}", "sheet": str(path)}
    table |= summary(source, checked)
    for name, value in table.items():
        if name == "WARNING":
            log.warning("\n*** WARNING ***\n%s", value)
        else:
            log.info("%-20s %s", name, value)
    return table


def summary(source: Source, checked: list[Check]) -> dict[str, str]:
    """Summarise the numbers that show mistakes.

    Args:
        source: the data set.
        checked: crops and boxes.

    Returns:
        Text by name; "WARNING" is the last where something is wrong.
    """
    views = [view for view, _ in checked]
    boxes = [pair for _, pair in checked if pair is not None]
    depths = np.array([view.translation[2] for view in views])
    sizes = [view.diameter_px for view in views]
    where = sorted({view.image_size for view in views if view.image_size is not None})
    table = {
        "checked": f"{len(views)} images",
        "image size": ", ".join(f"{width} x {height}" for width, height in where) or "the crop's",
        "crop size": "{1} x {0}".format(*views[0].crop.shape),
        "distance": f"{depths.min():.3f} .. {depths.max():.3f} m",
        "bounding sphere": f"{source.diameter:.4f} m, {min(sizes):.0f} .. {max(sizes):.0f} px",
    }
    overlap = scale = float("nan")
    if boxes:
        overlap = float(np.median([_overlap(*pair) for pair in boxes]))
        scale = float(np.median([_diagonal(given) / _diagonal(seen) for given, seen in boxes]))
        table["given : projected"] = (
            f"boxes overlap by {overlap:.2f} (IoU), diagonals {scale:.2f} : 1, "
            f"medians of {len(boxes)}"
        )
    problem = diagnose(overlap, scale)
    return table | ({"WARNING": problem} if problem else {})


def diagnose(overlap: float, scale: float) -> str | None:
    """Name the likeliest mistake; what cannot be true is refused when it is read.

    Args:
        overlap: median IoU of given and projected boxes; nan if there are none.
        scale: median ratio of their diagonals; nan if there are none.

    Returns:
        None when nothing is wrong.
    """
    if np.isnan(overlap) or overlap >= MIN_OVERLAP:
        return None
    text = f"annotated and projected boxes overlap by {overlap:.2f} only (median IoU)"
    if not 0.02 < scale < 50:
        return (
            f"UNITS: {text} and differ in size {scale:.3g} : 1: is either the mesh or the "
            "translation in metres where the format wants millimetres?"
        )
    if not 0.75 < scale < 1.33:
        return (
            f"INTRINSICS: {text} and differ in size {scale:.2f} : 1: does K belong to images of "
            "another size, or is the mesh scaled?"
        )
    return (
        f"FRAMES: {text} though their sizes agree: is the principal point that of these images, "
        "are the images cropped or flipped, do the poses refer to this mesh's frame?"
    )


def _crop_settings(preset: str, resolution: int | None, max_roll: float | None) -> CropSettings:
    """Return how a training with a preset cuts its crops, except for their padding."""
    from training.data.box_noise import box_noise
    from training.data.source import CropSettings

    if preset not in PRESETS:
        raise InputError(f"no preset '{preset}': choose from {', '.join(PRESETS)}")
    config = PRESETS[preset]
    side = resolution or config.network.crop_resolution
    roll = config.data.max_roll if max_roll is None else max_roll
    return CropSettings(side, side, 0.0, box_noise(config.data), roll, False)


def _inspected(
    source: Source, split: str, n: int, crop: CropSettings, seed: int
) -> tuple[list[Check], list[View]]:
    """Return what is checked, and the n crops that are shown.

    Training items do not tell the annotated box: where the source has samples of the same images,
    these are checked.
    """
    samples, items = [], []
    if split in source.splits:
        first = itertools.islice(source.samples(split, seed), CHECKED)
        samples = [_sample(sample, source, crop.resolution) for sample in first]
    elif split not in _TRAINING:
        source.check_split(split)
    if split in _TRAINING:
        items = _items(source, split, n, crop, seed)
    shown = items or [samples[i][0] for i in _spread(len(samples), n)]
    return samples or [(view, None) for view in items], shown


def _spread(length: int, n: int) -> np.ndarray:
    """Return up to n indices from the first to the last, evenly."""
    return np.unique(np.linspace(0, length - 1, n).round().astype(int))


def _sample(sample: Sample, source: Source, resolution: int) -> Check:
    """Return the crop that the estimator would cut out; the detector's and the projected box."""
    import torch

    from spyropose_ros.core import camera
    from training.data.crops import box_in_crop
    from training.data.inspection_sheet import View, project, sphere_pixels

    pose = sample.rotation, sample.translation
    center = sample.rotation @ source.center + sample.translation
    diameter = sphere_pixels(sample.K, center, source.diameter)
    if sample.box is None:
        return View(sample.id, sample.image, sample.K, *pose, center, diameter), None
    height, width = sample.image.shape[:2]
    K = torch.from_numpy(sample.K).float()
    box = torch.from_numpy(sample.box).float()[None]
    estimate = camera.translation_from_boxes(box, K, source.diameter, source.size_ratio[0])
    K_crop = camera.crop_intrinsics(estimate, source.diameter, K, resolution, source.crop_padding)
    image = torch.from_numpy(sample.image).permute(2, 0, 1)
    crop = camera.crop_image(image, K, K_crop, resolution)[0]
    view = View(
        sample.id,
        _to_uint8(crop),
        K_crop[0].double().numpy(),
        *pose,
        estimate[0].double().numpy(),
        diameter,
        box_in_crop(box[0], K, K_crop[0]).numpy(),
        sample.visible_fraction,
        (width, height),
    )
    if source.mesh is None or sample.visible_fraction < _WHOLE:
        return view, None
    pixels = project(sample.K, view.in_camera(source.mesh.vertices))
    low, high = np.clip([pixels.min(0), pixels.max(0)], -0.5, (width - 0.5, height - 0.5))
    return view, np.stack([sample.box, np.concatenate([low, high])])


def _items(source: Source, split: str, n: int, crop: CropSettings, seed: int) -> list[View]:
    """Return crops of the training, spread over it."""
    from training.data.inspection_sheet import View, sphere_pixels

    items = (source.training_items if split == "train" else source.validation_items)(crop)
    composer = source.composer(crop)
    views = []
    for index in _spread(min(len(items), _UNENDING), n):
        item = items.item(int(index), np.random.default_rng((seed, index)))
        item = composer({key: value[None] for key, value in item.items()})
        rotation, center, estimate, K = (
            item[key][0].double().numpy()
            for key in ("rotation", "translation", "estimate", "K_crop")
        )
        translation = center - rotation @ source.center
        image = _to_uint8(item["crop"][0].float() / 255)
        diameter = sphere_pixels(K, center, source.diameter)
        box = item["box"][0].numpy() if "box" in item else None
        if box is not None and np.isnan(box).any():
            box = None
        views.append(
            View(f"item {index}", image, K, rotation, translation, estimate, diameter, box)
        )
    return views


def _keypoints(source: Source) -> np.ndarray:
    """Return the keypoints that the training chooses by default, object frame, [N, 3]."""
    if source.mesh is None:
        return box_keypoints(source.diameter / 2) + source.center

    import trimesh

    surface, _ = trimesh.sample.sample_surface(source.mesh, 10_000, seed=0)
    return farthest_points(surface, _KEYPOINTS)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over union of two boxes; 0 for boxes that are not finite."""
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if not (size > 0).all():  # false for NaN
        return 0.0
    common = size.prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def _diagonal(box: np.ndarray) -> float:
    """Return a box's diagonal; at least a tiny length, as boxes outside the image have none."""
    return max(float(np.hypot(*(box[2:] - box[:2]))), 1e-6)


def _to_uint8(crop: torch.Tensor) -> np.ndarray:
    """Return a crop [3, h, w] in [0, 1] as an RGB image [h, w, 3]."""
    return crop.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run(inspect_data, kept="nothing was written")
