"""The objects of a BOP data set, as they are rendered for a detector."""

from pathlib import Path
from typing import Literal

import numpy as np

from spyropose_ros.bop import BopDataset, load_mesh
from spyropose_ros.scenes.renderer import bounding_sphere
from spyropose_ros.scenes.sampler import ObjectModel, SceneSettings
from training.generate.cad import has_colours
from training.generate.dataset import views_of
from training.generate.part import HOUSEHOLD_SIZE, normalised, part_scenes
from training.generate.settings import ViewSettings, distance_range


def load_parts(
    directory: str | Path,
    objects: list[str],
    views: Literal["upright", "uniform"] = "upright",
) -> tuple[list[ObjectModel], SceneSettings]:
    """Load objects, all at the same scale, at which the middle one has household size.

    The scale leaves the images as they are; the clutter then has fitting sizes.

    Args:
        directory: the data set.
        objects: names or numbers, or "all".
        views: "upright", seen from the side or above, or "uniform" over SO(3); of a set of
            `training.generate_data` its own views, distances and camera are taken.

    Returns:
        The objects, painted differently in every image if they have no colours, and scenes of the
        same kind as `training.generate_data` makes.

    Raises:
        MissingFileError: the data set or its models are missing.
        DataError: a file is damaged, or there is no such object.
        InputError: the objects do not suit the distances of the data set.
    """
    dataset = BopDataset(directory)
    if objects == ["all"]:
        objects = [str(number) for number in dataset.models]
    numbers = [dataset.object_id(name) for name in objects]
    meshes = [load_mesh(directory, number) for number in numbers]
    spheres = [bounding_sphere(mesh) for mesh in meshes]
    scale = HOUSEHOLD_SIZE / float(np.median([2 * radius for _, radius in spheres]))
    models = []
    for number, mesh, (center, radius) in zip(numbers, meshes, spheres, strict=True):
        mesh = normalised(mesh, center, scale)
        name, own = dataset.object_name(number), has_colours(mesh)
        size, none = 2 * radius * scale, np.eye(3)[None]
        models.append(ObjectModel(name, mesh, None, np.zeros(3), size, [], not own, none))
    seen = views_of(directory) or ViewSettings(views)
    near, far = distance_range(seen, HOUSEHOLD_SIZE / scale)
    return models, part_scenes(seen, (near * scale, far * scale))
