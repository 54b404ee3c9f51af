"""What EXIF data say of the camera: how it was held, and its focal length."""

import math
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

TURNED = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "turned by 180 degrees and mirrored",
    5: "turned anticlockwise by 90 degrees and mirrored",
    6: "turned clockwise by 90 degrees",
    7: "turned clockwise by 90 degrees and mirrored",
    8: "turned anticlockwise by 90 degrees",
}
"""What sets an image upright, by its EXIF orientation."""

_SIDEWAYS = (5, 6, 7, 8)
_FILM_DIAGONAL = math.hypot(36, 24)  # millimetres
_UNITS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # millimetres, of FocalPlaneResolutionUnit
_SAME_SHAPE = 0.01  # relative difference of width over height


@dataclass(frozen=True)
class Lens:
    """Focal lengths, and how they were found.

    Attributes:
        focal: fx and fy in pixels of the upright image; None where nothing is known.
        source: the tags in words.
        cropped: whether the image has another shape than the camera took.
    """

    focal: tuple[float, float] | None = None
    source: str = ""
    cropped: bool = False


def read(image: Image.Image) -> tuple[int, Lens]:
    """Read orientation and lens.

    Args:
        image: as it was opened, not turned.

    Returns:
        The orientation, 1 for upright, and the lens.
    """
    try:
        data = image.getexif()
        tags: dict[int, Any] = dict(data.get_ifd(ExifTags.IFD.Exif))
        orientation = data.get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged: whatever Pillow's reader raises
        return 1, Lens()
    lens = _lens({k: _number(v) for k, v in tags.items()}, *image.size)
    if lens.focal and orientation in _SIDEWAYS:
        lens = Lens(lens.focal[::-1], lens.source, lens.cropped)
    return orientation, lens


def _lens(tags: dict[int, float], width: int, height: int) -> Lens:
    """Find the focal lengths of an image that is stored with this size, in pixels."""
    base = ExifTags.Base
    taken = (tags.get(base.ExifImageWidth, 0), tags.get(base.ExifImageHeight, 0))
    full = taken if min(taken) > 0 else (width, height)
    cropped = abs(full[0] / full[1] * height / width - 1) > _SAME_SHAPE
    if (film := tags.get(base.FocalLengthIn35mmFilm, 0)) > 0:
        focal = film / _FILM_DIAGONAL * math.hypot(width, height)
        return Lens((focal, focal), f"{film:g} mm on 35 mm film", cropped)
    millimetres = tags.get(base.FocalLength, 0)
    unit = _UNITS.get(int(tags.get(base.FocalPlaneResolutionUnit, 2)), 0)
    densities = (
        tags.get(base.FocalPlaneXResolution, 0),
        tags.get(base.FocalPlaneYResolution, 0),
    )
    if min(millimetres, unit, *densities) <= 0:
        return Lens()
    fx, fy = (millimetres * density / unit for density in densities)
    text = f"{millimetres:g} mm, and the density of the sensor's pixels"
    return Lens((fx * width / full[0], fy * height / full[1]), text, cropped)


def _number(value: object) -> float:
    """Return a tag's number; 0, which stands for unknown, if it is none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        return 0.0
    return number if math.isfinite(number) else 0.0
