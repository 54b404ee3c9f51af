"""The CPU's kernel for the rotations of a level's children; imports Numba, which takes time."""

import math

import numpy as np
from numba import types

from spyropose_ros.core.kernels.numba_kernels import compiled


@compiled(types.int64, types.float32, types.float32, types.float32[::1])
def _face_to_direction(face: int, x: float, y: float, direction: np.ndarray) -> None:
    """Map in-face coordinates to a unit vector, as `so3_grid._face_to_direction` does."""
    f = np.float32
    row = 2 + face // 4
    column = f(2 * (face % 4) + (row != 3))
    v = f(row) - x - y
    width = min(max(min(v, f(4) - v), f(1e-12)), f(1))
    if f(1) <= v <= f(3):
        z = (f(2) - v) * f(2 / 3)
        radius = math.sqrt(max(f(1) - z * z, f(0)))
    else:
        w = width * width / f(3)
        z = f(1) - w if v < f(2) else w - f(1)
        radius = math.sqrt(w * (f(2) - w))
    phi = (column + (x - y) / width) * f(math.pi / 4)
    direction[0], direction[1], direction[2] = radius * math.cos(phi), radius * math.sin(phi), z


@compiled(types.int64[::1], types.int64, types.float32[:, :, ::1], types.float32[:, :, :, ::1])
def child_rotations(
    parents: np.ndarray, level: int, frames: np.ndarray, result: np.ndarray
) -> None:
    """Compute `so3_grid.rotations` of the 8 children of cells: 4 directions times 2 tilts.

    Args:
        parents: cells of the level, int64 [N].
        level: of the parents; 0 is the coarsest.
        frames: of the 12 base pixels, float32 [12, 3, 3].
        result: rotation matrices, float32 [N, 8, 3, 3].
    """
    f = np.float32
    scale, turn = f(1 / 2 ** (level + 1)), f(2 * math.pi / 6)
    direction = np.empty(3, np.float32)
    for n in range(len(parents)):
        parent, x, y, tilt = parents[n], 0, 0, 0
        for bit in range(level):  # as `so3_grid._split` reads the digits
            digit = parent >> 3 * bit & 7
            tilt |= (digit & 1) << bit
            x |= (digit >> 1 & 1) << bit
            y |= (digit >> 2 & 1) << bit
        face, base_tilt = divmod(parent >> 3 * level, 6)
        tilt += base_tilt << level
        base = frames[face]
        for child in range(4):
            u, v = f(2 * x + child % 2 + 0.5) * scale, f(2 * y + child // 2 + 0.5) * scale
            _face_to_direction(face, u, v, direction)
            dx, dy, dz = direction[0], direction[1], direction[2]
            cx, cy, cz = base[0, 2] + dx, base[1, 2] + dy, base[2, 2] + dz
            carried = f(1) + base[0, 2] * dx + base[1, 2] * dy + base[2, 2] * dz
            for t in range(2):
                angle = f(2 * tilt + t + 0.5) * scale * turn
                cos, sin = math.cos(angle), math.sin(angle)
                out = result[n, 2 * child + t]
                across = (base[0, 0] * dx + base[1, 0] * dy + base[2, 0] * dz) / carried
                along = (base[0, 1] * dx + base[1, 1] * dy + base[2, 1] * dz) / carried
                for axis in range(3):
                    middle = cx if axis == 0 else cy if axis == 1 else cz
                    fx, fy = base[axis, 0] - across * middle, base[axis, 1] - along * middle
                    out[axis, 0], out[axis, 1] = cos * fx + sin * fy, cos * fy - sin * fx
                    out[axis, 2] = direction[axis]
