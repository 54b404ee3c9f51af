"""sensor_msgs/Image <-> RGB arrays: by a working cv_bridge, else by rosbags-image."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from array import array
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from spyropose_ros.ros.diagnostics import BadInput, Reason

# bytes per pixel of the encodings that both libraries convert to rgb8
ENCODINGS = {
    "rgb8": 3,
    "bgr8": 3,
    "rgba8": 4,
    "bgra8": 4,
    "mono8": 1,
    "bayer_rggb8": 1,
    "bayer_bggr8": 1,
    "bayer_gbrg8": 1,
    "bayer_grbg8": 1,
    "yuv422": 2,
    "yuv422_yuy2": 2,
}

_PROBE = """
import numpy
from types import SimpleNamespace
from cv_bridge import CvBridge
data = numpy.zeros(12, numpy.uint8)
image = SimpleNamespace(height=2, width=2, encoding='bgr8', is_bigendian=0, step=6, data=data)
assert CvBridge().imgmsg_to_cv2(image, 'rgb8').shape == (2, 2, 3)
"""


@functools.cache
def converter() -> Callable[[Any, str], np.ndarray]:
    """Chooses the library that converts images: called with an image message and an encoding.

    cv_bridge has a compiled part that crashes the process when it was built for another NumPy, so
    it is tried in a process of its own first. Source: ros-perception/vision_opencv issue 535.
    """
    if importlib.util.find_spec("cv_bridge") is not None:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
        if probe.returncode == 0:
            from cv_bridge import CvBridge

            return CvBridge().imgmsg_to_cv2
    from rosbags.image import message_to_cvimage

    return message_to_cvimage


def rgb_image(message: Any) -> np.ndarray:
    """Converts an image message.

    Args:
        message: sensor_msgs/Image in one of ENCODINGS; rows may be padded.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        BadInput: if the encoding is not supported or size, step and data do not fit together.
    """
    width, height, step = message.width, message.height, message.step
    if message.encoding not in ENCODINGS:
        raise _bad(
            f"image encoding {message.encoding!r} is not supported: publish one of "
            + ", ".join(ENCODINGS)
        )
    row = width * ENCODINGS[message.encoding]
    if row == 0 or height == 0:
        raise _bad(f"image is empty ({width}x{height})")
    if step < row:
        raise _bad(f"image step {step} is less than the {row} bytes of a row: fix the publisher")
    needed = step * (height - 1) + row  # the padding of the last row may be missing
    if len(message.data) < needed:
        raise _bad(
            f"image data is cut off: {len(message.data)} bytes instead of {needed} for "
            f"{width}x{height} {message.encoding}"
        )
    data = np.frombuffer(message.data, dtype=np.uint8)
    rows = np.lib.stride_tricks.as_strided(data, shape=(height, row), strides=(step, 1))
    tight = SimpleNamespace(
        height=height,
        width=width,
        encoding=message.encoding,
        is_bigendian=0,  # one byte per channel: byte order has no meaning
        step=row,
        data=np.ascontiguousarray(rows).reshape(-1),
    )
    return np.ascontiguousarray(converter()(tight, "rgb8"))


def fill_image(message: Any, header: Any, rgb: np.ndarray) -> Any:
    """Fills an empty sensor_msgs/Image from an RGB array.

    Args:
        message: sensor_msgs/Image to fill.
        header: header to copy.
        rgb: uint8 [H, W, 3].

    Returns:
        ``message``.
    """
    message.header = header
    message.height, message.width = rgb.shape[:2]
    message.encoding = "rgb8"
    message.step = 3 * message.width
    message.data = array("B", rgb.tobytes())  # the only type that rclpy assigns without a copy
    return message


def _bad(text: str) -> BadInput:
    return BadInput(Reason.BAD_IMAGE, text)
