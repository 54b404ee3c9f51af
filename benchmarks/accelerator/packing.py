"""Few files out of many."""

import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.accelerator.parts import TILES


def pack(output: Path, run: Path) -> None:
    """Pack the logs and the trained bundle with its reports; the table of the tiles stays readable.

    Args:
        output: folder with the logs, for the archives.
        run: folder of the training.
    """
    tiles = output / f"{TILES}.log"
    if tiles.is_file():
        shutil.copyfile(tiles, output / f"{TILES}.txt")
    logs = sorted(output.glob("*.log"))
    _archive(output / "logs.tar.gz", logs)
    for log in logs:
        log.unlink()
    _archive(output / "bundle.tar.gz", sorted((run / "bundle").glob("*")))


def _archive(path: Path, files: Iterable[Path]) -> None:
    """Pack files in a folder of the archive's name; write nothing if there are none."""
    files = list(files)
    if not files:
        return
    folder = path.name.partition(".")[0]
    with tarfile.open(path, "w:gz") as archive:
        for file in files:
            archive.add(file, f"{folder}/{file.name}")
