"""The folder of results: an overlay, a plot of rotations and a JSON file for each photograph."""

import json
import tempfile
from pathlib import Path

import cv2
import numpy as np

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.files import write_bytes, write_text


def png(image: np.ndarray) -> bytes:
    """Return an RGB image uint8 [H, W, 3] as a PNG file's content."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


class ResultFolder:
    """Writes results, each under a name of its own. Files of earlier runs are replaced.

    Args:
        folder: created when missing.

    Raises:
        InputError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()  # rather now than after the first estimate
        except OSError as error:
            raise InputError(
                f"no results can be written to {folder} ({error.strerror}): choose another folder "
                "with --output"
            ) from error
        self._folder = folder
        self._used: set[str] = set()

    def write(self, stem: str, record: dict, figures: dict[str, np.ndarray | None]) -> None:
        """Write what belongs to one photograph.

        Args:
            stem: of the files' names; one that was used already gets a number.
            record: content of the JSON file.
            figures: RGB uint8 [H, W, 3] by their names, such as "overlay"; None for those that
                this photograph lacks.

        Raises:
            OSError: a file cannot be written.
        """
        stem = self._unused(stem)
        for name, figure in figures.items():
            path = self._folder / f"{stem}_{name}.png"
            if figure is None:
                path.unlink(missing_ok=True)
            else:
                write_bytes(path, png(figure))
        write_text(self._folder / f"{stem}.json", json.dumps(record, indent=1) + "\n")

    def _unused(self, stem: str) -> str:
        name, number = stem, 1
        while name in self._used:
            number += 1
            name = f"{stem}_{number}"
        self._used.add(name)
        return name
