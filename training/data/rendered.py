"""Objects with endless rendered training images: the mug and the objects of LM-O."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import trimesh
from torch import Tensor

from spyropose_ros.bop import LMO_OBJECTS, BopFrame, BopScene, load_models_info
from spyropose_ros.core import camera
from spyropose_ros.core.camera import apparent_size_ratio
from spyropose_ros.core.files import sha256
from spyropose_ros.scenes import chance
from spyropose_ros.scenes.compositing import Painter
from spyropose_ros.scenes.detector import noisy_box
from spyropose_ros.scenes.sampler import ObjectModel, SceneSampler, SceneSettings, mask_box
from spyropose_ros.scenes.views import View, ViewCaster
from training.data.compose import Composer
from training.data.crops import within_ball
from training.data.rendered_objects import load_object_model, scene_settings
from training.data.seen import AnnotatedObjects
from training.data.source import (
    ENDLESS,
    CropSettings,
    EvaluationObject,
    Sample,
    Seen,
    Source,
)
from training.data.streams import TEST, item_generator

LMO_SCENE = "test/000002"
MIN_VISIBLE = 0.1  # the official targets' threshold
_RENDERED_SAMPLES = 500


class RenderedSource(Source):
    """An object whose training views are cast and composed: "mug", or "lmo/<object>".

    The evaluation's images are whole scenes of the scene sampler.

    Attributes:
        splits: "renderings" that training never draws.
        mesh: of the object, metres.
        model: the object.
        settings: of its scenes.
    """

    splits: tuple[str, ...] = ("renderings",)
    mesh: trimesh.Trimesh
    model: ObjectModel
    settings: SceneSettings

    def __init__(
        self,
        name: str,
        data_root: str,
        settings: SceneSettings | None = None,
        views: Literal["upright", "uniform"] = "upright",
    ):
        """Load the object.

        Args:
            name: as `load_object_model` takes it.
            data_root: where downloaded data sets lie.
            settings: of the scenes; the object's own by default.
            views: "uniform" turns the object at random over SO(3), "upright" as the settings say.

        Raises:
            InputError: unknown object.
            MissingFileError: the data set is missing.
        """
        self.model = load_object_model(name, data_root)
        self.settings = settings or scene_settings(name)
        if views == "uniform":
            self.settings = replace(self.settings, rotations="uniform")
        self.name = name if "/" in name else f"rendered/{name}"
        self.object_name = self.model.name
        self.center, self.diameter = self.model.center, float(self.model.diameter)
        self.mesh = self.model.mesh
        vertices = self.mesh.vertices - self.center
        self.size_ratio = apparent_size_ratio(vertices, self.diameter)

    def target(self) -> EvaluationObject:
        """Return vertices, largest vertex distance and symmetries of the mesh."""
        symmetries = np.tile(np.eye(4), (len(self.model.symmetries), 1, 1))
        symmetries[:, :3, :3] = self.model.symmetries
        hull = self.mesh.convex_hull.vertices
        diameter = float(np.linalg.norm(hull[:, None] - hull[None], axis=-1).max())
        return EvaluationObject(self.mesh.vertices, diameter, symmetries)

    def training_items(self, crop: CropSettings) -> "ViewItems":
        """Return endless views, which the composer makes crops of."""
        caster = ViewCaster(self.model, self.settings, crop.resolution / crop.padding)
        return ViewItems(caster, self.size_ratio[0], crop)

    def validation_items(self, crop: CropSettings) -> "ViewItems":
        """Return views as in training; the streams differ by their seeds."""
        return self.training_items(crop)

    def composer(self, crop: CropSettings) -> Composer:
        """Return what paints the views with the object's settings."""
        painter = Painter(self.model, crop.looks.of(self.settings), crop.resolution, crop.padding)
        return Composer(painter, self.size_ratio[0], crop)

    def samples(self, split: str, seed: int) -> Iterator[Sample]:
        """Yield held-out renderings as whole camera images; training never draws this stream."""
        self.check_split(split)
        sampler = SceneSampler(self.model, replace(self.settings, full_frame=True))
        for i in range(_RENDERED_SAMPLES):
            rng = item_generator(seed, TEST, i)
            scene = sampler.sample(rng)
            yield Sample(
                f"{i:06d}",
                scene.image,
                scene.K,
                scene.rotation,
                scene.translation,
                noisy_box(scene.box, rng),
                visible_fraction=scene.visible_fraction,
                handle_fraction=scene.handle_fraction,
                image_id=i,
                seen=partial(Seen, scene.mask, scene.hidden),
            )


class LmoSource(RenderedSource):
    """An object of LM-O: trained on renderings, tested on photographs.

    Splits: "test" and "dev" are the last and the first half of the sorted photographs, with boxes
    of the annotated visible silhouettes and seeded noise; "renderings" are held-out scenes.
    """

    splits = ("test", "dev", "renderings")

    def __init__(
        self, object_name: str, data_root: str, views: Literal["upright", "uniform"] = "upright"
    ):
        """Load the object; see `RenderedSource`."""
        super().__init__(f"lmo/{object_name}", data_root, views=views)
        self.object_id = LMO_OBJECTS[object_name]
        self._root = Path(data_root) / "lmo"

    def target(self) -> EvaluationObject:
        """Return the object as models_info.json states it."""
        info = load_models_info(self._root)[self.object_id]
        return EvaluationObject(self.mesh.vertices, info.diameter, info.symmetries)

    def samples(self, split: str, seed: int) -> Iterator[Sample]:
        """Yield photographs of a half, or held-out renderings; instances visible to 10 %."""
        if split == "renderings":
            yield from super().samples(split, seed)
            return
        annotated = AnnotatedObjects(self._root)
        for frame in self.frames(split):
            for number, instance in enumerate(frame.instances):
                seen = instance.visibility
                assert seen is not None  # the download computes it
                if instance.object_id != self.object_id or seen.box is None:
                    continue
                if seen.fraction < MIN_VISIBLE:
                    continue
                rng = np.random.default_rng((seed, frame.frame_id, self.object_id))
                image = frame.image()
                height, width = image.shape[:2]
                yield Sample(
                    f"{frame.frame_id:06d}/{number}",
                    image,
                    frame.K,
                    instance.rotation,
                    instance.translation,
                    noisy_box(seen.box, rng),
                    visible_fraction=seen.fraction,
                    scene_id=2,
                    image_id=frame.frame_id,
                    instance=number,
                    object_id=self.object_id,
                    seen=partial(annotated.seen, frame, number, width, height),
                )

    def annotation(self, split: str) -> str:
        """Return the digest of the photographs' annotation; see `Source.annotation`."""
        if split == "renderings":
            return super().annotation(split)
        return sha256(*sorted((self._root / LMO_SCENE).glob("scene_*.json")))

    def frames(self, split: str) -> list[BopFrame]:
        """Return the photographs of a half with all their annotations."""
        self.check_split(split)
        if split == "renderings":
            return super().frames(split)
        return lmo_frames(self._root, split)


def lmo_frames(root: Path, split: str) -> list[BopFrame]:
    """Return the photographs of LM-O in a folder, the first half for "dev", else the last."""
    frames = BopScene(root / LMO_SCENE).frames
    middle = len(frames) // 2
    return frames[:middle] if split == "dev" else frames[middle:]


class ViewItems:
    """Endless random views, to be composed; only the generator matters, not the index.

    An item is a dict: depth, normals, albedo, part, inside and K as `View` has them, rotation,
    translation of the centre, roll of the crop in radians, and chance, the random numbers of the
    rest.

    Args:
        caster: of views.
        size_ratio: apparent-size ratio of the object.
        crop: settings.
    """

    def __init__(self, caster: ViewCaster, size_ratio: float, crop: CropSettings):
        self.caster = caster
        self.size_ratio = size_ratio
        self.crop = crop

    def __len__(self) -> int:
        return ENDLESS

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return one random view; see `training.data.source.Items`."""
        view = self.caster.sample(rng)
        while not self._detectable(view):
            view = self.caster.sample(rng)
        model = self.caster.model
        # Which of the poses that count as the same is annotated is chance.
        symmetry = model.symmetries[rng.integers(len(model.symmetries))]
        return {
            "depth": torch.from_numpy(view.depth),
            "normals": torch.from_numpy(view.normals),
            "albedo": torch.from_numpy(view.albedo),
            "part": torch.from_numpy(view.part),
            "inside": torch.from_numpy(view.inside),
            "K": torch.from_numpy(view.K).float(),
            "rotation": torch.from_numpy(view.rotation @ symmetry).float(),
            "translation": self._center(view),
            "roll": torch.tensor(rng.uniform(-1, 1) * math.radians(self.crop.max_roll)).float(),
            "chance": chance.draw(rng),
        }

    def _center(self, view: View) -> Tensor:
        """Return the bounding sphere's centre in the camera frame, metres, [3]."""
        return torch.from_numpy(view.rotation @ self.caster.model.center + view.translation).float()

    def _detectable(self, view: View) -> bool:
        """Tell whether the box around the visible part leads near enough to the truth."""
        seen = view.depth > 0
        if self.crop.box_noise is None or view.inside[seen].all():
            return True
        box = torch.from_numpy(mask_box(seen & view.inside)).float()[None]
        K, diameter = torch.from_numpy(view.K).float(), self.caster.model.diameter
        estimate = camera.translation_from_boxes(box, K, diameter, self.size_ratio)
        return bool(within_ball(self._center(view)[None], estimate, diameter))
