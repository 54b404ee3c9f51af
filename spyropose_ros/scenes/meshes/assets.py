"""Files that a mesh file refers to, such as textures, found however their names are written."""

import io
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from PIL import Image

LIBRARY = "all.mtl"
"""Name that stands for all material libraries of an OBJ file."""

_LEGACY = ("cp932", "cp1252", "gb18030")
"""Encodings that exporters used before UTF-8; undecodable bytes come as surrogates."""


def decode(content: bytes) -> str:
    """Decode text of unknown encoding.

    Args:
        content: of a file.

    Returns:
        The text; bytes that are not UTF-8 are there as surrogates, so that nothing is lost.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    """Return decoded text as it can be printed."""
    return next(filter(str.isprintable, _decodings(text)), ascii(text))


def is_whole(image: bytes | Image.Image) -> bool:
    """Tell whether the pixels of an image, or of an image file's content, can be read."""
    try:
        (Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image).load()
    except Exception:  # Pillow raises whatever its decoder stumbles over
        return False
    return True


class Assets:
    """What trimesh's loaders ask for files by name.

    Attributes:
        library: text of all material libraries of an OBJ file, which asks for it as `LIBRARY`.
        failed: names of textures that could not be had.
        lost: the same as sentences.
    """

    library: str
    failed: set[str]
    lost: list[str]

    def __init__(self, folder: Path):
        """Look into a folder.

        Args:
            folder: of the mesh file.
        """
        self._folder = folder
        self.library = ""
        self.failed = set()
        self.lost = []

    def find(self, name: str) -> Path | None:
        """Find a file.

        Args:
            name: as it is written: with options, quotes, backslashes, the path of another machine,
                in other case or encoding.

        Returns:
            The file, or None.
        """
        for text in _spellings(name):
            parts = PurePosixPath(text).parts
            for start in range(len(parts)):
                with suppress(OSError, ValueError):  # too long for a name, or with a null character
                    found = _find(self._folder, parts[start:])
                    if found is not None:
                        return found
        return None

    def get(self, name: str) -> bytes | str:
        """Return the content of a file; trimesh takes an OSError for a file that is not there."""
        if name == LIBRARY:
            return self.library
        path = self.find(name)
        if path is None:
            self._lose(name, "is missing")
            raise FileNotFoundError(name)
        content = path.read_bytes()
        if path.suffix.lower() != ".bin" and not is_whole(content):  # or a buffer of glTF
            self._lose(name, "is no readable image")
            raise OSError(name)
        return content

    __getitem__ = get

    def _lose(self, name: str, reason: str) -> None:
        if name not in self.failed:
            self.failed.add(name)
            self.lost.append(f"texture {readable(name)} {reason}")


def _decodings(name: str) -> Iterator[str]:
    """Yield a name as it may be meant: as it is, or in an older encoding."""
    raw = name.encode("utf-8", "surrogateescape")
    encodings = ("utf-8",) if _is_utf8(raw) else _LEGACY
    for encoding in encodings:
        try:
            yield raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    yield name  # as the file system gives names that are not UTF-8


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _spellings(name: str) -> Iterator[str]:
    """Yield paths with slashes that a name may mean."""
    for text in _decodings(name):
        words = text.strip().split(" ")
        options = range(len(words)) if text.strip().startswith("-") else (0,)
        for first in options:  # such as -s 1 1 1 or -clamp on
            path = " ".join(words[first:]).strip(" \"'").replace("\\", "/")
            yield path
            yield unquote(path.removeprefix("file://"))


def _find(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """Return the file at a relative path, in whatever case and Unicode normalisation."""
    path = folder
    for part in parts:
        if not (path / part).exists():
            if not path.is_dir():
                return None
            same = [entry for entry in path.iterdir() if _folded(entry.name) == _folded(part)]
            if not same:
                return None
            part = same[0].name
        path /= part
    return path if path.is_file() else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
