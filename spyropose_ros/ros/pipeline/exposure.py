"""Whether an image shows anything: a lens cap, a wrong exposure, a camera without a signal."""

from __future__ import annotations

import math

import numpy as np

SAMPLES = 10_000  # pixels looked at
SHARE = 0.999  # of them: a few bright or dead ones do not count, a small object does
BLACK = 16  # of 255: the rest is noise
WHITE = 254
CONTRAST = 8  # of 255, from the darkest to the brightest values


def flaw(image: np.ndarray) -> str | None:
    """Tell what is wrong with the exposure of an image.

    Args:
        image: RGB uint8 [H, W, 3].

    Returns:
        What is wrong and what to do; None if nothing is.
    """
    height, width = image.shape[:2]
    step = max(1, math.isqrt(height * width // SAMPLES))
    pixels = image[::step, ::step]
    counts = np.bincount(pixels.ravel(), minlength=256).cumsum()
    low, high = np.searchsorted(counts, (pixels.size * (1 - SHARE), pixels.size * SHARE))
    if high < BLACK:
        return "the image is nearly black: check lens cap, light, exposure and encoding"
    if low >= WHITE:
        return "the image is saturated nearly everywhere: lower exposure or gain"
    if high - low < CONTRAST:
        return "the image has nearly the same value everywhere: check lens cap, focus and driver"
    return None
