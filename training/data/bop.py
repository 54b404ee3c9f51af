"""Any data set in the BOP format with one of its objects chosen.

Source: https://github.com/thodan/bop_toolkit/blob/master/docs/bop_datasets_format.md; the
visibility filter and the held-out scenes: Haugaard et al., ICCVW 2023, section 4.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import trimesh
from torch import Tensor

from spyropose_ros.bop import (
    MM,
    BopDataset,
    BopFrame,
    BopScene,
    BopTarget,
    check_place,
    load_mesh,
    load_models_info,
    models_directory,
)
from spyropose_ros.core.camera import CROP_PADDING, apparent_size_ratio
from spyropose_ros.core.errors import DataError, MissingFileError
from spyropose_ros.core.files import sha256
from spyropose_ros.scenes.detector import noisy_box
from spyropose_ros.scenes.renderer import Renderer, bounding_sphere
from training.config import PAPER_BOP, BopOptions
from training.data.crops import training_item
from training.data.source import CropSettings, EvaluationObject, Sample, Source

_TRAINING = ("train_pbr", "train")
_TEST = ("test", "val")  # the poses of many test sets are not public, those of val are
_HELD_OUT_SCENES = 2
_HELD_OUT_IMAGES = 0.05  # share, where there are too few scenes
_SMALLEST, _LARGEST = 1e-3, 20.0  # diameters of an object, metres
_AGREEMENT = 1.5  # a bounding sphere's diameter over the largest distance of two vertices: <= 1.23


class BopSource(Source):
    """A BOP data set with one object chosen.

    The annotation is read when a split is first asked for, images one at a time. The splits are
    "test", "validation" and "train", as far as the data set has them.
    """

    rotation_only = False
    crop_padding = CROP_PADDING
    mesh: trimesh.Trimesh

    def __init__(
        self, directory: str | Path, object_name: str | int, options: BopOptions = PAPER_BOP
    ):
        """Read the mesh.

        Args:
            directory: the data set.
            object_name: name or number of the object.
            options: which images to use.

        Raises:
            MissingFileError: the data set, its models or its images are missing.
            DataError: a file is damaged, or there is no such object.
        """
        self.options = options
        self.dataset = BopDataset(directory, options.camera)
        self.object_id = self.dataset.object_id(object_name)
        self.name = f"{self.dataset.name}/{object_name}"
        self.object_name = self.dataset.object_name(self.object_id)
        self.mesh = load_mesh(directory, self.object_id)
        self.center, radius = bounding_sphere(self.mesh)
        self.diameter = 2 * radius
        _check_size(self.dataset, self.object_id, self.diameter)
        self.size_ratio = apparent_size_ratio(self.mesh.vertices - self.center, self.diameter)
        self._train_split = options.train_split or self.dataset.split(*_TRAINING)
        self._test_split = options.test_split or self.dataset.split(*_TEST)
        has = {
            "test": self._test_split,
            "validation": self._train_split,
            "train": self._train_split,
        }
        self.splits = tuple(name for name, folder in has.items() if folder)
        if not self.splits:
            raise MissingFileError(
                f"{directory} has no split with annotated scenes: expected a folder train*, test* "
                "or val* with scenes such as 000000/scene_gt.json (see docs/data/bop.md)"
            )

    def target(self) -> EvaluationObject:
        """Return the vertices and symmetries of the metrics, from models_eval where it exists."""
        mesh = load_mesh(self.dataset.root, self.object_id, evaluation=True)
        info = load_models_info(self.dataset.root, evaluation=True)[self.object_id]
        return EvaluationObject(np.asarray(mesh.vertices), info.diameter, info.symmetries)

    def training_items(self, crop: CropSettings) -> "BopItems":
        """Cut crops from the training images.

        Args:
            crop: how they are cut.

        Returns:
            One item per target of the training set.

        Raises:
            DataError: there is no training split, or no image shows enough of the object.
        """
        return BopItems(self, self.targets("train"), crop)

    def validation_items(self, crop: CropSettings) -> "BopItems":
        """Return crops, unrotated, of the held-out training images; raises as `training_items`."""
        return BopItems(self, self.targets("validation"), replace(crop, max_roll=0.0))

    def samples(self, split: str, seed: int) -> Iterator[Sample]:
        """Read whole images.

        Args:
            split: "test", "validation" or "train".
            seed: of the boxes' noise.

        Yields:
            One sample per target, with a noisy box around the annotated visible part.
        """
        for target in self.targets(split):
            frame, instance = target.frame, target.instance
            rng = np.random.default_rng((seed, frame.scene_id, frame.frame_id, instance.index))
            yield Sample(
                id=target.id,
                image=frame.image(),
                K=frame.K,
                rotation=instance.rotation,
                translation=instance.translation,
                box=noisy_box(target.visible_box, rng),
                visible_fraction=target.visible_fraction,
                scene_id=frame.scene_id,
                image_id=frame.frame_id,
                instance=instance.index,
                object_id=self.object_id,
            )

    def targets(self, split: str) -> list[BopTarget]:
        """Select the images of a split that show enough of the object.

        Args:
            split: "test", "validation" or "train".

        Returns:
            One target per image and annotated instance.

        Raises:
            DataError: there is no such split, or no image shows enough of the object.
        """
        self.check_split(split)
        if split == "test":
            targets = self._read(self._folder(split), self.options.test_scenes)
        else:
            targets = self._training_targets[split == "validation"]
        if targets:
            return targets
        raise DataError(
            f"the {split} images of {self.dataset.root} show object {self.object_id} nowhere with "
            f"visible fraction >= {self.options.min_visible} and >= {self.options.min_pixels} "
            "visible pixels: choose other scenes or lower these limits"
        )

    def frames(self, split: str) -> list[BopFrame]:
        """Return all test images with all their annotations; see `Source.frames`."""
        if split != "test":
            return super().frames(split)
        scenes = self.dataset.scenes(self._folder(split), self.options.test_scenes)
        return [f for scene in scenes for f in BopScene(scene, self.options.camera).frames]

    def annotation(self, split: str) -> str:
        """Return the digest of the scenes' annotation; see `Source.annotation`."""
        scenes = self.dataset.scenes(self._folder(split))
        return sha256(*(path for scene in scenes for path in sorted(scene.glob("scene_*.json"))))

    def _folder(self, split: str) -> str:
        """Return the folder of a split that exists; see `check_split`."""
        folder = self._test_split if split == "test" else self._train_split
        assert folder is not None
        return folder

    @cached_property
    def _training_targets(self) -> tuple[list[BopTarget], list[BopTarget]]:
        """Those of the training set and those held out for validation."""
        options, split = self.options, self._folder("train")
        scenes = [int(path.name) for path in self.dataset.scenes(split)]
        held_out = options.validation_scenes
        if held_out is None and len(scenes) >= 2 * _HELD_OUT_SCENES:
            held_out = scenes[-_HELD_OUT_SCENES], scenes[-1]
        if held_out is not None:
            train = self._read(split, options.train_scenes)
            train = [t for t in train if not held_out[0] <= t.frame.scene_id <= held_out[1]]
            return train, self._read(split, held_out)
        targets = self._read(split, options.train_scenes)
        images = sorted({(t.frame.scene_id, t.frame.frame_id) for t in targets})
        count = round(_HELD_OUT_IMAGES * len(images)) or 1
        held = set(images[-count:])
        parts: tuple[list[BopTarget], list[BopTarget]] = [], []
        for target in targets:
            parts[(target.frame.scene_id, target.frame.frame_id) in held].append(target)
        return parts

    def _read(self, split: str, scenes: tuple[int, int] | None) -> list[BopTarget]:
        return self.dataset.targets(
            self.dataset.scenes(split, scenes),
            self.object_id,
            self.options.min_visible,
            self.options.min_pixels,
            lambda frame, instance: check_place(frame, instance, self.center, self.diameter),
        )


def _check_size(dataset: BopDataset, object_id: int, diameter: float) -> None:
    """Raise DataError where the mesh or its entry in models_info.json is in another unit.

    Args:
        dataset: with the entry.
        object_id: number of the object.
        diameter: of the mesh's bounding sphere, metres.
    """
    folder = models_directory(dataset.root)
    path = folder / f"obj_{object_id:06d}.ply"
    if not _SMALLEST <= diameter <= _LARGEST:
        raise DataError(
            f"{path} measures {diameter / MM:.4g} mm: give meshes and poses in millimetres"
        )
    stated = dataset.models[object_id].diameter
    if not 1 / _AGREEMENT <= diameter / stated <= _AGREEMENT:
        raise DataError(
            f"{folder / 'models_info.json'} gives object {object_id} a diameter of "
            f"{stated / MM:.4g} mm, but {path.name} measures {diameter / MM:.4g} mm: give both in "
            "millimetres"
        )


class BopItems:
    """Crops as the network sees them, one for every target."""

    def __init__(self, source: Source, targets: list[BopTarget], crop: CropSettings):
        """Keep what an item needs.

        Args:
            source: the object, which has a mesh.
            targets: its images.
            crop: how they are cut.
        """
        assert source.mesh is not None
        self._source = source
        self._targets = targets
        self._crop = crop
        self._renderer = Renderer(source.mesh)

    def __len__(self) -> int:
        return len(self._targets)

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Read one image and cut the object out.

        Where little of the object is visible, the simulated detector can be wrong by more than the
        box of translations; then the paper's detector takes its place.

        Args:
            index: of the target.
            rng: of the simulated detector and of the crop's turn.

        Returns:
            Tensors by name, see `training.data.source.Items`.

        Raises:
            MissingFileError: the image is missing.
            DataError: the image or the mask is damaged, or their sizes differ.
        """
        target = self._targets[index]
        image = target.frame.image()
        depth = self._depth(target, *image.shape[:2]) if self._crop.surface else None
        item = self._cut(target, image, depth, self._crop, rng)
        if item is None:
            paper = replace(self._crop, box_noise=None)
            item = self._cut(target, image, depth, paper, rng)
        assert item is not None  # the paper's detector is never off by more than the box
        return item

    def _cut(
        self,
        target: BopTarget,
        image: np.ndarray,
        depth: np.ndarray | None,
        crop: CropSettings,
        rng: np.random.Generator,
    ) -> dict[str, Tensor] | None:
        source, instance = self._source, target.instance
        return training_item(
            image,
            target.frame.K,
            instance.rotation,
            instance.translation,
            source.center,
            source.diameter,
            source.size_ratio[0],
            target.visible_box,
            crop,
            rng,
            depth,
        )

    def _depth(self, target: BopTarget, height: int, width: int) -> np.ndarray:
        """Return the depth [H, W] of the object's visible surface, metres; 0 elsewhere."""
        frame, instance = target.frame, target.instance
        depth = self._renderer.render(
            instance.rotation, instance.translation, frame.K, width, height
        ).depth
        mask = frame.visible_mask(instance)
        if mask is None:
            return depth
        if mask.shape != depth.shape:
            raise DataError(
                f"{frame.mask_path(instance)} has {mask.shape[1]} x {mask.shape[0]} pixels but its "
                f"image {width} x {height}: make the masks as large as the images, or move the "
                "folder away"
            )
        depth[~mask] = 0
        return depth
