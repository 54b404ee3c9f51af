"""Files of the unpacked SYMSOL archive: the images and the rotations of one shape."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from spyropose_ros.core.errors import DataError, MissingFileError

HINT = """get the archive (3.3 GB) and unpack it:
  wget https://storage.googleapis.com/gresearch/implicit-pdf/symsol_dataset.zip
  unzip symsol_dataset.zip -d symsol
  ln -s "$PWD/symsol" DATA_ROOT/symsol
so that DATA_ROOT/symsol/train/rotations.npz exists"""


class SymsolSplit:
    """One shape in one folder of the archive, train or test.

    Args:
        folder: holds images/ and rotations.npz.
        shape: as the archive names it.

    Raises:
        MissingFileError: if rotations.npz is missing.
        DataError: if it is damaged, lacks the shape or holds something else than rotations.
    """

    def __init__(self, folder: Path, shape: str):
        self._folder = folder
        self._shape = shape
        self._path = folder / "rotations.npz"
        if not self._path.is_file():
            raise MissingFileError(f"{self._path} is missing; {HINT}")
        with self._open() as array:
            self._array_shape, self._dtype = _read_header(array)

    def __len__(self) -> int:
        return self._array_shape[0]

    def rotations(self) -> Iterator[np.ndarray]:
        """Yield all equivalent rotations of each image in order, float64 [m, 3, 3].

        One image at a time: the whole array takes gigabytes.
        """
        n, *shape = self._array_shape
        size = int(np.prod(shape)) * self._dtype.itemsize
        with self._open() as array:
            _read_header(array)
            for _ in range(n):
                row = array.read(size)
                if len(row) < size:
                    raise EOFError("the array ends early")
                yield np.frombuffer(row, self._dtype).reshape(shape).astype(np.float64)

    def labels(self, n: int) -> np.ndarray:
        """Return the rotations the first n images were rendered with, [n, 3, 3]."""
        return np.stack([rotations[0] for rotations in islice(self.rotations(), n)])

    def image_path(self, index: int) -> Path:
        """Locate an image.

        Args:
            index: of the image, from 0.

        Returns:
            Path of its file.

        Raises:
            MissingFileError: if it is missing.
        """
        path = self._folder / "images" / f"{self._shape}_{index:05d}.png"
        if not path.is_file():
            raise MissingFileError(f"{path} is missing; {HINT}")
        return path

    def image(self, index: int) -> np.ndarray:
        """Read an image.

        Args:
            index: of the image, from 0.

        Returns:
            RGB uint8 [S, S, 3].

        Raises:
            MissingFileError: if it is missing.
            DataError: if it is damaged or not square.
        """
        path = self.image_path(index)
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{path} is not a readable image; {HINT}")
        if image.shape[0] != image.shape[1]:
            raise DataError(f"{path} is not square but {image.shape[1]} x {image.shape[0]}; {HINT}")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """Open the shape's array in rotations.npz; anything wrong with it becomes a DataError."""
        try:
            with zipfile.ZipFile(self._path) as archive:
                names = archive.namelist()
                if f"{self._shape}.npy" not in names:
                    held = ", ".join(name.removesuffix(".npy") for name in names) or "nothing"
                    raise DataError(f"there is no '{self._shape}' in it, it holds {held}")
                with archive.open(f"{self._shape}.npy") as array:
                    yield array
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise DataError(f"{self._path} cannot be used: {error}; {HINT}") from error


def _read_header(array: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape (n, m, 3, 3) and type of an array; leaves the file at its values."""
    version = np.lib.format.read_magic(array)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(array)
    if len(shape) != 4 or shape[2:] != (3, 3) or 0 in shape or dtype.kind != "f" or by_columns:
        raise DataError(f"an array of rotations has shape (n, m, 3, 3), not {dtype} {shape}")
    return shape, dtype
