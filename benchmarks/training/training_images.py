"""Training images of a trained network, with the grids of a step: what the objective is given."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import default_collate

from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.network.keypoint_model import PoseModel
from spyropose_ros.core.network.rotation_model import RotationModel
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox
from training.config import TrainConfig
from training.data.streams import TRAIN, item_generator
from training.fitting.assembly import crop_settings
from training.fitting.objective import BatchRandom, ObjectiveConfig, TrainingGrid
from training.runs import bundle_source

_SEED = 4242  # apart from those of trainings
_POSES = 8192  # at a time
_GRID = ObjectiveConfig(translation_offset=False)


@dataclass(frozen=True)
class TrainingImages:
    """A batch that the network never saw.

    Attributes:
        model: the network, in evaluation.
        features: of the crops, [B, ...].
        K_crop: [B, 3, 3].
        grid: randomly placed.
        finest: cells of the truths at the last level, [B, 1].
    """

    model: PoseModel | RotationModel
    features: Tensor
    K_crop: Tensor
    grid: TrainingGrid
    finest: Cells

    @classmethod
    def draw(cls, bundle: ModelBundle, count: int, data_root: str) -> "TrainingImages":
        """Draw fresh images by the recipe that the bundle was trained with.

        Args:
            bundle: the model.
            count: B.
            data_root: where the data sets lie.
        """
        config = TrainConfig.from_flat(bundle.record["config"])
        source = bundle_source(bundle, data_root)
        crop = crop_settings(config, source, training=True)
        items = source.training_items(crop)
        drawn = [items.item(i, item_generator(_SEED, TRAIN, i)) for i in range(count)]
        batch = source.composer(crop)(default_collate(drawn))
        model = bundle.model.eval()
        diameter = None if model.config.rotation_only else bundle.object.diameter
        random = BatchRandom(torch.Generator().manual_seed(_SEED))
        grid = TrainingGrid.draw(batch["estimate"], diameter, _GRID, random)
        truth = batch["rotation"], batch["translation"]
        finest = grid.containing(*truth, model.config.depth - 1)
        with torch.no_grad():
            features = model.features(batch["crop"].float().div(255))
        return cls(model, features, batch["K_crop"], grid, finest)

    def rows(self, rows: Tensor) -> "TrainingImages":
        """Select images, int64 [M]."""
        box = TranslationBox(self.grid.box.center[rows], self.grid.box.basis[rows])
        grid = TrainingGrid(box, self.grid.offset[rows], self.grid.positions_per_axis)
        finest = Cells(
            self.finest.level, self.finest.rotation_index[rows], self.finest.position_index[rows]
        )
        return TrainingImages(self.model, self.features[rows], self.K_crop[rows], grid, finest)

    @torch.no_grad()
    def score(self, level: int, rotations: Tensor, translations: Tensor) -> Tensor:
        """Compute the logits [B, N] of poses, a part of them at a time."""
        parts = zip(rotations.split(_POSES, 1), translations.split(_POSES, 1), strict=True)
        score = partial(self.model.logits, self.features, self.K_crop, level)
        return torch.cat([score(*part) for part in parts], 1)
