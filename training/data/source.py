"""What training and evaluation need of a data set: one object, as training items and samples."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import trimesh
from torch import Tensor, nn

from spyropose_ros.bop import BopFrame
from spyropose_ros.core.errors import InputError
from spyropose_ros.scenes.detector import EdgeNoise
from training.data.looks import Looks

ENDLESS = sys.maxsize
"""Length of items that are rendered without end."""


class Seen(NamedTuple):
    """What an image shows of an object.

    Attributes:
        mask: pixels that show it, bool [H, W].
        hidden: pixels that show something in front of it, or of where it might be, bool [H, W].
    """

    mask: np.ndarray
    hidden: np.ndarray


@dataclass(frozen=True)
class Sample:
    """One evaluation image of one instance.

    Attributes:
        id: unique within its split.
        image: RGB uint8 [H, W, 3].
        K: intrinsics, [3, 3].
        rotation: true, object frame to camera, [3, 3].
        translation: true, of the object frame, metres, [3].
        box: x0, y0, x1, y1 as the simulated detector gives it, pixels; None where the image is the
            crop and the translation is known.
        equivalents: all rotations that look the same in this image, [M, 3, 3]; None where the
            object's symmetries apply.
        visible_fraction: of the object's silhouette.
        handle_fraction: share of the visible pixels on the feature that breaks a symmetry; nan
            where there is none.
        scene_id: number of the scene.
        image_id: number of the image in its scene.
        instance: number of the annotation in its image.
        object_id: number of the object in its data set.
        seen: finds out what the image shows of the object; None where nobody knows, or where
            nothing hides it.
    """

    id: str
    image: np.ndarray
    K: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    box: np.ndarray | None
    equivalents: np.ndarray | None = None
    visible_fraction: float = 1.0
    handle_fraction: float = float("nan")
    scene_id: int = 0
    image_id: int = 0
    instance: int = 0
    object_id: int = 0
    seen: Callable[[], Seen] | None = None


@dataclass(frozen=True)
class EvaluationObject:
    """What the metrics need to know of the object.

    Attributes:
        vertices: mesh vertices in the object frame, metres, [V, 3]; empty without a mesh.
        diameter: largest distance between vertices, metres (BOP's diameter).
        symmetries: rigid transforms that leave the object unchanged, with identity, [S, 4, 4].
    """

    vertices: np.ndarray
    diameter: float
    symmetries: np.ndarray


@dataclass(frozen=True)
class CropSettings:
    """How items are cut from images.

    Attributes:
        resolution: side of the crop, pixels.
        map_size: side of the surface map.
        padding: side of the crop over the projected diameter.
        box_noise: of a simulated detector, which gives tight boxes of the visible mask; None draws
            the paper's truncated Gaussian offset around the truth.
        max_roll: largest random in-plane turn of the crop, degrees.
        surface: whether items have a surface map.
        zoom: largest random change of the crop's scale, and of its middle in crop sides.
        looks: of rendered crops.
    """

    resolution: int
    map_size: int
    padding: float
    box_noise: EdgeNoise | None
    max_roll: float
    surface: bool
    zoom: float = 0.0
    looks: Looks = Looks()


class Items(Protocol):
    """A training or validation set.

    An item is a dict: crop uint8 [3, H, W], K_crop [3, 3], estimate [3] of the bounding-sphere
    centre, rotation [3, 3], translation [3] of the centre, where a detector is simulated box [4, 2]
    (corners in pixels of the crop, nan if it gave none), and, where asked for and possible, surface
    [4, h, w] (see `training.data.crops.surface_map`). Or an item is whatever the source's
    composer makes such dicts of, batch by batch.
    """

    def __len__(self) -> int:
        """Return the number of distinct items; `ENDLESS` where they are made without end."""

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return one item; rng is its only randomness."""


class Source(ABC):
    """A data set with one object chosen.

    Attributes:
        name: "<data set>/<object>".
        object_name: goes into the bundle and is matched with the class ids of detections.
        rotation_only: the image is the crop and the translation is known.
        has_intrinsics: whether K means anything; keypoints cannot be projected without.
        crop_padding: side of a crop over the projected diameter.
        validates_on_test: the validation items are test images, only to be watched.
        splits: evaluation splits, the default first.
        center: bounding-sphere centre in the object frame, metres, [3].
        diameter: of the bounding sphere, metres.
        mesh: in metres, or None.
        size_ratio: mean and standard deviation over views of the apparent size; see
            `spyropose_ros.core.camera.apparent_size_ratio`.
    """

    name: str
    object_name: str
    rotation_only: bool = False
    has_intrinsics: bool = True
    crop_padding: float = 1.5
    validates_on_test: bool = False
    splits: tuple[str, ...]
    center: np.ndarray
    diameter: float
    mesh: trimesh.Trimesh | None
    size_ratio: tuple[float, float]

    @abstractmethod
    def target(self) -> EvaluationObject:
        """Return what the metrics need."""

    @abstractmethod
    def training_items(self, crop: CropSettings) -> Items:
        """Return the training set."""

    @abstractmethod
    def validation_items(self, crop: CropSettings) -> Items:
        """Return the set that is watched during training."""

    def composer(self, crop: CropSettings) -> nn.Module:
        """Return what makes crops of a batch of items, on its device; as they are by default."""
        return nn.Identity()

    @abstractmethod
    def samples(self, split: str, seed: int) -> Iterator[Sample]:
        """Read or render the evaluation samples of a split.

        Args:
            split: one of `splits`.
            seed: of the boxes' noise.

        Returns:
            The samples, one at a time and in a fixed order.

        Raises:
            InputError: unknown split.
        """

    def frames(self, split: str) -> list[BopFrame]:
        """Read the images of a split, for several views of one scene.

        Args:
            split: one of `splits`.

        Returns:
            All images with all their annotations.

        Raises:
            InputError: the split has no scenes of several images.
        """
        raise InputError(f"{self.name} has no scene in split '{split}' that several images show")

    def annotation(self, split: str) -> str:
        """Return the digest of the files that say what a split shows; "" where nothing is read."""
        return ""

    def check_split(self, split: str) -> None:
        """Raise InputError for a split that this source does not have."""
        if split not in self.splits:
            known = ", ".join(self.splits)
            raise InputError(f"{self.name} has no split '{split}': choose from {known}")
