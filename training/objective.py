"""Training objective: InfoNCE at every pyramid level, negatives by importance sampling.

At each level the cell that contains the true pose competes with negatives. With importance sampling
the negatives are all children of cells drawn from the model's own belief one level coarser, each
logit corrected by the log of the probability q with which its parent was drawn, so that the
weighted sum of the negatives is an unbiased estimate of n_samples times the partition function.
The loss therefore tends to log(1 + n_samples), not to 0.

Random offsets of the grid (a rotation from the left, a shift of the translations) keep the coarse
heads from memorising cells.

Source: Haugaard et al., ICCVW 2023, section 3 (importance sampling, training).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core import se3_grid, so3_grid
from spyropose_ros.core.se3_grid import BRANCHING, Cells
from spyropose_ros.core.search import Scorer
from spyropose_ros.core.translation_grid import TranslationBox


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the objective; the defaults are the paper's for SE(3).

    Attributes:
        n_samples: families drawn per level with importance sampling (64 evaluations each), or
            poses per level without.
        importance_sampling: off draws the negatives uniformly.
        rotation_offset: random rotation of the SO(3) grid per sample.
        translation_offset: random shift of the translation grid per sample; the base grid grows
            from 2^3 to 3^3 positions to keep the box covered.
    """

    n_samples: int = 32
    importance_sampling: bool = True
    rotation_offset: bool = True
    translation_offset: bool = True

    @property
    def positions_per_axis(self) -> int:
        """Of the base level's translation grid."""
        return 3 if self.translation_offset else 2


@dataclass(frozen=True)
class TrainingGrid:
    """The randomly placed grid of one training step.

    Attributes:
        box: shifted translation boxes, [B].
        offset: R_off, [B, 3, 3]: the target lies in the cell of R_off R, and the scored rotations
            are R_off^T times the grid's.
        positions_per_axis: of the base level.
    """

    box: TranslationBox
    offset: Tensor
    positions_per_axis: int

    @classmethod
    def draw(
        cls,
        estimate: Tensor,
        diameter: float,
        config: ObjectiveConfig,
        generator: torch.Generator | None = None,
    ) -> "TrainingGrid":
        """Place a frustum-aligned, randomly turned grid around translation estimates [B, 3]."""
        batch, device = len(estimate), estimate.device
        orientation = so3_grid.random_rotations(batch, generator, device)
        box = TranslationBox.from_view(estimate, diameter, orientation)
        offset = torch.eye(3, device=device).expand(batch, 3, 3)
        if config.rotation_offset:
            offset = so3_grid.random_rotations(batch, generator, device)
        if config.translation_offset:
            u = torch.rand((batch, 3), generator=generator, device=device)
            box = box.shifted(u / 2)
        return cls(box, offset, config.positions_per_axis)

    def poses(self, cells: Cells) -> tuple[Tensor, Tensor]:
        """Centres of cells: rotations [B, N, 3, 3], translations [B, N, 3]."""
        rotations, translations = cells.poses(self.box)
        return self.offset.mT.unsqueeze(1) @ rotations, translations

    def containing(self, rotation: Tensor, translation: Tensor, level: int) -> Cells:
        """Cells of the poses [B, 3, 3], [B, 3] -> [B, 1]."""
        rotation = (self.offset @ rotation).unsqueeze(1)
        return se3_grid.containing(rotation, translation.unsqueeze(1), self.box, level)

    def base_cells(self) -> Cells:
        """All cells of level 0."""
        return se3_grid.base_cells(len(self.box), self.offset.device, self.positions_per_axis)


def level_losses(
    scorer: Scorer,
    grid: TrainingGrid,
    rotation: Tensor,
    translation: Tensor,
    depth: int,
    config: ObjectiveConfig,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Loss of each level, coarse to fine; lazily, so that each can be backwarded on its own.

    Args:
        scorer: (level, rotations [B, N, 3, 3], translations [B, N, 3]) -> logits [B, N].
        grid: of this step.
        rotation: true rotations, [B, 3, 3].
        translation: true translations of the bounding-sphere centre, metres, [B, 3].
        depth: number of levels.
        config: settings.
        generator: on the grid's device.

    Yields:
        Scalar mean over the batch, for levels 0 .. depth - 1.
    """
    cells = grid.base_cells()
    log_weight = torch.tensor(math.log(cells.rotation_index.shape[1] / BRANCHING))
    log_q = None  # of the sampled parents, [B, S]
    for level in range(depth):
        positive = grid.containing(rotation, translation, level)
        logits = scorer(level, *grid.poses(_concatenate(positive, cells)))
        negatives = logits[:, 1:]
        if not config.importance_sampling:
            yield _cross_entropy(logits[:, :1], negatives)
            cells = _uniform_cells(grid, level + 1, config.n_samples, generator)
            continue
        if level > 0:
            log_weight = -log_q.repeat_interleave(BRANCHING, 1)
        yield _cross_entropy(logits[:, :1], negatives + log_weight.to(logits.device))
        if level + 1 < depth:
            proposal = negatives.detach().float()
            sampled, log_q = _ancestral_sample(proposal, log_q, config.n_samples, generator)
            cells = cells.take(sampled).children()


def _cross_entropy(positive: Tensor, negatives: Tensor) -> Tensor:
    """-log of the positive's share, mean over B; the positive is in the denominator as well."""
    every = torch.cat((positive, negatives), 1).float()
    return (every.logsumexp(1) - positive.squeeze(1).float()).mean()


def _ancestral_sample(
    logits: Tensor, log_q: Tensor | None, n_samples: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Draw the cells to expand: from all base cells, later one child within each family.

    Args:
        logits: of the current level's cells, [B, N] or [B, S * 64].
        log_q: of the parents, [B, S]; None at the base level.
        n_samples: S.
        generator: random generator.

    Returns:
        Indices into the cells, [B, S], and their accumulated log q, [B, S].
    """
    if log_q is None:
        log_p = logits.log_softmax(1)  # [B, N]
        index = torch.multinomial(log_p.exp(), n_samples, replacement=True, generator=generator)
        return index, log_p.gather(1, index)
    families = logits.unflatten(1, (n_samples, BRANCHING)).log_softmax(-1)  # [B, S, 64]
    child = torch.multinomial(families.exp().flatten(0, 1), 1, generator=generator)
    child = child.view(-1, n_samples)  # [B, S]
    log_child = families.gather(2, child.unsqueeze(-1)).squeeze(-1)
    first = torch.arange(n_samples, device=logits.device) * BRANCHING
    return first + child, log_q + log_child


def _uniform_cells(
    grid: TrainingGrid, level: int, n: int, generator: torch.Generator | None
) -> Cells:
    """N cells of a level, uniform and independent, per batch element."""
    batch, device = len(grid.box), grid.offset.device
    # rand in float64: randint cannot take a generator and a bound above int32 on every device.
    u = torch.rand((batch, n, 4), generator=generator, device=device, dtype=torch.float64)
    rotation = (u[..., 0] * so3_grid.cell_count(level)).long()
    position = (u[..., 1:] * (grid.positions_per_axis * 2**level)).long()
    return Cells(level, rotation, position)


def _concatenate(a: Cells, b: Cells) -> Cells:
    """Cells of one level side by side."""
    return Cells(
        a.level,
        torch.cat((a.rotation_index, b.rotation_index), 1),
        torch.cat((a.position_index, b.position_index), 1),
    )
