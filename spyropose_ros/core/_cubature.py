"""Low-discrepancy points within leaves: sums over them are integrals of the distribution.

The points are consecutive members of one Kronecker sequence. Every run of such a sequence fills
its space evenly, so that each leaf's points do as well, and neighbouring leaves of one point each
do together.

Source: Niederreiter, Random Number Generation and Quasi-Monte Carlo Methods, 1992, chapter 3;
Roberts, The unreasonable effectiveness of quasirandom sequences, 2018 (the generators).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from spyropose_ros.core._leaves import Leaves
    from spyropose_ros.core.distribution import PoseDistribution

_POINTS = 2**16


@dataclass(frozen=True)
class Points:
    """Weighted poses that stand for leaves.

    Attributes:
        leaf: rank of each pose's leaf, ascending, int64 [P].
        rotations: [P, 3, 3].
        translations: metres, [P, 3].
        weights: mass of each, float64 [P]; those of a leaf sum to its mass.
    """

    leaf: Tensor
    rotations: Tensor
    translations: Tensor
    weights: Tensor


def sequence(n: int, dimensions: int, device: torch.device | str | None = None) -> Tensor:
    """Return the first points of a Kronecker sequence in [0, 1), float64 [n, dimensions]."""
    ratio = 2.0  # root of x^(d + 1) = x + 1, the golden ratio's like in d dimensions
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    powers = torch.arange(1, dimensions + 1, dtype=torch.float64, device=device)
    steps = torch.arange(1, n + 1, dtype=torch.float64, device=device)
    return (0.5 + steps.unsqueeze(1) * ratio**-powers) % 1.0


def spread(distribution: "Leaves") -> Points:
    """Spread points over all leaves: none has more mass than 2^-16, and no leaf is without one.

    The mean of a function in [0, 1] over random points that are spread alike has a standard
    deviation of at most 2^-9, 0.002.

    Args:
        distribution: of the leaves.

    Returns:
        The points.
    """
    masses = distribution.probabilities.double()
    counts = (masses * _POINTS).ceil().long().clamp_min(1)
    leaf = torch.arange(len(masses), device=masses.device).repeat_interleave(counts)
    at = sequence(len(leaf), 3 + distribution.box.axes, masses.device)
    rotations, translations = distribution.poses_within(leaf, at)
    return Points(leaf, rotations, translations, (masses / counts)[leaf])


def choose(distribution: "PoseDistribution", n: int) -> Points:
    """Choose n equally probable poses, one in a leaf as often as its mass says.

    Args:
        distribution: to choose from.
        n: number of poses.

    Returns:
        The points; most leaves have none.
    """
    leaf = distribution.resample(n)
    at = sequence(n, 3 + distribution.box.axes, leaf.device)
    rotations, translations = distribution.poses_within(leaf, at)
    return Points(leaf, rotations, translations, torch.full_like(at[:, 0], 1 / n))
