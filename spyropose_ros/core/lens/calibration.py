"""Camera matrix and rectification of an image from a sensor_msgs/CameraInfo, or its like."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from spyropose_ros.core.errors import CalibrationError, InputError
from spyropose_ros.core.inputs import Box
from spyropose_ros.core.lens.distortion import read_distortion
from spyropose_ros.core.lens.plausibility import doubt

OUTLINE_POINTS = 8  # per side of a box: straight edges become curves
LARGEST = 1e7  # pixels; no camera has a longer focal length
ROUND_TRIP = 1.0  # pixels by which a rectified point, distorted again, may miss the raw one


@dataclass(frozen=True)
class Calibration:
    """Camera matrix and rectification of the images of one camera.

    Attributes:
        K: camera matrix of the rectified image in pixels, float64 [3, 3].
        warnings: what is suspicious but may be intended.
        lens: how to rectify; None if the image is rectified already.
    """

    K: np.ndarray
    warnings: tuple[str, ...] = ()
    lens: Lens | None = None

    def rectify(self, image: np.ndarray) -> np.ndarray:
        """Rectify an image [H, W, 3]; pixels that the camera did not see are black."""
        if self.lens is None:
            return image
        return cv2.remap(image, *self.lens.maps, cv2.INTER_LINEAR, borderValue=(0, 0, 0))

    def rectify_depth(self, depth: np.ndarray) -> np.ndarray:
        """Rectify depth in metres [H, W] without mixing neighbours; NaN outside the image.

        The depths keep their values although the optical axis rotates a little where R is not the
        identity (stereo cameras).
        """
        if self.lens is None:
            return depth
        return cv2.remap(depth, *self.lens.maps, cv2.INTER_NEAREST, borderValue=float("nan"))

    def rectify_box(self, box: Box) -> Box:
        """Enclose a box of the raw image in an upright box of the rectified image.

        Args:
            box: left, top, right, bottom in pixels.

        Returns:
            The smallest such box; left, top, right, bottom likewise.

        Raises:
            InputError: if a part of the box lies where the lens model cannot be inverted.
        """
        if self.lens is None:
            return box
        points = self.lens.rectify_points(_outline(box))
        if points is None:
            raise InputError(
                f"box ({', '.join(f'{value:.0f}' for value in box)}) extends beyond the range "
                "of the lens model in camera_info: move the object towards the middle of the image",
            )
        left, top = points.min(0).tolist()
        right, bottom = points.max(0).tolist()
        return left, top, right, bottom


@dataclass(frozen=True)
class Lens:
    """A distorting lens and the pinhole camera that its images are rectified to. Hashable.

    Attributes:
        model: one of `distortion.DISTORTION_MODELS`.
        raw: camera matrix of the raw image, nine numbers by rows.
        distortion: coefficients.
        rotation: raw camera to rectified camera, nine numbers by rows.
        rectified: camera matrix of the rectified image, nine numbers by rows.
        size: width and height in pixels of both images.
    """

    model: str
    raw: tuple[float, ...]
    distortion: tuple[float, ...]
    rotation: tuple[float, ...]
    rectified: tuple[float, ...]
    size: tuple[int, int]

    @property
    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Raw position of each pixel of the rectified image, in OpenCV's fixed-point form."""
        return _maps(self)

    def rectify_points(self, points: np.ndarray) -> np.ndarray | None:
        """Map points [N, 2] to the rectified image; None if one cannot be mapped."""
        K, D, R, P = self._matrices()
        pixels = points[:, None]
        if self.model == "equidistant":
            moved = cv2.fisheye.undistortPoints(pixels, K, D, R=R, P=P)
        else:
            moved = cv2.undistortPoints(pixels, K, D, R=R, P=P)
        rays = np.linalg.solve(P, np.insert(moved[:, 0], 2, 1, axis=1).T).T @ R  # [N, 3]
        if not (np.isfinite(rays).all() and (rays[:, 2] > 0).all()):
            return None
        back = self._distort(rays, K, D)
        return moved[:, 0] if np.abs(back - points).max() <= ROUND_TRIP else None

    def _distort(self, rays: np.ndarray, K: np.ndarray, D: np.ndarray) -> np.ndarray:
        """Project rays [N, 3] in the raw camera frame to pixels [N, 2] of the raw image."""
        none = np.zeros(3)
        if self.model == "equidistant":
            return cv2.fisheye.projectPoints(rays[:, None], none, none, K, D)[0][:, 0]
        return cv2.projectPoints(rays, none, none, K, D)[0][:, 0]

    def _matrices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        square = (
            np.reshape(values, (3, 3)) for values in (self.raw, self.rotation, self.rectified)
        )
        K, R, P = square
        return K, np.array(self.distortion), R, P


@functools.lru_cache(maxsize=8)  # one per camera; a zooming camera replaces the oldest
def _maps(lens: Lens) -> tuple[np.ndarray, np.ndarray]:
    K, D, R, P = lens._matrices()
    if lens.model == "equidistant":
        return cv2.fisheye.initUndistortRectifyMap(K, D, R, P, lens.size, cv2.CV_16SC2)
    return cv2.initUndistortRectifyMap(K, D, R, P, lens.size, cv2.CV_16SC2)


def calibrate(info: Any, width: int, height: int, rectified: bool = True) -> Calibration:
    """Read the calibration of an image; cheap enough to be called for every frame.

    ``P`` describes the rectified image. Where drivers leave it zero, ``K`` is used, with a warning
    if the image is rectified. Binning and region of interest are applied as image_geometry does:
    the rectified image has the size and the offset of the raw one. The principal point may lie
    outside the image, which may be a part of the sensor.

    Args:
        info: sensor_msgs/CameraInfo.
        width: width of the image in pixels.
        height: height of the image in pixels.
        rectified: whether the image is rectified.

    Returns:
        Camera matrix and rectification.

    Raises:
        CalibrationError: if the message is of another image size, uncalibrated, not finite, or has
            an unknown lens model.
    """
    projection = np.asarray(info.p, dtype=float).reshape(3, 4)
    K = np.asarray(info.k, dtype=float).reshape(3, 3)
    zero = not projection.any()
    if zero and not K.any():
        raise CalibrationError("camera_info has zero K and P: calibrate the camera")
    part = _Part(info, width, height)
    matrix, suspicion = part.reduce(*(("K", K) if zero else ("P", projection[:, :3])))
    lens = None
    if not rectified:
        raw, suspicion_of_raw = part.reduce("K", K)
        lens = _lens(info, raw, matrix, (width, height))
        suspicion = suspicion_of_raw or suspicion
    warnings = [suspicion, _baseline_warning(projection)]
    if zero and rectified:
        warnings.append("camera_info has a zero P (rectified image); K (raw image) is used instead")
    return Calibration(matrix, tuple(filter(None, warnings)), lens)


class _Part:
    """The part of the sensor that an image shows: region of interest and binning.

    Args:
        info: sensor_msgs/CameraInfo.
        width: width of the image in pixels.
        height: height of the image in pixels.

    Raises:
        CalibrationError: if the message is of another image size.
    """

    def __init__(self, info: Any, width: int, height: int) -> None:
        region = info.roi
        self._size = (width, height)
        self._binning = np.array([max(info.binning_x, 1), max(info.binning_y, 1)])
        self._offset = np.array([region.x_offset, region.y_offset])
        full = np.array([region.width or info.width, region.height or info.height])
        sensor = info.width, info.height
        cropped = bool(self._offset.any() or (full != sensor).any())
        self._sensor = sensor if cropped else None
        if not full.all():
            raise CalibrationError(
                f"camera_info is for {full[0]}x{full[1]} pixels: give it the width and the height "
                "of the calibrated image"
            )
        size = full // self._binning
        if tuple(size) == self._size:
            return
        if tuple(full) == self._size:
            raise CalibrationError(
                f"camera_info is for {full[0]}x{full[1]} pixels before binning by "
                f"{self._binning[0]}x{self._binning[1]}, but the image has that size after it: "
                "give it the size and K of the whole sensor, or no binning"
            )
        raise CalibrationError(
            f"camera_info is for {size[0]}x{size[1]} pixels but the image has {width}x{height}: "
            "use the camera_info of this image stream"
        )

    def reduce(self, name: str, matrix: np.ndarray) -> tuple[np.ndarray, str | None]:
        """Check a camera matrix of the full image.

        Args:
            name: of the field, for messages.
            matrix: [3, 3].

        Returns:
            That of this part, [3, 3], and why it is implausible, if it is.
        """
        if not np.isfinite(matrix).all():
            raise CalibrationError(
                f"camera_info has values in {name} that are not finite: calibrate the camera"
            )
        values = {"fx": matrix[0, 0], "fy": matrix[1, 1]}
        wrong = [f"{key} = {v:g}" for key, v in values.items() if not 0 < v < LARGEST]
        values = {"cx": matrix[0, 2], "cy": matrix[1, 2]}  # outside a crop they may be negative
        wrong += [f"{key} = {v:g}" for key, v in values.items() if not abs(v) < LARGEST]
        if wrong:
            raise CalibrationError(
                f"camera_info has {', '.join(wrong)} in {name}: calibrate the camera"
            )
        if matrix[2].tolist() != [0, 0, 1]:
            raise CalibrationError(
                f"camera_info has a {name} whose last row is not 0 0 1: calibrate the camera"
            )
        reduced = matrix.copy()
        reduced[:2, 2] -= self._offset
        reduced[:2] /= self._binning[:, None]
        return reduced, doubt(name, matrix, reduced, self._size, self._sensor)


def _lens(info: Any, raw: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> Lens:
    model, coefficients = read_distortion(info)
    rotation = np.asarray(info.r, dtype=float).reshape(3, 3)
    if not rotation.any():  # drivers of single cameras leave it zero
        rotation = np.eye(3)
    orthonormal = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)  # False for NaN
    if not orthonormal or np.linalg.det(rotation) < 0:
        raise CalibrationError("camera_info has an R that is not a rotation: calibrate the camera")
    arrays = (raw, coefficients, rotation, matrix)
    K, D, R, P = (tuple(array.ravel().tolist()) for array in arrays)
    return Lens(model, K, D, R, P, size)


def _baseline_warning(projection: np.ndarray) -> str | None:
    if not projection[:2, 3].any():
        return None
    return (
        "camera_info has a baseline in P (second camera of a stereo pair): poses are relative to "
        "this camera, so its header.frame_id must not be that of the first"
    )


def _outline(box: Box) -> np.ndarray:
    """Return points on the edges of a box [4 * OUTLINE_POINTS, 2]."""
    left, top, right, bottom = box
    share = np.linspace(0, 1, OUTLINE_POINTS)
    x, y = left + share * (right - left), top + share * (bottom - top)
    edges = [
        np.stack(np.broadcast_arrays(*edge), -1)
        for edge in ((x, top), (x, bottom), (left, y), (right, y))
    ]
    return np.concatenate(edges)
