"""Whether a camera matrix can belong to an image: mistakes that would be off by metres."""

from __future__ import annotations

import numpy as np

CENTERED = 0.2  # of the size: how far from the middle the principal point of a whole image lies
SCALES = (0.67, 1.5)  # of the principal point, over that of the middle; beyond, K of another size
SAME_SCALE = 0.1  # relative difference of that factor between x and y
SHORTEST, LONGEST = 0.1, 50.0  # focal length over the longer side: 157 and 1 degree wide
SQUARE = 1.25  # most that fx and fy differ; old analogue cameras reach 1.1


def doubt(
    name: str,
    given: np.ndarray,
    used: np.ndarray,
    size: tuple[int, int],
    sensor: tuple[int, int] | None,
) -> str | None:
    """Tell why a camera matrix can hardly belong to an image.

    Args:
        name: of the matrix, K or P.
        given: as in camera_info, [3, 3].
        used: after binning and region of interest, [3, 3].
        size: width and height of the image in pixels.
        sensor: width and height of what the image is a part of, if camera_info says that it is.

    Returns:
        What is implausible and its likely cause; None if the matrix may be right.
    """
    width, height = size
    fx, fy, x, y = _values(used)
    has = f"{name} has the principal point ({x:.0f}, {y:.0f}) of a {width}x{height} image"
    if x == y == 0:
        return f"{has}, a corner: fill cx and cy"
    if _within(given, size, CENTERED) and not _within(used, size, CENTERED):
        return (
            f"after binning and region of interest, {has}; without them it would be in the middle, "
            f"so they seem to be applied already: give {name} of the whole sensor, or no "
            "binning and no region"
        )
    scales = (2 * x + 1) / width, (2 * y + 1) / height
    scale = sum(scales) / 2
    alike = abs(scales[0] - scales[1]) <= SAME_SCALE * scale
    if alike and sensor is None and not SCALES[0] < scale < SCALES[1]:
        return (
            f"{has}, which fits an image {scale:.2g} times as large: use the calibration of "
            "this resolution, unless the image is a crop"
        )
    inside = sensor is not None and _within(given, sensor, 0.5)  # and the image anywhere in it
    if not (inside or _within(used, size, 1.5)):
        return (
            f"{has}, more than an image away: use the calibration of this resolution and of "
            "this part of the sensor"
        )
    if min(fx, fy) < SHORTEST * max(size) or max(fx, fy) > LONGEST * max(size):
        return (
            f"{name} has the focal lengths {fx:.3g} and {fy:.3g}, which no lens has "
            f"for {width}x{height} pixels: give them in pixels, not in millimetres or fractions of "
            "the image"
        )
    fx, fy, _, _ = _values(given)
    if not 1 / SQUARE < fx / fy < SQUARE:
        return (
            f"{name} has fx = {fx / fy:.2g} fy: use the calibration of this resolution, if the "
            "image was resized to another shape"
        )
    return None


def _values(matrix: np.ndarray) -> list[float]:
    """Return fx, fy, cx, cy of a camera matrix [3, 3]."""
    return matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()


def _within(matrix: np.ndarray, size: tuple[int, int], limit: float) -> bool:
    """Tell whether the principal point of a matrix [3, 3] is near the middle of an image.

    Args:
        matrix: the camera matrix.
        size: width and height in pixels.
        limit: how far it may be away, as a share of the size.
    """
    point = np.array(_values(matrix)[2:])
    return bool((abs((point + 0.5) / size - 0.5) <= limit).all())
