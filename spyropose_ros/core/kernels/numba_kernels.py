"""The CPU's kernels of the search; imports Numba, which takes time."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types

_GELU_END = 5.5  # beyond, the normal distribution's tail does not matter in float32
_GELU_TOP = (0.39894199, 0.035141658, 0.0047615659, 1.8284988e-4, 6.5305489e-6, 2.2215664e-8)
_GELU_BOTTOM = (0.25475067, 0.029398287, 0.0019623891, 7.8606878e-5, 1.1953757e-6)


def compiled(
    *arguments: types.Type, fastmath: bool | set[str] = False
) -> Callable[[Callable], Callable]:
    """Compile now, or read from the cache beside the source or in the user's cache folder.

    Without types of arguments it is compiled at the first call, for those it is called with.
    """
    signature = [types.void(*arguments)] if arguments else []
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}

    njit: Callable = numba.njit  # its annotations reject options in a dictionary

    def decorate(function: Callable) -> Callable:
        try:
            return njit(*signature, cache=True, **options)(function)
        except RuntimeError:  # no cache can be written: compiled every time, for seconds
            return njit(*signature, **options)(function)

    return decorate


@compiled(
    types.int64[::1],
    types.float32[:, :, :, ::1],
    types.float32[:, :, ::1],
    types.int64,
    types.int64,
    types.int64,
    types.int32[:, :, ::1],
    types.float32[:, :, ::1],
)
def look_up(
    image: np.ndarray,
    rotated: np.ndarray,
    moved: np.ndarray,
    batch: int,
    height: int,
    width: int,
    rows: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Look up where N = M R T poses put their keypoints, in one pass that stays in registers.

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


@compiled(types.float32[:, ::1], types.float32[::1], fastmath={"contract", "arcp", "nsz"})
def gelu(values: np.ndarray, bias: np.ndarray) -> None:
    """Add a bias and apply GELU in place, to 3e-7 of its value or of 1, in vector instructions.

    The error function is a rational function, fitted to it in the least squares of the error of
    GELU: a library's, called for each value, takes twice the time.

    Args:
        values: float32 [N, H]. NaN stays NaN.
        bias: of the columns, float32 [H].
    """
    f = np.float32
    for n in range(len(values)):
        for i in range(values.shape[1]):
            x = values[n, i] + bias[i]
            bounded = min(max(x, f(-_GELU_END)), f(_GELU_END))
            s = bounded * bounded
            top = f(_GELU_TOP[5])
            top = top * s + f(_GELU_TOP[4])
            top = top * s + f(_GELU_TOP[3])
            top = top * s + f(_GELU_TOP[2])
            top = top * s + f(_GELU_TOP[1])
            top = top * s + f(_GELU_TOP[0])
            bottom = f(_GELU_BOTTOM[4])
            bottom = bottom * s + f(_GELU_BOTTOM[3])
            bottom = bottom * s + f(_GELU_BOTTOM[2])
            bottom = bottom * s + f(_GELU_BOTTOM[1])
            bottom = bottom * s + f(_GELU_BOTTOM[0])
            bottom = bottom * s + f(1)
            values[n, i] = x * (f(0.5) + bounded * top / bottom)
