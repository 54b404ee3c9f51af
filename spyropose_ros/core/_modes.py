"""Modes of a distribution: clusters of its leaves, densest first."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core._moments import LeafPoses, moments
from spyropose_ros.core.translation_grid import TranslationBox

ROTATION_RADIUS = 0.35
"""Of modes by default, radians."""

_CLUSTERED_MASS = 0.999  # leaves beyond this mass cannot lead a mode
_LONG = 1.5  # a box's longest edge over the next from which on it counts as depth


@dataclass(frozen=True)
class Mode:
    """A cluster of probability.

    Attributes:
        rotation: mean of the cluster, [3, 3].
        translation: mean of the cluster in metres, [3].
        mass: probability of the cluster.
        covariance: [6, 6], order x y z rx ry rz as in `PoseDistribution.covariance`.
    """

    rotation: Tensor
    translation: Tensor
    mass: float
    covariance: Tensor


def modes(
    poses: LeafPoses,
    masses: Tensor,
    log_densities: Tensor,
    box: TranslationBox,
    center: Tensor,
    rotation_radius: float,
    translation_radius: float | None,
    max_modes: int,
    min_mass: float,
) -> list[Mode]:
    """Find clusters of probability; see `PoseDistribution.modes`.

    Args:
        poses: of the leaves, by descending mass.
        masses: [n].
        log_densities: float64 [n].
        box: region of translations, batch of one.
        center: bounding-sphere centre in object coordinates, metres, [3].
        rotation_radius: radians.
        translation_radius: metres, across the long direction of the box; None for unlimited.
        max_modes: most clusters returned.
        min_mass: clusters below this mass are dropped.

    Returns:
        The clusters, by descending mass.
    """
    n = min(int((masses.double().cumsum(0) < _CLUSTERED_MASS).sum()) + 1, len(masses))
    p, slot, density = masses[:n], poses.slot[:n], log_densities[:n].clone()
    across = _across_depth(poses.positions[:, :n], box)
    nearest = 1 + 2 * math.cos(min(rotation_radius, math.pi))  # trace at that angle
    flat = poses.rotations.flatten(1)
    free, left = p > 0, float(p.sum())
    groups: list[Tensor] = []
    group_masses: list[float] = []
    for _ in range(4 * max_modes):
        if left <= 0 or left < min_mass or len(groups) == max_modes:
            break
        seed = int(density.argmax())
        near = (flat @ flat[slot[seed]] >= nearest).index_select(0, slot)  # trace of R_seed^T R
        if translation_radius is not None:
            offset = across - across[:, seed, None]
            near &= (offset * offset).sum(0) <= translation_radius**2
        near[seed] = True  # rounding may say otherwise
        leaves = (near & free).nonzero().squeeze(1)
        free &= ~near
        density.index_fill_(0, leaves, -torch.inf)
        mass = float(p.index_select(0, leaves).sum())
        left -= mass
        if mass >= min_mass:
            groups.append(leaves)
            group_masses.append(mass)
    if not groups:
        return []
    summary = moments(poses, p.double(), groups, box, center)
    found = zip(
        summary.rotations,
        summary.translations,
        group_masses,
        summary.covariances,
        strict=True,
    )
    return sorted((Mode(*mode) for mode in found), key=lambda mode: -mode.mass)


def _across_depth(positions: Tensor, box: TranslationBox) -> Tensor:
    """Remove from positions [3, n] their part along the box's long direction, if it has one."""
    if box.axes == 0:
        return positions
    directions, lengths, _ = torch.linalg.svd(box.basis[0])
    if float(lengths[0]) < _LONG * float(lengths[1]):
        return positions
    depth = directions[:, :1]
    return positions - depth @ (depth.mT @ positions)
