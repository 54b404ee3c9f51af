"""Files that exist only when they are complete, and checksums."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

_BLOCK = 1 << 20  # bytes of a file that are read at a time


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only when it is complete.

    The content goes to a file of this process beside it, which is then renamed: a reader sees the
    old content or the new one, and so does whoever comes after a crash.

    Args:
        path: of the file; missing folders are created.
        content: of the file.

    Raises:
        OSError: the file cannot be written; an existing one is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        if error.errno:
            error.filename = str(path)  # a full disk does not tell
        raise
    finally:
        with suppress(OSError):  # on a read-only disk, which is told already
            partial.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write a text file in UTF-8; otherwise as `write_bytes`."""
    write_bytes(path, content.encode())


def sha256(*parts: bytes | Path) -> str:
    """Hash some bytes and the contents of some files, in this order.

    Args:
        *parts: bytes, or paths of files.

    Returns:
        The SHA-256 in hexadecimal.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        else:
            digest.update(part)
    return digest.hexdigest()
