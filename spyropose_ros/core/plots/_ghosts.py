"""A few poses that stand for a distribution, for pictures that show the object in each of them."""

from typing import NamedTuple

import numpy as np

from spyropose_ros.core import _resampling
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

    Samples, spread evenly over the cells, are gathered where their rotations are alike: a ring
    gets some twenty ghosts around it. Where the leading mode has nearly all of the mass, the ghosts
    are the modes.

    Args:
        distribution: what to show.
        most: largest number of ghosts.

    Returns:
        The ghosts.
    """
    modes = distribution.modes()
    if modes and modes[0].mass >= _DECIDED:
        return mode_ghosts(distribution)
    # In the order of the cells, which are neighbours there: sorting all of them takes longer
    cells = _resampling.systematic(distribution._masses, _SAMPLES)
    turned, moved = (part.cpu().numpy() for part in distribution._poses_of(cells).of(slice(None)))
    flat = turned.reshape(_SAMPLES, 9)
    alike = flat @ flat.T  # the trace of the rotation between two
    near = (alike >= 1 + 2 * np.cos(_RADIUS)).astype(np.float32)  # trace = 1 + 2 cos
    seeds: list[int] = []
    counts = near.sum(1)
    free = _SAMPLES
    while len(seeds) < most and free > (1 - _SHOWN) * _SAMPLES:
        seeds.append(int(counts.argmax()))
        free -= int(counts[seeds[-1]])
        taken = near[seeds[-1]] > 0
        counts -= near[:, taken].sum(1)
        near[:, taken] = 0.0
    members = np.eye(len(seeds))[alike[:, seeds].argmax(1)].T  # [G, S]
    sizes = members.sum(1)
    order = np.argsort(-sizes, kind="stable")
    translations = members @ moved / sizes[:, None]
    return Ghosts(turned[seeds][order], translations[order], sizes[order] / _SAMPLES)


def mode_ghosts(distribution: PoseDistribution) -> Ghosts:
    """Return the modes as ghosts."""
    modes = distribution.modes()
    return Ghosts(
        np.array([mode.rotation.cpu().numpy() for mode in modes]).reshape(-1, 3, 3),
        np.array([mode.translation.cpu().numpy() for mode in modes]).reshape(-1, 3),
        np.array([mode.mass for mode in modes]),
    )
