"""The CPU's kernel of `lookup`; apart from it because importing this needs Numba."""

import numba
import numpy as np
from numba import types


def _compiled(function):
    """Compiled now, or read from the cache beside the source or in the user's cache folder."""
    rows = types.int32[:, :, ::1]
    weights = types.float32[:, :, ::1]
    poses = types.float32[:, :, :, ::1], types.float32[:, :, ::1]
    size = types.int64
    signature = types.void(types.int64[::1], *poses, size, size, size, rows, weights)
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(signature, cache=True, **options)(function)
    except RuntimeError:  # neither of them can be written: the compiler's two seconds every time
        return numba.njit(signature, **options)(function)


@_compiled
def look_up(image, rotated, moved, batch, height, width, rows, weights):
    """Where N = M R T poses put their keypoints, in one pass that keeps all else in registers.

    Args:
        image: batch element of each family, int64 [M].
        rotated: homogeneous map pixels, the rotations' part, float32 [3, M, R, P].
        moved: the translations' part, float32 [3, M, T].
        batch: number of maps.
        height: of the maps.
        width: of the maps.
        rows: result, see `lookup.Lookup`, int32 [N, 4, P].
        weights: result, likewise, float32 [N, 4, P].
    """
    _, families, rotations, keypoints = rotated.shape
    translations = moved.shape[2]
    right, bottom = np.float32(width - 0.5), np.float32(height - 0.5)  # edges of the map
    zero, half, one, least = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-12)
    padded = height * width + width + 2
    n = 0
    for m in range(families):
        for r in range(rotations):
            for t in range(translations):
                for p in range(keypoints):
                    z = rotated[2, m, r, p] + moved[2, m, t]
                    inverse = one / max(z, least)
                    u = (rotated[0, m, r, p] + moved[0, m, t]) * inverse
                    v = (rotated[1, m, r, p] + moved[1, m, t]) * inverse
                    inside = z > zero and -half <= u <= right and -half <= v <= bottom
                    u = min(max(u, zero), right - half)
                    v = min(max(v, zero), bottom - half)
                    column, row = min(np.int32(u), width - 2), min(np.int32(v), height - 2)
                    x, y = u - np.float32(column), v - np.float32(row)
                    corner = row * width + column if inside else height * width
                    corner += (p * batch + image[m]) * padded
                    rows[n, 0, p], rows[n, 1, p] = corner, corner + 1
                    rows[n, 2, p], rows[n, 3, p] = corner + width, corner + width + 1
                    both = x * y
                    weights[n, 0, p], weights[n, 1, p] = one - y - (x - both), x - both
                    weights[n, 2, p], weights[n, 3, p] = y - both, both
                n += 1
