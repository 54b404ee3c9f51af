"""Compressed image messages to raw ones, as the subscribers of image_transport do it.

The formats are those of compressed_image_transport and compressed_depth_image_transport.
"""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from PIL import Image as PillowImage

from spyropose_ros.ros.pipeline.drops import BadInputError, Reason
from spyropose_ros.ros.pipeline.rvl import decode_rvl

MAX_PIXELS = 100_000_000  # a small message could need any amount of memory

_FILES = ("JPEG", "PNG", "TIFF")
_DEPTH_CODEC = "compressedDepth"
_DEPTH_ENCODINGS = ("16UC1", "mono16", "32FC1")


def decompress(message: Any, reason: Reason) -> SimpleNamespace:
    """Decompress an image message.

    Transparency is dropped, and a rotation in the EXIF data is not applied because camera_info
    describes the pixels as stored.

    Args:
        message: sensor_msgs/CompressedImage with a JPEG, PNG or TIFF file, or with depth that was
            compressed as PNG or RVL. ``format`` says what the file does not: that its pixels are
            depth or a Bayer pattern, or that red and blue are swapped.
        reason: under which a bad message is counted.

    Returns:
        The fields of a sensor_msgs/Image.

    Raises:
        BadInputError: if the data are empty, damaged, cut off, of another format or too large.
    """
    encoding, _, codec = (part.strip() for part in message.format.partition(";"))
    method = codec.removeprefix(_DEPTH_CODEC).strip() or "png"
    is_depth = codec.startswith(_DEPTH_CODEC)
    if is_depth and (encoding not in _DEPTH_ENCODINGS or method not in ("png", "rvl")):
        raise BadInputError(
            reason,
            f"compressed depth of format {message.format!r} is not supported: publish one of "
            f"{', '.join(_DEPTH_ENCODINGS)}, compressed as png or rvl",
        )
    try:
        if is_depth:
            return _image(_read_depth(bytes(message.data), encoding, method), encoding)
        pixels = _read_file(bytes(message.data))
        return _image(pixels, _encoding(pixels, encoding, codec))
    except PillowImage.DecompressionBombError:
        text = (
            f"compressed image is larger than {MAX_PIXELS // 10**6} megapixels: "
            "publish a smaller one"
        )
    except PillowImage.UnidentifiedImageError:
        text = (
            f"compressed image of {len(message.data)} bytes with format {message.format!r} is "
            "neither JPEG, PNG nor TIFF, or cut off: set the publisher's format to jpeg or png"
        )
    except Exception as error:  # damaged files make Pillow raise errors of many kinds
        text = f"compressed image is damaged ({error}): check the network and the publisher"
    raise BadInputError(reason, text)


def _read_file(data: bytes) -> np.ndarray:
    """Read an image file: RGB [H, W, 3] or grey [H, W] of uint8, uint16 or float32."""
    with PillowImage.open(io.BytesIO(data), formats=_FILES) as file:
        _check_size(*file.size)  # from the file's header: nothing is decoded yet
        wide_colour = ";16" in str(file.tile) and not file.mode.startswith("I")
        file.load()
        if wide_colour:  # Pillow keeps only the upper half of each value
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if pixels is None:
                raise ValueError("its pixels cannot be read")
            return pixels[..., 2::-1]
        if file.mode.startswith("I"):
            return np.asarray(file).astype(np.uint16)
        if file.mode == "F":
            return np.array(file)
        return np.array(file.convert("L" if file.mode in ("1", "L", "LA") else "RGB"))


def _encoding(pixels: np.ndarray, source: str, codec: str) -> str:
    """Name the encoding of the pixels of a file.

    image_transport compresses colours in the order of OpenCV (blue first) and notes
    'compressed bgr8'; its subscriber assumes red first in a colour image without that note. A
    Bayer pattern without it is stored as a grey image.

    Args:
        pixels: of the file.
        source: encoding of the image that was compressed, or another text.
        codec: how it was compressed; empty if the publisher is not of image_transport.
    """
    bits = 8 * pixels.itemsize
    if pixels.ndim == 3:
        swapped = codec and source.startswith(("rgb", "bgr")) and "compressed bgr" not in codec
        return f"{'bgr' if swapped else 'rgb'}{bits}"
    if bits == 32:
        return "32FC1"
    if codec and source.startswith("bayer_"):
        return f"{source.rstrip('0123456789')}{bits}"
    if source == "16UC1":
        return f"{bits}UC1"  # 8 as JPEG: then it is depth no longer
    return f"mono{bits}"


def _read_depth(data: bytes, encoding: str, method: str) -> np.ndarray:
    """Read compressed depth [H, W]: uint16, or float32 in metres whose inverse was quantised."""
    # four bytes without meaning, then the quantisation
    scale, offset = np.frombuffer(data, "<f4", count=2, offset=4)
    if method == "rvl":
        width, height = np.frombuffer(data, "<u4", count=2, offset=12).tolist()
        _check_size(width, height)
        values = decode_rvl(data[20:], width * height).reshape(height, width)
    else:
        values = _read_file(data[12:])
    if values.dtype != np.uint16:
        raise ValueError(f"its pixels are {values.dtype}, not 16 bits")
    if encoding != "32FC1":
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = scale / (values.astype(np.float32) - offset)
    return np.where(values > 0, depth, np.float32("nan"))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PillowImage.DecompressionBombError


def _image(pixels: np.ndarray, encoding: str) -> SimpleNamespace:
    """Make an image message of pixels [H, W] or [H, W, 3]."""
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False))
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=data.nbytes // max(height, 1),
        data=data.reshape(-1).view(np.uint8),
    )
