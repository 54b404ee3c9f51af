"""Images and videos on the disk as upright RGB pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from spyropose_ros.core.errors import DataError, MissingFileError
from spyropose_ros.photos import exif

_IMAGES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jpeg", ".jpg"),
    *(".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
)
_VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")
_DEEP = 257  # from 16 bits to 8


@dataclass(frozen=True)
class Picture:
    """A still image, or a frame of a video.

    Attributes:
        path: of the file.
        pixels: upright, RGB uint8 [H, W, 3].
        lens: what the EXIF data say of the lens; empty for a video.
        turned: what was done to set the pixels upright; empty if they were.
        frame: number in its video, from 0; None for a still image.
    """

    path: Path
    pixels: np.ndarray
    lens: exif.Lens = field(default_factory=exif.Lens)
    turned: str = ""
    frame: int | None = None

    @property
    def name(self) -> str:
        """The path, with the number of a frame."""
        return str(self.path) + ("" if self.frame is None else f" frame {self.frame}")

    @property
    def stem(self) -> str:
        """The file's name without its ending, with the number of a frame."""
        return self.path.stem + ("" if self.frame is None else f"_{self.frame:06d}")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.pixels.shape[:2]
        return width, height


def expand(paths: Sequence[str | Path]) -> list[Path]:
    """Replace folders by the images and videos in them.

    Args:
        paths: of files and folders.

    Returns:
        Paths of files, those of a folder in order of their names.

    Raises:
        MissingFileError: a path does not exist.
        DataError: a folder holds neither images nor videos.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise MissingFileError(f"{path}: no such file or folder; check the path")
        if path.is_dir():
            inside = [f for f in sorted(path.iterdir()) if _is_known(f)]
            if not inside:
                raise DataError(
                    f"{path} holds no image and no video: their names end in "
                    f"{' '.join(_IMAGES + _VIDEOS)}"
                )
            files += inside
        else:
            files.append(path)
    return files


def _is_known(path: Path) -> bool:
    known = path.suffix.lower() in _IMAGES + _VIDEOS
    return known and path.is_file() and not path.name.startswith(".")


def pictures(path: Path, every: int = 1) -> Iterator[Picture]:
    """Read an image, or the frames of a video.

    Args:
        path: of the file.
        every: read the first frame of a video and then every Nth.

    Yields:
        One picture of an image, in order those of a video.

    Raises:
        DataError: the file cannot be read.
    """
    if path.suffix.lower() in _VIDEOS:
        yield from _frames(path, every)
    else:
        yield read_picture(path)


def read_picture(path: Path) -> Picture:
    """Read an image and set it upright as its EXIF orientation says.

    Args:
        path: of the file.

    Returns:
        The picture; of several in a file the first.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with Image.open(path) as stored:
            orientation, lens = exif.read(stored)
            pixels = _rgb(ImageOps.exif_transpose(stored))
    except Exception as error:  # of damaged files: whatever the decoders of Pillow raise
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "unknown format" if unknown else str(error).partition("\n")[0]
        raise DataError(
            f"{path} cannot be read as an image ({reason}): convert it to JPEG or PNG of 8 bits, "
            "or leave it out"
        ) from error
    turned = exif.TURNED.get(orientation, "")
    return Picture(path, pixels, lens, turned)


def _rgb(image: Image.Image) -> np.ndarray:
    """Return pixels as RGB uint8 [H, W, 3]."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) // _DEEP).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}")
    return np.array(image.convert("RGB"))


def _frames(path: Path, every: int) -> Iterator[Picture]:
    video: Any = cv2.VideoCapture(str(path))
    try:
        index, number = 0, 0
        angle = video.get(cv2.CAP_PROP_ORIENTATION_META)  # OpenCV turns the frames by it
        turned = f"turned by {angle:.0f} degrees" if angle else ""
        while video.grab():
            if index % every == 0:
                good, frame = video.retrieve()
                if good:  # a damaged frame is not the end of the video
                    pixels = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                    yield Picture(path, pixels, turned=turned, frame=index)
                    number += 1
            index += 1
    finally:
        video.release()
    if not number:
        raise DataError(
            f"{path} cannot be read as a video: convert it to MP4 with H.264, or leave it out"
        )
