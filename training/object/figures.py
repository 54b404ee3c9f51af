"""The page's pictures that no other command draws, as PNG."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import trimesh

from spyropose_ros.bop import BopFrame
from spyropose_ros.scenes.renderer import Renderer

_COLUMNS, _TILE = 3, (320, 240)  # pictures of detections in a row, and their size
_TRUE, _FOUND = (90, 200, 90), (255, 200, 0)


class Curve(NamedTuple):
    """A quantity over a training.

    Attributes:
        title: with its unit.
        name: in the log of the training.
        smooth: number of steps that are averaged.
    """

    title: str
    name: str
    smooth: int = 1


POSE_CURVES = (
    Curve("loss of the pose model", "train/loss", 10),
    Curve("log-likelihood above the uniform box, nats", "val/ll_gain"),
)
DETECTOR_CURVES = (
    Curve("loss of the detector", "train/loss", 10),
    Curve("loss in validation", "val/loss"),
)


def training_curves(run_dirs: Sequence[Path], curves: Sequence[Curve]) -> bytes:
    """Draw how a training went.

    Args:
        run_dirs: of runs with CSV logs, one for each of their starts; each run goes on from the
            weights of the one before.
        curves: side by side.

    Returns:
        A PNG file.
    """
    from matplotlib.figure import Figure

    rows: list[dict] = []
    for run_dir in run_dirs:
        first = int(rows[-1]["step"]) + 1 if rows else 0
        rows += [row | {"step": first + int(row["step"])} for row in _logged(run_dir)]
    figure = Figure(figsize=(5 * len(curves), 3.2), layout="constrained")
    for axes, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        points = {row["step"]: float(row[curve.name]) for row in rows if row.get(curve.name)}
        steps = sorted(points)
        values = np.array([points[step] for step in steps])
        window = min(curve.smooth, -(-len(values) // 4))  # a short curve is a curve, too
        if window:
            kernel = np.ones(window) / window
            axes.plot(steps[window - 1 :], np.convolve(values, kernel, "valid"), marker=".", ms=4)
        axes.set(title=curve.title, xlabel="step")
        axes.grid(alpha=0.3)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=100)
    return stream.getvalue()


def _logged(run_dir: Path) -> list[dict]:
    """Return all rows of a run's logs."""
    logs = sorted(
        run_dir.glob("csv/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:])
    )
    return [row for log in logs for row in csv.DictReader(log.read_text().splitlines())]


def outlines(frames: Sequence[BopFrame], mesh: trimesh.Trimesh) -> bytes:
    """Draw the outline of an object where images are said to show it.

    Args:
        frames: with one instance each.
        mesh: of the object, metres.

    Returns:
        A PNG file.
    """
    renderer, tiles = Renderer(mesh), []
    for frame in frames:
        image = frame.image()
        (instance,) = frame.instances
        pose = instance.rotation, instance.translation
        seen = renderer.render(*pose, frame.K, image.shape[1], image.shape[0]).mask
        lines, _ = cv2.findContours(seen.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        width = max(1, round(2 * image.shape[1] / _TILE[0]))
        cv2.drawContours(image, lines, -1, _TRUE, width)
        tiles.append(cv2.resize(image, _TILE, interpolation=cv2.INTER_AREA))
    return _png(tiles)


def detections(shown: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> bytes:
    """Draw true (green) and found (yellow) boxes, with the scores of these.

    Args:
        shown: images RGB uint8 [H, W, 3], true boxes [M, 4], found boxes [N, 4], scores [N].

    Returns:
        A PNG file.
    """
    from spyropose_ros.core.plots import drawing

    tiles = []
    for image, true, found, scores in shown:
        factors = np.tile(np.array(_TILE) / image.shape[1::-1], 2)
        tile = cv2.resize(image, _TILE, interpolation=cv2.INTER_AREA)
        for boxes, colour in ((true, _TRUE), (found, _FOUND)):
            for box in boxes:
                x0, y0, x1, y1 = np.rint((box + 0.5) * factors - 0.5).astype(int).tolist()
                cv2.rectangle(tile, (x0, y0), (x1, y1), colour, 2)
        for box, score in zip(found, scores, strict=True):
            drawing.label(tile, f"{score:.2f}", tuple((box[:2] * factors[:2]).tolist()), 1.0)
        tiles.append(tile)
    return _png(tiles)


def _png(tiles: list[np.ndarray]) -> bytes:
    """Return tiles in rows as a PNG file."""
    from spyropose_ros.core.plots import drawing

    sheet = drawing.rows_of(tiles, _COLUMNS)
    return cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes()
