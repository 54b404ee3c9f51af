"""Random scenes: images of one object with the pose, the box and the visibility known."""

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
import trimesh

from spyropose_ros.scenes.appearance import Appearance
from spyropose_ros.scenes.backdrops import BackdropBank
from spyropose_ros.scenes.camera_effects import CameraEffects
from spyropose_ros.scenes.clutter import cast_shadow, random_colour, uneven_light
from spyropose_ros.scenes.placed import place
from spyropose_ros.scenes.renderer import (
    GBuffer,
    Light,
    Renderer,
    random_rotation,
    shade,
    upright_rotation,
)
from spyropose_ros.scenes.sprites import SpriteBank, paste


@dataclass(frozen=True)
class ObjectModel:
    """An object as the sampler needs it.

    Attributes:
        name: its name, as in the bundle and in detections.
        mesh: metres, object frame.
        handle_faces: [F] bool, the faces that break the symmetry; None when there are none.
        center: [3], centre of the bounding sphere, object frame.
        diameter: of the bounding sphere, metres.
        distractors: coloured meshes of things found near it, metres.
        recolour: the object has no colour of its own: paint it differently in every scene.
        symmetries: [S, 3, 3] rotations that leave the object's looks unchanged, with identity.
    """

    name: str
    mesh: trimesh.Trimesh
    handle_faces: np.ndarray | None
    center: np.ndarray
    diameter: float
    distractors: list[trimesh.Trimesh]
    recolour: bool
    symmetries: np.ndarray


@dataclass(frozen=True)
class SceneSettings:
    """How scenes look.

    Attributes:
        fx: focal length of the camera in x, pixels.
        fy: in y.
        cx: principal point of the camera in x, pixels.
        cy: in y.
        width: of the camera image, pixels.
        height: of the camera image, pixels.
        distance: smallest and largest z of the object's centre, metres.
        rotations: 'uniform' over SO(3), or 'table': mostly upright, seen from the side or above.
        table_share: with 'table', the share of scenes that are not uniform over SO(3).
        occlusion_probability: share of scenes with something put in front of the object.
        min_visible_fraction: occluders that leave less of the object are moved.
        effects: what the camera does to the image.
        window: side of the returned window in units of the object's apparent diameter.
        largest: largest apparent diameter in a window, pixels; what is nearer to the camera is
            made at a lower resolution.
        full_frame: return the whole camera image instead of the window.
        clutter: largest number of things behind the object in a window.
        sprites: number of images of other things to draw from.
        backdrops: number of crowded images to draw backgrounds from; 0 for plain ones only.
        backdrop_share: share of scenes with such a background.
        uneven_light: share of scenes in which light and shadow fall unevenly.
        appearance: ranges of composed crops; see `spyropose_ros.scenes.compositing`.
    """

    fx: float = 600.0
    fy: float = 600.0
    cx: float = 319.5
    cy: float = 239.5
    width: int = 640
    height: int = 480
    distance: tuple[float, float] = (0.35, 1.0)
    rotations: Literal["uniform", "table"] = "uniform"
    table_share: float = 0.8
    occlusion_probability: float = 0.3
    min_visible_fraction: float = 0.6
    effects: CameraEffects = field(default_factory=CameraEffects)
    window: float = 2.5
    largest: float = float("inf")
    full_frame: bool = False
    clutter: int = 8
    sprites: int = 300
    backdrops: int = 0
    backdrop_share: float = 0.7
    uneven_light: float = 0.0
    appearance: Appearance = field(default_factory=Appearance)

    @property
    def K(self) -> np.ndarray:
        """[3, 3] intrinsics of the camera."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])


@dataclass(frozen=True)
class Scene:
    """An image and all that is known about it.

    Attributes:
        image: [h, w, 3] uint8 RGB, a window of the camera image at its resolution.
        K: [3, 3] intrinsics of the window.
        rotation: [3, 3], object frame to camera frame.
        translation: [3], object frame to camera frame, metres.
        box: [4] xyxy around the visible pixels, in pixels of the window.
        visible_fraction: visible pixels over the pixels that would be visible alone.
        handle_fraction: visible pixels of the handle over visible pixels; nan without handle.
        mask: [h, w] bool, the visible pixels.
        hidden: [h, w] bool, what is put in front of the object.
        depth: [h, w] float32, z of the visible surface in metres; 0 elsewhere.
        silhouette: [h, w] bool, the pixels that would be visible alone.
        full_box: [4] xyxy around the whole silhouette, also where it leaves the camera image.
        full_count: pixels of the whole silhouette.
    """

    image: np.ndarray
    K: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    box: np.ndarray
    visible_fraction: float
    handle_fraction: float
    mask: np.ndarray
    hidden: np.ndarray
    depth: np.ndarray
    silhouette: np.ndarray
    full_box: np.ndarray
    full_count: int


class SceneSampler:
    """Makes random scenes of one object. Can be pickled; forked workers can share one.

    Attributes:
        model: the object.
        settings: how scenes look.
        backdrops: what is behind the object.
    """

    model: ObjectModel
    settings: SceneSettings
    backdrops: BackdropBank

    def __init__(self, model: ObjectModel, settings: SceneSettings):
        """Prepare the renderer and the images of other things (a few seconds).

        Args:
            model: the object.
            settings: how scenes look.
        """
        self.model = model
        self.settings = settings
        self._renderer = Renderer(model.mesh)
        self._sprites = SpriteBank(model.distractors, settings.sprites, np.random.default_rng(0))
        crowds = settings.backdrops, settings.backdrop_share
        self.backdrops = BackdropBank(self._sprites, *crowds, np.random.default_rng(1))

    def sample(self, rng: np.random.Generator) -> Scene:
        """Make one scene.

        Args:
            rng: the only source of randomness: the same state gives the same scene.

        Returns:
            The scene; at least `min_visible_fraction` of the object is visible.
        """
        while True:
            rotation, translation = random_pose(self.model, self.settings, rng)
            scene = self.render(rotation, translation, rng)
            if scene is not None:
                return scene

    def render(
        self, rotation: np.ndarray, translation: np.ndarray, rng: np.random.Generator
    ) -> Scene | None:
        """Make one scene with the object at a given pose.

        Args:
            rotation: [3, 3], object to camera.
            translation: [3], object to camera, metres.
            rng: source of everything else.

        Returns:
            The scene; None when too little of the object would be visible.
        """
        settings = self.settings
        K, width, height = self._window(rotation @ self.model.center + translation)
        if width <= 0 or height <= 0:
            return None

        placed = place(self._renderer, rotation, translation, K, width, height)
        if placed is None:
            return None
        buffer, total, rows, columns, inside = placed
        mask = placed.mask(height, width)
        silhouette = mask
        least = settings.min_visible_fraction * total
        if np.count_nonzero(mask) < max(least, 1):
            return None

        image = self.backdrops.draw(rng, height, width)
        focal_over_z = K[0, 0] / translation[2]
        self._sprites.scatter(image, focal_over_z, int(rng.integers(0, settings.clutter + 1)), rng)
        if rng.random() < 0.5:
            cast_shadow(image, mask, rng)
        colours, opacity = paint(self.model, buffer, rng)
        paste(image[rows, columns], colours[inside], opacity[inside])
        hidden = np.zeros_like(mask)
        if rng.random() < settings.occlusion_probability:
            hidden = self._sprites.occlude(image, mask, focal_over_z, least, rng)
            mask = mask & ~hidden

        if settings.uneven_light > 0 and rng.random() < settings.uneven_light:
            light = uneven_light(rng, height, width)
            cv2.multiply(image, cv2.merge([light] * 3), dst=image, dtype=cv2.CV_8U)

        visible = np.count_nonzero(mask)
        depth = np.zeros((height, width), np.float32)
        depth[rows, columns] = buffer.depth[inside]
        depth[~mask] = 0
        image = settings.effects.apply(image, rng)
        return Scene(
            image=image,
            K=K,
            rotation=rotation,
            translation=translation,
            box=mask_box(mask),
            visible_fraction=visible / total,
            handle_fraction=self._handle_fraction(buffer.face[inside], mask[rows, columns]),
            mask=mask,
            hidden=hidden,
            depth=depth,
            silhouette=silhouette,
            full_box=mask_box(buffer.mask) + np.tile(placed.corner, 2),
            full_count=total,
        )

    def _window(self, center: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Return the part of the camera image to make: intrinsics [3, 3], width and height."""
        settings, K = self.settings, self.settings.K
        if settings.full_frame:
            return K, settings.width, settings.height
        apparent = self.model.diameter * settings.fx / center[2]
        scale = min(1.0, settings.largest / apparent)
        K[:2] *= scale
        K[:2, 2] += 0.5 * scale - 0.5  # pixel centres lie at integers
        size = np.ceil(np.array([settings.width, settings.height]) * scale).astype(int)
        pixel = (K @ center)[:2] / center[2]
        half = 0.5 * settings.window * apparent * scale
        low = np.maximum(np.floor(pixel - half).astype(int), 0)
        high = np.minimum(np.ceil(pixel + half).astype(int) + 1, size)
        K[:2, 2] -= low
        width, height = high - low
        return K, int(width), int(height)

    def _handle_fraction(self, face: np.ndarray, mask: np.ndarray) -> float:
        """Return the visible pixels of the handle over all visible pixels."""
        if self.model.handle_faces is None:
            return float("nan")
        return float(self.model.handle_faces[face[mask]].mean())


def random_pose(
    model: ObjectModel, settings: SceneSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random pose with the object's centre inside the camera image.

    Args:
        model: the object.
        settings: camera, distances and kind of rotations.
        rng: the only source of randomness.

    Returns:
        Rotation [3, 3] and translation [3] in metres, object to camera.
    """
    if settings.rotations == "table" and rng.random() < settings.table_share:
        rotation = upright_rotation(rng)
    else:
        rotation = random_rotation(rng)
    z = rng.uniform(*settings.distance)
    margin = 0.4 * model.diameter * settings.fx / z
    size = np.array([settings.width, settings.height])
    border = np.minimum(margin, 0.4 * size)
    pixel = rng.uniform(border, size - border)
    ray = (pixel - [settings.cx, settings.cy]) / [settings.fx, settings.fy]
    center = z * np.append(ray, 1.0)
    return rotation, center - rotation @ model.center


def mask_box(mask: np.ndarray) -> np.ndarray:
    """Return the tight box around a mask.

    Args:
        mask: [h, w] bool, with at least one true pixel.

    Returns:
        [4] float xyxy; pixel centres lie at integers, so the box reaches half a pixel further.
    """
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5])


def paint(
    model: ObjectModel, buffer: GBuffer, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Give a rendered object colours and light.

    Args:
        model: the object.
        buffer: what is seen of it.
        rng: source of randomness.

    Returns:
        Colours [h, w, 3] and opacity [h, w], uint8, soft at the silhouette.
    """
    if model.recolour:
        albedo = np.broadcast_to(random_colour(rng), buffer.albedo.shape)
        if model.handle_faces is not None and rng.random() < 0.25:
            handle = model.handle_faces[buffer.face] & buffer.mask
            albedo = np.where(handle[..., None], random_colour(rng), albedo)
    else:
        albedo = buffer.albedo * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    image = shade(albedo, buffer.normals, Light.random(rng))
    image *= buffer.mask[..., None]
    image = cv2.convertScaleAbs(np.clip(image, 0, 1), alpha=255)
    sigma = rng.uniform(0.35, 0.7)
    mask = buffer.mask.astype(np.uint8) * 255
    return cv2.GaussianBlur(image, (3, 3), sigma), cv2.GaussianBlur(mask, (3, 3), sigma)
