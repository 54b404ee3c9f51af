"""What an estimate needs: checks of image, intrinsics and boxes, for Python and the node alike."""

import math
import os
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from spyropose_ros.core.errors import InputError

T = TypeVar("T")

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels; integers are pixel centres."""

_MIN_SIDE = 0.1  # pixels
_MAX_COORDINATE = 1e6  # pixels
_FRACTIONS = (-0.5, 1.5)  # a box within is no box in pixels


def check_image(image: object) -> np.ndarray:
    """Check an image.

    Args:
        image: RGB uint8 [H, W, 3], or a PIL image of mode RGB.

    Returns:
        The same pixels, contiguous and writable as PyTorch wants them.

    Raises:
        InputError: if it is something else.
    """
    if isinstance(image, (str, bytes, os.PathLike)):
        raise InputError(
            f"image must be pixels, not a path: give PIL.Image.open({os.fspath(image)!r})"
            ".convert('RGB')"
        )
    if image is None:
        raise InputError("image is None, which cv2.imread returns for files that it cannot read")
    mode = getattr(image, "mode", None)
    if isinstance(mode, str) and mode != "RGB":
        # more than 8 bits: Pillow clips what it should scale
        remedy = "scale it to 8 bits first" if mode[0] in "IF" else "give image.convert('RGB')"
        raise InputError(f"image is a PIL image of mode {mode}, not RGB: {remedy}")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise InputError(f"image must be RGB uint8 [H, W, 3], got {pixels.dtype} {pixels.shape}")
    return np.require(pixels, requirements=["C", "W"])


def check_intrinsics(K: object) -> np.ndarray:
    """Check intrinsics.

    Args:
        K: [3, 3].

    Returns:
        The same, float64.

    Raises:
        InputError: if it is no camera matrix.
    """
    matrix = _numbers(K, "K must be a 3x3 matrix")
    if (
        matrix.shape != (3, 3)
        or not np.isfinite(matrix).all()
        or matrix[0, 0] <= 0
        or matrix[1, 1] <= 0
        or (matrix[2] != (0, 0, 1)).any()
    ):
        raise InputError(
            "K must be a finite 3x3 matrix with positive focal lengths and the last row 0 0 1, "
            f"got {matrix.tolist()}"
        )
    return matrix


def check_boxes(boxes: object, width: int, height: int) -> np.ndarray:
    """Check the boxes of an image, see `check_box`.

    Args:
        boxes: x0, y0, x1, y1 in pixels, [N, 4].
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        The same, float32; [0, 4] for no boxes in any shape.

    Raises:
        InputError: if one cannot be used; it names the first.
    """
    array = _numbers(boxes, "boxes must be [N, 4] (x0, y0, x1, y1)")
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"boxes must be [N, 4] (x0, y0, x1, y1), got {array.shape}")
    for index, (x0, y0, x1, y1) in enumerate(array.tolist()):
        try:
            check_box((x0, y0, x1, y1), width, height)
        except InputError as error:
            raise InputError(f"boxes[{index}]: {error}") from None
    return array.astype(np.float32)


def usable(
    items: Iterable[T],
    box_of: Callable[[T], Box],
    width: int,
    height: int,
    refuse: Callable[[str], object] = lambda reason: None,
) -> list[T]:
    """Choose what has a usable box; the estimator refuses all boxes of an image for one.

    Args:
        items: detections, or what else has a box.
        box_of: gives the box of one, pixels.
        width: of the image, pixels.
        height: of the image, pixels.
        refuse: called with what is wrong with each of the others.

    Returns:
        The items whose boxes `check_box` takes, in their order.
    """
    chosen = []
    for item in items:
        try:
            check_box(box_of(item), width, height)
            chosen.append(item)
        except InputError as error:
            refuse(str(error))
    return chosen


def _numbers(values: object, what: str) -> np.ndarray:
    """Return numbers as a float64 array; refuse text and rows of unequal lengths."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}, got {str(values)[:60]!r}") from error


def check_box(box: Box, width: int, height: int) -> None:
    """Check a box around a visible object; it may reach over the image's border to its middle.

    Args:
        box: x0, y0, x1, y1 in pixels.
        width: of the image, pixels.
        height: of the image, pixels.

    Raises:
        InputError: if it is empty, not finite, in fractions of the image, or outside of it.
    """
    x0, y0, x1, y1 = box
    shown = "box ({:.4g}, {:.4g}, {:.4g}, {:.4g})".format(*box)
    if not all(map(math.isfinite, box)):
        raise InputError(f"{shown} has values that are not finite: drop it, or fix the detector")
    if not (x0 < x1 and y0 < y1):
        raise InputError(
            f"{shown} is empty, x0 < x1 and y0 < y1 must hold: drop it, or fix the detector"
        )
    if _FRACTIONS[0] <= min(box) and max(box) <= _FRACTIONS[1]:
        raise InputError(
            f"{shown} seems to be in fractions of the image: give pixels, that is, multiply by "
            f"{width} and {height}"
        )
    if min(x1 - x0, y1 - y0) < _MIN_SIDE or max(map(abs, box)) > _MAX_COORDINATE:
        raise InputError(
            f"box of {x1 - x0:.3g} x {y1 - y0:.3g} pixels is too small or too large: fix the "
            "detector"
        )
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise InputError(
            f"centre ({x:g}, {y:g}) of the box is outside the {width}x{height} image: let the "
            "detector give boxes in pixels of this image, not of a resized one"
        )
