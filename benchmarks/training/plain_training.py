"""The training step as it was before it was made fast: the plain twin.

Every level looks its target cells up again, every pose has its own rotation, AdamW is not fused,
and all gradients are PyTorch's own. Same objective, same random numbers.
"""

import math
from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from spyropose_ros.core.kernels.depthwise import plain_filtered
from spyropose_ros.core.kernels.sampling import plain_sampled
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.search import Scorer
from spyropose_ros.scenes.sampler import SceneSampler
from training.data.crops import training_item
from training.data.rendered import RenderedSource
from training.data.source import ENDLESS, CropSettings, Items, Source
from training.fitting import objective
from training.fitting.module import PoseModule
from training.fitting.objective import (
    BatchRandom,
    ObjectiveConfig,
    TrainingGrid,
    _ancestral_sample,
    _cross_entropy,
)


def level_losses(
    scorer: Scorer,
    grid: TrainingGrid,
    rotation: Tensor,
    translation: Tensor,
    depth: int,
    config: ObjectiveConfig,
    random: BatchRandom,
) -> Iterator[Tensor]:
    """As `objective.level_losses`; of distinct families only what follows is plain."""
    if config.importance_sampling and config.sampling == "distinct":
        yield from objective.level_losses(
            scorer, grid, rotation, translation, depth, config, random
        )
        return
    if not config.importance_sampling:
        for level in range(depth - 1 if config.last_level_only else 0, depth):
            cells = grid.uniform_cells(level, config.n_samples, random)
            yield _level_loss(scorer, grid, rotation, translation, cells)[0]
        return
    cells = grid.all_cells(0)
    n_cells, branching = cells.rotation_index.shape[1], cells.branching
    log_weight = torch.tensor(math.log(n_cells / branching), device=rotation.device)
    log_q = None  # of the sampled parents, [B, S]
    for level in range(depth):
        loss, negatives = _level_loss(scorer, grid, rotation, translation, cells, log_weight)
        yield loss
        if level + 1 < depth:
            sampled, log_q = _ancestral_sample(negatives, log_q, config.n_samples, random)
            cells = cells.take(sampled).children()
            log_weight = -log_q.repeat_interleave(branching, 1)


def _level_loss(
    scorer: Scorer,
    grid: TrainingGrid,
    rotation: Tensor,
    translation: Tensor,
    cells: Cells,
    log_weight: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The mean loss, and the negatives' unweighted, detached logits, [B, N]."""
    positive = grid.containing(rotation, translation, cells.level)
    every = Cells(
        cells.level,
        torch.cat((positive.rotation_index, cells.rotation_index), 1),
        torch.cat((positive.position_index, cells.position_index), 1),
    )
    rotations, translations = every.poses(grid.box)
    rotations = grid.offset.mT.unsqueeze(1) @ rotations
    logits = scorer(cells.level, rotations, translations).float()
    true, negatives = logits[:, :1], logits[:, 1:]
    return _cross_entropy(true, negatives + log_weight), negatives.detach()


class PlainModule(PoseModule):
    """As `PoseModule`."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """One step with the plain losses."""
        with (
            patch("training.fitting.module.level_losses", level_losses),
            patch("spyropose_ros.core.network.efficientnet_lite.filtered", plain_filtered),
            patch("spyropose_ros.core.network.keypoint_model.sampled", plain_sampled),
        ):
            super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> dict:
        """AdamW that is not fused."""
        configured = super().configure_optimizers()
        for group in configured["optimizer"].param_groups:
            group["fused"] = False
        return configured


def plain_items(source: Source, crop: CropSettings) -> Items:
    """Items as they were: of rendered objects, whole scenes that are cut afterwards."""
    if isinstance(source, RenderedSource):
        return SceneItems(source, crop)
    return source.training_items(crop)


class SceneItems:
    """Random scenes as training items; the index does not matter, the generator decides.

    Args:
        source: of the object.
        crop: settings.
    """

    def __init__(self, source: RenderedSource, crop: CropSettings):
        self._sampler = SceneSampler(source.model, source.settings)
        self._size_ratio = source.size_ratio[0]
        self._crop = crop

    def __len__(self) -> int:
        return ENDLESS

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """One random scene; see `training.data.source.Items`."""
        model, item = self._sampler.model, None
        while item is None:
            scene = self._sampler.sample(rng)
            item = training_item(
                scene.image,
                scene.K,
                scene.rotation,
                scene.translation,
                model.center,
                model.diameter,
                self._size_ratio,
                scene.box,
                self._crop,
                rng,
                scene.depth,
            )
        return item
