"""Training objective: cross-entropy at every pyramid level, against sampled families of cells.

At each level the cell that contains the true pose competes with all others. Their sum, the
partition function Z, is estimated from families (all children of a cell) that are chosen by the
model's own belief one level coarser. Two ways of choosing them:

"independent" is the paper's: families are drawn with replacement, each logit is corrected by the
log of the probability q with which its parent was drawn, and the positive is added. The weighted
sum of the negatives is an unbiased estimate of n_samples Z, so the loss tends to log(1 + n_samples)
and not to 0. But the log of a mean over few families underestimates log Z.

"distinct" is ours: no family twice. The truth's family is always there, the likeliest ones are
certain, and the rest is represented by a stratified sample whose weights make up for what was left
out. The sum is an unbiased estimate of Z given the truth, its variance comes from the tail alone,
so its log is far less biased, and the loss tends to 0.

Random offsets of the grid (a rotation from the left, a shift of the translations) keep the coarse
heads from memorising cells.

Sources: Haugaard et al., ICCVW 2023, section 3 (importance sampling, training); Fearnhead and
Clifford, J. R. Stat. Soc. B 65, 2003 (the threshold that separates certain from sampled).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core import se3_grid, so3, so3_grid
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.search import Scorer
from spyropose_ros.core.translation_grid import TranslationBox
from training.config import ObjectiveConfig


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
        """Draw float64 in [0, 1), [batch, *shape]."""
        device = self._generator.device
        every = (batch * self._processes, *shape)
        u = torch.rand(every, generator=self._generator, device=device, dtype=torch.float64)
        return u[self._rank :: self._processes]

    def rotations(self, batch: int) -> Tensor:
        """Draw uniformly on SO(3), [batch, 3, 3]."""
        every = batch * self._processes
        rotations = so3.random_rotations(every, self._generator, self._generator.device)
        return rotations[self._rank :: self._processes]


@dataclass(frozen=True)
class TrainingGrid:
    """The randomly placed grid of one training step.

    Attributes:
        box: shifted translation boxes, [B].
        offset: r_off, [B, 3, 3]: the target lies in the cell of R_off R, and the scored rotations
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

        Returns:
            One grid per item of the batch.
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
        """Compute the poses at the centres of cells.

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
        """Return the cells of the poses [B, 3, 3], [B, 3] -> [B, 1]."""
        rotation = (self.offset @ rotation).unsqueeze(1)
        return se3_grid.containing(rotation, translation.unsqueeze(1), self.box, level)

    def all_cells(self, level: int) -> Cells:
        """Return all cells of a level."""
        return se3_grid.all_cells(self.box, level, self.positions_per_axis * 2**level)

    def uniform_cells(self, level: int, n: int, random: BatchRandom) -> Cells:
        """Draw N uniform, independent cells of a level per batch element; all if n suffices."""
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
    """Compute the loss of each level, coarse to fine, lazily: each can be backwarded on its own.

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
    given = scorer, grid, finest, config.n_samples, random
    if config.importance_sampling and config.sampling == "distinct":
        for logits, log_weight, truth in distinct_levels(*given):
            yield cross_entropy(logits, log_weight, truth).mean()
        return
    if config.importance_sampling:
        levels = independent_levels(*given)
    else:
        levels = _uniform_levels(*given, first=depth - 1 if config.last_level_only else 0)
    for positive, negatives in levels:
        yield _cross_entropy(positive, negatives)


def distinct_levels(
    scorer: Scorer, grid: TrainingGrid, finest: Cells, n_families: int, random: BatchRandom
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Score distinct families level by level, the truth's first.

    Args:
        scorer: as in `level_losses`.
        grid: of this step.
        finest: cells of the truth at the last level, [B, 1].
        n_families: K; every level below the base has K families of C children.
        random: random numbers.

    Yields:
        Logits [B, N], the log weights with which they stand for all cells [B, N], and the slot of
        the true cell [B, 1]: sum(exp(logits + log weights)) is an unbiased estimate of Z. N is the
        number of base cells, then K C.
    """
    cells = grid.all_cells(0)
    truth = _slot(cells, finest.ancestors(0))
    log_weight = torch.zeros(cells.rotation_index.shape, device=truth.device)
    run = cells.count // so3_grid.BASE_CELLS
    for level in range(finest.level + 1):
        rotations, translations = grid.poses(cells, run)
        logits = scorer(level, rotations, translations).float()
        yield logits, log_weight, truth
        if level == finest.level:
            return
        kept, log_weight = choose_distinct(
            logits.detach(), log_weight, truth, n_families, random.uniform(len(truth), 1)
        )
        cells = cells.take(kept).children()
        log_weight = log_weight.repeat_interleave(cells.branching, 1)
        truth = finest.ancestors(level + 1).octant()  # in the first family
        run = cells.branching // so3_grid.BRANCHING


def cross_entropy(logits: Tensor, log_weight: Tensor, truth: Tensor) -> Tensor:
    """Return -log of the true cell's share of what `distinct_levels` yields, [B]; at least 0."""
    return (logits + log_weight).logsumexp(1) - logits.gather(1, truth).squeeze(1)


def choose_distinct(
    logits: Tensor, log_weight: Tensor, truth: Tensor, n: int, u: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose the cells to expand, so that weighted sums over them are unbiased.

    A cell stands for log_weight + logits of the mass. The threshold c is such that the chances
    min(1, mass / c) of all cells but the truth's add up to n - 1: what is above is certain, what is
    below is drawn by systematic sampling in the order of the cells, so that neighbours represent
    each other, and its weight is divided by its chance.

    Args:
        logits: the model's, [B, N].
        log_weight: of the cells, [B, N].
        truth: slot of the true cell, certain, [B, 1].
        n: how many to choose, at least 2.
        u: uniform in [0, 1), [B, 1].

    Returns:
        Slots, the truth's first, [B, n], and their new log weights, float32 [B, n].
    """
    n = min(n, logits.shape[1])
    mass = (logits + log_weight).double().scatter(1, truth, -torch.inf).softmax(1)  # [B, N]
    mass = mass.clamp_min(torch.finfo(mass.dtype).tiny).scatter(1, truth, 0.0)
    largest, order = mass.topk(n - 1)
    tail = mass.scatter(1, order, 0.0).sum(1, keepdim=True)
    # If the m largest are certain, the rest shares n - 1 - m places; m is the least that fits.
    rest = tail + largest.flip(1).cumsum(1).flip(1)  # [B, n - 1], without the m largest
    slots = torch.arange(n - 1, 0, -1, device=mass.device)
    fits = largest * slots <= rest * (1 + 1e-12)
    fits[:, -1] = True
    certain = fits.int().argmax(1, keepdim=True)
    threshold = (rest / slots).gather(1, certain)
    chance = (mass / threshold).clamp(max=1)
    sums = chance.cumsum(1)
    sums = sums * ((n - 1) / sums[:, -1:])
    steps = torch.arange(n - 1, device=mass.device) + u.double()
    drawn = torch.searchsorted(sums, steps, right=True).clamp(max=mass.shape[1] - 1)
    kept = torch.cat((truth, drawn), 1)
    chance = chance.scatter(1, truth, 1.0).gather(1, kept)
    return kept, log_weight.gather(1, kept) - chance.log().float()


def _slot(cells: Cells, one: Cells) -> Tensor:
    """Find the cell `one` [B, 1] among cells [B, N]: its slot, int64 [B, 1]."""
    same = cells.rotation_index == one.rotation_index
    same &= (cells.position_index == one.position_index).all(-1)
    return same.int().argmax(1, keepdim=True)


def independent_levels(
    scorer: Scorer, grid: TrainingGrid, finest: Cells, n_samples: int, random: BatchRandom
) -> Iterator[tuple[Tensor, Tensor]]:
    """Score the truth and families that are drawn with replacement, level by level.

    Args:
        scorer: as in `level_losses`.
        grid: of this step.
        finest: cells of the truth at the last level, [B, 1].
        n_samples: S families of C children.
        random: random numbers.

    Yields:
        Logits of the truth [B, 1] and weighted logits of the negatives [B, N]: their summed
        exponentials are an unbiased estimate of S Z; at the base level N / C Z, exactly.
    """
    cells = grid.all_cells(0)
    n_cells, branching = cells.count, cells.branching
    log_weight: Tensor | float = math.log(n_cells / branching)
    log_q = None  # of the sampled parents, [B, S]
    run = n_cells // so3_grid.BASE_CELLS
    for level in range(finest.level + 1):
        true, negatives = _score(scorer, grid, finest.ancestors(level), cells, run)
        yield true, negatives + log_weight
        if level < finest.level:
            sampled, log_q = _ancestral_sample(negatives.detach(), log_q, n_samples, random)
            cells = cells.take(sampled).children()
            log_weight = -log_q.repeat_interleave(branching, 1)
            run = branching // so3_grid.BRANCHING


def _uniform_levels(
    scorer: Scorer, grid: TrainingGrid, finest: Cells, n: int, random: BatchRandom, first: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits of the truth [B, 1] and of n uniform cells [B, n], from level `first` on."""
    for level in range(first, finest.level + 1):
        cells = grid.uniform_cells(level, n, random)
        yield _score(scorer, grid, finest.ancestors(level), cells)


def _score(
    scorer: Scorer, grid: TrainingGrid, positive: Cells, cells: Cells, run: int = 1
) -> tuple[Tensor, Tensor]:
    """Score the truth's cells [B, 1] and cells [B, N], `run` in a row of one rotation."""
    rotations, translations = zip(grid.poses(positive), grid.poses(cells, run), strict=True)
    logits = scorer(cells.level, torch.cat(rotations, 1), torch.cat(translations, 1)).float()
    return logits[:, :1], logits[:, 1:]


def _cross_entropy(positive: Tensor, negatives: Tensor) -> Tensor:
    """Return -log of the positive's share, mean over B; the denominator holds the positive, too."""
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
    """Sample the categorical log_p [..., N] by the uniform numbers u [..., S]."""
    cdf = log_p.double().exp().cumsum(-1)
    index = torch.searchsorted(cdf, u * cdf[..., -1:], right=True)
    return index.clamp(max=log_p.shape[-1] - 1)
