"""The CPU's kernel for gradients of depthwise convolutions; imports Numba, which takes time."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import types

from spyropose_ros.core.kernels.numba_kernels import compiled

BLOCK = 48  # channels of a pass, so that its buffers stay in the L1 cache


@cache
def gradients(size: int, stride: int) -> Callable:
    """Return the kernel for convolutions of a size and a stride, compiled on first use."""
    edge, run = size // 2, 4  # output pixels at once, whose gradients stay in registers
    span = (run - 1) * stride + size  # input pixels that a run of output pixels sees

    @compiled(
        types.float32[:, :, :, ::1],
        types.float32[:, :, :, ::1],
        types.float32[:, :, :, ::1],
        types.float32[:, :, ::1],
        types.int64,
        types.float32[:, :, :, ::1],
        types.float32[:, :, ::1],
        types.float32[::1],
        fastmath={"contract", "nsz", "reassoc"},
    )
    def kernel(
        x: np.ndarray,
        y: np.ndarray,
        dy: np.ndarray,
        weight: np.ndarray,
        first: int,
        dx: np.ndarray,
        dweight: np.ndarray,
        dbias: np.ndarray,
    ) -> None:
        """Compute gradients of y = relu6(convolution(x) + bias), x = relu6(...), for some channels.

        Args:
            x: input, 0 to 6, float32 [B, H, W, C].
            y: output, 0 to 6, float32 [B, h, w, C].
            dy: gradient to y, likewise.
            weight: float32 [size, size, C].
            first: channel of the block.
            dx: result, gradient to what was cut off at 0 and 6 to be x, as x.
            dweight: result, as weight.
            dbias: result, float32 [C].
        """
        batch, height, width, channels = x.shape
        rows, columns = dy.shape[1:3]
        n = min(BLOCK, channels - first)
        runs = (columns + run - 1) // run
        wide = (runs * run - 1) * stride + size
        zero, six = np.float32(0), np.float32(6)
        # Padded with zeros; the compiler knows the number of channels.
        image = np.zeros((height, wide, BLOCK), np.float32)
        dimage = np.empty((height, wide, BLOCK), np.float32)
        drow = np.zeros((runs * run, BLOCK), np.float32)
        taps = np.zeros((size, size, BLOCK), np.float32)
        dtaps = np.zeros((size, size, BLOCK), np.float32)
        sums = np.zeros(BLOCK, np.float32)
        taps[:, :, :n] = weight[:, :, first : first + n]
        for b in range(batch):
            for i in range(height):
                for j in range(width):
                    given = x[b, i, j, first:]
                    for c in range(n):
                        image[i, edge + j, c] = given[c]
            dimage[:] = zero
            for i in range(rows):
                for j in range(columns):
                    given, dgiven = y[b, i, j, first:], dy[b, i, j, first:]
                    for c in range(n):
                        passed = (given[c] > zero) & (given[c] < six)
                        d = dgiven[c] if passed else zero
                        drow[j, c] = d
                        sums[c] += d
                top = i * stride - edge
                for k in range(max(0, -top), min(size, height - top)):
                    r = top + k
                    for number in range(runs):
                        m, left = number * run, number * run * stride
                        for c in range(BLOCK):
                            d0, d1 = drow[m, c], drow[m + 1, c]
                            d2, d3 = drow[m + 2, c], drow[m + 3, c]
                            for p in range(size):
                                q = left + p
                                dtaps[k, p, c] += (
                                    d0 * image[r, q, c]
                                    + d1 * image[r, q + stride, c]
                                    + d2 * image[r, q + 2 * stride, c]
                                    + d3 * image[r, q + 3 * stride, c]
                                )
                        for c in range(BLOCK):
                            d0, d1 = drow[m, c], drow[m + 1, c]
                            d2, d3 = drow[m + 2, c], drow[m + 3, c]
                            for p in range(span):
                                q = left + p
                                s = dimage[r, q, c]
                                if p < size:
                                    s += d0 * taps[k, p, c]
                                if 0 <= p - stride < size:
                                    s += d1 * taps[k, p - stride, c]
                                if 0 <= p - 2 * stride < size:
                                    s += d2 * taps[k, p - 2 * stride, c]
                                if p - 3 * stride >= 0:
                                    s += d3 * taps[k, p - 3 * stride, c]
                                dimage[r, q, c] = s
            for i in range(height):
                for j in range(width):
                    wanted = dx[b, i, j, first:]
                    for c in range(n):
                        value = image[i, edge + j, c]
                        passed = (value > zero) & (value < six)
                        wanted[c] = dimage[i, edge + j, c] if passed else zero
        dweight[:, :, first : first + n] = dtaps[:, :, :n]
        dbias[first : first + n] = sums[:n]

    return kernel
