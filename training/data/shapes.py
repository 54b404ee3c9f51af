"""Data set `shapes`: textureless and marked solids, rendered on demand, finite by seed.

The plain solids are what the paper calls symsol_ours. The marked ones come with what the public
SYMSOL II lacks: for every image the set of all rotations that look the same.

Source: Haugaard et al., ICCVW 2023 (geometry, camera, shading, numbers of images, seeds).
"""

from collections.abc import Iterator

import numpy as np
from scipy.spatial.distance import pdist
from torch import Tensor

from spyropose_ros.core.camera import apparent_size_ratio
from training.data.shape_images import ShapeImages, uniform_rotations
from training.data.shape_models import make_shape
from training.data.source import CropSettings, EvaluationObject, Sample, Source
from training.data.whole_image import (
    CENTER,
    DIAMETER,
    PADDING,
    RESOLUTION,
    TRANSLATION,
    pinhole,
    whole_image_item,
)

TRAIN_IMAGES, TRAIN_SEED = 45_000, 0
TEST_IMAGES, TEST_SEED = 5_000, 1
VALIDATION_IMAGES, VALIDATION_SEED = 500, 2
"""Ours: the paper has no validation set of its renderings."""


class ShapeItems:
    """Fixed poses, each rendered on demand; nothing is random.

    Args:
        images: of the shape.
        rotations: object to camera, [n, 3, 3].
    """

    def __init__(self, images: ShapeImages, rotations: np.ndarray):
        self._images = images
        self._rotations = rotations

    def __len__(self) -> int:
        return len(self._rotations)

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the item of one pose; keys as in `whole_image_item`."""
        rotation = self._rotations[index]
        return whole_image_item(self._images.image(rotation), rotation)


class ShapesSource(Source):
    """One shape."""

    rotation_only = True
    crop_padding = PADDING
    splits = ("test",)
    center = CENTER
    diameter = DIAMETER

    def __init__(self, shape: str, resolution: int = RESOLUTION):
        """Make the solid.

        Args:
            shape: one of `shape_models.SHAPES`.
            resolution: side of the evaluation images, pixels.

        Raises:
            InputError: if there is no such shape.
        """
        self._shape = make_shape(shape)
        self._resolution = resolution
        self.name = f"shapes/{shape}"
        self.object_name = shape
        self.mesh = self._shape.mesh
        self.size_ratio = apparent_size_ratio(self.mesh.vertices, DIAMETER)

    def target(self) -> EvaluationObject:
        """Return the solid with the symmetries that keep the mark, if any, in its place."""
        vertices = np.asarray(self._shape.mesh.vertices)
        symmetries = np.tile(np.eye(4), (len(self._shape.symmetries), 1, 1))
        symmetries[:, :3, :3] = self._shape.symmetries
        return EvaluationObject(vertices, float(pdist(vertices).max()), symmetries)

    def training_items(self, crop: CropSettings) -> ShapeItems:
        """Return the 45,000 poses."""
        return self._items(crop, TRAIN_IMAGES, TRAIN_SEED)

    def validation_items(self, crop: CropSettings) -> ShapeItems:
        """Return the 500 poses."""
        return self._items(crop, VALIDATION_IMAGES, VALIDATION_SEED)

    def samples(self, split: str, seed: int) -> Iterator[Sample]:
        """Render all test poses.

        Args:
            split: "test".
            seed: ignored, as nothing is random.

        Yields:
            One sample per pose, in order; with all equivalent rotations where the solid is marked.

        Raises:
            InputError: if there is no such split.
        """
        self.check_split(split)
        images = ShapeImages(self._shape, self._resolution)
        marked = self._shape.mark is not None
        for index, rotation in enumerate(uniform_rotations(TEST_IMAGES, TEST_SEED)):
            yield Sample(
                id=f"{self.object_name}_{index:05d}",
                image=images.image(rotation),
                K=pinhole(self._resolution),
                rotation=rotation,
                translation=TRANSLATION.copy(),
                box=None,
                equivalents=images.equivalents(rotation) if marked else None,
                image_id=index,
            )

    def _items(self, crop: CropSettings, n: int, seed: int) -> ShapeItems:
        images = ShapeImages(self._shape, crop.resolution)
        return ShapeItems(images, uniform_rotations(n, seed))
