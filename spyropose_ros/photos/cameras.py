"""Where a photograph's intrinsics come from: given, a calibration file, or its EXIF data."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spyropose_ros.core.errors import CalibrationError, InputError
from spyropose_ros.core.inputs import check_intrinsics
from spyropose_ros.core.lens.calibration import Calibration, calibrate
from spyropose_ros.core.lens.plausibility import doubt
from spyropose_ros.photos.camera_file import read_camera_file
from spyropose_ros.photos.files import Picture

Camera = Callable[[Picture], Calibration]
"""Finds intrinsics and rectification of a picture."""

_OPTIONS = (
    "--camera-info (a calibration file), --K (fx fy cx cy in pixels) or --fov (horizontal field of "
    "view in degrees)"
)


def choose_camera(
    K: np.ndarray | None = None,
    fov: float | None = None,
    camera_info: str | Path | None = None,
) -> Camera:
    """Choose where intrinsics come from; with no argument, from the EXIF data of each picture.

    Args:
        K: intrinsics of the pictures, [3, 3].
        fov: horizontal field of view of the upright pictures, degrees.
        camera_info: calibration file of the camera that took them; the lens is corrected.

    Returns:
        The camera; it raises an InputError or a CalibrationError where it does not fit a picture.

    Raises:
        InputError: more than one argument, or one out of its range.
        CalibrationError: the file describes no camera.
        OSError: the file cannot be read.
    """
    if sum(value is not None for value in (K, fov, camera_info)) > 1:
        raise InputError(f"more than one camera is given: choose one of {_OPTIONS}")
    if K is not None:
        return _Given(check_intrinsics(K))
    if fov is not None:
        return _FieldOfView(fov)
    if camera_info is not None:
        return _Calibrated(Path(camera_info))
    return _by_exif


class _Given:
    """Intrinsics that are the same for all pictures.

    Args:
        K: [3, 3].
    """

    def __init__(self, K: np.ndarray) -> None:
        self._K = K

    def __call__(self, picture: Picture) -> Calibration:
        suspicion = doubt("K", self._K, self._K, picture.size, None)
        return Calibration(self._K, (suspicion,) if suspicion else ())


class _FieldOfView:
    """A camera that looks through the middle of the picture.

    Args:
        degrees: horizontal field of view.

    Raises:
        InputError: no lens is so wide.
    """

    def __init__(self, degrees: float) -> None:
        if not 0 < degrees < 180:
            raise InputError(f"a field of view is between 0 and 180 degrees, got {degrees:g}")
        self._tangent = math.tan(math.radians(degrees) / 2)

    def __call__(self, picture: Picture) -> Calibration:
        focal = picture.size[0] / 2 / self._tangent
        return Calibration(_centered((focal, focal), picture))


class _Calibrated:
    """A camera with a calibration file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._info = read_camera_file(path)

    def __call__(self, picture: Picture) -> Calibration:
        try:
            found = calibrate(self._info, *picture.size, rectified=False)
        except CalibrationError as error:
            raise CalibrationError(f"{self._path} for {picture.name}: {error}") from error
        warnings = [f"{self._path}: {text}" for text in found.warnings]
        if picture.turned:
            warnings.append(
                f"{picture.name} was {picture.turned}: {self._path} must be the calibration of "
                "images that are turned like it"
            )
        return Calibration(found.K, tuple(warnings), found.lens)


def _by_exif(picture: Picture) -> Calibration:
    lens = picture.lens
    if lens.focal is None:
        raise InputError(
            f"{picture.name} has no focal length in EXIF data, so its camera is unknown: give "
            f"{_OPTIONS}"
        )
    K = _centered(lens.focal, picture)
    warnings = [
        f"focal length of {K[0, 0]:.0f} pixels from EXIF ({lens.source}), right to about 5 %, and "
        "distances with it; lens distortion is not corrected. For better, calibrate the camera and "
        "give --camera-info"
    ]
    if lens.cropped:
        width, height = picture.size
        warnings.append(
            f"{picture.name} has {width}x{height} pixels, another shape than EXIF says it was "
            "taken with: if it was cropped, its focal length and centre are wrong; use the original"
        )
    if suspicion := doubt("EXIF", K, K, picture.size, None):
        warnings.append(f"{picture.name}: {suspicion}")
    return Calibration(K, tuple(warnings))


def _centered(focal: tuple[float, float], picture: Picture) -> np.ndarray:
    """Return intrinsics [3, 3] with the principal point in the middle of the picture."""
    width, height = picture.size
    fx, fy = focal
    return np.array([[fx, 0, (width - 1) / 2], [0, fy, (height - 1) / 2], [0, 0, 1]])
