"""Antialiased drawing on RGB images (uint8 [H, W, 3]), in place, at fractional pixels.

Pixels are (x, y), pixel centres at integers. Only functions that OpenCV 4 and 5 share.
"""

from collections.abc import Sequence

import cv2
import numpy as np

AXIS_COLOURS = ((230, 45, 50), (40, 190, 75), (45, 105, 245))  # x, y, z, RGB
INK = (70, 74, 82)
LINE = 20  # height of a caption, pixels
_PLATE = (30, 32, 36)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SHIFT = 4  # fractional bits of cv2 coordinates

Pixel = Sequence[float] | np.ndarray
"""(x, y)."""

Colour = Sequence[float]
"""(r, g, b), from 0 to 255."""


def disc(
    image: np.ndarray, pixel: Pixel, radius: float, colour: Colour | np.ndarray, thickness: int = -1
) -> None:
    """Draw a disc, or a circle when the thickness is positive."""
    fixed_radius = round(float(radius) * (1 << _SHIFT))
    colour = tuple(float(value) for value in colour)
    cv2.circle(image, _fixed(pixel), fixed_radius, colour, thickness, cv2.LINE_AA, _SHIFT)


def line(image: np.ndarray, start: Pixel, end: Pixel, colour: Colour, thickness: int) -> None:
    """Draw a line; nothing if an end is not finite or is far outside."""
    if np.abs(np.array([start, end])).max() < 1e5:  # false for NaN
        cv2.line(image, _fixed(start), _fixed(end), colour, thickness, cv2.LINE_AA, _SHIFT)


def curve(image: np.ndarray, pixels: np.ndarray, colour: Colour, thickness: int) -> None:
    """Draw an open curve through pixels [N, 2]."""
    fixed = np.round(pixels * (1 << _SHIFT)).astype(np.int32)
    cv2.polylines(image, [fixed], False, colour, thickness, cv2.LINE_AA, _SHIFT)


def text(
    image: np.ndarray,
    words: str,
    pixel: Pixel,
    scale: float,
    colour: Colour = INK,
    centred: bool = True,
) -> None:
    """Write words centred on a pixel, or starting there; always centred vertically."""
    thickness = max(1, round(2.4 * scale))
    (width, height), _ = cv2.getTextSize(words, _FONT, scale, thickness)
    origin = round(pixel[0] - width / 2 * centred), round(pixel[1] + height / 2)
    cv2.putText(image, words, origin, _FONT, scale, colour, thickness, cv2.LINE_AA)


def caption(words: str, width: int) -> np.ndarray:
    """Return a white line of text, RGB uint8 [LINE, width, 3]."""
    strip = np.full((LINE, width, 3), 255, np.uint8)
    text(strip, words, (4, LINE / 2), 0.42, centred=False)
    return strip


def rows_of(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    """Join tiles of one size [H, W, 3] to rows; the last is filled with white."""
    filled = [*tiles, *[np.full_like(tiles[0], 255)] * (-len(tiles) % columns)]
    rows = [np.hstack(filled[i : i + columns]) for i in range(0, len(filled), columns)]
    return np.vstack(rows)


def label(image: np.ndarray, words: str, pixel: Pixel, unit: float) -> None:
    """Write words on a dark plate; its lower left corner is at a pixel or nearest inside."""
    height, width = image.shape[:2]
    scale, pad = 0.42 * unit, round(4 * unit)
    (text_width, text_height), _ = cv2.getTextSize(words, _FONT, scale, 1)
    plate_width, plate_height = text_width + 2 * pad, text_height + 2 * pad
    left = int(np.clip(pixel[0], 0, max(0, width - plate_width)))
    top = int(np.clip(pixel[1] - plate_height, 0, max(0, height - plate_height)))
    plate = image[top : top + plate_height, left : left + plate_width]
    blend(plate, _PLATE, np.full(plate.shape[:2], 0.7, np.float32))
    origin = left + pad, top + pad + text_height
    cv2.putText(image, words, origin, _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def blend(region: np.ndarray, colour: Colour, alpha: np.ndarray) -> None:
    """Mix a colour into a region of an image with opacity [H, W] in [0, 1]."""
    alpha = alpha[..., None]
    region[:] = np.round(region * (1 - alpha) + np.asarray(colour, np.float32) * alpha)


def density(image: np.ndarray, pixels: np.ndarray, colour: Colour, unit: float) -> None:
    """Tint the image where many of the pixels [..., 2] lie.

    The opacity follows the square root of the density, so that a thin spread stays visible.
    """
    seen = _inside(image, pixels)
    if not seen.any():
        return
    height, width = image.shape[:2]
    pixels = np.round(pixels[seen]).astype(int)
    margin = int(np.ceil(4 * unit))
    low = np.maximum(pixels.min(axis=0) - margin, 0)
    high = np.minimum(pixels.max(axis=0) + margin + 1, (width, height))
    columns, rows = (int(side) for side in high - low)
    x, y = (pixels - low).T
    counts = np.bincount(y * columns + x, minlength=rows * columns).reshape(rows, columns)
    smooth = cv2.GaussianBlur(counts.astype(np.float32), (0, 0), 1.2 * unit)
    region = image[low[1] : high[1], low[0] : high[0]]
    blend(region, colour, 0.9 * np.sqrt(smooth / smooth.max()))


def coverage(image: np.ndarray, pixels: np.ndarray, cell: int, colour: Colour, unit: float) -> None:
    """Tint pixels by the probability that an object covers them and outline one half.

    Args:
        image: RGB, changed in place.
        pixels: surface points of the object in S equally probable poses, [S, M, 2].
        cell: side in pixels of the squares that one point covers.
        colour: RGB.
        unit: width of the outline in pixels.
    """
    seen = _inside(image, pixels)
    if not seen.any():
        return
    x, y = (pixels[seen] // cell).astype(int).T
    low = np.array([x.min(), y.min()]) - 1
    covered = np.zeros((len(pixels), y.max() - low[1] + 2, x.max() - low[0] + 2), np.float32)
    covered[np.nonzero(seen)[0], y - low[1], x - low[0]] = 1
    probability = cv2.GaussianBlur(covered.mean(axis=0), (0, 0), 0.7)
    probability = cv2.resize(probability, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    left, top = (int(value) for value in low * cell)
    probability = probability[max(0, -top) :, max(0, -left) :].clip(0, 1)
    left, top = max(0, left), max(0, top)
    region = image[top : top + probability.shape[0], left : left + probability.shape[1]]
    probability = probability[: region.shape[0], : region.shape[1]]
    blend(region, colour, 0.35 * probability)
    half = (probability > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(half, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, colour, round(unit), cv2.LINE_AA, offset=(left, top))


def _inside(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return which of the pixels [..., 2] lie in the image, bool [...]; false for NaN."""
    height, width = image.shape[:2]
    x, y = pixels[..., 0], pixels[..., 1]
    return (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)


def _fixed(pixel: Pixel) -> tuple[int, int]:
    """Convert a pixel to cv2 coordinates with fractional bits."""
    x, y = (round(float(value) * (1 << _SHIFT)) for value in pixel)
    return x, y
