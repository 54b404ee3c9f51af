"""The objects whose training images are rendered: the mug, and the objects of LM-O."""

from pathlib import Path

import numpy as np

from spyropose_ros import bop
from spyropose_ros.core.errors import InputError
from spyropose_ros.scenes.camera_effects import CameraEffects
from spyropose_ros.scenes.mug import make_mug
from spyropose_ros.scenes.renderer import (
    bounding_sphere,
)
from spyropose_ros.scenes.sampler import ObjectModel, SceneSettings


def load_object_model(name: str, root: str | Path = "data") -> ObjectModel:
    """Load an object that can be rendered.

    Args:
        name: 'mug', or 'lmo/<object>' such as 'lmo/duck'.
        root: folder of the downloaded data sets.

    Returns:
        The model.

    Raises:
        InputError: the name is unknown.
        MissingFileError: the data set is missing.
    """
    if name == "mug":
        return _mug_model()
    family, _, part = name.partition("/")
    if family == "lmo" and part in bop.LMO_OBJECTS:
        return _lmo_model(part, Path(root) / "lmo")
    known = ", ".join(["mug", *(f"lmo/{part}" for part in bop.LMO_OBJECTS)])
    raise InputError(f"unknown object '{name}': choose from {known}")


def scene_settings(name: str) -> SceneSettings:
    """Choose the scenes that an object is trained on.

    Args:
        name: as for `load_object_model`.

    Returns:
        Settings with the camera of the demo or of the photographs.
    """
    if not name.startswith("lmo/"):
        return SceneSettings(rotations="table", table_share=1.0)
    return SceneSettings(
        fx=572.4114,
        fy=573.57043,
        cx=325.2611,
        cy=242.04899,
        distance=(0.45, 1.4),
        rotations="table",
        table_share=1.0,
        occlusion_probability=0.5,
        min_visible_fraction=0.35,
        clutter=12,
        effects=CameraEffects(
            colour=0.25, exposure=-0.3, hue=0.08, blur=1.2, noise=8, jpeg=0.3, downscale=0.1
        ),
        window=2.2,
        largest=110.0,
        backdrops=300,
        uneven_light=0.6,
    )


def _mug_model() -> ObjectModel:
    mug = make_mug()
    center, radius = bounding_sphere(mug.mesh)
    return ObjectModel(
        name="mug",
        mesh=mug.mesh,
        handle_faces=mug.handle_faces,
        center=center,
        diameter=2 * radius,
        distractors=[],
        recolour=True,
        symmetries=np.eye(3)[None],
    )


def _lmo_model(part: str, root: Path) -> ObjectModel:
    meshes = {other: bop.load_mesh(root, number) for other, number in bop.LMO_OBJECTS.items()}
    mesh = meshes.pop(part)
    center, radius = bounding_sphere(mesh)
    info = bop.load_models_info(root)[bop.LMO_OBJECTS[part]]
    return ObjectModel(
        name=part,
        mesh=mesh,
        handle_faces=None,
        center=center,
        diameter=2 * radius,
        distractors=list(meshes.values()),
        recolour=False,
        symmetries=info.symmetries[:, :3, :3],
    )
