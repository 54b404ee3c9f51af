"""A whole BOP data set: its splits, scenes and objects, and the images that show an object."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spyropose_ros.bop.files import completion, hint
from spyropose_ros.bop.models import LMO_OBJECTS, ModelInfo, load_models_info
from spyropose_ros.bop.scene import BopFrame, BopInstance, BopScene, is_annotated
from spyropose_ros.core.errors import DataError, MissingFileError

log = logging.getLogger(__name__)

_KNOWN_NAMES = {"lmo": LMO_OBJECTS}


@dataclass(frozen=True)
class BopTarget:
    """One image of an object.

    Attributes:
        frame: the image; its `instances` are all of that object.
        instance: the one of them that is meant.
    """

    frame: BopFrame
    instance: BopInstance

    @property
    def id(self) -> str:
        """Scene, image and place in the annotation, such as '000002/000017/3'."""
        frame = self.frame
        return f"{frame.scene_id:06d}/{frame.frame_id:06d}/{self.instance.index}"

    @property
    def visible_fraction(self) -> float:
        """Of the object's silhouette; it is known of every target."""
        assert self.instance.visibility is not None
        return self.instance.visibility.fraction

    @property
    def visible_box(self) -> np.ndarray:
        """Around the visible part, xyxy [4], pixels; every target has one."""
        assert self.instance.visibility is not None and self.instance.visibility.box is not None
        return self.instance.visibility.box


class BopDataset:
    """The folder of a data set.

    Attributes:
        root: the folder.
        name: of the folder, such as 'lmo'.
        models: facts about the objects by their number.
    """

    root: Path
    name: str
    models: dict[int, ModelInfo]

    def __init__(self, root: str | Path, camera: str | None = None):
        """Read models_info.json.

        Args:
            root: the folder.
            camera: whose images to take where scenes have several cameras.

        Raises:
            MissingFileError: the folder is not there, or has no models.
            DataError: models_info.json is damaged.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise MissingFileError(f"there is no data set in {self.root}: {hint(self.root)}")
        self.name = self.root.resolve().name
        self.models = load_models_info(self.root)
        self._camera = camera
        self._numbers = dict(_KNOWN_NAMES.get(self.name, {}))
        self._numbers |= {info.name: number for number, info in self.models.items() if info.name}

    def object_id(self, name: str | int) -> int:
        """Look up an object by its number or its name.

        Args:
            name: a number, also as text, or a name where the objects have names.

        Returns:
            The number of the object.

        Raises:
            DataError: there is no such object.
        """
        text = str(name)
        number = int(text) if text.isdigit() else self._numbers.get(text)
        if number in self.models:
            return number
        known = ", ".join(self.object_name(number) for number in sorted(self.models))
        numbers = ", ".join(map(str, sorted(self.models)))
        raise DataError(
            f"{self.root} has no object '{name}': choose a number from {numbers} or a name from "
            f"{known}"
        )

    def object_name(self, object_id: int) -> str:
        """Return the name of an object; obj_000001 and so on where the objects have no names."""
        for name, number in self._numbers.items():
            if number == object_id:
                return name
        return f"obj_{object_id:06d}"

    def split(self, *prefixes: str) -> str | None:
        """Find a split.

        Args:
            *prefixes: what the split may be called, the preferred first.

        Returns:
            The first folder in the order of the prefixes, then of the alphabet, that has an
            annotated scene; None when there is none.
        """
        for prefix in prefixes:
            for name in self.splits():
                if name.startswith(prefix):
                    return name
        return None

    def splits(self) -> list[str]:
        """Return the names of the folders that have an annotated scene, in alphabetical order."""
        return [
            path.name
            for path in sorted(self.root.iterdir())
            if any(is_annotated(scene) for scene in _scene_directories(path))
        ]

    def scenes(self, split: str, numbers: tuple[int, int] | None = None) -> list[Path]:
        """Return the folders of a split's annotated scenes.

        Args:
            split: name of the folder, such as 'train_pbr'.
            numbers: first and last scene; None for all.

        Returns:
            By ascending number.

        Raises:
            MissingFileError: there are none.
        """
        low, high = numbers or (0, float("inf"))
        scenes = [
            scene
            for scene in _scene_directories(self.root / split)
            if low <= int(scene.name) <= high and is_annotated(scene)
        ]
        if not scenes:
            wanted = "" if numbers is None else f" from {low} to {high}"
            raise MissingFileError(
                f"{self.root / split} has no annotated scene{wanted}: {hint(self.root)}"
            )
        return scenes

    def targets(
        self,
        scenes: Iterable[Path],
        object_id: int,
        min_fraction: float,
        min_pixels: int,
        check: Callable[[BopFrame, BopInstance], None] = lambda frame, instance: None,
    ) -> list[BopTarget]:
        """Return all images that show enough of an object; reads the annotation only.

        Args:
            scenes: folders of scenes.
            object_id: the object's number.
            min_fraction: least visible share of its silhouette.
            min_pixels: least number of visible pixels.
            check: raises for annotations that cannot be true, of whatever visibility.

        Returns:
            By scene, image and place in the annotation.

        Raises:
            MissingFileError: a file is missing, the visibility among them.
            DataError: a file is damaged.
        """
        annotated, targets = 0, []
        for scene in scenes:
            for frame in BopScene(scene, self._camera, object_id).frames:
                annotated += len(frame.instances)
                for instance in frame.instances:
                    check(frame, instance)
                targets += [
                    BopTarget(frame, instance)
                    for instance in frame.instances
                    if self._is_seen(scene, instance, min_fraction, min_pixels)
                ]
        log.info(
            "%s, object %d: %d of %d instances are visible to %g and in %d pixels",
            self.root,
            object_id,
            len(targets),
            annotated,
            min_fraction,
            min_pixels,
        )
        return targets

    def _is_seen(
        self, scene: Path, instance: BopInstance, min_fraction: float, min_pixels: int
    ) -> bool:
        seen = instance.visibility
        if seen is None:
            raise MissingFileError(
                f"{scene} lacks scene_gt_info.json or entries of it: {completion(self.root)}"
            )
        return seen.reaches(min_fraction, min_pixels)


def _scene_directories(split: Path) -> list[Path]:
    """Return the folders with a number for a name, by ascending number."""
    if not split.is_dir():
        return []
    return sorted((path for path in split.iterdir() if path.name.isdigit()), key=_number)


def _number(path: Path) -> int:
    return int(path.name)
