"""Images of other things, to put behind and in front of the object."""

import os
from typing import NamedTuple

import cv2
import numpy as np
import trimesh

from spyropose_ros.scenes.clutter import random_colour
from spyropose_ros.scenes.renderer import Light, Renderer, random_rotation, shade

_SPRITE_PIXELS = 128
_OCCLUDER_TRIES = 6

# A fork has no threads of OpenCV's pool, but would wait for them
os.register_at_fork(after_in_child=lambda: cv2.setNumThreads(0))


class Sprite(NamedTuple):
    """An image of a thing from a random side.

    Attributes:
        image: [S, S, 4] uint8 RGB and opacity, zero where the thing is not.
        pixel_size: metres per pixel at the distance of the thing.
    """

    image: np.ndarray
    pixel_size: float


class SpriteBank:
    """Many sprites, made once.

    Attributes:
        sprites: the images.
    """

    sprites: list[Sprite]

    def __init__(self, meshes: list[trimesh.Trimesh], count: int, rng: np.random.Generator):
        """Render things from random sides.

        Args:
            meshes: coloured things, metres. They give half of the sprites; the others, or all
                when there are none, are simple shapes in random colours.
            count: number of sprites.
            rng: source of randomness.
        """
        coloured = count // 2 if meshes else 0
        things = [_Thing(mesh) for mesh in meshes]
        shapes = [_Thing(mesh) for _, mesh in simple_meshes(rng)]
        self.sprites = [
            things[index % len(things)].render(rng, None)
            if index < coloured
            else shapes[index % len(shapes)].render(rng, random_colour(rng))
            for index in range(count)
        ]

    def scatter(
        self, image: np.ndarray, focal_over_z: float, count: int, rng: np.random.Generator
    ) -> None:
        """Put things anywhere in the image, at about the object's distance or behind, in place.

        Args:
            image: [h, w, 3] uint8.
            focal_over_z: pixels per metre at the object's distance.
            count: number of things.
            rng: source of randomness.
        """
        height, width = image.shape[:2]
        for _ in range(count):
            center = rng.uniform(0, 1, 2) * [width, height]
            placed = self._place(center, focal_over_z * rng.uniform(0.5, 1.1), (height, width), rng)
            if placed is not None:
                where, coloured, opacity = placed
                paste(image[where], coloured, opacity)

    def occlude(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        focal_over_z: float,
        least: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Put one or two things in front of the object, in place.

        Args:
            image: [h, w, 3] uint8.
            mask: [h, w] bool, the object.
            focal_over_z: pixels per metre at the object's distance.
            least: number of the object's pixels that must stay visible.
            rng: source of randomness.

        Returns:
            [h, w] bool, what the things cover; at least `least` of the object's pixels are not.
        """
        covered = np.zeros_like(mask)
        rows, columns = np.nonzero(mask)
        spread = 0.15 * np.sqrt(len(rows))
        wanted = rng.integers(1, 3)
        for _ in range(_OCCLUDER_TRIES):
            index = rng.integers(len(rows))
            center = np.array([columns[index], rows[index]]) + spread * rng.normal(size=2)
            placed = self._place(center, focal_over_z * rng.uniform(0.9, 1.5), mask.shape, rng)
            if placed is None:
                continue
            where, coloured, opacity = placed
            more = covered.copy()
            more[where] |= opacity >= 128
            if np.count_nonzero(mask & ~more) < max(least, 1):
                continue
            paste(image[where], coloured, opacity)
            covered = more
            wanted -= 1
            if wanted == 0:
                break
        return covered

    def _place(self, center, focal_over_z, shape, rng):
        """Paste a random sprite at a pixel, rotated and more or less bright."""
        sprite = self.sprites[rng.integers(len(self.sprites))]
        scale = sprite.pixel_size * focal_over_z
        placed = _place(sprite, center, scale, rng.uniform(0, 2 * np.pi), shape)
        if placed is None:
            return None
        where, coloured, opacity = placed
        return where, cv2.convertScaleAbs(coloured, alpha=rng.uniform(0.5, 1.1)), opacity


def paste(canvas: np.ndarray, image: np.ndarray, mask: np.ndarray) -> None:
    """Blend an image over a part of the canvas, in place.

    Args:
        canvas: [h, w, 3] uint8.
        image: [h, w, 3] uint8, already multiplied by the mask at soft edges.
        mask: [h, w] uint8, the opacity.
    """
    rest = cv2.cvtColor(255 - mask, cv2.COLOR_GRAY2RGB)
    cv2.add(image, cv2.multiply(canvas, rest, scale=1 / 255), dst=canvas)


class _Thing:
    """A mesh that is rendered from random sides."""

    def __init__(self, mesh: trimesh.Trimesh):
        self._renderer = Renderer(mesh)
        # A sphere around the bounding box: quick, and tight enough for an image.
        self._center = mesh.bounds.mean(0)
        radius = np.linalg.norm(mesh.vertices - self._center, axis=1).max()
        self._distance = 8 * radius
        # The sphere just fits into the image.
        self._focal = 0.5 * _SPRITE_PIXELS * np.sqrt(self._distance**2 - radius**2) / radius

    def render(self, rng: np.random.Generator, colour: np.ndarray | None) -> Sprite:
        """Return a sprite in a colour [3], or in the mesh's own colours."""
        rotation = random_rotation(rng)
        middle = (_SPRITE_PIXELS - 1) / 2
        K = np.array([[self._focal, 0, middle], [0, self._focal, middle], [0, 0, 1.0]])
        translation = np.array([0, 0, self._distance]) - rotation @ self._center
        buffer = self._renderer.render(rotation, translation, K, _SPRITE_PIXELS, _SPRITE_PIXELS)
        albedo = buffer.albedo if colour is None else colour * buffer.mask[..., None]
        image = shade(albedo, buffer.normals, Light.random(rng)) * buffer.mask[..., None]
        image = np.dstack([np.clip(image, 0, 1), buffer.mask]) * 255
        return Sprite(image.astype(np.uint8), self._distance / self._focal)


def _place(
    sprite: Sprite, center: np.ndarray, scale: float, angle: float, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray] | None:
    """Scale and turn a sprite and cut away what lies outside the image.

    Args:
        sprite: the sprite.
        center: [2] xy of its middle in the image, pixels.
        scale: image pixels per sprite pixel.
        angle: in-plane rotation, radians.
        shape: height and width of the image.

    Returns:
        Rows and columns of the image that the sprite touches, and there its colours [h, w, 3]
        uint8 and mask [h, w] uint8; None when it lies outside.
    """
    reach = 0.5 * _SPRITE_PIXELS * scale
    x0, y0 = np.maximum(np.floor(center - reach).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(center + reach).astype(int) + 1, [shape[1], shape[0]])
    if x0 >= x1 or y0 >= y1:
        return None
    middle = (_SPRITE_PIXELS - 1) / 2
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = center - [x0, y0] - linear @ [middle, middle]
    matrix = np.column_stack([linear, offset])
    size = (int(x1 - x0), int(y1 - y0))
    coloured = cv2.warpAffine(sprite.image, matrix, size)
    image, mask = cv2.cvtColor(coloured, cv2.COLOR_RGBA2RGB), cv2.extractChannel(coloured, 3)
    return (slice(y0, y1), slice(x0, x1)), image, mask


def simple_meshes(rng: np.random.Generator) -> list[tuple[str, trimesh.Trimesh]]:
    """Make boxes, cylinders, balls, cones and rings of household size, metres.

    Args:
        rng: source of randomness.

    Returns:
        The kind and the mesh of each.
    """
    meshes = []
    for _ in range(6):
        size = rng.uniform(0.02, 0.14, 3)
        meshes += [
            ("box", trimesh.creation.box(size)),
            ("cylinder", trimesh.creation.cylinder(size[0] / 2, size[1], sections=32)),
            ("cone", trimesh.creation.cone(size[0] / 2, size[1], sections=32)),
            ("ball", trimesh.creation.icosphere(3, size[0] / 2)),
            (
                "ring",
                trimesh.creation.torus(size[0] / 2, size[0] / rng.uniform(5, 12), 32, 12),
            ),
            ("capsule", trimesh.creation.capsule(size[1], size[0] / 4)),
        ]
    return meshes
