"""The picture of an evaluation: what the model says of some of its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import trimesh

from spyropose_ros.core.files import write_bytes
from spyropose_ros.core.plots import close_up, drawing, overlay
from training.evaluation.metrics import equivalent_rotations

if TYPE_CHECKING:
    from training.data.source import Sample
    from training.evaluation.run import Evaluation

_LOOKED_AT = 64  # of the first images, which are read or rendered again
_SHOWN = 8
_COLUMNS = 4
_TILE = 256  # side of a tile, pixels
_MESH_POINTS = 1500
_LEGEND = (
    "solid axes: leading mode; coloured haze: the other poses; yellow: where the object may be; "
    "dashed white: truth"
)


def draw_predictions(path: Path, evaluation: Evaluation, records: list[dict]) -> None:
    """Draw predictions over some of the first images, from the smallest to the largest error.

    Args:
        path: of the picture.
        evaluation: whose model and images they are.
        records: per-image metrics, in the order of the samples.
    """
    chosen = choose([record["rotation_error"] for record in records[:_LOOKED_AT]])
    mesh, points = evaluation.source.mesh, None
    if mesh is not None:
        points = trimesh.sample.sample_surface(mesh, _MESH_POINTS, seed=0)[0].astype(np.float32)
    tiles: dict[int, np.ndarray] = {}
    samples = evaluation.source.samples(evaluation.split, evaluation.seed)
    for index, sample in zip(range(max(chosen) + 1), samples, strict=False):
        if index in chosen:
            tiles[index] = _tile(evaluation, sample, records[index], points)
    rows = drawing.rows_of([tiles[index] for index in chosen], _COLUMNS)
    sheet = np.vstack([rows, drawing.caption(_LEGEND, _COLUMNS * _TILE)])
    _, content = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    write_bytes(path, content.tobytes())


def choose(errors: list[float]) -> list[int]:
    """Return the indices of up to eight images, evenly from the smallest to the largest error."""
    order = np.argsort(errors, kind="stable")
    places = np.linspace(0, len(order) - 1, min(_SHOWN, len(order))).round().astype(int)
    return order[places].tolist()


def _tile(
    evaluation: Evaluation, sample: Sample, record: dict, points: np.ndarray | None
) -> np.ndarray:
    """Search a sample once more and draw the distribution over its image."""
    source = evaluation.source
    pyramid = evaluation.protocol.search(evaluation.estimator, sample, evaluation.seed)
    center = torch.from_numpy(source.center).float()
    found = pyramid.distribution(0, center, source.diameter).to("cpu")
    height, width = sample.image.shape[:2]
    whole = np.array([0.3 * width, 0.3 * height, 0.7 * width, 0.7 * height])
    box = whole if sample.box is None else sample.box
    image, K = close_up(sample.image, sample.K, box, _TILE)
    truth = _nearest_truth(evaluation, sample, found.mode()[0].double().numpy())
    drawn = overlay(image, K, [found], source.diameter, points, truth=[truth])
    caption = f"error {record['rotation_error']:.1f} deg"
    if "lateral_error" in record:
        caption += f", {1e3 * record['lateral_error']:.1f} mm"
    caption += f", mode {record['mode_mass']:.0%}" if record["n_modes"] else ", no mode"
    return np.vstack([drawn, drawing.caption(caption, _TILE)])


def _nearest_truth(
    evaluation: Evaluation, sample: Sample, rotation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the true pose that is nearest to a rotation among all that look the same."""
    rotations = equivalent_rotations(sample, evaluation.target)
    nearest = int(np.einsum("mij,ij->m", rotations, rotation).argmax())
    translation = sample.translation
    if sample.equivalents is None:
        shift = evaluation.target.symmetries[nearest, :3, 3]
        translation = translation + sample.rotation @ shift
    return rotations[nearest], translation
