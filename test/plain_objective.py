"""The plain twin of the training objective.

Every level looks its target cells up again, every pose has its own rotation, and all gradients are
PyTorch's own. Same objective, same random numbers.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.search import Scorer
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
    """Yield what `objective.level_losses` yields for uniform and independent sampling."""
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
    """Return the mean loss, and the negatives' unweighted, detached logits, [B, N]."""
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
