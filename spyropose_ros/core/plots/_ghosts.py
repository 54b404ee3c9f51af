"""A few poses that stand for a distribution, for pictures that show the object in each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from spyropose_ros.core.distribution import PoseDistribution

_SAMPLES = 128
_RADIUS = np.deg2rad(12.0)  # rotations nearer than this are shown as one
_SHOWN = 0.95  # of the samples: the others count for the nearest ghost
_DECIDED = 0.9  # mass of a leading mode that is shown as one pose


class Ghosts(NamedTuple):
    """Poses that together look like a distribution, by descending mass.

    Attributes:
        rotations: [G, 3, 3].
        translations: metres, [G, 3].
        masses: probability near each; they sum to at most 1, float64 [G].
    """

    rotations: np.ndarray
    translations: np.ndarray
    masses: np.ndarray


def ghosts(distribution: PoseDistribution, most: int = 32) -> Ghosts:
    """Choose poses in which to draw an object so that the picture shows its distribution.

    Args:
        distribution: what to show.
        most: largest number of ghosts.

    Returns:
        The ghosts; see `gather`.
    """
    return gather(mode_ghosts(distribution), distribution.spread_poses, most)


def mode_ghosts(distribution: PoseDistribution) -> Ghosts:
    """Return the modes as ghosts."""
    modes = distribution.modes()
    return Ghosts(
        np.array([mode.rotation.cpu().numpy() for mode in modes]).reshape(-1, 3, 3),
        np.array([mode.translation.cpu().numpy() for mode in modes]).reshape(-1, 3),
        np.array([mode.mass for mode in modes]),
    )


def gather(modes: Ghosts, spread: Callable[[int], tuple[Tensor, Tensor]], most: int) -> Ghosts:
    """Choose ghosts: the modes, and between them where most of the other poses are alike.

    A ring gets some twenty ghosts around it, each at the mean position of the poses whose rotation
    is nearest to its own. Where the leading mode has nearly all of the mass, the ghosts are the
    modes.

    Args:
        modes: by descending mass, maybe none.
        spread: returns so many equally probable poses: rotations [S, 3, 3], translations [S, 3].
        most: largest number of ghosts.

    Returns:
        The ghosts.
    """
    if len(modes.masses) and modes.masses[0] >= _DECIDED:
        return Ghosts(*(part[:most] for part in modes))
    turned, moved = (part.cpu().numpy() for part in spread(_SAMPLES))
    flat = turned.reshape(_SAMPLES, 9)
    alike = 1 + 2 * np.cos(_RADIUS)  # least trace of the rotation between two: 1 + 2 cos
    first = modes.rotations[:most]
    free = (first.reshape(-1, 9) @ flat.T < alike).all(0)
    near = (flat @ flat.T >= alike).astype(np.float32)
    around = near @ free
    seeds: list[int] = []
    while len(first) + len(seeds) < most and free.sum() > (1 - _SHOWN) * _SAMPLES:
        seeds.append(int(around.argmax()))
        taken = free & (near[seeds[-1]] > 0)
        around -= near[:, taken].sum(1)
        free &= ~taken
    rotations = np.concatenate([first, turned[seeds]])
    nearest = (flat @ rotations.reshape(-1, 9).T).argmax(1)
    sizes = np.bincount(nearest, minlength=len(rotations))
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    members = np.eye(len(rotations))[nearest].T[order]  # [G, S]
    translations = members @ moved / sizes[order, None]
    return Ghosts(rotations[order], translations, sizes[order] / _SAMPLES)
