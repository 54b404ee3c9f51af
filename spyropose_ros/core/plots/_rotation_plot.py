"""Rotations of a pose distribution on a Mollweide map.

The rotation plot follows the idea of Implicit-PDF (Murphy et al., ICML 2021): a rotation has three
degrees of freedom, two become a position on the map and the third becomes a colour.

* Position: the direction in which one object axis (x by default) points, in the camera frame. The
  map is centred on "towards the camera", or on "away from the camera" where more of the probability
  is there, so that its rim does not cut through the distribution. Up is up, and left and right are
  those of the image, in both: the one shows the globe of directions from outside, the other from
  inside.
* Colour: the rotation about that axis, counter-clockwise on the globe seen from outside, from local
  north to the next-but-one object axis (z when the position shows x). So the colour says where
  object z points on the map, and the colour wheel in the legend is drawn the same way: the top of
  the wheel is "object z points up as far as it can".

For an object that looks alike from all sides around its z axis, x sweeps a great circle: an unknown
rotation about z is a ring on the map, and one that is known in part, as of a mug that hides its
handle, an arc. It has one colour when z is vertical and runs through the hues the more z leans to
the camera. Showing z itself would draw the whole ring as one dot. The colour is undefined only
where x points straight up or down (the poles).
"""

import functools
from typing import NamedTuple

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
FAINT = (120, 125, 134)
AXIS_NAMES = "xyz"
AXIS_WORDS = ("red", "green", "blue")  # as overlays draw them

_NEIGHBOURHOOD = np.deg2rad(6.0)  # a dot's area shows the probability within this angle
_AWAY = 0.1  # more of the probability than near the other seam, for which the map is turned
_SUPERSAMPLE = 2  # the map is drawn enlarged and shrunk
_WORDS, _SMALL = 0.5, 0.44  # sizes of text in a figure of 480 x 320
_THETAS = np.linspace(-np.pi / 2, np.pi / 2, 4097)  # Mollweide's auxiliary angle, and its latitude
_LATITUDES = np.arcsin(np.clip((2 * _THETAS + np.sin(2 * _THETAS)) / np.pi, -1, 1))


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
    grow with the probability within 6 degrees of it. Crosses are the modes, the leading one large.

    Args:
        distribution: the PoseDistribution to draw.
        size: (width, height) of the figure in pixels, at least (240, 160).
        truth: true rotation(s), object to camera, [3, 3] or [K, 3, 3] for equivalent ones; drawn as
            hollow circles in the colour of their rotation about the axis.
        axis: object axis that gives the position on the map: "x", "y" or "z". Take one that is
            not the object's symmetry axis.
        samples: number of poses to draw.

    Returns:
        RGB image, uint8 [height, width, 3], with a legend.

    Raises:
        InputError: if size, truth, axis or samples is not usable.
    """
    width, height = _checked_size(size, (240, 160))
    column = _checked_axis(axis)
    unit = _SUPERSAMPLE * min(width / 480, height / 320)
    canvas = np.full((_SUPERSAMPLE * height, _SUPERSAMPLE * width, 3), 255, np.uint8)
    top, bottom = round(26 * unit), round(88 * unit)
    words = f"where the object's {axis} axis ({AXIS_WORDS[column]}) points"
    drawing.text(canvas, words, np.array([10, 14]) * unit, _WORDS * unit, centred=False)
    masses, away = _draw_map(canvas[top:-bottom], distribution, truth, column, samples, unit)
    legend = canvas[-bottom:]
    wheel = _wheel(column, away, unit)
    legend[: len(wheel), -wheel.shape[1] :] = wheel
    _draw_signs(legend, masses, truth is not None, unit)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)


def rotation_map(
    distribution: PoseDistribution,
    size: tuple[int, int] = (480, 250),
    truth: Tensor | np.ndarray | None = None,
    axis: str = "x",
    samples: int = 512,
) -> np.ndarray:
    """Draw the map of a `rotation_plot` alone, for figures that explain several maps at once.

    Args:
        distribution: the PoseDistribution to draw.
        size: (width, height) of the figure in pixels, at least (240, 125).
        truth: true rotation(s) as in `rotation_plot`.
        axis: object axis that gives the position on the map.
        samples: number of poses to draw.

    Returns:
        RGB image, uint8 [height, width, 3].

    Raises:
        InputError: if size, truth, axis or samples is not usable.
    """
    width, height = _checked_size(size, (240, 125))
    column = _checked_axis(axis)
    canvas = np.full((_SUPERSAMPLE * height, _SUPERSAMPLE * width, 3), 255, np.uint8)
    unit = _SUPERSAMPLE * min(width / 310, height / 162)  # larger words: such maps are shown small
    _draw_map(canvas, distribution, truth, column, samples, unit)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)


class _Map(NamedTuple):
    """Where the globe lies on a canvas, in pixels.

    Attributes:
        centre: [2].
        half: half width and half height, [2].
        away: whether its centre is away from the camera.
    """

    centre: np.ndarray
    half: np.ndarray
    away: bool

    @classmethod
    def within(cls, width: int, height: int, away: bool, unit: float) -> "_Map":
        half_width = min(width / 2 - 8 * unit, height - 6 * unit)
        centre = np.array([width - 1, height - 1]) / 2
        return cls(centre, np.array([half_width, half_width / 2]), away)

    def pixels(self, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
        """Project directions, with longitudes from the map's centre, to pixels (Mollweide)."""
        theta = np.interp(latitude, _LATITUDES, _THETAS)
        unit = np.stack([longitude / np.pi * np.cos(theta), -np.sin(theta)], axis=-1)
        return self.centre + unit * self.half

    def of(self, rotations: np.ndarray, column: int) -> np.ndarray:
        """Return the pixels [N, 2] where rotations [N, 3, 3] lie."""
        x, y, z = rotations[:, :, column].T
        longitude = np.arctan2(x, z if self.away else -z)
        return self.pixels(longitude, np.arcsin(np.clip(-y, -1, 1)))


def _draw_map(
    canvas: np.ndarray,
    distribution: PoseDistribution,
    truth: Tensor | np.ndarray | None,
    column: int,
    samples: int,
    unit: float,
) -> tuple[list[float], bool]:
    """Draw a distribution on an empty canvas; return its modes' masses and the map's `away`."""
    rotations = fixed_samples(distribution, samples)[0].numpy()
    mass = _neighbourhood_mass(rotations)
    order = np.argsort(mass, kind="stable")  # the most probable dots end up on top
    rotations, root = rotations[order], np.sqrt(mass[order])

    globe = _Map.within(canvas.shape[1], canvas.shape[0], _points_away(rotations, column), unit)
    canvas[:] = _background(*canvas.shape[:2], globe.away, unit)
    largest = 10 * unit
    radii = np.maximum(largest * root, 0.12 * largest)
    colours = _colours(rotations, column)
    colours = 255 + np.clip(0.45 + 2.5 * root, 0, 1)[:, None] * (colours - 255)
    for pixel, radius, colour in zip(globe.of(rotations, column), radii, colours, strict=True):
        drawing.disc(canvas, pixel, radius, colour)
    if truth is not None:
        true = _checked_rotations(truth)
        _draw_truth(canvas, globe.of(true, column), _colours(true, column), unit)
    modes = distribution.modes()
    if modes:
        turns = np.stack([np.asarray(mode.rotation.cpu(), dtype=float) for mode in modes])
        for k, pixel in reversed(list(enumerate(globe.of(turns, column)))):
            _draw_cross(canvas, pixel, k == 0, unit)
    return [mode.mass for mode in modes], globe.away


def _points_away(rotations: np.ndarray, column: int) -> bool:
    """Return whether the map's rim cuts less if its centre is away from the camera."""
    x, _, z = rotations[:, :, column].T
    ahead = np.cos(np.arctan2(x, z))  # of the longitude, from "away"
    return bool((ahead > 0.5).mean() > (ahead < -0.5).mean() + _AWAY)


def _colours(rotations: np.ndarray, column: int) -> np.ndarray:
    """Return the colours [N, 3] of the rotation about the axis."""
    direction = rotations[:, :, column]  # [N, 3]
    pointer = rotations[:, :, _pointer(column)]  # [N, 3]
    x, _, z = direction.T
    longitude = np.arctan2(x, -z)
    east = np.stack([np.cos(longitude), np.zeros_like(x), np.sin(longitude)], axis=1)
    north = np.cross(direction, east)  # seen from outside: east right, north up
    return _wheel_colours(np.arctan2(-(pointer * east).sum(1), (pointer * north).sum(1)))


def _pointer(axis: int) -> int:
    """Return the object axis whose direction gives the colour when `axis` gives the position."""
    return (axis + 2) % 3


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


def _draw_truth(canvas: np.ndarray, pixels: np.ndarray, colours: np.ndarray, unit: float) -> None:
    """Draw hollow circles; those at one pixel are concentric."""
    for k, (pixel, colour) in enumerate(zip(pixels, colours, strict=True)):
        same = int((np.linalg.norm(pixels[:k] - pixel, axis=1) < 4 * unit).sum())
        radius = (13 + 5.0 * same) * unit
        drawing.disc(canvas, pixel, radius, drawing.INK, thickness=round(5 * unit))
        drawing.disc(canvas, pixel, radius, colour, thickness=round(2.5 * unit))


def _draw_cross(canvas: np.ndarray, pixel: np.ndarray, leading: bool, unit: float) -> None:
    """Draw the sign of a mode."""
    arm = (8 if leading else 5) * unit
    for colour, width in (((255, 255, 255), 5.0), ((20, 22, 26), 2.2)):
        for step in ((arm, 0), (0, arm)):
            thickness = max(1, round(width * unit))
            drawing.line(canvas, pixel - np.array(step), pixel + np.array(step), colour, thickness)


@functools.lru_cache(maxsize=16)
def _background(height: int, width: int, away: bool, unit: float) -> np.ndarray:
    """Draw the empty map with graticule and directions; read-only."""
    canvas = np.full((height, width, 3), 255, np.uint8)
    globe = _Map.within(width, height, away, unit)
    stroke = max(1, round(unit))
    along = np.linspace(-np.pi, np.pi, 181)
    for longitude in np.deg2rad(np.arange(-150, 151, 30)):
        drawing.curve(canvas, globe.pixels(np.full(181, longitude), along / 2), GRID, stroke)
    for latitude in np.deg2rad(np.arange(-60, 61, 30)):
        drawing.curve(canvas, globe.pixels(along, np.full(181, latitude)), GRID, stroke)
    for side in (-np.pi, np.pi):
        drawing.curve(canvas, globe.pixels(np.full(181, side), along / 2), RIM, stroke + 1)
    centre = ("away from", "the camera") if away else ("towards", "the camera")
    for longitude, words in ((-95, ("left",)), (0, centre), (95, ("right",))):
        pixel = globe.pixels(np.deg2rad([longitude]), np.deg2rad([-30.0]))[0]
        for k, word in enumerate(words):
            drawing.text(canvas, word, pixel + (0, 16 * k * unit), _SMALL * unit, FAINT)
    for latitude, word in ((70.0, "up"), (-70.0, "down")):
        pixel = globe.pixels(np.zeros(1), np.deg2rad([latitude]))[0]
        drawing.text(canvas, word, pixel, _SMALL * unit, FAINT)
    canvas.setflags(write=False)
    return canvas


def _draw_signs(canvas: np.ndarray, masses: list[float], truth: bool, unit: float) -> None:
    """Explain the signs on the map, on an empty canvas."""
    line, row = np.array([20, 13]) * unit, np.array([0, 20]) * unit

    def write(words: str) -> None:
        drawing.text(canvas, words, line + (18 * unit, 0), _SMALL * unit, centred=False)

    for k, radius in enumerate((1.5, 3, 5)):
        drawing.disc(canvas, line + ((8 * k - 9) * unit, 0), radius * unit, _RED)
    write("poses, larger where probable")
    line = line + row
    if masses:
        _draw_cross(canvas, line, True, unit)
        others = f"; small: {len(masses) - 1} other" if len(masses) > 1 else ""
        write(f"leading mode, {masses[0]:.0%}{others}")
        line = line + row
    if truth:
        drawing.disc(canvas, line, 6 * unit, drawing.INK, thickness=round(4 * unit))
        drawing.disc(canvas, line, 6 * unit, _RED, thickness=round(1.5 * unit))
        write("truth")


_RED = tuple(_wheel_colours(np.zeros(1))[0])


@functools.lru_cache(maxsize=16)
def _wheel(column: int, away: bool, unit: float) -> np.ndarray:
    """Draw the colour wheel as angles look on the map: counter-clockwise, or seen from inside."""
    canvas = np.full((int(86 * unit), int(160 * unit), 3), 255, np.uint8)
    radius = 25 * unit
    centre = np.array([110 * unit, canvas.shape[0] / 2])
    reach = int(np.ceil(radius))
    x, y = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    distance = np.hypot(x, y)
    ring = (distance <= radius) & (distance >= 0.62 * radius)
    left, top = np.round(centre).astype(int) - reach
    patch = canvas[top : top + len(y), left : left + len(x)]
    patch[ring] = np.round(_wheel_colours(np.arctan2(x if away else -x, -y)[ring]))
    for turn, word in ((-1, "up"), (1, "down")):
        pixel = centre + (0, turn * (radius + 9 * unit))
        drawing.text(canvas, word, pixel, _SMALL * unit)
    pointer = _pointer(column)
    words = ("colour:", f"where {AXIS_NAMES[pointer]}", f"({AXIS_WORDS[pointer]})", "points")
    for k, word in enumerate(words):
        pixel = np.array([2 * unit, centre[1] + (k - 1.5) * 17 * unit])
        drawing.text(canvas, word, pixel, _SMALL * unit, centred=False)
    canvas.setflags(write=False)
    return canvas


def _checked_size(size: tuple[int, int], least: tuple[int, int]) -> tuple[int, int]:
    if len(size) != 2 or size[0] < least[0] or size[1] < least[1]:
        raise InputError(f"size must be (width, height) of at least {least}, got {size}")
    return int(size[0]), int(size[1])


def _checked_axis(axis: str) -> int:
    if axis not in tuple(AXIS_NAMES):
        raise InputError(f'axis must be "x", "y" or "z", got {axis!r}')
    return AXIS_NAMES.index(axis)


def _checked_rotations(truth: Tensor | np.ndarray) -> np.ndarray:
    rotations = np.asarray(torch.as_tensor(truth).detach().cpu(), dtype=np.float64)
    if rotations.shape[-2:] != (3, 3) or rotations.ndim not in (2, 3):
        raise InputError(f"truth must be rotations [3, 3] or [K, 3, 3], got {rotations.shape}")
    return rotations.reshape(-1, 3, 3)
