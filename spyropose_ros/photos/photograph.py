"""A photograph ready for detector and estimator: upright, rectified, with intrinsics."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spyropose_ros.core.lens.calibration import Calibration
from spyropose_ros.photos.cameras import Camera, choose_camera
from spyropose_ros.photos.files import Picture, read_picture


@dataclass(frozen=True)
class Photograph:
    """A picture and its camera.

    Attributes:
        picture: as the camera took it, upright.
        calibration: of its camera.
        image: rectified, RGB uint8 [H, W, 3].
    """

    picture: Picture
    calibration: Calibration
    image: np.ndarray

    @property
    def K(self) -> np.ndarray:
        """Intrinsics of the rectified image, float64 [3, 3]."""
        return self.calibration.K


def photograph(picture: Picture, camera: Camera) -> Photograph:
    """Correct a picture's lens; see `choose_camera` for errors."""
    calibration = camera(picture)
    return Photograph(picture, calibration, calibration.rectify(picture.pixels))


def read_photograph(
    path: str | Path,
    K: np.ndarray | None = None,
    fov: float | None = None,
    camera_info: str | Path | None = None,
) -> Photograph:
    """Read a photograph.

    Of K, fov and camera_info one at most; with none, the focal length comes from EXIF data. What
    is doubtful about the camera is a warning.

    Args:
        path: of the image file.
        K: intrinsics of the upright image, [3, 3].
        fov: horizontal field of view of the upright image, degrees.
        camera_info: calibration file of the camera; the lens is corrected.

    Returns:
        The photograph.

    Raises:
        DataError: the file cannot be read.
        InputError: nothing is known of the camera, or a value is out of its range.
        CalibrationError: the calibration is unusable, or not for images of this size.
    """
    photo = photograph(read_picture(Path(path)), choose_camera(K, fov, camera_info))
    for text in photo.calibration.warnings:
        warnings.warn(text, stacklevel=2)
    return photo
