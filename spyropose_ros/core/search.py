"""Coarse-to-fine search over SE(3) or SO(3): a scorer and a box in, a pyramid of probabilities out.

Source: Haugaard et al., ICCVW 2023, section 3: at every level the expanded cells' mass is
redistributed among all their children by a joint softmax; what is not expanded stays a leaf.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from spyropose_ros.core import se3_grid
from spyropose_ros.core.errors import InputError, ScorerError
from spyropose_ros.core.kernels.threads import parts_in_parallel
from spyropose_ros.core.pyramid import Level, PosePyramid
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox

Scorer = Callable[[int, Tensor, Tensor], Tensor]
"""(level, rotations [B, N, 3, 3], translations [B, N, 3]) -> logits [B, N]."""


@runtime_checkable
class FamilyScorer(Protocol):
    """A scorer that makes use of how the poses of a level belong together."""

    def family_logits(
        self, level: int, image: Tensor, rotations: Tensor, translations: Tensor
    ) -> Tensor:
        """Score M families of poses: R rotations times T translations each.

        Args:
            level: pyramid level.
            image: batch element of each family, int64 [M].
            rotations: [M, R, 3, 3].
            translations: of the bounding-sphere centre, [M, T, 3].

        Returns:
            Logits [M, R T], rotations outer, translations inner.
        """


Prior = Callable[[Cells, Tensor], Tensor]
"""(cells [B, N], logits [B, N]) -> logits with the prior added, [B, N]."""


def search(
    scorer: Scorer | FamilyScorer,
    box: TranslationBox,
    depth: int,
    beam: int = 512,
    mass_tolerance: float = 0.0,
    prior: Prior | None = None,
) -> PosePyramid:
    """Search the pyramid from its base cells (576, or 72 on SO(3) alone) to the finest level.

    Without a tolerance the beam is fixed: the work does not depend on the images, and the host
    never synchronises with a GPU between levels.

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
        prior: adds what was known before, at every level; nothing by default.

    Returns:
        The pyramid; every leaf's mass is exact and they sum to 1.

    Raises:
        InputError: if a setting is out of range or the scorer's answer has another shape.
        ScorerError: if the scorer's answer cannot be normalised.
    """
    if not 1 <= depth <= se3_grid.MAX_DEPTH:
        raise InputError(f"depth must be 1 to {se3_grid.MAX_DEPTH}, got {depth}")
    if beam < 1:
        raise InputError(f"beam must be at least 1, got {beam}")
    if not 0 <= mass_tolerance < 1:
        raise InputError(f"mass_tolerance must be in [0, 1), got {mass_tolerance}")

    with parts_in_parallel():
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
    """Grow the levels of a pyramid, still to be checked; arguments as for `search`."""
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
    scorer: Scorer | FamilyScorer, box: TranslationBox, level: int, prior: Prior | None = None
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
        InputError: if the level is out of range or the scorer's answer has another shape.
        ScorerError: if the scorer's answer cannot be normalised.
    """
    if not 0 <= level < se3_grid.MAX_DEPTH:
        raise InputError(f"level must be 0 to {se3_grid.MAX_DEPTH - 1}, got {level}")
    cells = se3_grid.all_cells(box, level)
    with parts_in_parallel():
        log_p = _score_all(scorer, cells, box, prior).log_softmax(1)
    levels = [Level(cells, log_p, torch.zeros_like(log_p, dtype=torch.bool))]
    check(levels)
    return PosePyramid(box, levels)


def _shares(levels: int) -> list[float]:
    """Return each level's share of a tolerance, twice that of the level above it.

    Mass that stays at a coarse level costs more likelihood than at a fine one.
    """
    return [2**level / (2**levels - 1) for level in range(levels)]


def _score_all(
    scorer: Scorer | FamilyScorer, cells: Cells, box: TranslationBox, prior: Prior | None
) -> Tensor:
    """Score all cells of a level, [B, N]."""
    if isinstance(scorer, FamilyScorer):
        image = torch.arange(len(box), device=box.center.device)
        logits = scorer.family_logits(cells.level, image, *se3_grid.all_poses(box, cells.level))
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
    """Score all children of [B, K] parents, [B, N].

    Where bool keep [B, K] is given, those of the other parents need not be right.
    """
    if not isinstance(scorer, FamilyScorer):
        return _completed(scorer(children.level, *children.poses(box)), children, prior)
    batch, n = parents.rotation_index.shape
    rotations, translations = parents.family_poses(box)
    if keep is None or batch == 1:  # a single image needs no padding
        image = torch.arange(batch, device=rotations.device).repeat_interleave(n)
        families = image, rotations.flatten(0, 1), translations.flatten(0, 1)
        logits = scorer.family_logits(children.level, *families).view(batch, -1)
    else:
        image, slot = keep.nonzero(as_tuple=True)
        families = image, rotations[image, slot], translations[image, slot]
        scored = scorer.family_logits(children.level, *families)
        logits = scored.new_full((batch, n, children.branching), -torch.inf)
        logits[image, slot] = scored
        logits = logits.flatten(1)
    return _completed(logits, children, prior)


def _completed(logits: Tensor, cells: Cells, prior: Prior | None) -> Tensor:
    """Check the scorer's answer [B, N], in float32 or better, and add the prior."""
    expected = cells.rotation_index.shape
    if logits.shape != expected:
        raise InputError(f"the scorer returned shape {tuple(logits.shape)} for {tuple(expected)}")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits if prior is None else prior(cells, logits)


def check(levels: list[Level]) -> None:
    """Raise ScorerError if an image has no mass at a level; synchronises once for all levels."""
    invalid = torch.stack([level.log_probability.isnan().any() for level in levels]).tolist()
    if any(invalid):
        raise ScorerError(
            "the scorer returned NaN, +inf or nothing but -inf for an image at level "
            f"{levels[invalid.index(True)].cells.level}"
        )


def _select(log_p: Tensor, beam: int, mass_tolerance: float, share: float) -> tuple[Tensor, Tensor]:
    """Choose the most probable cells to expand, with this level's share of the tolerance.

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
