"""The surroundings of an object in an image."""

import cv2
import numpy as np

_SIDE = 2.2  # of a close-up, in units of the box's longer side


def close_up(
    image: np.ndarray, K: np.ndarray, box: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut out an object and its surroundings, to draw on.

    Args:
        image: RGB uint8 [H, W, 3].
        K: intrinsics, [3, 3].
        box: x0, y0, x1, y1 of the object, pixels, [4].
        size: side of the result, pixels.

    Returns:
        RGB uint8 [size, size, 3] and its intrinsics, [3, 3].
    """
    scale = size / (_SIDE * (box[2:] - box[:2]).max())
    view = np.eye(3)  # from the image's pixels to the result's
    view[:2, :2] *= scale
    view[:2, 2] = (size - 1) / 2 - scale * (box[:2] + box[2:]) / 2
    cut = cv2.warpAffine(
        image, view[:2], (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return cut, view @ K
