"""Images of a shape and the set of rotations that give the same image."""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from spyropose_ros.scenes.renderer import Renderer
from training.data.shape_models import Mark, Shape
from training.data.whole_image import DIAMETER, TRANSLATION, pinhole

AMBIENT, DIFFUSE = 0.1, 0.85
"""Grey value = ambient + diffuse x cosine between the normal and the direction to the camera."""

MARK_COLOUR = np.array([0.9, 0.1, 0.1])
"""RGB of the paint; the rest is white."""

HIDDEN_ROTATIONS = 2000
"""How many rotations stand for all those that hide a sphere's mark."""

_HIDDEN_SEED, _HIDDEN_CANDIDATES = 3, 8000


def uniform_rotations(n: int, seed: int) -> np.ndarray:
    """Draw n uniform rotations [n, 3, 3], equal to SciPy's `Rotation.random` of this seed."""
    return Rotation.from_quat(np.random.RandomState(seed).normal(size=(n, 4))).as_matrix()


class _Surface(NamedTuple):
    """What is seen of a solid.

    Attributes:
        mask: pixels that show it, bool [S, S].
        points: seen there, from the solid's centre in the axes of the camera, metres, [N, 3].
        normals: there, in the axes of the camera, [N, 3].
    """

    mask: np.ndarray
    points: np.ndarray
    normals: np.ndarray


class ShapeImages:
    """Renders one shape at the known translation, lit from the camera, on black.

    Args:
        shape: what to render.
        resolution: side of the images, pixels.
    """

    def __init__(self, shape: Shape, resolution: int):
        self._shape = shape
        self._renderer = Renderer(shape.mesh)
        self._face_normals = np.asarray(shape.mesh.face_normals)
        self._resolution = resolution
        self._K = pinhole(resolution)
        v, u = np.indices((resolution, resolution))
        self._rays = np.stack((u, v, np.ones_like(u)), -1) @ np.linalg.inv(self._K).T  # z = 1

    def image(self, rotation: np.ndarray) -> np.ndarray:
        """Render.

        Args:
            rotation: object to camera, [3, 3].

        Returns:
            RGB uint8 [S, S, 3].
        """
        seen = self._surface(rotation)
        rays = self._rays[seen.mask]  # [N, 3]
        cosine = -np.einsum("nc,nc->n", seen.normals, rays) / np.linalg.norm(rays, axis=1)
        grey = AMBIENT + DIFFUSE * np.maximum(cosine, 0)
        colour = np.repeat(grey[:, None], 3, axis=1)
        if self._shape.mark is not None:
            colour[self._shape.mark(seen.points @ rotation)] *= MARK_COLOUR
        image = np.zeros((self._resolution, self._resolution, 3), np.uint8)
        image[seen.mask] = np.rint(255 * colour)
        return image

    def equivalents(self, rotation: np.ndarray) -> np.ndarray:
        """Find all rotations that give the same image.

        Where the mark covers at least one pixel, these are the symmetries that keep the mark in its
        place. Where it covers none, they are the symmetries of the unmarked solid that leave it
        hidden; a sphere's are continuous and a uniform sample stands for them.

        Args:
            rotation: object to camera, [3, 3].

        Returns:
            [M, 3, 3], the given rotation first.
        """
        mark = self._shape.mark
        if mark is None:
            return rotation @ self._shape.symmetries
        points = self._surface(rotation).points @ rotation
        if mark(points).any():
            return rotation @ self._shape.symmetries
        if self._shape.round:
            return np.concatenate((rotation[None], self._hiding_rotations))
        unmarked = self._shape.unmarked_symmetries
        assert unmarked is not None  # a marked solid has them
        return rotation @ _hiding(mark, points, unmarked)

    @cached_property
    def _hiding_rotations(self) -> np.ndarray:
        """Of a sphere; they do not depend on its rotation."""
        mark = self._shape.mark
        assert mark is not None  # a sphere has one
        candidates = uniform_rotations(_HIDDEN_CANDIDATES, _HIDDEN_SEED)
        hiding = _hiding(mark, self._sphere.points, candidates)
        return hiding[: HIDDEN_ROTATIONS - 1]

    def _surface(self, rotation: np.ndarray) -> _Surface:
        """Return the visible surface of the turned solid."""
        if self._shape.round:
            return self._sphere
        size = self._resolution
        seen = self._renderer.render(rotation, TRANSLATION, self._K, size, size)
        mask = seen.mask
        points = self._rays[mask] * seen.depth[mask][:, None] - TRANSLATION
        return _Surface(mask, points, self._face_normals[seen.face[mask]] @ rotation.T)

    @cached_property
    def _sphere(self) -> _Surface:
        """Where the rays first meet the bounding sphere: the same at any rotation."""
        rays = self._rays / np.linalg.norm(self._rays, axis=-1, keepdims=True)
        middle = rays @ TRANSLATION  # along the ray, [S, S]
        half_chord_squared = (DIAMETER / 2) ** 2 - (TRANSLATION @ TRANSLATION - middle**2)
        mask = half_chord_squared > 0
        distance = middle[mask] - np.sqrt(half_chord_squared[mask])
        points = rays[mask] * distance[:, None] - TRANSLATION
        return _Surface(mask, points, points / (DIAMETER / 2))


def _hiding(mark: Mark, points: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Select the rotations [S, 3, 3] of a solid that leave none of its visible points painted.

    Args:
        mark: where the solid is painted.
        points: visible surface before the rotation, object frame, [N, 3].
        rotations: symmetries of the unmarked solid.
    """
    return np.stack([g for g in rotations if not mark(points @ g).any()])
