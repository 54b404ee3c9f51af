"""Rotation matrix <-> quaternion, in the x, y, z, w order of ROS. Nowhere else."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def quaternions(matrices: np.ndarray) -> np.ndarray:
    """Converts rotation matrices.

    Args:
        matrices: [N, 3, 3]; may be off orthonormal by rounding.

    Returns:
        Unit quaternions (x, y, z, w) with w >= 0, float64 [N, 4].
    """
    if len(matrices) == 0:
        return np.zeros((0, 4))
    result = Rotation.from_matrix(np.asarray(matrices, dtype=float)).as_quat()
    return np.where(result[:, 3:] < 0, -result, result)


def matrices(quaternions: np.ndarray) -> np.ndarray:
    """Converts quaternions.

    Args:
        quaternions: (x, y, z, w) of any non-zero length, [N, 4].

    Returns:
        Rotation matrices, float64 [N, 3, 3].
    """
    if len(quaternions) == 0:
        return np.zeros((0, 3, 3))
    return Rotation.from_quat(np.asarray(quaternions, dtype=float)).as_matrix()
