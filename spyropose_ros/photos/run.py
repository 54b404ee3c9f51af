"""One pass over photographs: estimates, writes and shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.inputs import Box
from spyropose_ros.core.one_line import printable
from spyropose_ros.photos import report
from spyropose_ros.photos.cameras import Camera
from spyropose_ros.photos.estimates import Found, estimate, record
from spyropose_ros.photos.files import pictures
from spyropose_ros.photos.photograph import Photograph, photograph
from spyropose_ros.photos.results import ResultFolder, png

if TYPE_CHECKING:
    from spyropose_ros.scenes.verification import Verification

_MESH_POINTS = 1500


class Run:
    """Estimates photographs one after the other.

    Args:
        estimator: of the object.
        boxes: finds it in a photograph, see `GivenBoxes` and `DetectedBoxes`.
        camera: finds the intrinsics of a picture.
        source: where they come from, in a word.
        folder: of the results.
        encoder: see `terminal.encoder`.
        verification: weighs the modes by renderings, if they are to be.

    Attributes:
        images: number of photographs so far.
        found: number of objects in them.
        posed: those of them whose distribution has a mode.
    """

    images: int
    found: int
    posed: int

    def __init__(
        self,
        estimator: Estimator,
        boxes: Callable[[Photograph], list[tuple[Box, float | None]]],
        camera: Camera,
        source: str,
        folder: ResultFolder,
        encoder: Callable[[bytes], str] | None,
        verification: Verification | None,
    ) -> None:
        self._estimator, self._boxes = estimator, boxes
        self._verification = verification
        self._camera, self._source = camera, source
        self._folder, self._encoder = folder, encoder
        self._points = _surface(estimator.bundle)
        self._said: set[str] = set()
        self.images = self.found = self.posed = 0

    def add(self, path: Path, every: int) -> None:
        """Estimate an image, or every Nth frame of a video.

        Args:
            path: of the file.
            every: 1 for all frames of a video.

        Raises:
            SpyroposeError: the file cannot be read, or its camera or a box does not fit it.
            OSError: the results cannot be written.
        """
        for picture in pictures(path, every):
            photo = photograph(picture, self._camera)
            if picture.turned:
                self._note(f"{picture.path}: {picture.turned}, as the file says")
            for warning in photo.calibration.warnings:
                self._note(f"warning: {warning}")
            found = estimate(photo, self._boxes(photo), self._estimator, self._verification)
            self._show(photo, found)
            self.images += 1
            self.found += len(found)
            self.posed += sum(bool(each.distribution.modes()) for each in found)

    def _show(self, photo: Photograph, found: list[Found]) -> None:
        """Write the results of a photograph, and then its rows."""
        figures: dict[str, np.ndarray | None] = {"overlay": None, "rotations": None}
        if found:
            overlay = report.draw_overlay(photo, found, self._estimator, self._points)
            figures = {
                "overlay": overlay,
                "rotations": report.draw_rotations(found, self._estimator),
            }
        content = record(photo, found, self._estimator, self._source)
        self._folder.write(photo.picture.stem, content, figures)
        if self.images == 0:
            print(report.header())
        print(*report.rows(photo, found), sep="\n", flush=True)
        for figure in figures.values():
            if self._encoder and figure is not None:
                print(self._encoder(png(report.for_terminal(figure))), flush=True)

    def _note(self, text: str) -> None:
        """Say something once."""
        if text not in self._said:
            self._said.add(text)
            print(printable(text), file=sys.stderr, flush=True)


def _surface(bundle: ModelBundle) -> np.ndarray | None:
    """Sample the surface of the bundle's mesh, metres, float32 [M, 3]; None without a mesh."""
    if bundle.mesh_path is None:
        return None
    import trimesh

    mesh = trimesh.load(bundle.mesh_path, force="mesh")
    return np.float32(trimesh.sample.sample_surface(mesh, _MESH_POINTS, seed=0)[0])
