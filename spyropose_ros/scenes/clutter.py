"""Random backgrounds and colours."""

import cv2
import numpy as np


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a random image to put behind everything.

    Args:
        rng: source of randomness.
        height: pixels.
        width: pixels.

    Returns:
        [height, width, 3] uint8.
    """
    base = _BASES[rng.integers(len(_BASES))](rng, height, width)
    for _ in range(rng.integers(0, 3)):
        _draw_shapes(base, rng)
    return base


def uneven_light(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw light and shadow that fall on everything in an image.

    Args:
        rng: source of randomness.
        height: pixels.
        width: pixels.

    Returns:
        [height, width] float32 factor around 1; half of the images have a shadow with an edge.
    """
    cells = rng.integers(2, 6)
    field = (rng.normal(size=(cells, cells)) * rng.uniform(0.05, 0.3)).astype(np.float32)
    light = np.exp(cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC))
    if rng.random() < 0.5:
        edge = rng.normal(size=(rng.integers(2, 6), rng.integers(2, 6))).astype(np.float32)
        shadow = (cv2.resize(edge, (width, height), interpolation=cv2.INTER_CUBIC) > 0.5) * 1.0
        softness = rng.uniform(0.005, 0.03) * max(height, width)
        light *= 1 - rng.uniform(0.2, 0.6) * cv2.blur(shadow, (int(softness) + 1,) * 2)
    return light.astype(np.float32)


def cast_shadow(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Darken an image softly beside an object, in place.

    Args:
        image: [h, w, 3] uint8.
        mask: [h, w] bool, the object.
        rng: source of randomness.
    """
    height, width = mask.shape
    size = np.sqrt(np.count_nonzero(mask))
    small = cv2.resize(
        mask.astype(np.float32), (width // 4 + 1, height // 4 + 1), interpolation=cv2.INTER_AREA
    )
    shift = np.eye(2, 3)
    shift[:, 2] = rng.normal(size=2) * 0.15 * size / 4
    small = cv2.warpAffine(small, shift, (small.shape[1], small.shape[0]))
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.03, 0.15) * size / 4 + 0.3)
    light = 1 - rng.uniform(0.2, 0.7) * cv2.resize(small, (width, height))
    cv2.multiply(image, cv2.merge([light] * 3), dst=image, dtype=cv2.CV_8U)


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw RGB in [0, 1], [3] float32; greys, pale and strong colours are all common."""
    hue = np.float32(rng.random() * 360)
    saturation = np.float32(rng.random() ** 1.5)
    value = np.float32(rng.uniform(0.2, 1.0))
    return cv2.cvtColor(np.array([[[hue, saturation, value]]]), cv2.COLOR_HSV2RGB)[0, 0]


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Make coloured clouds of two scales."""
    coarse, fine = rng.integers(2, 7), rng.integers(8, 64)
    weight = rng.uniform(0.05, 0.4)
    spread = rng.uniform(0.1, 1.0)
    middle = random_colour(rng) * 255
    large = rng.uniform(-127, 127, (coarse, coarse, 3)) * spread * (1 - weight) + middle
    small = rng.uniform(-127, 127, (fine, fine, 1)) * weight
    image = cv2.resize(large.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    detail = cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.convertScaleAbs(np.maximum(cv2.add(image, cv2.merge([detail] * 3)), 0))


def _gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a plain surface under uneven light, with an edge where it meets the next surface."""
    corners = np.stack([random_colour(rng)] * 4).reshape(2, 2, 3) * rng.uniform(0.7, 1.0, (2, 2, 1))
    image = cv2.resize((corners * 255).astype(np.float32), (width, height))
    image = cv2.convertScaleAbs(image)
    if rng.random() < 0.6:
        start = rng.uniform(-0.3, 1.3, 2) * [width, height]
        direction = rng.normal(size=2)
        normal = np.array([-direction[1], direction[0]])
        far = 4 * max(width, height) / np.linalg.norm(direction)
        polygon = start + far * np.array([-direction, direction, direction + normal, normal])
        cv2.fillPoly(image, [polygon.astype(np.int32)], _bytes(rng))
    return image


def _checker(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a tiled, striped or marker-like surface seen at an angle."""
    cells = rng.integers(2, 10, 2)
    period = rng.integers(2, 5)
    if rng.random() < 0.3:
        cells[0] = 1
    palette = (np.stack([random_colour(rng) for _ in range(period)]) * 255).astype(np.uint8)
    if rng.random() < 0.4:
        palette[:2] = [[20] * 3, [235] * 3]
    rows, columns = np.indices((2 * cells[0], 2 * cells[1]))
    regular = (rows + columns * rng.integers(0, 2)) % period
    index = regular if rng.random() < 0.5 else rng.integers(0, period, rows.shape)
    tiles = palette[index]
    source = np.array([[0, 0], [tiles.shape[1], 0], [0, tiles.shape[0]]], np.float32)
    target: np.ndarray = np.array([[0, 0], [width, 0], [0, height]], np.float32)
    target = (target - np.array([width, height], np.float32) / 2) * rng.uniform(0.6, 2.0)
    angle = rng.uniform(0, 2 * np.pi)
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32
    )
    target = target @ rotation.T + np.array([width, height], np.float32) / 2
    matrix = cv2.getAffineTransform(source, target.astype(np.float32))
    return cv2.warpAffine(
        tiles, matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT
    )


def _wood(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a streaky surface, like wood or brushed metal."""
    long, wide = rng.integers(2, 6), rng.integers(20, 120)
    shape = (long, wide) if rng.random() < 0.5 else (wide, long)
    streaks = cv2.resize(rng.normal(size=shape).astype(np.float32), (width, height))
    colour = random_colour(rng) if rng.random() < 0.4 else np.array([0.65, 0.45, 0.28], np.float32)
    colour = colour * rng.uniform(0.5, 1.4)
    image = (1 + rng.uniform(0.05, 0.3) * streaks[..., None]) * (colour * 255)
    return np.clip(image, 0, 255).astype(np.uint8)


_BASES = (_noise, _gradient, _checker, _wood)


def _draw_shapes(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draw polygons, ellipses, lines or rows of marks that look like print, in place."""
    height, width = image.shape[:2]
    size = max(height, width)
    kind = rng.integers(4)
    for _ in range(rng.integers(2, 9)):
        x, y = (rng.uniform(-0.1, 1.1, 2) * [width, height]).astype(int).tolist()
        colour = _bytes(rng)
        if kind == 0:
            corners = [x, y] + rng.normal(size=(rng.integers(3, 6), 2)) * size * 0.15
            cv2.fillPoly(image, [corners.astype(np.int32)], colour)
        elif kind == 1:
            axes = (rng.uniform(0.02, 0.25, 2) * size).astype(int).tolist()
            thickness = -1 if rng.random() < 0.7 else int(rng.integers(1, 6))
            cv2.ellipse(image, (x, y), axes, rng.uniform(0, 360), 0, 360, colour, thickness)
        elif kind == 2:
            end = (rng.uniform(-0.1, 1.1, 2) * [width, height]).astype(int).tolist()
            cv2.line(image, (x, y), end, colour, int(rng.integers(1, 8)))
        else:
            _draw_print(image, rng, x, y, colour)


def _draw_print(image: np.ndarray, rng: np.random.Generator, x: int, y: int, colour) -> None:
    """Draw a line of text-like marks from (x, y) to the right."""
    letter = int(rng.integers(3, 12))
    for index in range(rng.integers(3, 14)):
        left = x + index * (letter + 2)
        if rng.random() < 0.8:
            top = y - int(rng.integers(0, letter // 2 + 1))
            thickness = 1 if rng.random() < 0.5 else -1
            cv2.rectangle(image, (left, top), (left + letter - 1, y + letter), colour, thickness)


def _bytes(rng: np.random.Generator) -> list[int]:
    """Return a random colour as OpenCV wants it."""
    return (random_colour(rng) * 255).astype(int).tolist()
