"""STL files, and the colours that some programs hide in the binary kind."""

import io
import re
from typing import Any

import numpy as np
from trimesh.exchange.stl import load_stl_ascii, load_stl_binary

from spyropose_ros.core.errors import DataError
from spyropose_ros.scenes.meshes.assets import decode

_HEADER, _COUNT, _TRIANGLE = 80, 4, 50  # bytes
_FLAG = 0x8000
_STEPS = 31  # of a colour channel with 5 bits


def load(content: bytes) -> list[dict[str, Any]]:
    """Read an STL file.

    Args:
        content: of the file.

    Returns:
        Arguments of `trimesh.Trimesh`, one for every solid.

    Raises:
        DataError: the file is cut off or damaged.
    """
    body = len(content) - _HEADER - _COUNT
    if body >= 0:
        count = int.from_bytes(content[_HEADER : _HEADER + _COUNT], "little")
        if body == count * _TRIANGLE:
            part = load_stl_binary(io.BytesIO(content))
            if count:
                part["face_colors"] = _colours(content[:_HEADER], part["face_attributes"]["stl"])
            return [part]
    text = decode(content).lstrip()
    if b"\0" not in content and text[:5].lower() != "solid":
        raise DataError("it is text, but no STL file, which begins with 'solid'")
    if text[:5].lower() != "solid" or not re.search(r"(?i)\bfacet\b", text[:2000]):
        there = max(body, 0) // _TRIANGLE
        if body > 0 and there < count:
            raise DataError(f"it is cut off: {there} of {count} triangles are there")
        raise DataError("it is cut off" if body <= 0 else "it is longer than its header says")
    if not re.search(r"(?i)endsolid[^\n]*\s*$", text):
        raise DataError("it is cut off: it has no 'endsolid' at its end")
    loaded = load_stl_ascii(io.StringIO(text))
    return list(loaded["geometry"].values()) if "geometry" in loaded else [loaded]


def _colours(header: bytes, attributes: np.ndarray) -> np.ndarray | None:
    """Return the colours of the faces [F, 4] uint8, if there are any.

    Materialise Magics writes the object's colour into the header and marks faces that have it;
    VisCAM and SolidView mark faces that have a colour of their own, its channels the other way
    round.
    """
    attributes = attributes.astype(np.int64)
    channels = [attributes >> shift & _STEPS for shift in (0, 5, 10)]
    marked = attributes & _FLAG != 0
    place = header.find(b"COLOR=")
    if 0 <= place <= _HEADER - 10:
        whole = np.frombuffer(header[place + 6 : place + 10], np.uint8)
        if not attributes.any():
            marked[:] = True
        colours = _rgba(channels)
        colours[marked] = [*whole[:3], 255]
        return colours
    if marked.any():
        colours = _rgba(channels[::-1])
        colours[~marked] = [178, 178, 178, 255]
        return colours
    return None


def _rgba(channels: list[np.ndarray]) -> np.ndarray:
    """Return 5-bit channels as [F, 4] uint8."""
    scaled = [np.round(channel * 255 / _STEPS) for channel in channels]
    return np.stack([*scaled, np.full(len(scaled[0]), 255)], 1).astype(np.uint8)
