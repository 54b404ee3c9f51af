"""Probability of sets of poses: integrals of the piecewise constant density, not sums of centres.

Leaves that lie wholly inside or outside a set are decided by their centre; in the others points
decide. A set that is smaller than the leaves of a level would catch too few of these points, so
there points of the set look up the density instead.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spyropose_ros.core import se3_grid, so3_grid
from spyropose_ros.core._tolerance import ToleranceSets

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution

_SET_POINTS, _ALL_POINTS, _FEWEST_POINTS = 2**12, 2**15, 2**8  # of a set, of all, of one of many
_LEAST_MASS = 0.01  # of a level, for points of the sets
_ROUNDING = 1e-5  # of float32: radians, and lengths relative to a tolerance


def probabilities(distribution: "PoseDistribution", sets: ToleranceSets) -> tuple[Tensor, float]:
    """Compute the probability of each of N sets, and of their union.

    Args:
        distribution: of the object's pose.
        sets: on its device.

    Returns:
        Float64 [N], and that of the union.
    """
    small = _small_for(distribution, sets)  # [N, levels]
    points, leaves = distribution.points, _Balls.of(distribution)
    level = distribution.levels[points.leaf]
    total = points.weights.new_zeros(len(sets))
    covered = torch.zeros_like(points.leaf, dtype=torch.bool)
    for i in range(len(sets)):
        inside, border = leaves.classify(sets, i)
        hit = inside[points.leaf]
        open_ = border[points.leaf].nonzero().squeeze(1)
        hit[open_] = sets.contains(i, points.rotations[open_], points.translations[open_])
        if bool(small[i].any()):
            hit &= ~small[i][level]
        total[i] = points.weights @ hit.double()
        covered |= hit
    union = float(points.weights @ covered.double())
    if bool(small.any()):
        of_each, of_union = _by_density(distribution, sets, small)
        total, union = total + of_each, union + of_union
    return total, union


def _small_for(distribution: "PoseDistribution", sets: ToleranceSets) -> Tensor:
    """Return whether each set is smaller than the leaves of each level, bool [N, levels]."""
    box, depth = distribution.box, distribution.depth
    sizes = torch.stack([se3_grid.log_volume(box, r)[0] for r in range(depth)]).exp()
    volumes = [sets.volume(i, box.axes) for i in range(len(sets))]
    mass = torch.bincount(distribution.levels, distribution.probabilities.double(), minlength=depth)
    small = torch.tensor(volumes, dtype=torch.float64, device=sizes.device)[:, None] < sizes
    return small & (mass > _LEAST_MASS)


def _by_density(
    distribution: "PoseDistribution", sets: ToleranceSets, small: Tensor
) -> tuple[Tensor, float]:
    """Integrate the density over sets, in the leaves of the levels for which they are small.

    Args:
        distribution: of the object's pose.
        sets: N of them.
        small: bool [N, levels].

    Returns:
        The integrals, float64 [N], and that over the union, without what the sets that are not
        small there cover.
    """
    axes, chosen = distribution.box.axes, small.any(1).nonzero().squeeze(1).tolist()
    n = max(_FEWEST_POINTS, min(_SET_POINTS, _ALL_POINTS // len(sets)))
    filled = [sets.fill(i, n, axes) for i in chosen]
    R, t, volumes = (torch.cat(parts) for parts in zip(*filled, strict=True))
    owner = torch.tensor(chosen, device=R.device).repeat_interleave(n)
    if axes == 0:
        t = distribution.box.center - R @ distribution.center
    leaf = distribution.leaf_of(R, t)
    level = distribution.levels[leaf]
    here = ((leaf >= 0) & small[owner, level]).nonzero().squeeze(1)
    R, t, level, owner = R[here], t[here], level[here], owner[here]
    mass = distribution.log_densities[leaf[here]].exp() * volumes[here]

    shared = torch.zeros_like(mass)  # how many of the sets that are small here have each point
    for i in range(len(sets)):
        inside = sets.contains(i, R, t)
        if axes:
            inside |= owner == i  # rounding may say otherwise
        else:
            mass = mass.masked_fill((owner == i) & ~inside, 0.0)
        shared += (inside & small[i, level]).double()
        shared[inside & ~small[i, level]] = torch.inf  # covered already
    total = torch.zeros(len(sets), dtype=torch.float64, device=R.device)
    return total.index_add(0, owner, mass), float((mass / shared.clamp_min(1)).sum())


@dataclass(frozen=True)
class _Balls:
    """Leaves as balls: centre and reach.

    Attributes:
        rotations: those of different cells, [U, 3, 3].
        slot: which of them each leaf has, int64 [N].
        origin: the camera's origin in the object's frame at each leaf's centre, metres, [N, 3].
        turn: largest angle of a rotation from the centre, radians, [U].
        shift: largest distance of a position from the centre, metres, [N].
        center: bounding-sphere centre in object coordinates, metres, [3].
    """

    rotations: Tensor
    slot: Tensor
    origin: Tensor
    turn: Tensor
    shift: Tensor
    center: Tensor

    @classmethod
    def of(cls, distribution: "PoseDistribution") -> "_Balls":
        """Return the leaves of a distribution."""
        poses, box = distribution.leaf_poses, distribution.box
        signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3).to(box.basis)
        half = float((signs[:, : box.axes] @ box.basis[0].mT).norm(dim=1).max())
        origin = -(poses.positions.mT.unsqueeze(1) @ poses.rotations[poses.slot]).squeeze(1)
        return cls(
            poses.rotations,
            poses.slot,
            origin,
            so3_grid.cell_reach(poses.levels) + _ROUNDING,
            half / 2.0 ** (distribution.levels + 1),
            distribution.center,
        )

    def classify(self, sets: ToleranceSets, i: int) -> tuple[Tensor, Tensor]:
        """Return which leaves are wholly inside set i, and which may be partly, bool [N] each."""
        least, most = sets.angle_limits(i)
        angle = sets.angle(i, self.rotations)
        may = (angle - self.turn <= most)[self.slot]
        surely = (angle + self.turn <= least)[self.slot]
        # The tool in the object's frame turns about the sphere's centre and shifts with it.
        tool = (self.rotations.mT @ sets.tools[i])[self.slot] + self.origin
        arm = (tool - self.center).norm(dim=1)
        chord = 2 * (self.turn.clamp(max=torch.pi) / 2).sin()
        reach = (self.shift + chord[self.slot] * arm) * sets.inverse_lengths[i].max() + _ROUNDING
        error = ((tool - sets.offsets[i]) * sets.inverse_lengths[i]).norm(dim=1)
        inside = surely & (error + reach <= 1)
        return inside, may & (error - reach <= 1) & ~inside
