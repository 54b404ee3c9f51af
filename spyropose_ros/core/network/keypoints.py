"""Keypoints of an object: points on its surface, or the corners of two cubes when there is no mesh.

Source: Haugaard et al., ICCVW 2023, section 3 (keypoint sampling).
"""

import itertools

import numpy as np

from spyropose_ros.core.errors import InputError


def farthest_points(points: np.ndarray, n: int) -> np.ndarray:
    """Sample farthest points, starting with the point farthest from the mean.

    Args:
        points: surface samples, [M, 3].
        n: number of points to keep.

    Returns:
        [n, 3].

    Raises:
        InputError: if there are fewer than n points.
    """
    if len(points) < n:
        raise InputError(f"cannot choose {n} keypoints from {len(points)} points")
    distance = np.linalg.norm(points - points.mean(0), axis=1)
    chosen: list[np.ndarray] = []
    for _ in range(n):
        point = points[distance.argmax()]
        # The distance to the mean only picks the first point.
        to_point = np.linalg.norm(points - point, axis=1)
        distance = np.minimum(distance, to_point) if chosen else to_point
        chosen.append(point)
    return np.stack(chosen)


def box_keypoints(radius: float) -> np.ndarray:
    """Return the corners of the cube with half-side `radius` and of one half as large, [16, 3]."""
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    return np.concatenate((corners * radius, corners * radius / 2))
