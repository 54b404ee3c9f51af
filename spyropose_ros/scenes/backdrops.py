"""Cluttered images to put behind the object, like a real table; made once."""

import cv2
import numpy as np

from spyropose_ros.scenes.clutter import background
from spyropose_ros.scenes.sprites import SpriteBank

HEIGHT, WIDTH = 360, 480
"""Of a crowded image, pixels."""

_THINGS = (20, 90)
_FOCAL_OVER_Z = (250.0, 800.0)  # pixels per metre
_ZOOM = (0.5, 1.0)  # share of the image that is shown


class BackdropBank:
    """Backgrounds: plain ones, and crowded ones that show random ground under layers of things.

    Attributes:
        images: the crowded ones, uint8 [HEIGHT, WIDTH, 3] each.

    Args:
        sprites: the things.
        count: number of crowded images; without any, all backgrounds are plain.
        share: of the backgrounds that are crowded.
        rng: source of randomness.
    """

    images: list[np.ndarray]

    def __init__(self, sprites: SpriteBank, count: int, share: float, rng: np.random.Generator):
        self._share = share
        self.images = [_crowd(sprites, rng) for _ in range(count)]

    def draw(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        """Return a plain background, or a random part of a random crowded image.

        Args:
            rng: source of randomness.
            height: pixels.
            width: pixels.

        Returns:
            [height, width, 3] uint8.
        """
        if not self.images or rng.random() >= self._share:
            return background(rng, height, width)
        image = self.images[rng.integers(len(self.images))]
        # The largest part of the wanted shape, then zoomed.
        scale = min(HEIGHT / height, WIDTH / width) * rng.uniform(*_ZOOM)
        size = np.maximum(np.array([height, width]) * scale, 1).astype(int)
        y, x = (rng.uniform(0, 1, 2) * ([HEIGHT, WIDTH] - size)).astype(int)
        part = image[y : y + size[0], x : x + size[1]]
        if rng.random() < 0.5:
            part = part[:, ::-1]
        if rng.random() < 0.25:
            part = part[::-1]
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)


def _crowd(sprites: SpriteBank, rng: np.random.Generator) -> np.ndarray:
    """Return one image, [HEIGHT, WIDTH, 3] uint8."""
    image = background(rng, HEIGHT, WIDTH)
    for _ in range(rng.integers(0, 4)):  # sheets of paper, boards, posters
        _lay_sheet(image, rng)
    for _ in range(rng.integers(1, 4)):
        count = rng.integers(_THINGS[0], _THINGS[1]) // 3
        sprites.scatter(image, rng.uniform(*_FOCAL_OVER_Z), count, rng)
    return image


def _lay_sheet(image: np.ndarray, rng: np.random.Generator) -> None:
    """Lay another ground over a random quadrilateral, in place."""
    sheet = background(rng, HEIGHT, WIDTH)
    centre = rng.uniform(0, 1, 2) * [WIDTH, HEIGHT]
    angles = np.sort(rng.uniform(0, 2 * np.pi, 4))
    reach = rng.uniform(0.2, 0.7, 4) * WIDTH
    corners = centre + reach[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255)
    cv2.copyTo(sheet, mask, image)
