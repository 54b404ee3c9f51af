"""What is known of a pose before the image is seen: the last distribution, moved and blurred.

Recursive Bayesian estimation: at every level the search multiplies the network's answer by the
prior's density in the cells. Samples of the last distribution are moved by the motion, perturbed by
the process noise and counted in the cells of the next search's own grid. The counts are smoothed as
in a Polya tree: a cell without samples shares its parent's mass evenly with its siblings. This is a
proper density at every level, as fine as the samples allow, and compares no cell with a sample.

A network makes similar errors on consecutive images, so Bayes' rule, which assumes independence,
soon becomes certain of something wrong. Therefore part of the prior is forgotten, but only where
the image has evidence as well: between cells that the image tells apart. Among cells of equal
logits the prior stays as it is, so a mode outlives the images that do not show it.

Sources: Thrun et al., Probabilistic Robotics, 2005, chapters 2 and 4 (Bayes filter, histograms);
Lavine, Annals of Statistics 1992 (Polya trees); Kulhavy, Automatica 1987 (restricted forgetting).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core import se3_grid, so3, so3_grid
from spyropose_ros.core._checks import as_motion
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox

_SAMPLES = 16_384
_PSEUDO_COUNT = 0.5  # samples added to every child; more is smoother
# Share of an image's evidence that is new after the images before it, and share of the prior's
# evidence that is kept where the image has some as well. Bayes' rule for independent images is 1
# and 1; in the long run novelty / (1 - memory) images count.
_NOVELTY, _MEMORY = 0.7, 0.5
_EQUAL_LOGITS, _GROUPS = 0.4, 100  # nats that an image hardly tells apart; 40 at most


@dataclass(frozen=True)
class PosePrior:
    """A distribution carried to the next frame by a motion with Gaussian noise.

    Attributes:
        last: what was known, in the old frame.
        new_from_old: rigid motion from the old frame to the new one, [4, 4], metres.
        rotation_noise: standard deviation of the rotation about each axis, radians.
        translation_noise: of the bounding-sphere centre along each axis, metres.
        outlier: probability that all of this is wrong and the pose is anywhere in the searched
            region; above 0, a wrong prior is given up once the images contradict it.

    Raises:
        InputError: a motion that is not finite or not rigid, or a number out of range.
    """

    last: PoseDistribution
    new_from_old: Tensor
    rotation_noise: float = 0.0
    translation_noise: float = 0.0
    outlier: float = 0.05

    def __post_init__(self) -> None:
        motion = as_motion(self.new_from_old, "new_from_old")
        object.__setattr__(self, "new_from_old", motion)
        noise = self.rotation_noise, self.translation_noise
        if not all(math.isfinite(s) and s >= 0 for s in noise) or not 0 <= self.outlier <= 1:
            raise InputError(
                f"a prior needs noise >= 0 and an outlier in [0, 1], got {noise} and {self.outlier}"
            )

    def sample(
        self, n: int, generator: torch.Generator, device: torch.device | str
    ) -> tuple[Tensor, Tensor]:
        """Draw poses in the new frame, without the outliers.

        Args:
            n: number of poses.
            generator: source of randomness, on the device.
            device: where to draw them.

        Returns:
            rotations [n, 3, 3] and positions of the bounding-sphere centre in metres, [n, 3].
        """
        last = self.last.to(device)
        rotation, translation = last.sample(n, generator, systematic=True)
        position = translation + rotation @ last.center
        motion = self.new_from_old.to(rotation)
        vector = self.rotation_noise * torch.randn((n, 3), generator=generator, device=device)
        step = self.translation_noise * torch.randn((n, 3), generator=generator, device=device)
        rotation = so3.exp(vector) @ motion[:3, :3] @ rotation
        return rotation, position @ motion[:3, :3].mT + motion[:3, 3] + step


class GridPrior:
    """Priors of a batch of searches, on the grids of their boxes; a `search.Prior`.

    Args:
        priors: one per box; None knows nothing.
        box: regions of translations, [B]; prior mass outside does not count.
        depth: levels of the search.

    Raises:
        InputError: as many priors as boxes are needed.
    """

    def __init__(self, priors: Sequence[PosePrior | None], box: TranslationBox, depth: int):
        if len(priors) != len(box):
            raise InputError(f"need one prior, or None, for each of {len(box)}; got {len(priors)}")
        self._trees = [
            None if prior is None else _CellTree(prior, box[b], depth)
            for b, prior in enumerate(priors)
        ]

    def __call__(self, cells: Cells, logits: Tensor) -> Tensor:
        """Add what was known before to the logits of cells, [B, N]."""
        log_ratio = self.log_ratio(cells).to(logits)
        rows = []
        for tree, of_image, of_prior in zip(self._trees, logits, log_ratio, strict=True):
            if tree is not None:
                known = _mean_of_equals(of_image, of_prior)
                of_image = _NOVELTY * of_image + of_prior - (1 - _MEMORY) * known
            rows.append(of_image)
        return torch.stack(rows)

    def log_ratio(self, cells: Cells) -> Tensor:
        """Return the log prior density of cells over the uniform one, float32 [B, N]."""
        out = torch.zeros(cells.rotation_index.shape, device=cells.rotation_index.device)
        for b, tree in enumerate(self._trees):
            if tree is not None:
                row = slice(b, b + 1)
                out[b] = tree.log_ratio(
                    Cells(cells.level, cells.rotation_index[row], cells.position_index[row])
                )
        return out


def _mean_of_equals(logits: Tensor, log_ratio: Tensor) -> Tensor:
    """Return the log of the mean density of the cells with about the same logit, [N].

    It is what the prior says of the difference between cells that the image tells apart.
    """
    below = (logits.max() - logits) / _EQUAL_LOGITS
    group = below.nan_to_num(nan=0.0, posinf=_GROUPS).clamp(max=_GROUPS).long()
    total = log_ratio.new_zeros(_GROUPS + 1, dtype=torch.float64)
    count = total.scatter_add(0, group, torch.ones_like(log_ratio, dtype=torch.float64))
    total = total.scatter_add(0, group, log_ratio.double().exp())
    return (total / count.clamp_min(1)).log()[group].to(log_ratio)


@dataclass(frozen=True)
class _CountedLevel:
    """The cells of one level that hold samples.

    Attributes:
        keys: sorted, [U].
        count: samples, [U].
        log_ratio: log density over uniform, [U].
        below: the same in a child without samples, and in all that is below it, [U].
    """

    keys: Tensor
    count: Tensor
    log_ratio: Tensor
    below: Tensor


class _CellTree:
    """Smoothed counts of one prior's samples in the cells of one box, level by level."""

    def __init__(self, prior: PosePrior, box: TranslationBox, depth: int):
        device = box.center.device
        generator = torch.Generator(device).manual_seed(0)  # equal images give equal answers
        rotation, position = prior.sample(_SAMPLES, generator, device)
        inside = box.contains(position.unsqueeze(0))[0]
        rotation, position = rotation[inside].unsqueeze(0), position[inside].unsqueeze(0)
        finest = se3_grid.containing(rotation, position, box, depth - 1)

        # Few samples in the box are evidence for the outliers, as the pose is in it.
        trusted = (1 - prior.outlier) * len(rotation[0]) / _SAMPLES
        self._outlier = prior.outlier / (prior.outlier + trusted) if trusted else 1.0

        branching = so3_grid.BASE_CELLS * 2**box.axes  # of the root
        count = torch.tensor([float(len(rotation[0]))], device=device)
        log_ratio, parent = torch.zeros_like(count), torch.zeros(1, dtype=torch.long, device=device)
        self._below = _smoothed(torch.zeros_like(count), count, branching)
        self._levels: list[_CountedLevel] = []
        for level in range(depth):
            keys, slot, n = (
                finest.ancestors(level).keys()[0].unique(return_inverse=True, return_counts=True)
            )
            first = torch.empty_like(keys)
            first[slot] = parent if level else torch.zeros_like(slot)
            n = n.to(count)
            log_ratio = log_ratio[first] + _smoothed(n, count[first], branching)
            branching, count, parent = finest.branching, n, slot
            below = log_ratio + _smoothed(torch.zeros_like(n), n, branching)
            self._levels.append(_CountedLevel(keys, n, log_ratio, below))

    def log_ratio(self, cells: Cells) -> Tensor:
        """Return the log density of cells [1, N] over the uniform one, [N]."""
        value = below = self._below.expand(cells.rotation_index.shape[1])
        for level in range(cells.level + 1):
            known = self._levels[level]
            if not len(known.keys):
                break
            query = cells.ancestors(level).keys()[0]
            slot = torch.searchsorted(known.keys, query).clamp(max=len(known.keys) - 1)
            hit = known.keys[slot] == query
            value = torch.where(hit, known.log_ratio[slot], below)
            below = torch.where(hit, known.below[slot], below)
        if self._outlier == 0:
            return value
        share = math.log(self._outlier)
        if self._outlier == 1:
            return torch.zeros_like(value)
        return torch.logaddexp(value + math.log1p(-self._outlier), torch.full_like(value, share))


def _smoothed(count: Tensor, parent: Tensor, branching: int) -> Tensor:
    """Estimate the log density of a cell over that of its parent, from the samples in both."""
    share = (count + _PSEUDO_COUNT) / (parent + branching * _PSEUDO_COUNT)
    return (share * branching).log()
