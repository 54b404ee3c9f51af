"""Coarse-to-fine search over SE(3) or SO(3): a scorer and a box in, a pyramid of probabilities out.

Source: Haugaard et al., ICCVW 2023, section 3: at every level the expanded cells' mass is
redistributed among all their children by a joint softmax; what is not expanded stays a leaf.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core import se3_grid
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox

Scorer = Callable[[int, Tensor, Tensor], Tensor]
"""(level, rotations [B, N, 3, 3], translations [B, N, 3]) -> logits [B, N]."""

Prior = Callable[[Cells, Tensor], Tensor]
"""(cells [B, N], logits [B, N]) -> logits with what was known before, [B, N]."""


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes:
        cells: evaluated cells, [B, N].
        log_probability: log mass, -inf where padded, [B, N].
        expanded: cells whose mass moved to the next level, bool [B, N].
    """

    cells: Cells
    log_probability: Tensor
    expanded: Tensor


@dataclass(frozen=True)
class PosePyramid:
    """Result of a search over a batch of boxes.

    Attributes:
        box: the boxes, [B].
        levels: coarse to fine; a single one after `search_exhaustively`.
    """

    box: TranslationBox
    levels: list[Level]

    @property
    def evaluations(self) -> Tensor:
        """Scored poses per batch element, int64 [B]."""
        return sum(level.log_probability.isfinite().sum(1) for level in self.levels)

    @property
    def unexpanded_mass(self) -> Tensor:
        """Mass left above the finest level, [B]."""
        left = [_masked_mass(level, ~level.expanded) for level in self.levels[:-1]]
        return torch.stack(left).sum(0) if left else self.box.center.new_zeros(len(self.box))

    def log_density_per_level(self, rotation: Tensor, translation: Tensor) -> Tensor:
        """Log density of poses as the pyramid grows level by level.

        At each level the density of the cell that contains the pose, if it was evaluated; otherwise
        the value of the last level where it was. -inf outside the box.

        Args:
            rotation: [B, M, 3, 3].
            translation: of the bounding-sphere centre, metres, [B, M, 3].

        Returns:
            [B, M, levels], per pi^2-convention rotation volume and m^3.
        """
        rotation, translation = rotation.to(self.box.center), translation.to(self.box.center)
        inside = self.box.contains(translation)
        value = torch.full(inside.shape, -torch.inf, dtype=torch.float64, device=inside.device)
        values = []
        for level in self.levels:
            r = level.cells.level
            query = se3_grid.containing(rotation, translation, self.box, r).keys()
            order = level.cells.keys().argsort(1)
            keys = level.cells.keys().gather(1, order)
            slot = torch.searchsorted(keys, query).clamp(max=keys.shape[1] - 1)
            log_p = level.log_probability.gather(1, order.gather(1, slot))
            hit = (keys.gather(1, slot) == query) & inside & log_p.isfinite()
            density = log_p.double() - se3_grid.log_volume(self.box, r).unsqueeze(1)
            value = torch.where(hit, density, value)
            values.append(value)
        return torch.stack(values, -1)

    def distribution(
        self, b: int, center: Tensor | None = None, diameter: float | None = None
    ) -> PoseDistribution:
        """The leaves of batch element b as a distribution.

        Args:
            b: batch element.
            center: bounding-sphere centre in object coordinates, metres, [3]; zero by default.
            diameter: of the bounding sphere, metres; sets the modes' default radius.
        """
        parts = []
        for level in self.levels:
            leaf = ~level.expanded[b] & level.log_probability[b].isfinite()
            cells = level.cells
            parts.append(
                (
                    torch.full((int(leaf.sum()),), cells.level, device=leaf.device),
                    cells.rotation_index[b][leaf],
                    cells.position_index[b][leaf],
                    level.log_probability[b][leaf],
                )
            )
        return PoseDistribution(
            self.box[b],
            *(torch.cat(part) for part in zip(*parts, strict=True)),
            depth=self.levels[-1].cells.level + 1,
            unexpanded_mass=float(self.unexpanded_mass[b]),
            center=center,
            diameter=diameter,
        )


def search(
    scorer: Scorer,
    box: TranslationBox,
    depth: int,
    beam: int = 512,
    mass_tolerance: float = 0.0,
    prior: Prior | None = None,
) -> PosePyramid:
    """Search the pyramid from its base cells (576, or 72 on SO(3) alone) to the finest level.

    Args:
        scorer: (level, rotations [B, N, 3, 3], translations [B, N, 3]) -> logits [B, N]; any
            callable works. Translations are those of the bounding-sphere centre.
        box: region of translations, [B]; `TranslationBox.known` to search rotations only.
        depth: number of levels, 1 to 9.
        beam: most cells expanded per level.
        mass_tolerance: total mass that may stay above the finest level; each level expands only
            the most probable cells needed for its equal share. 0 always fills the beam.
        prior: brings in what was known before, at every level; nothing by default.

    Returns:
        The pyramid; every leaf's mass is exact and they sum to 1.

    Raises:
        ValueError: if a setting is out of range or the scorer's answer has another shape.
        FloatingPointError: if the scorer's answer cannot be normalised.
    """
    if not 1 <= depth <= se3_grid.MAX_DEPTH:
        raise ValueError(f"depth must be 1 to {se3_grid.MAX_DEPTH}, got {depth}")
    if beam < 1:
        raise ValueError(f"beam must be at least 1, got {beam}")
    if not 0 <= mass_tolerance < 1:
        raise ValueError(f"mass_tolerance must be in [0, 1), got {mass_tolerance}")

    cells = se3_grid.all_cells(box)
    log_p = _log_softmax(_score(scorer, cells, box, prior), 0)
    levels = []
    for _ in range(depth - 1):
        index, keep = _select(log_p, beam, mass_tolerance / (depth - 1))
        nothing = torch.zeros_like(log_p, dtype=torch.bool)
        levels.append(Level(cells, log_p, nothing.scatter(1, index, keep)))
        parent_log_p = log_p.gather(1, index).masked_fill(~keep, -torch.inf)
        cells = cells.take(index).children()
        logits = _score(scorer, cells, box, prior)
        padded = ~keep.repeat_interleave(cells.branching, 1)
        logits = logits.masked_fill(padded, -torch.inf)
        mass = parent_log_p.logsumexp(1, keepdim=True)
        log_p = _log_softmax(logits, cells.level) + mass
    levels.append(Level(cells, log_p, torch.zeros_like(log_p, dtype=torch.bool)))
    return PosePyramid(box, levels)


def search_exhaustively(
    scorer: Scorer, box: TranslationBox, level: int, prior: Prior | None = None
) -> PosePyramid:
    """Score every cell of one level: what `search` saves, as a baseline and to check it.

    Args:
        scorer: as for `search`.
        box: region of translations, [B].
        level: of the grid; the number of cells is 72 * 8^level on SO(3), 576 * 64^level on SE(3).
        prior: as for `search`.

    Returns:
        A pyramid of that level alone.

    Raises:
        ValueError: if the level is out of range or the scorer's answer has another shape.
        FloatingPointError: if the scorer's answer cannot be normalised.
    """
    if not 0 <= level < se3_grid.MAX_DEPTH:
        raise ValueError(f"level must be 0 to {se3_grid.MAX_DEPTH - 1}, got {level}")
    cells = se3_grid.all_cells(box, level)
    log_p = _log_softmax(_score(scorer, cells, box, prior), level)
    return PosePyramid(box, [Level(cells, log_p, torch.zeros_like(log_p, dtype=torch.bool))])


def _score(scorer: Scorer, cells: Cells, box: TranslationBox, prior: Prior | None) -> Tensor:
    """Logits of all cells, prior included, in float32 or better, [B, N]."""
    logits = scorer(cells.level, *cells.poses(box))
    expected = cells.rotation_index.shape
    if logits.shape != expected:
        raise ValueError(f"the scorer returned shape {tuple(logits.shape)} for {tuple(expected)}")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits if prior is None else prior(cells, logits)


def _log_softmax(logits: Tensor, level: int) -> Tensor:
    """Normalised logits, [B, N]; -inf is no mass, but an image needs some."""
    log_p = logits.log_softmax(1)
    if bool(log_p.isnan().any()):
        raise FloatingPointError(
            f"the scorer returned NaN, +inf or nothing but -inf for an image at level {level}"
        )
    return log_p


def _select(log_p: Tensor, beam: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """The most probable cells to expand.

    Returns:
        index [B, K] in descending order of mass and keep, bool [B, K]: False is padding, for images
        that need fewer cells than the neediest of the batch.
    """
    top, index = log_p.topk(min(beam, log_p.shape[1]), 1)
    keep = top.isfinite()
    if tolerance > 0:
        mass = log_p.exp().sum(1, keepdim=True)  # of the whole level
        before = top.exp().cumsum(1) - top.exp()  # mass of the cells ahead of each
        keep &= before < mass - tolerance
        keep[:, 0] = True  # at least one, so that every level exists
    needed = int(keep.sum(1).max())
    return index[:, :needed], keep[:, :needed]


def _masked_mass(level: Level, mask: Tensor) -> Tensor:
    """Mass of the masked cells, [B]."""
    return level.log_probability.exp().masked_fill(~mask, 0).sum(1)
