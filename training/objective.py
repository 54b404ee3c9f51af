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
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.search import Scorer
from spyropose_ros.core.translation_grid import TranslationBox


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the objective; the defaults are the paper's for SE(3).

    Attributes:
        n_samples: families drawn per level with importance sampling (64 evaluations each, 8 where
            only rotations are searched), or poses per level without.
        importance_sampling: off draws the negatives uniformly.
        rotation_offset: random rotation of the SO(3) grid per sample.
        translation_offset: random shift of the translation grid per sample; the base grid grows
            from 2^3 to 3^3 positions to keep the box covered.
        last_level_only: train only the finest level, with uniform negatives: for an exhaustive
            search of it, after Implicit-PDF (Murphy et al., ICML 2021).
    """

    n_samples: int = 32
    importance_sampling: bool = True
    rotation_offset: bool = True
    translation_offset: bool = True
    last_level_only: bool = False

    def __post_init__(self):
        if self.last_level_only and self.importance_sampling:
            raise ValueError("last_level_only needs importance_sampling off: nothing proposes")

    @property
    def positions_per_axis(self) -> int:
        """Of the base level's translation grid."""
        return 3 if self.translation_offset else 2


class BatchRandom:
    """Random numbers for a batch that one or several processes share.

    Every process draws the numbers of the whole batch and keeps the rows of its own items (each
    `processes`-th from its rank on), so that a step does not depend on how many processes make it.

    Args:
        generator: seeded alike in all processes.
        rank: of this process.
        processes: that share the batch.
    """

    def __init__(self, generator: torch.Generator, rank: int = 0, processes: int = 1):
        self._generator = generator
        self._rank = rank
        self._processes = processes

    def uniform(self, batch: int, *shape: int) -> Tensor:
        """Float64 in [0, 1), [batch, *shape]."""
        device = self._generator.device
        every = (batch * self._processes, *shape)
        u = torch.rand(every, generator=self._generator, device=device, dtype=torch.float64)
        return u[self._rank :: self._processes]

    def rotations(self, batch: int) -> Tensor:
        """Uniform on SO(3), [batch, 3, 3]."""
        every = batch * self._processes
        rotations = so3_grid.random_rotations(every, self._generator, self._generator.device)
        return rotations[self._rank :: self._processes]


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
        cls, estimate: Tensor, diameter: float | None, config: ObjectiveConfig, random: BatchRandom
    ) -> "TrainingGrid":
        """Place a randomly turned grid.

        Args:
            estimate: translation estimates, metres, [B, 3].
            diameter: of the bounding sphere, metres: the box is frustum-aligned; None where the
                estimates are the known translations.
            config: settings.
            random: on the estimates' device.
        """
        batch = len(estimate)
        if diameter is None:
            box = TranslationBox.known(estimate)
        else:
            box = TranslationBox.from_view(estimate, diameter, random.rotations(batch))
        offset = torch.eye(3, device=estimate.device).expand(batch, 3, 3)
        if config.rotation_offset:
            offset = random.rotations(batch)
        if config.translation_offset:
            box = box.shifted(random.uniform(batch, box.axes).to(estimate) / 2)
        return cls(box, offset, config.positions_per_axis)

    def poses(self, cells: Cells, run: int = 1) -> tuple[Tensor, Tensor]:
        """Centres of cells.

        Args:
            cells: [B, N].
            run: so many cells in a row have the same rotation; it is computed once.

        Returns:
            Rotations [B, N, 3, 3], translations [B, N, 3].
        """
        rotations = so3_grid.rotations(cells.rotation_index[:, ::run], cells.level)
        rotations = self.offset.mT.unsqueeze(1) @ rotations  # [B, N / run, 3, 3]
        positions = self.box.positions(cells.position_index, cells.level + 1)
        return rotations.repeat_interleave(run, 1), positions

    def containing(self, rotation: Tensor, translation: Tensor, level: int) -> Cells:
        """Cells of the poses [B, 3, 3], [B, 3] -> [B, 1]."""
        rotation = (self.offset @ rotation).unsqueeze(1)
        return se3_grid.containing(rotation, translation.unsqueeze(1), self.box, level)

    def all_cells(self, level: int) -> Cells:
        """All cells of a level."""
        return se3_grid.all_cells(self.box, level, self.positions_per_axis * 2**level)

    def uniform_cells(self, level: int, n: int, random: BatchRandom) -> Cells:
        """N cells of a level, uniform and independent, per batch element; all, where n suffices."""
        batch, axes = len(self.box), self.box.axes
        n_rotations, steps = so3_grid.cell_count(level), self.positions_per_axis * 2**level
        if n_rotations * steps**axes <= n:
            return self.all_cells(level)
        u = random.uniform(batch, n, 1 + axes)
        return Cells(level, (u[..., 0] * n_rotations).long(), (u[..., 1:] * steps).long())


def level_losses(
    scorer: Scorer,
    grid: TrainingGrid,
    rotation: Tensor,
    translation: Tensor,
    depth: int,
    config: ObjectiveConfig,
    random: BatchRandom,
) -> Iterator[Tensor]:
    """Loss of each level, coarse to fine; lazily, so that each can be backwarded on its own.

    Args:
        scorer: (level, rotations [B, N, 3, 3], translations [B, N, 3]) -> logits [B, N].
        grid: of this step.
        rotation: true rotations, [B, 3, 3].
        translation: true translations of the bounding-sphere centre, metres, [B, 3].
        depth: number of levels.
        config: settings.
        random: on the grid's device.

    Yields:
        Scalar mean over the batch, for levels 0 .. depth - 1, or for the last alone.
    """
    finest = grid.containing(rotation, translation, depth - 1)  # one look-up for all levels
    if not config.importance_sampling:
        for level in range(depth - 1 if config.last_level_only else 0, depth):
            cells = grid.uniform_cells(level, config.n_samples, random)
            yield _level_loss(scorer, grid, _ancestors(finest, level), cells)[0]
        return
    cells = grid.all_cells(0)
    n_cells, branching = cells.rotation_index.shape[1], cells.branching
    log_weight: Tensor | float = math.log(n_cells / branching)
    log_q = None  # of the sampled parents, [B, S]
    run = n_cells // so3_grid.BASE_CELLS
    for level in range(depth):
        positive = _ancestors(finest, level)
        loss, negatives = _level_loss(scorer, grid, positive, cells, log_weight, run)
        yield loss
        if level + 1 < depth:
            sampled, log_q = _ancestral_sample(negatives, log_q, config.n_samples, random)
            cells = cells.take(sampled).children()
            log_weight = -log_q.repeat_interleave(branching, 1)
            run = branching // so3_grid.BRANCHING


def _ancestors(cells: Cells, level: int) -> Cells:
    """The cells of a coarser level that contain the cells [B, N]."""
    up = cells.level - level
    return Cells(level, cells.rotation_index >> 3 * up, cells.position_index >> up)


def _level_loss(
    scorer: Scorer,
    grid: TrainingGrid,
    positive: Cells,
    cells: Cells,
    log_weight: Tensor | float = 0.0,
    run: int = 1,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the true cell against weighted negatives.

    Args:
        scorer: as in `level_losses`.
        grid: of this step.
        positive: the cells of the truth, [B, 1].
        cells: the negatives, [B, N].
        log_weight: of the negatives, scalar or [B, N].
        run: so many negatives in a row have the same rotation.

    Returns:
        The mean loss, and the negatives' unweighted, detached logits, [B, N].
    """
    rotations, translations = zip(grid.poses(positive), grid.poses(cells, run), strict=True)
    logits = scorer(cells.level, torch.cat(rotations, 1), torch.cat(translations, 1)).float()
    true, negatives = logits[:, :1], logits[:, 1:]
    return _cross_entropy(true, negatives + log_weight), negatives.detach()


def _cross_entropy(positive: Tensor, negatives: Tensor) -> Tensor:
    """-log of the positive's share, mean over B; the positive is in the denominator as well."""
    every = torch.cat((positive, negatives), 1)
    return (every.logsumexp(1) - positive.squeeze(1)).mean()


def _ancestral_sample(
    logits: Tensor, log_q: Tensor | None, n_samples: int, random: BatchRandom
) -> tuple[Tensor, Tensor]:
    """Draw the cells to expand: from all base cells, later one child within each family.

    Args:
        logits: of the current level's cells, [B, N] or [B, S * C] for C children.
        log_q: of the parents, [B, S]; None at the base level.
        n_samples: S.
        random: random numbers.

    Returns:
        Indices into the cells, [B, S], and their accumulated log q, [B, S].
    """
    u = random.uniform(len(logits), n_samples)
    if log_q is None:
        log_p = logits.log_softmax(1)  # [B, N]
        index = _inverse_cdf(log_p, u)
        return index, log_p.gather(1, index)
    families = logits.unflatten(1, (n_samples, -1)).log_softmax(-1)  # [B, S, C]
    child = _inverse_cdf(families, u.unsqueeze(-1))  # [B, S, 1]
    log_child = families.gather(2, child).squeeze(-1)
    first = torch.arange(n_samples, device=logits.device) * families.shape[2]
    return first + child.squeeze(-1), log_q + log_child


def _inverse_cdf(log_p: Tensor, u: Tensor) -> Tensor:
    """Samples by the uniform numbers u [..., S] of the categorical log_p [..., N]."""
    cdf = log_p.double().exp().cumsum(-1)
    index = torch.searchsorted(cdf, u * cdf[..., -1:], right=True)
    return index.clamp(max=log_p.shape[-1] - 1)
