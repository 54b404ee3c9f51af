"""Random camera images of several known objects among other things, for detectors."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
import trimesh

from spyropose_ros.scenes import chance
from spyropose_ros.scenes.backdrops import BackdropBank
from spyropose_ros.scenes.chance import Chance
from spyropose_ros.scenes.clutter import cast_shadow, uneven_light
from spyropose_ros.scenes.placed import Placed, place
from spyropose_ros.scenes.renderer import GBuffer, Renderer
from spyropose_ros.scenes.sampler import ObjectModel, SceneSettings, mask_box, paint, random_pose
from spyropose_ros.scenes.sprites import SpriteBank, paste
from spyropose_ros.scenes.surface import object_points, vary_surface


@dataclass(frozen=True)
class GroupSettings:
    """What is in the images.

    Attributes:
        scenes: how they look; the camera's image is made as a whole.
        side: the camera's image is scaled so that its longer side has this many pixels.
        empty: share of images without any known object.
        most: largest number of known objects.
    """

    scenes: SceneSettings
    side: int = 416
    empty: float = 0.15
    most: int = 5


@dataclass(frozen=True)
class Group:
    """An image and the known objects in it; those of which nothing is visible are left out.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        boxes: [N, 4] xyxy around the visible pixels; pixel centres lie at integers.
        classes: [N] which of the models.
        visible: [N] visible pixels over the pixels that would be visible alone.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    visible: np.ndarray


class Instance(NamedTuple):
    """A known object in an image.

    Attributes:
        kind: which of the models.
        rotation: [3, 3], object to camera.
        translation: [3], object to camera, metres.
        pixels: what it takes of the image.
    """

    kind: int
    rotation: np.ndarray
    translation: np.ndarray
    pixels: Placed


class GroupSampler:
    """Makes random images. Can be pickled; forked workers can share one.

    Args:
        models: the known objects. None is among the other things, however near they are found.
        settings: what is in the images.

    Attributes:
        models: those given.
        settings: those given.
    """

    models: list[ObjectModel]
    settings: GroupSettings

    def __init__(self, models: list[ObjectModel], settings: GroupSettings):
        self.models = models
        scenes = settings.scenes
        scale = settings.side / max(scenes.width, scenes.height)
        self._scenes = replace(
            scenes,
            fx=scenes.fx * scale,
            fy=scenes.fy * scale,
            cx=(scenes.cx + 0.5) * scale - 0.5,  # pixel centres lie at integers
            cy=(scenes.cy + 0.5) * scale - 0.5,
            width=round(scenes.width * scale),
            height=round(scenes.height * scale),
        )
        self.settings = settings
        self._renderers = [Renderer(model.mesh) for model in models]
        others = _others(models)
        self._sprites = SpriteBank(others, scenes.sprites, np.random.default_rng(0))
        crowds = scenes.backdrops, scenes.backdrop_share
        self._backdrops = BackdropBank(self._sprites, *crowds, np.random.default_rng(1))

    @property
    def K(self) -> np.ndarray:
        """Intrinsics of the images, [3, 3]."""
        return self._scenes.K

    def sample(self, rng: np.random.Generator) -> Group:
        """Make an image.

        Args:
            rng: the only source of randomness: the same state gives the same image.

        Returns:
            The image.
        """
        scenes = self._scenes
        image = self._backdrops.draw(rng, scenes.height, scenes.width)
        things = int(rng.integers(0, 2 * scenes.clutter + 1))
        self._sprites.scatter(image, scenes.fx / rng.uniform(*scenes.distance), things, rng)
        owner = np.full(image.shape[:2], -1)
        placed = self._place_all(rng)
        for number, thing in enumerate(placed):
            self._add(image, owner, number, thing, rng)
        if rng.random() < scenes.uneven_light:
            light = uneven_light(rng, *image.shape[:2])
            cv2.multiply(image, cv2.merge([light] * 3), dst=image, dtype=cv2.CV_8U)
        seen = [number for number in range(len(placed)) if (owner == number).any()]
        boxes = [mask_box(owner == number) for number in seen]
        return Group(
            scenes.effects.apply(image, rng),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array([placed[number].kind for number in seen], np.int64),
            np.array([(owner == n).sum() / placed[n].pixels.total for n in seen], np.float32),
        )

    def _place_all(self, rng: np.random.Generator) -> list[Instance]:
        """Return random objects, the farthest first."""
        scenes, settings = self._scenes, self.settings
        count = 0 if rng.random() < settings.empty else int(rng.integers(1, settings.most + 1))
        placed = []
        for _ in range(count):
            kind = int(rng.integers(len(self.models)))
            rotation, translation = random_pose(self.models[kind], scenes, rng)
            size = scenes.width, scenes.height
            pixels = place(self._renderers[kind], rotation, translation, scenes.K, *size)
            if pixels is not None:
                placed.append(Instance(kind, rotation, translation, pixels))
        return sorted(placed, key=lambda each: -each.translation[2])

    def _add(
        self,
        image: np.ndarray,
        owner: np.ndarray,
        number: int,
        thing: Instance,
        rng: np.random.Generator,
    ) -> None:
        """Put an object, and perhaps things before it, in front of what is there, in place."""
        scenes, item = self._scenes, thing.pixels
        mask = item.mask(*owner.shape)
        if not mask.any():
            return
        if rng.random() < 0.5:
            cast_shadow(image, mask, rng)
        model = self.models[thing.kind]
        colours, opacity = paint(model, self._varied(thing, rng), rng)
        paste(image[item.rows, item.columns], colours[item.inside], opacity[item.inside])
        owner[mask] = number
        if rng.random() < scenes.occlusion_probability:
            least = scenes.min_visible_fraction * item.total
            focal_over_z = scenes.fx / thing.translation[2]
            owner[self._sprites.occlude(image, mask, focal_over_z, least, rng)] = -1

    def _varied(self, thing: Instance, rng: np.random.Generator) -> GBuffer:
        """Return what is seen of an object, perhaps with a random surface."""
        buffer, surface = thing.pixels.buffer, self._scenes.appearance.surface
        if rng.random() >= surface.share:
            return buffer
        model, K = self.models[thing.kind], self._scenes.K
        K[:2, 2] -= thing.pixels.corner
        centre = thing.rotation @ model.center + thing.translation
        place = (torch.from_numpy(a).float()[None] for a in (K, thing.rotation, centre))
        points = object_points(torch.from_numpy(buffer.depth)[None], *place) / model.diameter
        albedo = torch.from_numpy(buffer.albedo).permute(2, 0, 1)[None]
        solid = torch.from_numpy(buffer.mask)[None, None]
        numbers = Chance(chance.draw(rng)[None])
        varied = vary_surface(albedo, points, solid, replace(surface, share=1.0), numbers)
        return buffer._replace(albedo=varied[0].permute(1, 2, 0).numpy())


def _others(models: list[ObjectModel]) -> list[trimesh.Trimesh]:
    """Return what is found near the objects and is none of them."""
    known = [model.mesh for model in models]
    return [
        thing for thing in models[0].distractors if not any(_same(thing, mesh) for mesh in known)
    ]


def _same(a: trimesh.Trimesh, b: trimesh.Trimesh) -> bool:
    return a.vertices.shape == b.vertices.shape and bool((a.vertices == b.vertices).all())
