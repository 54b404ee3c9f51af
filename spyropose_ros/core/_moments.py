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
        turn: which of them each leaf has, int64 [n].
        positions: translations of the object frame, components first, metres, [3, n].
    """

    rotations: Tensor
    levels: Tensor
    turn: Tensor
    positions: Tensor

    def of(self, leaves: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Rotations [m, 3, 3] and translations [m, 3] of some leaves."""
        return self.rotations.index_select(0, self.turn[leaves]), self.positions.mT[leaves]


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
    """Moments of K groups of leaves.

    Args:
        poses: of the leaves.
        weights: their masses, float64 [n].
        groups: the leaves of each, int64 [m]; not without mass.
        box: region of translations, batch of one.
        arm: bounding-sphere centre in object coordinates, metres, [3].
    """
    sums = [_sums(poses, weights, leaves) for leaves in groups]
    mean_position, moving, turn, mass, moved = zip(*sums, strict=True)
    group = torch.arange(len(groups), device=weights.device)
    group = group.repeat_interleave(torch.tensor([len(t) for t in turn], device=group.device))
    turn, mass, moved = torch.cat(turn), torch.cat(mass), torch.cat(moved, 1)  # [P], [P], [3, P]
    rotations, levels = poses.rotations.index_select(0, turn), poses.levels[turn].double()
    member = mass.new_zeros((len(mass), len(groups))).scatter_(1, group.unsqueeze(1), 1.0)

    def total(values: Tensor) -> Tensor:
        """Sums over the rotations of each group: [..., P] -> [K, ...]."""
        return (values.reshape(-1, len(group)) @ member).mT.unflatten(1, values.shape[:-1])

    mean = so3.chordal_mean(total(rotations.double().permute(1, 2, 0) * mass)).float()
    turned = so3.log(rotations @ mean[group].mT).mT  # rotation vectors, [3, P]
    between = _blocks(
        torch.stack(moving), total(moved.unsqueeze(1) * turned), total(_outer(turned, mass))
    )

    # Uniform within the cells: edge^2 / 12 per axis, about isotropic in the rotation.
    edges = box.basis[0].double()  # [3, axes]
    position_share = total((mass * 4 ** -(levels + 1)).unsqueeze(0)) / 12  # [K, 1]
    spin = (2 * so3_grid.cell_radius(0)) ** 2 * 4**-levels / 12 * mass  # [P]
    # A small turn d moves the object frame by d x (-arm): its origin is not the centre.
    lever = (rotations @ arm).double().mT  # [3, P]
    square = total(_outer(lever, spin))
    identity = torch.eye(3, dtype=spin.dtype, device=spin.device)
    within = _blocks(
        position_share.unsqueeze(-1) * (edges @ edges.mT) + _trace(square) * identity - square,
        so3.skew(total(spin * lever)),
        total(spin.unsqueeze(0)).unsqueeze(-1) * identity,
    )
    return Moments(
        mean,
        torch.stack(mean_position).to(poses.positions),
        (between + within).float(),
    )


def _sums(poses: LeafPoses, weights: Tensor, leaves: Tensor) -> tuple[Tensor, ...]:
    """What one group's moments need of its leaves, of which it has U different rotations.

    Returns:
        mean position [3], second moment of the position [3, 3], and for each rotation
        which it is [U], its share of the mass [U], and its mean offset times that [3, U].
    """
    turn = poses.turn.index_select(0, leaves)
    weights = weights.index_select(0, leaves)
    weights = weights / weights.sum()
    position = poses.positions.index_select(1, leaves).double()  # [3, m]
    mean = position @ weights
    offset = position - mean.unsqueeze(1)
    moved = offset * weights
    share = torch.bincount(turn, weights)
    used = share.nonzero().squeeze(1)
    by_turn = torch.stack([torch.bincount(turn, axis) for axis in moved])
    return mean, moved @ offset.mT, used, share[used], by_turn[:, used]


def _blocks(position: Tensor, cross: Tensor, rotation: Tensor) -> Tensor:
    """Symmetric [K, 6, 6] of its blocks [K, 3, 3]."""
    upper = torch.cat((position, cross), 2)
    return torch.cat((upper, torch.cat((cross.mT, rotation), 2)), 1)


def _outer(vectors: Tensor, weights: Tensor) -> Tensor:
    """Weighted products of [3, P] with themselves, [3, 3, P]."""
    return (vectors * weights).unsqueeze(1) * vectors


def _trace(matrices: Tensor) -> Tensor:
    """[K, 3, 3] -> [K, 1, 1]."""
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
