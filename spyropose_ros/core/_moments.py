"""Means and covariances of groups of leaves, all groups at once.

Many leaves share a rotation, which is dealt with once: sums over leaves are first taken for each
group and rotation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core import so3, so3_grid
from spyropose_ros.core.translation_grid import TranslationBox


@dataclass(frozen=True)
class LeafPoses:
    """Poses at the centres of leaves.

    Attributes:
        rotations: those of different cells, [U, 3, 3].
        levels: pyramid level of each of them, and so of its leaves, int64 [U].
        slot: which of the rotations each leaf has, int64 [n].
        positions: translations of the object frame, components first, metres, [3, n].
    """

    rotations: Tensor
    levels: Tensor
    slot: Tensor
    positions: Tensor

    def of(self, leaves: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return rotations [m, 3, 3] and translations [m, 3] of some leaves."""
        return self.rotations.index_select(0, self.slot[leaves]), self.positions.mT[leaves]


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of groups.

    Attributes:
        rotations: chordal L2 means (Markley et al. 2007; Hartley et al. 2013), [K, 3, 3].
        translations: metres, [K, 3].
        covariances: about the means, [K, 6, 6], order x y z rx ry rz; metres and radians, rotation
            vectors in the camera's fixed axes (REP-103). The poses within a leaf count as well.
    """

    rotations: Tensor
    translations: Tensor
    covariances: Tensor


def moments(
    poses: LeafPoses,
    weights: Tensor,
    groups: Sequence[Tensor],
    box: TranslationBox,
    arm: Tensor,
) -> Moments:
    """Compute mean and covariance of K groups of leaves.

    Args:
        poses: of the leaves.
        weights: their masses, float64 [n].
        groups: the leaves of each, int64 [m]; not without mass.
        box: region of translations, batch of one.
        arm: bounding-sphere centre in object coordinates, metres, [3].

    Returns:
        The moments of the groups, in their order.
    """
    sums = [_sums(poses, weights, leaves) for leaves in groups]
    counts = torch.tensor([len(one.slot) for one in sums], device=weights.device)
    group = torch.arange(len(groups), device=weights.device).repeat_interleave(counts)  # [P]
    slot, mass = torch.cat([one.slot for one in sums]), torch.cat([one.mass for one in sums])
    offset = torch.cat([one.offset for one in sums], 1)  # [3, P]
    rotations, levels = poses.rotations.index_select(0, slot), poses.levels[slot].double()
    member = mass.new_zeros((len(mass), len(groups))).scatter_(1, group.unsqueeze(1), 1.0)

    def total(values: Tensor) -> Tensor:
        """Sum over the rotations of each group, [..., P] -> [K, ...]."""
        return (values.reshape(-1, len(group)) @ member).mT.unflatten(1, values.shape[:-1])

    mean = so3.chordal_mean(total(rotations.double().permute(1, 2, 0) * mass)).float()
    vectors = so3.log(rotations @ mean[group].mT).mT  # from the mean, [3, P]
    between = _blocks(
        torch.stack([one.position_moment for one in sums]),
        total(offset.unsqueeze(1) * vectors),
        total(_outer(vectors, mass)),
    )

    # Uniform within the cells: edge^2 / 12 per axis, about isotropic in the rotation.
    edges = box.basis[0].double()  # [3, axes]
    position_share = total((mass * 4 ** -(levels + 1)).unsqueeze(0)) / 12  # [K, 1]
    variance = (2 * so3_grid.cell_radius(0)) ** 2 * 4**-levels / 12 * mass  # [P]
    # A small rotation d moves the object frame by d x (-arm): its origin is not the centre.
    lever = (rotations @ arm).double().mT  # [3, P]
    square = total(_outer(lever, variance))
    identity = torch.eye(3, dtype=variance.dtype, device=variance.device)
    within = _blocks(
        position_share.unsqueeze(-1) * (edges @ edges.mT) + _trace(square) * identity - square,
        so3.skew(total(variance * lever)),
        total(variance.unsqueeze(0)).unsqueeze(-1) * identity,
    )
    return Moments(
        mean,
        torch.stack([one.mean_position for one in sums]).to(poses.positions),
        (between + within).float(),
    )


@dataclass(frozen=True)
class _Sums:
    """Sums over the leaves of one group, which have U different rotations.

    Attributes:
        mean_position: [3].
        position_moment: second moment about the mean, [3, 3].
        slot: which rotations they are, int64 [U].
        mass: share of each rotation, [U].
        offset: mean offset from the mean position at each rotation, times its mass, [3, U].
    """

    mean_position: Tensor
    position_moment: Tensor
    slot: Tensor
    mass: Tensor
    offset: Tensor


def _sums(poses: LeafPoses, weights: Tensor, leaves: Tensor) -> _Sums:
    """Sum over the leaves of one group."""
    slot = poses.slot.index_select(0, leaves)
    weights = weights.index_select(0, leaves)
    weights = weights / weights.sum()
    position = poses.positions.index_select(1, leaves).double()  # [3, m]
    mean = position @ weights
    offset = position - mean.unsqueeze(1)
    weighted = offset * weights
    share = torch.bincount(slot, weights)
    used = share.nonzero().squeeze(1)
    by_rotation = torch.stack([torch.bincount(slot, axis) for axis in weighted])
    return _Sums(mean, weighted @ offset.mT, used, share[used], by_rotation[:, used])


def _blocks(position: Tensor, cross: Tensor, rotation: Tensor) -> Tensor:
    """Assemble symmetric matrices [K, 6, 6] from their blocks [K, 3, 3]."""
    upper = torch.cat((position, cross), 2)
    return torch.cat((upper, torch.cat((cross.mT, rotation), 2)), 1)


def _outer(vectors: Tensor, weights: Tensor) -> Tensor:
    """Compute weighted outer products of vectors [3, P] with themselves, [3, 3, P]."""
    return (vectors * weights).unsqueeze(1) * vectors


def _trace(matrices: Tensor) -> Tensor:
    """Compute traces, [K, 3, 3] -> [K, 1, 1]."""
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
