"""Data set `symsol`: the public renderings of symmetric solids.

Source: Murphy et al., ICML 2021 (the data); Haugaard et al., ICCVW 2023 (the low-data regime, and
that only the first of the equivalent rotations is a training label).
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from spyropose_ros.core.errors import InputError
from training.config import LOW_DATA_TRAIN, LOW_DATA_VALIDATION
from training.data.source import CropSettings, EvaluationObject, Sample, Source
from training.data.symsol_archive import SymsolSplit
from training.data.whole_image import (
    CENTER,
    DIAMETER,
    PADDING,
    TRANSLATION,
    pinhole,
    whole_image_item,
)

ARCHIVE_NAMES = {
    "cone": "cone",
    "cyl": "cyl",
    "tet": "tet",
    "cube": "cube",
    "ico": "icosa",
    "sphX": "sphereX",
    "cylO": "cylO",
    "tetX": "tetX",
}
"""Our names of the shapes and those in the archive."""

MONITORING_IMAGES = 500
"""Otherwise a training watches the first test images, and nothing is selected by them."""


class SymsolItems:
    """Consecutive images with their first rotation; nothing is random.

    Args:
        split: where they lie.
        first: index of the first image.
        rotations: labels of these images, [n, 3, 3].
        resolution: side of the crops; larger or smaller images are resized.

    Raises:
        MissingFileError: if the last image is missing.
    """

    def __init__(self, split: SymsolSplit, first: int, rotations: np.ndarray, resolution: int):
        self._split = split
        self._first = first
        self._rotations = rotations
        self._resolution = resolution
        split.image_path(first + len(rotations) - 1)  # a half unpacked archive shows at once

    def __len__(self) -> int:
        return len(self._rotations)

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return one item; keys as in `whole_image_item`."""
        image = self._split.image(self._first + index)
        if len(image) != self._resolution:
            size = (self._resolution, self._resolution)
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return whole_image_item(image, self._rotations[index])


class SymsolSource(Source):
    """One shape. The images come without a camera, so their intrinsics are made up."""

    rotation_only = True
    has_intrinsics = False
    crop_padding = PADDING
    splits = ("test",)
    center = CENTER
    diameter = DIAMETER
    mesh = None
    size_ratio = (1.0, 0.0)  # there is nothing to detect

    def __init__(self, shape: str, data_root: str, low_data_regime: bool = False):
        """Look into the archive.

        Args:
            shape: our name or the archive's, see `ARCHIVE_NAMES`.
            data_root: folder that holds symsol/.
            low_data_regime: train on 9,500 images and validate on the next 500.

        Raises:
            DataError: if there is no such shape, the archive is damaged or has too few images.
            MissingFileError: if the archive is missing.
        """
        ours = {archive: name for name, archive in ARCHIVE_NAMES.items()}
        shape = ours.get(shape, shape)
        if shape not in ARCHIVE_NAMES:
            raise InputError(
                f"symsol has no shape '{shape}': choose from {', '.join(ARCHIVE_NAMES)}"
            )
        folder = Path(data_root) / "symsol"
        self.name = f"symsol/{shape}"
        self.object_name = shape
        self._low_data_regime = low_data_regime
        self.validates_on_test = not low_data_regime  # otherwise all training images are used
        self._train = SymsolSplit(folder / "train", ARCHIVE_NAMES[shape])
        self._test = SymsolSplit(folder / "test", ARCHIVE_NAMES[shape])
        needed = LOW_DATA_TRAIN + LOW_DATA_VALIDATION
        if low_data_regime and len(self._train) < needed:
            raise InputError(
                f"low data means {needed} training images, there are {len(self._train)}"
            )

    def target(self) -> EvaluationObject:
        """Return an object without mesh and symmetries: samples bring their equivalents."""
        return EvaluationObject(np.empty((0, 3)), DIAMETER, np.eye(4)[None])

    def training_items(self, crop: CropSettings) -> SymsolItems:
        """Return the official training images, or the first 9,500 of them."""
        n = LOW_DATA_TRAIN if self._low_data_regime else len(self._train)
        return _items(self._train, 0, n, crop)

    def validation_items(self, crop: CropSettings) -> SymsolItems:
        """Return 500 images: held out in the low-data regime, otherwise test images to watch."""
        if self._low_data_regime:
            return _items(self._train, LOW_DATA_TRAIN, LOW_DATA_VALIDATION, crop)
        return _items(self._test, 0, min(MONITORING_IMAGES, len(self._test)), crop)

    def samples(self, split: str, seed: int) -> Iterator[Sample]:
        """Read all test images.

        Args:
            split: "test".
            seed: ignored, as nothing is random.

        Yields:
            One sample per image, in order, with all equivalent rotations.

        Raises:
            DataError: if there is no such split or a file is damaged.
            MissingFileError: if an image is missing.
        """
        self.check_split(split)
        for index, rotations in enumerate(self._test.rotations()):
            image = self._test.image(index)
            yield Sample(
                id=f"{self.object_name}_{index:05d}",
                image=image,
                K=pinhole(len(image)),
                rotation=rotations[0],
                translation=TRANSLATION.copy(),
                box=None,
                equivalents=rotations,
                image_id=index,
            )


def _items(split: SymsolSplit, first: int, n: int, crop: CropSettings) -> SymsolItems:
    """Return N images from the first on."""
    return SymsolItems(split, first, split.labels(first + n)[first:], crop.resolution)
