"""A part with a held-out set but no training images: its training views are rendered."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from spyropose_ros.scenes.compositing import Painter
from spyropose_ros.scenes.sampler import ObjectModel
from spyropose_ros.scenes.views import ViewCaster
from training.config import PAPER_BOP, BopOptions
from training.data.bop import BopSource
from training.data.compose import Composer
from training.data.rendered import ViewItems
from training.data.source import CropSettings
from training.generate.cad import has_colours
from training.generate.dataset import RECORD, views_of
from training.generate.part import HOUSEHOLD_SIZE, normalised, part_scenes
from training.generate.settings import ViewSettings, distance_range

_BACKDROPS, _UNEVEN_LIGHT = 300, 0.6  # as for the objects of LM-O


def renders_its_own(folder: Path) -> bool:
    """Tell whether a folder is a data set of `training.generate_data` without training images."""
    path = folder / RECORD
    return path.is_file() and json.loads(path.read_text())["images"] == 0


class PartSource(BopSource):
    """A part whose training views are cast and composed, endlessly; its test images are read.

    Views and composer see the part centred and at household size, at which the other things fit.
    """

    def __init__(self, directory: str | Path, object_name: str, options: BopOptions = PAPER_BOP):
        """Read mesh and settings.

        Args:
            directory: of a data set without training images.
            object_name: name or number of the object.
            options: which of its images to use.

        Raises:
            MissingFileError: the data set, its models or its images are missing.
            DataError: a file is damaged, or there is no such object.
        """
        super().__init__(directory, object_name, options)
        self._views = views_of(directory) or ViewSettings()
        self._scale = HOUSEHOLD_SIZE / self.diameter
        near, far = distance_range(self._views, self.diameter)
        scenes = part_scenes(self._views, (near * self._scale, far * self._scale))
        self._scenes = replace(scenes, backdrops=_BACKDROPS, uneven_light=_UNEVEN_LIGHT)
        self._model = ObjectModel(
            name=self.object_name,
            mesh=normalised(self.mesh, self.center, self._scale),
            handle_faces=None,
            center=np.zeros(3),
            diameter=HOUSEHOLD_SIZE,
            distractors=[],
            recolour=not has_colours(self.mesh),
            symmetries=np.eye(3)[None],
        )

    def training_items(self, crop: CropSettings) -> ViewItems:  # type: ignore[override]
        """Return endless views, which the composer makes crops of."""
        caster = ViewCaster(self._model, self._scenes, crop.resolution / crop.padding)
        return ViewItems(caster, self.size_ratio[0], crop)

    def validation_items(self, crop: CropSettings) -> ViewItems:  # type: ignore[override]
        """Return views as in training; the streams differ by their seeds."""
        return self.training_items(crop)

    def composer(self, crop: CropSettings) -> nn.Module:
        """Return what paints the views and measures them in metres."""
        painter = Painter(self._model, crop.looks.of(self._scenes), crop.resolution, crop.padding)
        return _InMetres(Composer(painter, self.size_ratio[0], crop), self._scale)


class _InMetres(nn.Module):
    """Composes crops of a scaled object, and gives the lengths of the object as it is."""

    def __init__(self, composer: Composer, scale: float):
        super().__init__()
        self._composer = composer
        self._scale = scale

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compose; see `Composer`."""
        item = self._composer(batch)
        lengths = {name: item[name] / self._scale for name in ("estimate", "translation")}
        return item | lengths
