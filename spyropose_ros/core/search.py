"""Coarse-to-fine search over SE(3) or SO(3): a scorer and a box in, a pyramid of probabilities out.

Source: Haugaard et al., ICCVW 2023, section 3: at every level the expanded cells' mass is
redistributed among all their children by a joint softmax; what is not expanded stays a leaf.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from spyropose_ros.core import se3_grid
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.kernels.threads import side_by_side
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox

Scorer = Callable[[int, Tensor, Tensor], Tensor]
"""(level, rotations [B, N, 3, 3], translations [B, N, 3]) -> logits [B, N]."""


@runtime_checkable
class FamilyScorer(Protocol):
    """A scorer that makes use of how the poses of a level belong together."""

    def families(
        self, level: int, image: Tensor, rotations: Tensor, translations: Tensor
    ) -> Tensor:
        """Logits of M families of poses: R rotations times T translations each.

        Args:
            level: pyramid level.
            image: batch element of each family, int64 [M].
            rotations: [M, R, 3, 3].
            translations: of the bounding-sphere centre, [M, T, 3].

        Returns:
            [M, R T], rotations outer, translations inner.
        """


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
        """The leaves of batch element b as a distribution, on the CPU.

        Args:
            b: batch element.
            center: bounding-sphere centre in object coordinates, metres, [3]; zero by default.
            diameter: of the bounding sphere, metres; sets the modes' default radius.
        """
        levels, *cells = self._cells_on_cpu  # of which one element shall not keep the whole batch
        return PoseDistribution(
            self.box[b].to("cpu"),
            levels,
            *(x[b].clone() if len(x) > 1 else x[b] for x in cells),
            depth=self.levels[-1].cells.level + 1,
            unexpanded_mass=self._unexpanded_masses[b],
            center=center,
            diameter=diameter,
        )

    @cached_property
    def _unexpanded_masses(self) -> list[float]:
        return self.unexpanded_mass.tolist()

    @cached_property
    def _cells_on_cpu(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All cells of the batch, read back at once.

        Returns:
            level [M], rotation index [B, M], position index [B, M, axes], and log mass [B, M], -inf
            for those that are no leaves.
        """
        counts = torch.tensor([level.log_probability.shape[1] for level in self.levels])
        numbers = torch.tensor([level.cells.level for level in self.levels])
        log_p = [
            level.log_probability.masked_fill(level.expanded, -torch.inf) for level in self.levels
        ]
        return (
            numbers.repeat_interleave(counts),
            torch.cat([level.cells.rotation_index for level in self.levels], 1).cpu(),
            torch.cat([level.cells.position_index for level in self.levels], 1).cpu(),
            torch.cat(log_p, 1).cpu(),
        )


def search(
    scorer: Scorer | FamilyScorer,
    box: TranslationBox,
    depth: int,
    beam: int = 512,
    mass_tolerance: float = 0.0,
    prior: Prior | None = None,
) -> PosePyramid:
    """Search the pyramid from its base cells (576, or 72 on SO(3) alone) to the finest level.

    Without a tolerance the beam is fixed: the work does not depend on the images, and a GPU is not
    waited for between the levels.

    Args:
        scorer: (level, rotations [B, N, 3, 3], translations [B, N, 3]) -> logits [B, N]; any
            callable works. Translations are those of the bounding-sphere centre.
        box: region of translations, [B]; `TranslationBox.known` to search rotations only.
        depth: number of levels, 1 to 9.
        beam: most cells expanded per level.
        mass_tolerance: total mass that may stay above the finest level; each level expands only
            the most probable cells needed for its share, which is twice that of the level above.
            Where the beam is too narrow for that, it leaves out cells of less mass than
            mass_tolerance / beam as well. 0 always fills the beam.
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

    with side_by_side():
        levels = grow(scorer, box, depth, beam, mass_tolerance, prior)
    check(levels)
    return PosePyramid(box, levels)


def grow(
    scorer: Scorer | FamilyScorer,
    box: TranslationBox,
    depth: int,
    beam: int,
    mass_tolerance: float = 0.0,
    prior: Prior | None = None,
) -> list[Level]:
    """The levels of a pyramid, for `check` to look at; arguments as for `search`."""
    cells = se3_grid.all_cells(box)
    log_p = _score_all(scorer, cells, box, prior).log_softmax(1)
    levels = []
    for share in _shares(depth - 1):
        index, keep = _select(log_p, beam, mass_tolerance, share)
        nothing = torch.zeros_like(log_p, dtype=torch.bool)
        levels.append(Level(cells, log_p, nothing.scatter(1, index, keep)))
        mass = log_p.gather(1, index).masked_fill(~keep, -torch.inf).logsumexp(1, keepdim=True)
        parents = cells.take(index)
        cells = parents.children()
        logits = _score_children(
            scorer, parents, cells, keep if mass_tolerance else None, box, prior
        )
        logits = logits.masked_fill(~keep.repeat_interleave(cells.branching, 1), -torch.inf)
        log_p = logits.log_softmax(1) + mass
    levels.append(Level(cells, log_p, torch.zeros_like(log_p, dtype=torch.bool)))
    return levels


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
    with side_by_side():
        log_p = _score_all(scorer, cells, box, prior).log_softmax(1)
    levels = [Level(cells, log_p, torch.zeros_like(log_p, dtype=torch.bool))]
    check(levels)
    return PosePyramid(box, levels)


def _shares(levels: int) -> list[float]:
    """Of a tolerance: each level's is twice that of the one above it.

    Mass that stays at a coarse level costs more likelihood than at a fine one.
    """
    return [2**level / (2**levels - 1) for level in range(levels)]


def _score_all(
    scorer: Scorer | FamilyScorer, cells: Cells, box: TranslationBox, prior: Prior | None
) -> Tensor:
    """Logits of all cells of a level, [B, N]."""
    if isinstance(scorer, FamilyScorer):
        image = torch.arange(len(box), device=box.center.device)
        logits = scorer.families(cells.level, image, *se3_grid.all_poses(box, cells.level))
    else:
        logits = scorer(cells.level, *cells.poses(box))
    return _completed(logits, cells, prior)


def _score_children(
    scorer: Scorer | FamilyScorer,
    parents: Cells,
    children: Cells,
    keep: Tensor | None,
    box: TranslationBox,
    prior: Prior | None,
) -> Tensor:
    """Logits of all children of [B, K] parents, [B, N].

    Where bool keep [B, K] is given, those of the other parents need not be right.
    """
    if not isinstance(scorer, FamilyScorer):
        return _completed(scorer(children.level, *children.poses(box)), children, prior)
    batch, n = parents.rotation_index.shape
    rotations, translations = parents.family_poses(box)
    if keep is None:
        image = torch.arange(batch, device=rotations.device).repeat_interleave(n)
        families = image, rotations.flatten(0, 1), translations.flatten(0, 1)
        logits = scorer.families(children.level, *families).view(batch, -1)
    else:
        image, slot = keep.nonzero(as_tuple=True)
        families = image, rotations[image, slot], translations[image, slot]
        scored = scorer.families(children.level, *families)
        logits = scored.new_full((batch, n, children.branching), -torch.inf)
        logits[image, slot] = scored
        logits = logits.flatten(1)
    return _completed(logits, children, prior)


def _completed(logits: Tensor, cells: Cells, prior: Prior | None) -> Tensor:
    """The scorer's answer, checked, in float32 or better, with the prior, [B, N]."""
    expected = cells.rotation_index.shape
    if logits.shape != expected:
        raise ValueError(f"the scorer returned shape {tuple(logits.shape)} for {tuple(expected)}")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits if prior is None else prior(cells, logits)


def check(levels: list[Level]) -> None:
    """Raise FloatingPointError if an image has no mass at a level: one wait for all of them."""
    spoilt = torch.stack([level.log_probability.isnan().any() for level in levels]).tolist()
    if any(spoilt):
        raise FloatingPointError(
            "the scorer returned NaN, +inf or nothing but -inf for an image at level "
            f"{levels[spoilt.index(True)].cells.level}"
        )


def _select(log_p: Tensor, beam: int, mass_tolerance: float, share: float) -> tuple[Tensor, Tensor]:
    """The most probable cells to expand, with this level's share of the tolerance.

    Returns:
        index [B, K] in descending order of mass and keep, bool [B, K]: False is padding, for images
        that need fewer cells than the neediest of the batch.
    """
    top, index = log_p.topk(min(beam, log_p.shape[1]), 1)
    keep = top.isfinite()
    if mass_tolerance == 0:
        return index, keep
    top = top.exp()
    needed = log_p.exp().sum(1, keepdim=True) - mass_tolerance * share
    reached = top.cumsum(1)
    keep &= reached - top < needed  # the mass of the cells ahead of each
    too_narrow = reached[:, -1:] < needed
    keep &= ~too_narrow | (top >= mass_tolerance / beam)
    keep[:, 0] = True  # at least one, so that every level exists
    most = int(keep.sum(1).max())
    return index[:, :most], keep[:, :most]


def _masked_mass(level: Level, mask: Tensor) -> Tensor:
    """Mass of the masked cells, [B]."""
    return level.log_probability.exp().masked_fill(~mask, 0).sum(1)
