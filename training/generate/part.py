"""Random images of a CAD part, with its poses in the frame of the CAD file."""

import colorsys
from dataclasses import replace

import numpy as np
import trimesh
from trimesh.visual import ColorVisuals

from spyropose_ros.scenes.camera_effects import CameraEffects
from spyropose_ros.scenes.renderer import bounding_sphere
from spyropose_ros.scenes.sampler import ObjectModel, Scene, SceneSampler, SceneSettings
from training.generate.cad import has_colours
from training.generate.settings import ViewSettings

HOUSEHOLD_SIZE = 0.12
"""Metres: the sampler's clutter goes with objects of about this size."""


class Part:
    """Random images of a part. Can be pickled; forked workers can share one.

    The sampler sees the part centred and at household size, which leaves the image the same: the
    clutter then has fitting sizes, and the origin of the CAD file may lie anywhere.
    """

    def __init__(
        self,
        mesh: trimesh.Trimesh,
        occluders: list[trimesh.Trimesh],
        views: ViewSettings,
        distance: tuple[float, float],
    ):
        """Prepare the sampler (a few seconds).

        Args:
            mesh: the part, metres; painted differently in every image if it has no colours.
            occluders: things found near it, metres.
            views: what the camera sees.
            distance: smallest and largest z of the part's centre, metres.
        """
        self._center, radius = bounding_sphere(mesh)
        self._scale = HOUSEHOLD_SIZE / (2 * radius)
        model = ObjectModel(
            name="part",
            mesh=normalised(mesh, self._center, self._scale),
            handle_faces=None,
            center=np.zeros(3),
            diameter=HOUSEHOLD_SIZE,
            distractors=[
                normalised(_painted(other, index), other.bounds.mean(0), self._scale)
                for index, other in enumerate(occluders)
            ],
            recolour=not has_colours(mesh),
            symmetries=np.eye(3)[None],
        )
        near, far = distance
        settings = part_scenes(views, (near * self._scale, far * self._scale))
        self._sampler = SceneSampler(model, settings)

    def sample(self, rng: np.random.Generator) -> Scene:
        """Make an image.

        Args:
            rng: the only source of randomness.

        Returns:
            The scene with the pose of the frame of the CAD file.
        """
        scene = self._sampler.sample(rng)
        translation = scene.translation / self._scale - scene.rotation @ self._center
        return replace(scene, translation=translation, depth=scene.depth / self._scale)


def part_scenes(views: ViewSettings, distance: tuple[float, float]) -> SceneSettings:
    """Return how scenes of parts look.

    Args:
        views: what the camera sees.
        distance: smallest and largest z of a part's centre at the sampler's scale, metres.

    Returns:
        Settings for whole images.
    """
    (width, height), camera = views.resolution, views.camera
    return SceneSettings(
        fx=camera["fx"],
        fy=camera["fy"],
        cx=camera["cx"],
        cy=camera["cy"],
        width=width,
        height=height,
        distance=distance,
        rotations="table" if views.views == "upright" else "uniform",
        table_share=1.0,
        occlusion_probability=views.occlusion,
        min_visible_fraction=0.4,
        full_frame=True,
        clutter=12,
        effects=CameraEffects(hue=0.1, blur=1.4),
    )


def normalised(mesh: trimesh.Trimesh, center: np.ndarray, scale: float) -> trimesh.Trimesh:
    """Return a copy at another scale, with a point at the origin.

    Args:
        mesh: metres.
        center: the point, [3].
        scale: of the copy.

    Returns:
        The copy.
    """
    mesh = mesh.copy()
    mesh.apply_translation(-center)
    mesh.apply_scale(scale)
    return mesh


def _painted(mesh: trimesh.Trimesh, index: int) -> trimesh.Trimesh:
    """Return a copy with a colour, where the mesh has none."""
    mesh = mesh.copy()
    if not has_colours(mesh):
        assert isinstance(mesh.visual, ColorVisuals)  # `load_cad` leaves no textures
        hue = 0.618 * index % 1  # neighbours in the list differ
        mesh.visual.vertex_colors = [*colorsys.hsv_to_rgb(hue, 0.6, 0.8), 1.0]
    return mesh
