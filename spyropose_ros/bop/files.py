"""Files of a BOP data set; errors name what is missing or damaged and the remedy."""

import json
import shlex
from pathlib import Path

import cv2
import numpy as np

from spyropose_ros.core.commands import starter
from spyropose_ros.core.errors import DataError, MissingFileError

MM = 1e-3
"""Metres in a millimetre, the unit of the format."""


def hint(path: Path) -> str:
    """Return a hint on how to get the data set that a path belongs to."""
    if "lmo" in path.parts:
        return f"fetch it again with: {starter()} -m training.download lmo"
    return (
        "check the folder against docs/data/bop.md, or download the data set again from "
        "https://bop.felk.cvut.cz/datasets"
    )


def completion(root: str | Path) -> str:
    """Return the command that computes what a data set lacks."""
    return f"compute it with: {starter()} -m training.complete {shlex.quote(str(root))}"


def require(path: Path) -> None:
    """Raise MissingFileError when there is no such file."""
    if not path.is_file():
        raise MissingFileError(f"{path} is missing: {hint(path)}")


def damaged(path: Path, error: Exception) -> DataError:
    """Return the error for a file that is there but cannot be understood."""
    return DataError(f"{path} is damaged ({error!r}): {hint(path)}")


def read_json(path: Path) -> dict:
    """Read a JSON file.

    Args:
        path: of the file.

    Returns:
        The object in the file.

    Raises:
        MissingFileError: the file is missing.
        DataError: the file is damaged.
    """
    require(path)
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise damaged(path, error) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not an object: {hint(path)}")
    return content


def read_image(path: Path) -> np.ndarray:
    """Read a colour or grey image of 8 or 16 bits as it is stored.

    Args:
        path: a png, jpg or tif file.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        MissingFileError: the file is missing.
        DataError: the file is damaged.
    """
    # An orientation tag is ignored: the intrinsics belong to the stored pixels.
    image = _read(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_mask(path: Path) -> np.ndarray:
    """Read a mask.

    Args:
        path: of a greyscale image, which is 0 outside the mask.

    Returns:
        [H, W] bool.

    Raises:
        MissingFileError: the file is missing.
        DataError: the file is damaged.
    """
    return _read(path, cv2.IMREAD_GRAYSCALE) > 0


def read_depth(path: Path, scale: float) -> np.ndarray:
    """Read a depth image.

    Args:
        path: of an image of one channel, 0 where nothing was measured.
        scale: millimetres of a stored unit, the format's depth_scale.

    Returns:
        [H, W] float32, z in the camera frame in metres; 0 where nothing was measured.

    Raises:
        MissingFileError: the file is missing.
        DataError: the file is damaged or has colours.
    """
    stored = _read(path, cv2.IMREAD_UNCHANGED)
    if stored.ndim != 2:
        raise DataError(f"{path} has {stored.shape[2]} channels: a depth image has one")
    return (stored * (scale * MM)).astype(np.float32)


def _read(path: Path, flags: int) -> np.ndarray:
    require(path)
    image = cv2.imread(str(path), flags)
    if image is None:
        raise DataError(f"{path} is not a readable image: {hint(path)}")
    return image
