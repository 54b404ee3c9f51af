"""Endless rendered images of the objects that a detector is trained for."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spyropose_ros.bop import LMO_OBJECTS
from spyropose_ros.core.errors import InputError
from spyropose_ros.detector.network import STRIDES
from spyropose_ros.scenes.groups import Group, GroupSampler, GroupSettings
from spyropose_ros.scenes.sampler import ObjectModel, SceneSettings
from training.data.looks import Looks
from training.data.rendered_objects import load_object_model, scene_settings
from training.data.source import ENDLESS
from training.detector.config import MIN_VISIBLE
from training.detector.parts import load_parts

IGNORED, NONE = -1, -2
"""Classes of an item's places: of objects with too little visible count as neither found nor
missed; nothing is there."""

_SMALLEST = float(STRIDES[0])
"""Side in pixels of the network's image below which an object does not count."""


@dataclass(frozen=True)
class KnownObjects:
    """What a detector is trained for.

    Attributes:
        classes: names of the objects, as in detections.
        sampler: makes their images.
    """

    classes: tuple[str, ...]
    sampler: GroupSampler


def open_objects(
    source: str,
    objects: list[str],
    data_root: str,
    side: int = GroupSettings.side,
    views: Literal["upright", "uniform"] = "upright",
    painted: float = 0.0,
) -> KnownObjects:
    """Load objects.

    Args:
        source: "rendered", "lmo", or the folder of a BOP data set.
        objects: "mug" or "lmo/duck" of rendered; names of the data set, or "all".
        data_root: where downloaded data sets lie.
        side: of the images, see `GroupSettings`.
        views: "uniform" turns the objects at random over SO(3).
        painted: share of the objects whose surface is painted at random.

    Returns:
        The objects; their scenes have the settings of the first.

    Raises:
        InputError: unknown object, or one that is named twice.
        MissingFileError: the data set is missing.
        DataError: a file of it is damaged, or it has no such object.
    """
    models, scenes = _load(source, objects, data_root, views)
    names = tuple(model.name for model in models)
    if len(set(names)) < len(names):
        raise InputError(f"a detector needs each of its objects once; got {', '.join(names)}")
    scenes = Looks(painted).of(scenes)
    return KnownObjects(names, GroupSampler(models, GroupSettings(scenes, side)))


def _load(
    source: str, objects: list[str], data_root: str, views: Literal["upright", "uniform"]
) -> tuple[list[ObjectModel], SceneSettings]:
    """Load the objects of a source, and how their scenes look."""
    if source not in ("rendered", "lmo"):
        return load_parts(source, objects, views)
    if source == "lmo":
        objects = [f"lmo/{name}" for name in (LMO_OBJECTS if objects == ["all"] else objects)]
    models = [load_object_model(name, data_root) for name in objects]
    scenes = scene_settings(objects[0])
    return models, replace(scenes, rotations="uniform") if views == "uniform" else scenes


class GroupItems:
    """Random images as items of a stream; only the generator matters, not the index.

    An item is a dict: image uint8 [3, H, W]; boxes [M, 4] and classes [M] of as many places as
    there are objects at most.

    Args:
        sampler: of images.
    """

    def __init__(self, sampler: GroupSampler):
        self.sampler = sampler

    def __len__(self) -> int:
        return ENDLESS

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return one random image; see `training.data.source.Items`."""
        group = self.sampler.sample(rng)
        most = self.sampler.settings.most
        boxes, classes = torch.zeros(most, 4), torch.full((most,), NONE)
        count = len(group.boxes)
        boxes[:count] = torch.from_numpy(group.boxes)
        classes[:count] = torch.from_numpy(np.where(counts(group), group.classes, IGNORED))
        image = torch.from_numpy(np.ascontiguousarray(group.image.transpose(2, 0, 1)))
        return {"image": image, "boxes": boxes, "classes": classes}


def counts(group: Group, min_visible: float = MIN_VISIBLE) -> np.ndarray:
    """Tell which objects of an image are visible enough to be found, [N] bool."""
    sides = group.boxes[:, 2:] - group.boxes[:, :2]
    return (group.visible >= min_visible) & (sides.max(1, initial=0) >= _SMALLEST)
