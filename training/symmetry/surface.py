"""How far a surface is from itself after a rotation, and which rotation near one fits best."""

from typing import NamedTuple

import numpy as np
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

_TARGETS = 60_000
_POINTS, _FEW, _COARSE_POINTS = 1600, 400, 250
"""Points that are moved: to judge, to look whether it is worth it, and on the grid."""

_FIELD = 56  # voxels along a side
_REACH = 0.58  # half a side of the field, diameters
_DIRECTIONS = 40  # that a point is looked at from
_OFF = 1e-4  # diameters: how far off the surface a line of sight ends
_STEPS, _FEW_STEPS, _SETTLED = 25, 8, 1e-4
_QUANTILE = 0.99
_BATCH = 2048


class Motion(NamedTuple):
    """A rigid motion in the units of a `Surface`: R x + t.

    Attributes:
        rotation: [3, 3].
        translation: [3].
    """

    rotation: np.ndarray
    translation: np.ndarray


class Surface:
    """The visible surface of an object, around its centroid, in diameters.

    Args:
        mesh: the object, metres; inner faces, which nobody sees, do not count.

    Attributes:
        centroid: of the visible surface, metres, [3].
        diameter: of the sphere around the centroid that holds the surface, metres.
        points: on the surface, evenly spread, [N, 3].
    """

    centroid: np.ndarray
    diameter: float
    points: np.ndarray

    def __init__(self, mesh: trimesh.Trimesh):
        targets, faces = trimesh.sample.sample_surface(mesh, _TARGETS, seed=0)
        targets, normals = np.asarray(targets), mesh.face_normals[faces]
        seen = _visible(mesh, targets)
        if seen.any():
            targets, normals = targets[seen], normals[seen]
        self.centroid = targets.mean(0)
        self.diameter = 2 * float(np.linalg.norm(targets - self.centroid, axis=1).max())
        targets = (targets - self.centroid) / self.diameter
        self._targets, self._normals = targets, normals
        self._tree = cKDTree(targets)
        self.points = targets[:_POINTS]  # the samples are in random order
        self._field = self._distance_field()

    def coarse(self, rotations: np.ndarray) -> np.ndarray:
        """Return the mean distance from rotated points to the surface, roughly, [N].

        Args:
            rotations: about the centroid, [N, 3, 3].

        Returns:
            Diameters, [N].
        """
        points = self.points[:_COARSE_POINTS].astype(np.float32)
        means = []
        for start in range(0, len(rotations), _BATCH):
            some = rotations[start : start + _BATCH].astype(np.float32)
            moved = (points @ some.transpose(0, 2, 1) + _REACH) * (_FIELD / (2 * _REACH))
            x, y, z = moved.astype(np.int32).transpose(2, 0, 1)
            means.append(self._field[x, y, z].mean(1))
        return np.concatenate(means)

    def deviation(self, motion: Motion, few: bool = False) -> float:
        """Return the distance within which 99 % of the moved surface is the surface, and back.

        Args:
            motion: to judge.
            few: with a quarter of the points.

        Returns:
            Diameters.
        """
        rotation, translation = motion
        points = self.points[: _FEW if few else None]
        there, back = points @ rotation.T + translation, (points - translation) @ rotation
        return max(float(np.quantile(self._tree.query(p)[0], _QUANTILE)) for p in (there, back))

    def refined(self, rotation: np.ndarray, few: bool = False) -> Motion:
        """Fit the surface to itself (ICP, point to plane).

        Args:
            rotation: where to start, [3, 3].
            few: with a quarter of the points and a third of the steps.

        Returns:
            The motion nearby that fits best.
        """
        points, translation = self.points[: _FEW if few else None], np.zeros(3)
        for _ in range(_FEW_STEPS if few else _STEPS):
            moved = points @ rotation.T + translation
            near = self._tree.query(moved)[1]
            target, normal = self._targets[near], self._normals[near]
            # Huber's weights: what has no counterpart counts little.
            residual = np.einsum("ij,ij->i", target - moved, normal)
            scale = 1.5 * np.median(abs(residual)) + 1e-6
            weight = np.sqrt(np.minimum(1, scale / np.maximum(abs(residual), 1e-12)))
            jacobian = np.concatenate([np.cross(moved, normal), normal], 1) * weight[:, None]
            # A little damping, where the surface may slide along itself.
            system = jacobian.T @ jacobian + 1e-6 * len(points) * np.eye(6)
            step = np.linalg.solve(system, jacobian.T @ (residual * weight))
            turn = Rotation.from_rotvec(step[:3]).as_matrix()
            rotation, translation = turn @ rotation, turn @ translation + step[3:]
            if np.linalg.norm(step) < _SETTLED:
                break
        return Motion(rotation, translation)

    def _distance_field(self) -> np.ndarray:
        """Return the distances of a grid of places from the surface."""
        ticks = ((np.arange(_FIELD) + 0.5) / _FIELD * 2 - 1) * _REACH
        grid = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), -1)
        sparse = cKDTree(self._targets[::6])
        return sparse.query(grid.reshape(-1, 3))[0].reshape(3 * (_FIELD,)).astype(np.float32)


def _visible(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Tell which points [N, 3] of a surface are seen from somewhere far away, [N]."""
    size = float(mesh.scale)
    hidden = np.arange(len(points))
    for direction in spread_directions(_DIRECTIONS):
        origins = points[hidden] + _OFF * size * direction
        blocked = mesh.ray.intersects_any(origins, np.broadcast_to(direction, origins.shape))
        hidden = hidden[blocked]
        if not len(hidden):
            break
    seen = np.ones(len(points), bool)
    seen[hidden] = False
    return seen


def spread_directions(count: int) -> np.ndarray:
    """Return unit vectors [N, 3] that are evenly spread (a golden spiral)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (1 + 5**0.5) * np.arange(count)
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], 1)
