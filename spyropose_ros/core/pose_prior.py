"""What is known of a pose before the image is seen: the last distribution, moved and blurred.

Recursive Bayesian estimation: the search multiplies the network's answer at every level with the
prior's density in the cells. Samples of the last distribution are moved by the motion, shaken by
the process noise and counted in the cells of the next search's own grid; counts are smoothed as in
a Polya tree, where a cell without samples shares what its parent has evenly with its siblings. That
is a proper density at every level, as fine as the samples allow, and costs no comparison of cells
with samples.

A network errs alike on consecutive images, so that Bayes' rule, which takes them for independent,
soon is sure of something wrong. Therefore what the prior says is forgotten in part, but only where
the image says something as well: between cells that the image tells apart. Among cells of equal
logits the prior stays as it is, so that a mode outlives the images that do not show it.

Sources: Thrun et al., Probabilistic Robotics, 2005, chapters 2 and 4 (Bayes filter, histograms);
Lavine, Annals of Statistics 1992 (Polya trees); Kulhavy, Automatica 1987 (restricted forgetting).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core import se3_grid, so3, so3_grid
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox

_SAMPLES = 16_384
_PSEUDO_COUNT = 0.5  # samples that every child is given; more is smoother
_EQUAL_LOGITS, _GROUPS = 0.4, 100  # nats that an image can hardly tell apart; beyond 40, nothing


@dataclass(frozen=True)
class PosePrior:
    """A distribution carried to the next frame by a motion with Gaussian noise.

    Attributes:
        last: what was known, in the old frame.
        new_from_old: rigid motion from the old frame to the new one, [4, 4], metres.
        rotation_noise: standard deviation of the rotation about each axis, radians.
        translation_noise: of the bounding-sphere centre along each axis, metres.
        outlier: probability that all of this is wrong and the pose anywhere in the searched
            region: with more than 0, what is wrong is given up once the images speak against it.
        novelty: share of an image's evidence that the images before it did not bring.
        memory: share of the prior's evidence that is kept where the image has some as well. Bayes'
            rule for independent images is novelty = memory = 1; what counts in the long run are
            novelty / (1 - memory) images.

    Raises:
        ValueError: a motion that is not finite or not rigid, or a number out of range.
    """

    last: PoseDistribution
    new_from_old: Tensor
    rotation_noise: float = 0.0
    translation_noise: float = 0.0
    outlier: float = 0.05
    novelty: float = 0.7
    memory: float = 0.5

    def __post_init__(self):
        motion = torch.as_tensor(self.new_from_old, dtype=torch.float64).cpu()
        object.__setattr__(self, "new_from_old", motion)
        turn = motion[:3, :3]
        if (
            motion.shape != (4, 4)
            or not bool(motion.isfinite().all())
            or not torch.allclose(turn @ turn.mT, torch.eye(3, dtype=turn.dtype), atol=1e-3)
            or float(torch.linalg.det(turn)) < 0
        ):
            raise ValueError(f"new_from_old must be a finite rigid motion [4, 4], got {motion}")
        noise = self.rotation_noise, self.translation_noise
        shares = self.outlier, self.novelty, self.memory
        if not all(math.isfinite(s) and s >= 0 for s in noise) or not all(
            0 <= share <= 1 for share in shares
        ):
            raise ValueError(
                "a prior needs noise >= 0 and outlier, novelty and memory in [0, 1], got "
                f"{noise} and {shares}"
            )

    def sample(
        self, n: int, generator: torch.Generator, device: torch.device | str
    ) -> tuple[Tensor, Tensor]:
        """Poses in the new frame, without the outliers.

        Returns:
            rotations [n, 3, 3] and positions of the bounding-sphere centre in metres, [n, 3].
        """
        last = self.last.to(device)
        rotation, translation = last.sample(n, generator, systematic=True)
        position = translation + rotation @ last.center
        motion = self.new_from_old.to(rotation)
        turn = self.rotation_noise * torch.randn((n, 3), generator=generator, device=device)
        step = self.translation_noise * torch.randn((n, 3), generator=generator, device=device)
        rotation = so3.exp(turn) @ motion[:3, :3] @ rotation
        return rotation, position @ motion[:3, :3].mT + motion[:3, 3] + step


class GridPrior:
    """Priors of a batch of searches, on the grids of their boxes; a `search.Prior`.

    Args:
        priors: one per box; None knows nothing.
        box: regions of translations, [B]; prior mass outside does not count.
        depth: levels of the search.

    Raises:
        ValueError: as many priors as boxes are needed.
    """

    def __init__(self, priors: Sequence[PosePrior | None], box: TranslationBox, depth: int):
        if len(priors) != len(box):
            raise ValueError(f"need one prior, or None, for each of {len(box)}; got {len(priors)}")
        self._priors = priors
        self._trees = [
            None if prior is None else _CellTree(prior, box[b], depth)
            for b, prior in enumerate(priors)
        ]

    def __call__(self, cells: Cells, logits: Tensor) -> Tensor:
        """Logits of the cells with what was known before, [B, N]."""
        log_ratio = self.log_ratio(cells).to(logits)
        rows = []
        for prior, of_image, of_prior in zip(self._priors, logits, log_ratio, strict=True):
            if prior is not None:
                known = _mean_of_equals(of_image, of_prior)
                of_image = prior.novelty * of_image + of_prior - (1 - prior.memory) * known
            rows.append(of_image)
        return torch.stack(rows)

    def log_ratio(self, cells: Cells) -> Tensor:
        """Log prior density of cells over that of the uniform distribution, float32 [B, N]."""
        out = torch.zeros(cells.rotation_index.shape, device=cells.rotation_index.device)
        for b, tree in enumerate(self._trees):
            if tree is not None:
                row = slice(b, b + 1)
                out[b] = tree.log_ratio(
                    Cells(cells.level, cells.rotation_index[row], cells.position_index[row])
                )
        return out


def _mean_of_equals(logits: Tensor, log_ratio: Tensor) -> Tensor:
    """Log of the mean density of the cells that have about the same logit, [N].

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
        generator = torch.Generator(device).manual_seed(0)  # the same images, the same answer
        rotation, position = prior.sample(_SAMPLES, generator, device)
        inside = box.contains(position.unsqueeze(0))[0]
        rotation, position = rotation[inside].unsqueeze(0), position[inside].unsqueeze(0)
        finest = se3_grid.containing(rotation, position, box, depth - 1)

        # That the pose is in the box speaks for the outliers if few samples are.
        trusted = (1 - prior.outlier) * len(rotation[0]) / _SAMPLES
        self._outlier = prior.outlier / (prior.outlier + trusted) if trusted else 1.0

        branching = so3_grid.BASE_CELLS * 2**box.axes  # of the root
        count = torch.tensor([float(len(rotation[0]))], device=device)
        log_ratio, parent = torch.zeros_like(count), torch.zeros(1, dtype=torch.long, device=device)
        self._below = _smoothed(torch.zeros_like(count), count, branching)
        self._levels: list[_CountedLevel] = []
        for level in range(depth):
            keys, slot, n = (
                _ancestors(finest, level).keys()[0].unique(return_inverse=True, return_counts=True)
            )
            first = torch.empty_like(keys)
            first[slot] = parent if level else torch.zeros_like(slot)
            n = n.to(count)
            log_ratio = log_ratio[first] + _smoothed(n, count[first], branching)
            branching, count, parent = finest.branching, n, slot
            below = log_ratio + _smoothed(torch.zeros_like(n), n, branching)
            self._levels.append(_CountedLevel(keys, n, log_ratio, below))

    def log_ratio(self, cells: Cells) -> Tensor:
        """Log density of cells [1, N] over uniform, [N]."""
        value = below = self._below.expand(cells.rotation_index.shape[1])
        for level in range(cells.level + 1):
            known = self._levels[level]
            if not len(known.keys):
                break
            query = _ancestors(cells, level).keys()[0]
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
    """Log density of a cell over that of its parent, from the samples in both."""
    share = (count + _PSEUDO_COUNT) / (parent + branching * _PSEUDO_COUNT)
    return (share * branching).log()


def _ancestors(cells: Cells, level: int) -> Cells:
    """The cells of a coarser level, or the same, that contain each."""
    up = cells.level - level
    return Cells(level, cells.rotation_index >> 3 * up, cells.position_index >> up)
