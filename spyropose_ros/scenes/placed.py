"""An object rendered as a whole, and the part of it that is inside an image."""

from typing import NamedTuple

import numpy as np

from spyropose_ros.scenes.renderer import GBuffer, Renderer


class Placed(NamedTuple):
    """An object's own rectangle, which may reach over the border of the image.

    Attributes:
        buffer: what is seen of the object alone in its rectangle.
        total: number of its pixels.
        rows: of the image that the rectangle covers.
        columns: the same.
        inside: the same part, in the rectangle.
    """

    buffer: GBuffer
    total: int
    rows: slice
    columns: slice
    inside: tuple[slice, slice]

    @property
    def corner(self) -> tuple[int, int]:
        """Column and row of the image where the rectangle begins."""
        rows, columns = self.inside
        return self.columns.start - columns.start, self.rows.start - rows.start

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return which pixels of the image the object takes, [height, width] bool."""
        mask = np.zeros((height, width), bool)
        mask[self.rows, self.columns] = self.buffer.mask[self.inside]
        return mask


def place(
    renderer: Renderer,
    rotation: np.ndarray,
    translation: np.ndarray,
    K: np.ndarray,
    width: int,
    height: int,
) -> Placed | None:
    """Render an object as a whole, and find its part inside the image.

    Args:
        renderer: of the object.
        rotation: [3, 3], object to camera.
        translation: [3], object to camera, metres.
        K: [3, 3] intrinsics of the image.
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        The object; None where it takes no pixel or reaches behind the camera.
    """
    bounds = renderer.bounds(rotation, translation, K)
    if not np.isfinite(bounds).all():
        return None
    left, top = np.floor(bounds[:2]).astype(int)
    right, bottom = np.ceil(bounds[2:]).astype(int) + 1
    K_object = K.copy()
    K_object[:2, 2] -= [left, top]
    buffer = renderer.render(rotation, translation, K_object, right - left, bottom - top)
    total = np.count_nonzero(buffer.mask)
    if total == 0:
        return None
    rows = slice(max(top, 0), min(bottom, height))
    columns = slice(max(left, 0), min(right, width))
    inside = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    return Placed(buffer, int(total), rows, columns, inside)
