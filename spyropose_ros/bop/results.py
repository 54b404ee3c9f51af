"""The results file of the BOP challenge: one line for every estimated pose.

Source: https://bop.felk.cvut.cz/challenges (format of results).
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spyropose_ros.bop import MM
from spyropose_ros.core.errors import DataError

HEADER = ("scene_id", "im_id", "obj_id", "score", "R", "t", "time")
UNKNOWN_TIME = -1.0


@dataclass(frozen=True)
class BopEstimate:
    """An estimated pose of an object in an image.

    Attributes:
        scene_id: number of the scene.
        image_id: number of the image in the scene.
        object_id: number of the object.
        score: confidence, larger is better.
        rotation: object to camera, [3, 3].
        translation: object to camera, metres, [3].
        seconds: that the whole image took, all objects together; `UNKNOWN_TIME` if unknown.
    """

    scene_id: int
    image_id: int
    object_id: int
    score: float
    rotation: np.ndarray
    translation: np.ndarray
    seconds: float = UNKNOWN_TIME


def with_image_times(estimates: Iterable[BopEstimate]) -> list[BopEstimate]:
    """Turn the times of single estimates into those of their images, which the format wants.

    Args:
        estimates: with the seconds that each of them took.

    Returns:
        The same with the sum over their image; unknown where one of the times is unknown.
    """
    estimates = list(estimates)
    totals: dict[tuple[int, int], float] = {}
    for estimate in estimates:
        key = estimate.scene_id, estimate.image_id
        total = totals.get(key, 0.0)
        unknown = UNKNOWN_TIME in (total, estimate.seconds)
        totals[key] = UNKNOWN_TIME if unknown else total + estimate.seconds
    return [replace(e, seconds=totals[e.scene_id, e.image_id]) for e in estimates]


def write_results(path: str | Path, estimates: Iterable[BopEstimate]) -> None:
    """Write a results file.

    Args:
        path: for the challenge, METHOD_DATASET-SPLIT.csv.
        estimates: in any order; metres become millimetres.

    Raises:
        DataError: an estimate is not finite, its rotation is none, or two times of one image
            differ.
    """
    estimates = list(estimates)
    times: dict[tuple[int, int], float] = {}
    for estimate in estimates:
        _check(estimate)
        time = times.setdefault((estimate.scene_id, estimate.image_id), estimate.seconds)
        if time != estimate.seconds:
            raise DataError(
                f"{_where(estimate)} has the times {time} and {estimate.seconds}: all estimates of "
                "an image must have the time of the whole image (see with_image_times)"
            )
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for e in estimates:
            R, t = _numbers(e.rotation), _numbers(e.translation / MM)
            writer.writerow((e.scene_id, e.image_id, e.object_id, float(e.score), R, t, e.seconds))


def read_results(path: str | Path) -> list[BopEstimate]:
    """Read a results file.

    Args:
        path: of the CSV file.

    Returns:
        The estimates in the order of the file; millimetres become metres.

    Raises:
        DataError: the file does not have the format; the line is named.
    """
    estimates = []
    with Path(path).open(newline="") as file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != HEADER:
            raise DataError(f"{path} is no BOP results file: its first line is not {HEADER}")
        for row in reader:
            try:
                scene, image, number, score, R, t, seconds = row
                estimate = BopEstimate(
                    int(scene),
                    int(image),
                    int(number),
                    float(score),
                    np.array(R.split(), np.float64).reshape(3, 3),
                    np.array(t.split(), np.float64).reshape(3) * MM,
                    float(seconds),
                )
                _check(estimate)
            except ValueError as error:
                raise DataError(f"{path}, line {reader.line_num}: {error}") from error
            estimates.append(estimate)
    return estimates


def _check(estimate: BopEstimate) -> None:
    """Raise DataError unless the estimate is a finite pose."""
    R, t = np.asarray(estimate.rotation), np.asarray(estimate.translation)
    if not (np.isfinite(R).all() and np.isfinite(t).all() and np.isfinite(estimate.score)):
        raise DataError(f"{_where(estimate)} has an estimate that is not finite")
    if not np.allclose(R @ R.T, np.eye(3), atol=1e-3) or np.linalg.det(R) < 0:
        raise DataError(f"{_where(estimate)} has a matrix that is no rotation: {R.tolist()}")


def _where(estimate: BopEstimate) -> str:
    return f"scene {estimate.scene_id}, image {estimate.image_id}"


def _numbers(values: np.ndarray) -> str:
    """Return all digits, so that reading gives the same values."""
    return " ".join(repr(float(value)) for value in np.ravel(values))
