"""Intrinsics of the rectified image from a sensor_msgs/CameraInfo message."""

from __future__ import annotations

from typing import Any

import numpy as np

from spyropose_ros.ros.diagnostics import BadInput, Reason


def intrinsics(info: Any, width: int, height: int) -> tuple[np.ndarray, str | None]:
    """Reads the camera matrix that belongs to a rectified image.

    ``P`` describes the rectified image and is what counts; drivers that leave it zero get ``K``
    with a warning. Binning and region of interest are applied as image_geometry does.

    Args:
        info: sensor_msgs/CameraInfo.
        width: width of the image in pixels.
        height: height of the image in pixels.

    Returns:
        The camera matrix, float64 [3, 3] in pixels of the image, and a warning or None.

    Raises:
        BadInput: if the message is of another image size, uncalibrated or not finite.
    """
    binning = np.array([max(info.binning_x, 1), max(info.binning_y, 1)])
    region = info.roi
    full = np.array([region.width or info.width, region.height or info.height])
    size = full // binning
    if tuple(size) != (width, height):
        raise _bad(
            f"camera_info is for {size[0]}x{size[1]} pixels but the image has {width}x{height}: "
            "publish the camera_info of this image stream"
        )
    matrix = np.asarray(info.p, dtype=float).reshape(3, 4)[:, :3].copy()
    name, warning = "P", None
    if not matrix.any():
        matrix = np.asarray(info.k, dtype=float).reshape(3, 3).copy()
        name = "K"
        warning = "camera_info has a zero P (rectified image); K (raw image) is used instead"
    if not matrix.any():
        raise _bad("camera_info has zero K and P: calibrate the camera")
    if not np.isfinite(matrix).all():
        raise _bad(f"camera_info has values in {name} that are not finite: calibrate the camera")
    values = {"fx": matrix[0, 0], "fy": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}
    wrong = [f"{key} = {value:g}" for key, value in values.items() if value <= 0]
    if wrong:
        raise _bad(f"camera_info has {', '.join(wrong)} in {name}: calibrate the camera")
    matrix[:2, 2] -= region.x_offset, region.y_offset
    matrix[:2] /= binning[:, None]
    return matrix, warning


def _bad(text: str) -> BadInput:
    return BadInput(Reason.BAD_CAMERA_INFO, text)
