"""Boxes and masks of a data set as COCO and YOLO files, for other detectors."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from spyropose_ros.bop.files import read_mask
from spyropose_ros.core.files import write_text

_YOLO = "yolo"
_YOLO_SPLITS = {"train": "train", "test": "val"}  # ours, and the keys of a YOLO data set


class _Labelled(NamedTuple):
    """An image and what it shows.

    Attributes:
        path: of the image, relative to the data set.
        size: height and width of the image, pixels.
        runs: of the mask of the visible part, see `_runs`.
        box: around it: x, y, width and height, pixels.
    """

    path: Path
    size: tuple[int, int]
    runs: list[int]
    box: list[int]


def export_boxes(output: Path, name: str, splits: list[str]) -> None:
    """Write coco_<split>.json, the masks in it as runs, and the folder yolo.

    Args:
        output: folder of the data set; its scenes are complete and show one object.
        name: of the object.
        splits: folders of the data set.
    """
    for split in splits:
        if not _coco_file(output, split).is_file():
            images = list(_labelled(output, split))
            _write_yolo(output, images)
            _write_coco(output, name, split, images)
    layout: dict[str, object] = {_YOLO_SPLITS[split]: f"images/{split}" for split in splits}
    write_text(output / _YOLO / "data.yaml", yaml.safe_dump(layout | {"names": {0: name}}))


def _labelled(output: Path, split: str) -> Iterator[_Labelled]:
    for file in sorted((output / split).glob("*/scene_gt_info.json")):
        scene = file.parent
        for key, (info,) in json.loads(file.read_text()).items():
            number = f"{int(key):06d}"
            mask = read_mask(scene / "mask_visib" / f"{number}_000000.png")
            x, y, width, height = info["bbox_visib"]
            path = (scene / "rgb" / f"{number}.jpg").relative_to(output)
            # BOP's width is the last pixel minus the first.
            yield _Labelled(path, mask.shape, _runs(mask), [x, y, width + 1, height + 1])


def _coco_file(output: Path, split: str) -> Path:
    return output / f"coco_{split}.json"


def _write_coco(output: Path, name: str, split: str, labelled: list[_Labelled]) -> None:
    images: list[dict] = []
    annotations: list[dict] = []
    for number, (path, (height, width), runs, box) in enumerate(labelled, 1):
        size = {"width": width, "height": height}
        images.append({"id": number, "file_name": path.as_posix()} | size)
        shape = {"size": [height, width], "counts": runs}
        annotation = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0}
        area = sum(runs[1::2])
        annotations.append(annotation | {"bbox": box, "area": area, "segmentation": shape})
    categories = [{"id": 1, "name": name}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(_coco_file(output, split), json.dumps(content))


def _write_yolo(output: Path, labelled: list[_Labelled]) -> None:
    """Write labels, and link the folders of the images to where YOLO looks for them."""
    for path, size, _, (x, y, width, height) in labelled:
        split, scene, _, file = path.parts
        link = output / _YOLO / "images" / split / scene
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(output / path.parent, link.parent))
        sides = np.array([size[1], size[0]] * 2)
        values = np.array([x + width / 2, y + height / 2, width, height]) / sides
        label = output / _YOLO / "labels" / split / scene / Path(file).with_suffix(".txt")
        write_text(label, " ".join(["0", *(f"{value:.6f}" for value in values)]) + "\n")


def _runs(mask: np.ndarray) -> list[int]:
    """Return the lengths of runs of 0, 1, 0, ... down the columns of a mask [H, W]."""
    pixels = mask.T.ravel()
    ends = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], ends, [len(pixels)]])).tolist()
    return [0, *lengths] if pixels[0] else lengths
