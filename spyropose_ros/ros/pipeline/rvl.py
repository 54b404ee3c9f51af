"""RVL, the lossless compression of depth images that compressed_depth_image_transport offers.

Source: A. D. Wilson, Fast Lossless Depth Image Compression, ISS 2017. Zeros and other values take
turns: the number of zeros, the number of other values, and of these the difference to the one
before. Each number is written three bits at a time, the lowest first, in half bytes whose fourth
bit says that more follow; 32-bit words hold eight of them, the first in the highest bits.
"""

from __future__ import annotations

import numpy as np

_LONGEST = 10  # half bytes of a number; those of any image have fewer


def decode_rvl(data: bytes, count: int) -> np.ndarray:
    """Decode the values of an image.

    Args:
        data: as compressed.
        count: number of values, which the caller bounds.

    Returns:
        uint16 [count].

    Raises:
        ValueError: if the data are cut off or do not have that many values.
    """
    numbers = _numbers(data)
    known = numbers.tolist()  # faster one by one
    heads, runs = [], []  # where the lengths of two runs stand, and the lengths
    place = head = 0
    while place < count and head + 1 < len(known):
        zeros, others = known[head : head + 2]
        heads += [head, head + 1]
        runs += [zeros, others]
        place += zeros + others
        head += 2 + others
    folded = np.delete(numbers[:head], heads)
    if place != count or len(folded) != sum(runs[1::2]):
        raise ValueError("RVL data are cut off or of another size")
    values = np.zeros(count, np.uint16)
    measured = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    values[measured] = np.cumsum(folded >> 1 ^ -(folded & 1)).astype(np.uint16)
    return values


def _numbers(data: bytes) -> np.ndarray:
    """Split data into its numbers, int64 [n]; padding at the end becomes zeros."""
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4")
    halves = (words[:, None] >> np.arange(28, -4, -4, dtype=np.uint32) & 15).ravel()
    ends = np.flatnonzero(halves < 8)
    starts = np.insert(ends[:-1] + 1, 0, 0)[: len(ends)]
    lengths = ends - starts + 1
    if not len(ends) or lengths.max() > _LONGEST:
        raise ValueError("RVL data are damaged")
    digits = halves[: ends[-1] + 1].astype(np.int64) & 7
    place = np.arange(len(digits)) - np.repeat(starts, lengths)
    return np.add.reduceat(digits << 3 * place, starts)
