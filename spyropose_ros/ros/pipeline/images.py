"""Image messages, raw and compressed, <-> RGB and depth arrays.

Raw images are converted by cv_bridge if it works, else by rosbags-image; compressed ones are made
raw first.
"""

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

from spyropose_ros.ros.interfaces import Header, Image
from spyropose_ros.ros.pipeline.compressed_images import decompress
from spyropose_ros.ros.pipeline.drops import BadInputError, Reason

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

# 16 bits per channel: reduced to the 8-bit encoding of the same name before the conversion
WIDE_ENCODINGS = {
    name.removesuffix("8") + "16": name for name in ENCODINGS if not name.startswith("yuv")
}
# current names of the YUV encodings, see sensor_msgs/image_encodings.hpp
SYNONYMS = {"uyvy": "yuv422", "yuyv": "yuv422_yuy2"}

# metres per unit, and type of the pixels; REP-118
DEPTH_ENCODINGS = {"16UC1": (0.001, "u2"), "mono16": (0.001, "u2"), "32FC1": (1.0, "f4")}

FEWEST_BITS = 8  # that cameras use of 16

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
    """Choose the library that converts images: call the result with an image and an encoding.

    The compiled part of cv_bridge crashes the process if it was built for another NumPy, so it is
    tried in a separate process first. Source: ros-perception/vision_opencv issue 535.
    """
    if importlib.util.find_spec("cv_bridge") is not None:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
        if probe.returncode == 0:
            from cv_bridge import CvBridge

            return CvBridge().imgmsg_to_cv2
    from rosbags.image import message_to_cvimage

    return message_to_cvimage


def decode(message: Any) -> np.ndarray:
    """Convert an image message to RGB.

    Args:
        message: sensor_msgs/Image or sensor_msgs/CompressedImage.

    Returns:
        uint8 [H, W, 3].

    Raises:
        BadInputError: see `rgb_image` and `decompress`.
    """
    return rgb_image(_raw(message, Reason.BAD_IMAGE))


def rgb_image(message: Any) -> np.ndarray:
    """Convert an image message.

    Args:
        message: sensor_msgs/Image in one of ENCODINGS, SYNONYMS or WIDE_ENCODINGS, of whose 16
            bits cameras may use fewer, see `_eight_bits`; rows may be padded.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        BadInputError: if the encoding is not supported or size, step and data do not match.
    """
    name = SYNONYMS.get(message.encoding, message.encoding)
    encoding = WIDE_ENCODINGS.get(name, name)
    if encoding not in ENCODINGS:
        raise _bad(
            f"image encoding {message.encoding!r} is not supported: publish one of "
            + ", ".join((*ENCODINGS, *SYNONYMS, *WIDE_ENCODINGS))
        )
    if encoding.startswith("yuv") and message.width % 2:
        raise _bad(f"image of {message.encoding} is {message.width} pixels wide: must be even")
    if encoding == name:
        pixels = _pixels(message, ENCODINGS[encoding], "u1", Reason.BAD_IMAGE)
    else:
        pixels = _eight_bits(_pixels(message, 2 * ENCODINGS[encoding], "u2", Reason.BAD_IMAGE))
    tight = SimpleNamespace(
        height=message.height,
        width=message.width,
        encoding=encoding,
        is_bigendian=0,  # one byte per channel: byte order has no meaning
        step=pixels.shape[1],
        data=np.ascontiguousarray(pixels).reshape(-1),
    )
    return np.ascontiguousarray(converter()(tight, "rgb8"))


def decode_depth(message: Any) -> np.ndarray:
    """Convert a depth image message.

    Args:
        message: sensor_msgs/Image, or what image_transport compresses of it without loss, in one
            of DEPTH_ENCODINGS: whole millimetres or metres, see REP-118; rows may be padded.

    Returns:
        Depth along the optical axis in metres, float32 [H, W]; NaN where nothing was measured.

    Raises:
        BadInputError: if the encoding is not supported, size, step and data do not match, or what
            is compressed is damaged.
    """
    message = _raw(message, Reason.BAD_DEPTH)
    if message.encoding not in DEPTH_ENCODINGS:
        raise BadInputError(
            Reason.BAD_DEPTH,
            f"depth encoding {message.encoding!r} is not supported: publish one of "
            + ", ".join(DEPTH_ENCODINGS),
        )
    unit, kind = DEPTH_ENCODINGS[message.encoding]
    pixels = _pixels(message, np.dtype(kind).itemsize, kind, Reason.BAD_DEPTH)
    depth = pixels.astype(np.float32) * np.float32(unit)
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def image_message(header: Header, rgb: np.ndarray) -> Image:
    """Make an image message.

    Args:
        header: of the message.
        rgb: uint8 [H, W, 3].

    Returns:
        The message, of encoding rgb8.
    """
    message = Image(header=header)
    message.height, message.width = rgb.shape[:2]
    message.encoding = "rgb8"
    message.step = 3 * message.width
    message.data = array("B", rgb.tobytes())  # the only type that rclpy assigns without a copy
    return message


def _raw(message: Any, reason: Reason) -> Any:
    return decompress(message, reason) if hasattr(message, "format") else message


def _pixels(message: Any, size: int, kind: str, reason: Reason) -> np.ndarray:
    """Return the values of an image message [H, W * channels] without the padding of its rows.

    Args:
        message: sensor_msgs/Image.
        size: bytes per pixel.
        kind: NumPy type of a channel without the byte order.
        reason: under which a bad message is counted.

    Raises:
        BadInputError: if size, step and data do not fit together.
    """
    width, height, step = message.width, message.height, message.step
    row = width * size
    if row == 0 or height == 0:
        raise BadInputError(reason, f"image is empty ({width}x{height}): fix the publisher")
    if step < row:
        raise BadInputError(
            reason, f"image step {step} is less than the {row} bytes of a row: fix the publisher"
        )
    needed = step * (height - 1) + row  # the padding of the last row may be missing
    if len(message.data) < needed:
        raise BadInputError(
            reason,
            f"image data is cut off: {len(message.data)} bytes instead of {needed} for "
            f"{width}x{height} {message.encoding}: check the publisher and the network",
        )
    data = np.frombuffer(message.data, dtype=np.uint8)
    rows = np.lib.stride_tricks.as_strided(data, shape=(height, row), strides=(step, 1))
    order = ">" if message.is_bigendian else "<"
    return np.ascontiguousarray(rows).view(order + kind)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Scale 16-bit values to 0 to 255.

    Cameras that use 8, 10, 12 or 14 bits leave the others zero: white is the largest value of the
    smallest such number of bits that holds all values of the image.
    """
    bits = max(int(values.max()).bit_length(), FEWEST_BITS)
    white = 2 ** (bits + bits % 2) - 1
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _bad(text: str) -> BadInputError:
    return BadInputError(Reason.BAD_IMAGE, text)
