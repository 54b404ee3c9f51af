"""Errors of one pose estimate against the truth, as the pose literature defines them.

Poses map the object frame to the camera frame, metres. Symmetries are rigid transforms [S, 4, 4] of
the object frame that leave the object unchanged, with the identity.

Source: Hodan et al., BOP challenge 2020 (MSSD, MSPD); Hinterstoisser et al., ACCV 2012 (ADD, ADI).
"""

import math

import numpy as np
from scipy.spatial import cKDTree

Pose = tuple[np.ndarray, np.ndarray]
"""Rotation [3, 3] and translation [3] in metres."""


def rotation_error(estimate: np.ndarray, equivalents: np.ndarray) -> float:
    """Compute the geodesic angle to the nearest of the equivalent true rotations.

    Args:
        estimate: [3, 3].
        equivalents: [M, 3, 3].

    Returns:
        Degrees.
    """
    nearest = equivalents[np.einsum("mij,ij->m", equivalents, estimate).argmax()]
    # The chord keeps its precision at small angles, where the arc cosine of the trace does not.
    chord = np.linalg.norm(nearest - estimate) / math.sqrt(8)
    return math.degrees(2 * math.asin(min(chord, 1.0)))


def add(estimate: Pose, truth: Pose, vertices: np.ndarray) -> float:
    """Return the mean distance between corresponding vertices [V, 3], metres."""
    return float(np.linalg.norm(_move(vertices, estimate) - _move(vertices, truth), axis=1).mean())


def adi(estimate: Pose, truth: Pose, vertices: np.ndarray) -> float:
    """Return the mean distance from true vertices to the nearest estimated one (ADD-S), metres."""
    tree = cKDTree(_move(vertices, estimate))
    return float(tree.query(_move(vertices, truth))[0].mean())


def mssd(estimate: Pose, truth: Pose, vertices: np.ndarray, symmetries: np.ndarray) -> float:
    """Return the least over symmetries of the largest vertex distance, metres."""
    moved = _move(vertices, estimate)
    return min(
        float(np.linalg.norm(moved - other, axis=1).max())
        for other in _equivalent_vertices(vertices, truth, symmetries)
    )


def mspd(
    estimate: Pose, truth: Pose, vertices: np.ndarray, symmetries: np.ndarray, K: np.ndarray
) -> float:
    """Return the least over symmetries of the largest projected vertex distance, pixels."""
    moved = _project(K, _move(vertices, estimate))
    return min(
        float(np.linalg.norm(moved - _project(K, other), axis=1).max())
        for other in _equivalent_vertices(vertices, truth, symmetries)
    )


def _move(vertices: np.ndarray, pose: Pose) -> np.ndarray:
    """Return the vertices in the camera frame, [V, 3]."""
    return vertices @ pose[0].T + pose[1]


def _equivalent_vertices(vertices: np.ndarray, truth: Pose, symmetries: np.ndarray):
    """Yield the true vertices in the camera frame, [V, 3], under each symmetry."""
    return (_move(_move(vertices, (S[:3, :3], S[:3, 3])), truth) for S in symmetries)


def _project(K: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the pixels of points in the camera frame, [V, 2]."""
    homogeneous = points @ K.T
    return homogeneous[:, :2] / homogeneous[:, 2:]
