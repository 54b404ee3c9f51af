"""The CPU's kernels that read maps at keypoints; imports Numba, which takes time."""

import numpy as np
from numba import types

from spyropose_ros.core.kernels.numba_kernels import compiled

_CONTRACT = {"contract", "nsz"}


@compiled(
    types.float32[:, :, ::1],
    types.float32[::1],
    types.float32[:, ::1],
    types.float32[:, ::1],
    types.float32[:, :, ::1],
    types.float32[:, ::1],
    types.float32[:, :, ::1],
    types.int32[:, ::1],
    types.float32[:, :, ::1],
    fastmath=_CONTRACT,
)
def sample(
    pixels: np.ndarray,
    outside: np.ndarray,
    keypoints: np.ndarray,
    K: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
    values: np.ndarray,
    corners: np.ndarray,
    fractions: np.ndarray,
) -> None:
    """Interpolate a map bilinearly where N poses put P keypoints.

    Args:
        pixels: the map, float32 [h, w, E], both sides at least 2.
        outside: value of keypoints that are not in the map, float32 [E].
        keypoints: float32 [P, 3].
        K: intrinsics of the map, third row (0, 0, 1), float32 [3, 3].
        rotations: float32 [N, 3, 3].
        translations: float32 [N, 3].
        values: result, float32 [N, P, E].
        corners: result, row and column in one of the upper left neighbour, -1 outside,
            int32 [N, P].
        fractions: result, how far right of and below it the keypoint is, float32 [N, P, 2].
    """
    height, width, channels = pixels.shape
    zero, half, one, least = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-12)
    right, bottom = np.float32(width - 0.5), np.float32(height - 0.5)  # edges of the map
    for n in range(len(rotations)):
        r, t = rotations[n], translations[n]
        for p in range(len(keypoints)):
            a, b, c = keypoints[p, 0], keypoints[p, 1], keypoints[p, 2]
            x = r[0, 0] * a + r[0, 1] * b + r[0, 2] * c + t[0]
            y = r[1, 0] * a + r[1, 1] * b + r[1, 2] * c + t[1]
            z = r[2, 0] * a + r[2, 1] * b + r[2, 2] * c + t[2]
            inverse = one / max(z, least)
            u = (K[0, 0] * x + K[0, 1] * y + K[0, 2] * z) * inverse
            v = (K[1, 0] * x + K[1, 1] * y + K[1, 2] * z) * inverse
            if not (z > zero and -half <= u <= right and -half <= v <= bottom):
                corners[n, p] = -1
                for e in range(channels):
                    values[n, p, e] = outside[e]
                continue
            u = min(max(u, zero), right - half)
            v = min(max(v, zero), bottom - half)
            j, i = min(int(u), width - 2), min(int(v), height - 2)
            u, v = u - np.float32(j), v - np.float32(i)
            corners[n, p] = i * width + j
            fractions[n, p, 0], fractions[n, p, 1] = u, v
            for e in range(channels):
                top = pixels[i, j, e] + u * (pixels[i, j + 1, e] - pixels[i, j, e])
                low = pixels[i + 1, j, e] + u * (pixels[i + 1, j + 1, e] - pixels[i + 1, j, e])
                values[n, p, e] = top + v * (low - top)


@compiled(
    types.float32[:, :, ::1],
    types.int32[:, ::1],
    types.float32[:, :, ::1],
    types.float32[:, :, ::1],
    types.float32[::1],
    fastmath=_CONTRACT,
)
def scatter(
    dvalues: np.ndarray,
    corners: np.ndarray,
    fractions: np.ndarray,
    dpixels: np.ndarray,
    doutside: np.ndarray,
) -> None:
    """Compute the gradients of `sample`.

    Args:
        dvalues: gradient to its values, float32 [N, P, E].
        corners: from `sample`.
        fractions: from `sample`.
        dpixels: gradient to its map, which is added to, float32 [h, w, E].
        doutside: gradient to its `outside`, which is added to, float32 [E].
    """
    width, channels = dpixels.shape[1:]
    one = np.float32(1)
    for n in range(len(corners)):
        for p in range(corners.shape[1]):
            if corners[n, p] < 0:
                for e in range(channels):
                    doutside[e] += dvalues[n, p, e]
                continue
            i, j = corners[n, p] // width, corners[n, p] % width
            u, v = fractions[n, p, 0], fractions[n, p, 1]
            for e in range(channels):
                d = dvalues[n, p, e]
                low = d * v
                top = d - low
                dpixels[i, j, e] += top * (one - u)
                dpixels[i, j + 1, e] += top * u
                dpixels[i + 1, j, e] += low * (one - u)
                dpixels[i + 1, j + 1, e] += low * u
