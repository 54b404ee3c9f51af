"""Rotations of a pose distribution on a Mollweide map.

The rotation plot follows the idea of Implicit-PDF (Murphy et al., ICML 2021): a rotation has three
degrees of freedom, two become a position on the map and the third becomes a colour.

* Position: the direction in which one object axis (x by default) points, in the camera frame. The
  map reads like the image: its middle is "towards the camera", right is right, up is up; the rim is
  "away from the camera".
* Colour: the rotation about that axis, counter-clockwise on the globe seen from outside, from local
  north to the next-but-one object axis (z when the position shows x). So the colour says where
  object z points on the globe, and the colour wheel in the corner is drawn the same way: 0 degrees
  (up on the wheel) is "object z points up as far as it can".

For an object that looks alike from all sides around its z axis, such as a mug with its handle
hidden, x sweeps a great circle: an unknown rotation about z is a ring on the map. It has one
colour when z is vertical and runs through the hues the more z leans to the camera. Showing z itself
would draw the whole ring as one dot. The colour is undefined only where x points straight up or
down (the poles).
"""

import functools

import cv2
import numpy as np
import torch
from torch import Tensor

from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.plots import drawing
from spyropose_ros.core.plots._samples import fixed_samples

GRID = (222, 225, 230)
RIM = (150, 155, 164)
FAINT = (150, 155, 164)
AXIS_NAMES = "xyz"

_NEIGHBOURHOOD = np.deg2rad(6.0)  # a dot's area shows the probability within this angle
_SUPERSAMPLE = 2  # the map is drawn enlarged and shrunk


def rotation_plot(
    distribution: PoseDistribution,
    size: tuple[int, int] = (480, 320),
    truth: Tensor | np.ndarray | None = None,
    axis: str = "x",
    samples: int = 512,
) -> np.ndarray:
    """Draw the rotations of a distribution on a Mollweide map (see the module's description).

    Poses are drawn from the distribution with a fixed seed, uniformly within each cell, so coarse
    cells appear as wide sprinkles and fine ones as points. The area and the strength of each dot
    grow with the probability within 6 degrees of it.

    Args:
        distribution: the PoseDistribution to draw.
        size: (width, height) of the figure in pixels, at least (240, 160).
        truth: true rotation(s), object to camera, [3, 3] or [K, 3, 3] for equivalent ones; drawn as
            hollow circles in the colour of their rotation about the axis.
        axis: object axis that gives the position on the map: "x", "y" or "z". Take one that is
            not the object's symmetry axis.
        samples: number of poses to draw.

    Returns:
        RGB image, uint8 [height, width, 3].

    Raises:
        InputError: if size, truth, axis or samples is not usable.
    """
    if axis not in tuple(AXIS_NAMES):
        raise InputError(f'axis must be "x", "y" or "z", got {axis!r}')
    width, height = _checked_size(size)
    rotations = fixed_samples(distribution, samples)[0].numpy()
    mass = _neighbourhood_mass(rotations)
    order = np.argsort(mass, kind="stable")  # the most probable dots end up on top
    root = np.sqrt(mass[order])

    canvas = _map_background(width, height, axis).copy()
    layout = _Layout(_SUPERSAMPLE * width, _SUPERSAMPLE * height)
    pixels, colours = _pixels_and_colours(rotations[order], axis, layout)
    radii = np.maximum(layout.dot_radius * root, 0.12 * layout.dot_radius)
    colours = 255 + np.clip(0.45 + 2.5 * root, 0, 1)[:, None] * (colours - 255)
    for pixel, radius, colour in zip(pixels, radii, colours, strict=True):
        drawing.disc(canvas, pixel, radius, colour)
    if truth is not None:
        pixels, colours = _pixels_and_colours(_checked_rotations(truth), axis, layout)
        _draw_truth(canvas, pixels, colours, layout)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)


class _Layout:
    """Where the parts of the rotation plot lie, in pixels of the canvas."""

    def __init__(self, width: int, height: int):
        self.unit = min(width / 480, height / 320)
        margin = 10 * self.unit
        self.half_width = min(width - 2 * margin, 2 * (height - 78 * self.unit)) / 2
        self.half_height = self.half_width / 2
        self.centre = np.array([width / 2, 26 * self.unit + self.half_height])
        self.wheel_radius = 22 * self.unit
        self.wheel_centre = np.array([width - 46 * self.unit, height - 42 * self.unit])
        self.dot_radius = 13 * self.unit


def _pixels_and_colours(
    rotations: np.ndarray, axis: str, layout: _Layout
) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels on the map [N, 2] and colours [N, 3] of rotations [N, 3, 3]."""
    column = AXIS_NAMES.index(axis)
    direction = rotations[:, :, column]  # [N, 3]
    pointer = rotations[:, :, _pointer(column)]  # [N, 3]
    x, y, z = direction.T
    longitude = np.arctan2(x, -z)
    latitude = np.arcsin(np.clip(-y, -1, 1))
    east = np.stack([np.cos(longitude), np.zeros_like(x), np.sin(longitude)], axis=1)
    north = np.cross(direction, east)  # seen from outside: east right, north up
    angle = np.arctan2(-(pointer * east).sum(1), (pointer * north).sum(1))
    return _map_pixels(longitude, latitude, layout), _wheel_colours(angle)


def _pointer(axis: int) -> int:
    """Return the object axis whose direction gives the colour when `axis` gives the position."""
    return (axis + 2) % 3


def _map_pixels(longitude: np.ndarray, latitude: np.ndarray, layout: _Layout) -> np.ndarray:
    """Project the globe to pixels [N, 2] (Mollweide)."""
    table = np.linspace(-np.pi / 2, np.pi / 2, 4097)
    table_latitude = np.arcsin(np.clip((2 * table + np.sin(2 * table)) / np.pi, -1, 1))
    theta = np.interp(latitude, table_latitude, table)
    unit = np.stack([longitude / np.pi * np.cos(theta), -np.sin(theta)], axis=-1)
    return layout.centre + unit * (layout.half_width, layout.half_height)


def _wheel_colours(angle: np.ndarray) -> np.ndarray:
    """Return colours [..., 3] of angles: a circle of constant lightness in CIE Lab."""
    angle = angle + np.deg2rad(30)  # 0 is red
    lab = np.stack([np.full_like(angle, 66), 62 * np.cos(angle), 62 * np.sin(angle)], axis=-1)
    flat = lab.reshape(-1, 1, 3).astype(np.float32)
    return 255 * cv2.cvtColor(flat, cv2.COLOR_LAB2RGB).clip(0, 1).reshape(lab.shape)


def _neighbourhood_mass(rotations: np.ndarray) -> np.ndarray:
    """Return the share of the rotations [N, 3, 3] in the neighbourhood of each, [N]."""
    flat = rotations.reshape(len(rotations), 9)
    return (flat @ flat.T >= 1 + 2 * np.cos(_NEIGHBOURHOOD)).mean(axis=1)  # trace = 1 + 2 cos


def _draw_truth(
    canvas: np.ndarray, pixels: np.ndarray, colours: np.ndarray, layout: _Layout
) -> None:
    """Draw hollow circles; those at one pixel are concentric."""
    unit = layout.unit
    for k, (pixel, colour) in enumerate(zip(pixels, colours, strict=True)):
        same = int((np.linalg.norm(pixels[:k] - pixel, axis=1) < 4 * unit).sum())
        radius = 1.2 * layout.dot_radius + (1.5 + 4.5 * same) * unit
        drawing.disc(canvas, pixel, radius, drawing.INK, thickness=round(4.5 * unit))
        drawing.disc(canvas, pixel, radius, colour, thickness=round(2.5 * unit))


@functools.lru_cache(maxsize=8)
def _map_background(width: int, height: int, axis: str) -> np.ndarray:
    """Draw the empty map with graticule, captions and colour wheel, enlarged; read-only."""
    scale = _SUPERSAMPLE
    canvas = np.full((scale * height, scale * width, 3), 255, np.uint8)
    layout = _Layout(scale * width, scale * height)
    stroke = max(1, round(layout.unit))
    along = np.linspace(-np.pi, np.pi, 181)
    for longitude in np.deg2rad(np.arange(-150, 151, 30)):
        drawing.curve(canvas, _map_pixels(np.full(181, longitude), along / 2, layout), GRID, stroke)
    for latitude in np.deg2rad(np.arange(-60, 61, 30)):
        drawing.curve(canvas, _map_pixels(along, np.full(181, latitude), layout), GRID, stroke)
    for side in (-np.pi, np.pi):
        drawing.curve(canvas, _map_pixels(np.full(181, side), along / 2, layout), RIM, stroke + 1)
    for longitude, word in ((-90, "left"), (0, "to camera"), (90, "right")):
        pixel = _map_pixels(np.deg2rad([longitude]), np.zeros(1), layout)[0]
        drawing.text(canvas, word, pixel + (0, 11 * layout.unit), 0.3 * layout.unit, FAINT)
    _draw_wheel(canvas, layout, axis)
    pointer = AXIS_NAMES[_pointer(AXIS_NAMES.index(axis))]
    captions = (
        (13, f"position: where object {axis} points"),
        (height * scale / layout.unit - 26, f"colour: rotation about {axis}"),
        (height * scale / layout.unit - 11, f"0 = {pointer} up"),
    )
    for top, words in captions:
        pixel = np.array([12, top]) * layout.unit
        drawing.text(canvas, words, pixel, 0.36 * layout.unit, centred=False)
    canvas.setflags(write=False)
    return canvas


def _draw_wheel(canvas: np.ndarray, layout: _Layout, axis: str) -> None:
    """Draw the colour wheel: the angle grows counter-clockwise from the top."""
    radius = layout.wheel_radius
    reach = int(np.ceil(radius))
    column, row = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    distance = np.hypot(column, row)
    ring = (distance <= radius) & (distance >= 0.6 * radius)
    x, y = np.round(layout.wheel_centre).astype(int)
    patch = canvas[y - reach : y + reach + 1, x - reach : x + reach + 1]
    patch[ring] = np.round(_wheel_colours(np.arctan2(-column, -row)[ring]))
    drawing.text(canvas, axis, layout.wheel_centre, 0.4 * layout.unit)
    label_radii = radius + np.array([13, 8]) * layout.unit
    for degrees in (0, 90, 180, 270):
        angle = np.deg2rad(degrees)
        pixel = layout.wheel_centre - label_radii * (np.sin(angle), np.cos(angle))
        drawing.text(canvas, str(degrees), pixel, 0.32 * layout.unit)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    if len(size) != 2 or size[0] < 240 or size[1] < 160:
        raise InputError(f"size must be (width, height) of at least (240, 160), got {size}")
    return int(size[0]), int(size[1])


def _checked_rotations(truth: Tensor | np.ndarray) -> np.ndarray:
    rotations = np.asarray(torch.as_tensor(truth).detach().cpu(), dtype=np.float64)
    if rotations.shape[-2:] != (3, 3) or rotations.ndim not in (2, 3):
        raise InputError(f"truth must be rotations [3, 3] or [K, 3, 3], got {rotations.shape}")
    return rotations.reshape(-1, 3, 3)
