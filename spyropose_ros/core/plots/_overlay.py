"""Pose distributions drawn over the image that they were estimated from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spyropose_ros.core.camera import project
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.plots import drawing
from spyropose_ros.core.plots._samples import fixed_samples
from spyropose_ros.core.plots.drawing import AXIS_COLOURS

_GLOW_COLOUR = (255, 190, 40)
_SILHOUETTES = 32  # poses that make up the probability of being covered


def overlay(
    image: np.ndarray,
    K: Tensor | np.ndarray,
    distributions: PoseDistribution | list[PoseDistribution],
    diameter: float | list[float],
    mesh_points: Tensor | np.ndarray | list | None = None,
    truth: tuple | list | None = None,
    labels: str | list[str] | None = None,
    samples: int = 192,
) -> np.ndarray:
    """Draw pose distributions over the image they were estimated from.

    Each object's axes (x red, y green, z blue; half a diameter long) are drawn for poses sampled
    with a fixed seed and add up: where the distribution is sharp the axes are strong lines, where
    an angle is unknown they spread into a fan. The axes of the leading mode are drawn on
    top, those of the truth dashed in white. Given mesh points, a glow shows the probability that
    the object covers a pixel, with an outline at one half.

    Args:
        image: RGB image, uint8 [H, W, 3]; not changed.
        K: camera matrix [3, 3] in pixels (pixel centres at integers).
        distributions: one PoseDistribution or a list of N.
        diameter: object diameter in metres, or a list of N.
        mesh_points: even samples of the object's surface in its frame in metres, [M, 3], or a list
            of N; about 1500 points give a clean outline.
        truth: true pose (R [3, 3], t [3]), object to camera, or a list of N (None where unknown).
        labels: text beside the object, or a list of N.
        samples: number of poses to draw per object.

    Returns:
        RGB image, uint8 [H, W, 3].

    Raises:
        InputError: if an argument has the wrong shape, type or number of entries.
    """
    canvas = _checked_image(image).copy()
    K = _checked_intrinsics(K)
    if isinstance(distributions, (list, tuple)):
        every = list(distributions)
    else:
        every, truth, mesh_points = [distributions], [truth], [mesh_points]
    count = len(every)
    for distribution, size, points, true_pose, label in zip(
        every,
        _per_object(diameter, count, "diameter"),
        _per_object(mesh_points, count, "mesh_points"),
        _per_object(truth, count, "truth"),
        _per_object(labels, count, "labels"),
        strict=True,
    ):
        _draw_object(canvas, K, distribution, size, points, true_pose, label, samples)
    return canvas


def _draw_object(
    canvas: np.ndarray,
    K: Tensor,
    distribution: PoseDistribution,
    diameter: float,
    mesh_points: Any,
    truth: Any,
    label: str | None,
    samples: int,
) -> None:
    """Draw one object's distribution on the canvas."""
    if not diameter > 0:
        raise InputError(f"diameter must be positive (metres), got {diameter}")
    unit = max(1.0, min(canvas.shape[:2]) / 480)
    rotations, translations = fixed_samples(distribution, samples)
    R, t = (part.detach().cpu().float() for part in distribution.mode())
    tips = 0.5 * diameter * torch.eye(3)  # [3, 3]
    extent = _pixels(K, R, t, torch.cat((tips, -tips)))
    if mesh_points is not None:
        points = _checked_points(mesh_points)
        extent = _pixels(K, R, t, points)
        few = slice(_SILHOUETTES)
        pixels = _pixels(K, rotations[few], translations[few], points)
        # A pose covers a cell if one of its points falls into it; cells hold a few points each.
        cell = 2 * np.ptp(extent, axis=0).max() / np.sqrt(len(points))
        # Points beside the camera project far outside the image: no cell is larger than that.
        cell = np.clip(round(np.nan_to_num(cell)), 2, max(canvas.shape))
        drawing.coverage(canvas, pixels, int(cell), _GLOW_COLOUR, unit)
    lines = torch.linspace(0, 1, 48)[:, None] * tips[:, None]  # [3, 48, 3]
    pixels = _pixels(K, rotations, translations, lines.reshape(-1, 3))
    for axis, colour in zip(np.split(pixels, 3, axis=1), AXIS_COLOURS, strict=True):
        drawing.density(canvas, axis, colour, unit)
    ends = torch.cat((torch.zeros_like(tips[:1]), tips))  # origin, x, y, z
    _draw_axes(canvas, _pixels(K, R, t, ends), unit)
    if truth is not None:
        _draw_dashed_axes(canvas, _pixels(K, *_checked_pose(truth), ends), unit)
    if label and np.isfinite(extent).all():
        drawing.label(canvas, label, extent.min(axis=0) - (0, 4 * unit), unit)


def _pixels(K: Tensor, rotation: Tensor, translation: Tensor, points: Tensor) -> np.ndarray:
    """Project object points [M, 3] to pixels [..., M, 2]; NaN behind the camera."""
    in_camera = points @ rotation.mT + translation[..., None, :]
    pixels, depth = project(K, in_camera)
    return pixels.where((depth > 0)[..., None], torch.nan).numpy()


def _draw_axes(canvas: np.ndarray, ends: np.ndarray, unit: float) -> None:
    """Draw solid axes from pixels [4, 2]: origin and the tips of x, y, z."""
    for colour, extra in ((drawing.INK, 2), (None, 0)):
        for tip, axis_colour in zip(ends[1:], AXIS_COLOURS, strict=True):
            drawing.line(canvas, ends[0], tip, colour or axis_colour, round(2 * unit) + extra)


def _draw_dashed_axes(canvas: np.ndarray, ends: np.ndarray, unit: float) -> None:
    """Draw dashed white axes from pixels [4, 2]."""
    for tip in ends[1:]:
        if not np.isfinite((ends[0], tip)).all():
            continue
        dashes = int(np.clip(np.linalg.norm(tip - ends[0]) / (9 * unit), 1, 200))
        for k in range(dashes):
            start, end = (ends[0] + (tip - ends[0]) * f for f in (k / dashes, (k + 0.55) / dashes))
            drawing.line(canvas, start, end, drawing.INK, round(2 * unit) + 2)
            drawing.line(canvas, start, end, (255, 255, 255), round(2 * unit))


def _checked_pose(truth: Any) -> tuple[Tensor, Tensor]:
    try:
        rotation, translation = (torch.as_tensor(part, dtype=torch.float32).cpu() for part in truth)
        return rotation.reshape(3, 3), translation.reshape(3)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"truth must be a pose (R [3, 3], t [3]) per object, or None: {error}"
        ) from error


def _checked_points(points: Any) -> Tensor:
    points = torch.as_tensor(points, dtype=torch.float32).cpu()
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"mesh_points must be [M, 3] in metres, got {tuple(points.shape)}")
    return points


def _checked_image(image: Any) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise InputError(f"image must be a numpy array of dtype uint8, got {kind}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"image must be RGB [H, W, 3], got {image.shape}")
    return image


def _checked_intrinsics(K: Any) -> Tensor:
    K = torch.as_tensor(K, dtype=torch.float32).cpu()
    if K.shape != (3, 3):
        raise InputError(f"K must be a camera matrix [3, 3], got {tuple(K.shape)}")
    if not bool(torch.isfinite(K).all()) or float(K[0, 0]) == 0:
        raise InputError("K must be finite with a focal length; is the camera calibrated?")
    return K


def _per_object(value: Any, count: int, name: str) -> Sequence:
    """Return the value for each object: a list of `count`, or one value for all."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise InputError(f"{name} has {len(value)} entries for {count} distributions")
    return value
