"""The objects in a photograph: boxes, distributions, and what is written of them as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from spyropose_ros.core.bundle_files import locate
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.errors import BundleError, InputError
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.inputs import Box, usable
from spyropose_ros.core.presence import with_score
from spyropose_ros.detector.bundle import CONFIG, WEIGHTS
from spyropose_ros.detector.detector import Detector
from spyropose_ros.photos.photograph import Photograph

if TYPE_CHECKING:
    from spyropose_ros.scenes.verification import Verification

_BATCH = 16  # objects of a photograph that are estimated together


@dataclass(frozen=True)
class Found:
    """An object in a photograph.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the rectified image, [4].
        score: of the detector; None where the box was given.
        distribution: of its pose in the camera's optical frame, on the CPU.
    """

    box: np.ndarray
    score: float | None
    distribution: PoseDistribution


def load_detector(name: str | None, model: str, device: str) -> Detector:
    """Load a detector.

    Args:
        name: of its bundle; None for that of a model's bundle.
        model: folder or hub id of the model.
        device: where it runs.

    Returns:
        The detector.

    Raises:
        BundleError: it is missing or damaged.
        InputError: unknown or absent device.
    """
    if name is None and not (locate(model, (CONFIG, WEIGHTS)) / CONFIG).is_file():
        raise BundleError(
            f"{model} has no detector: say where the object is with --box x0 y0 x1 y1, or give a "
            "detector with --detector"
        )
    return Detector.from_pretrained(name or model, device)


class GivenBoxes:
    """Boxes of the user, the same in all photographs.

    Args:
        boxes: in pixels of the upright pictures, before the lens is corrected.
    """

    def __init__(self, boxes: Sequence[Box]) -> None:
        self._boxes = boxes

    def __call__(self, photo: Photograph) -> list[tuple[Box, float | None]]:
        """Return the boxes in the rectified image."""
        return [(photo.calibration.rectify_box(box), None) for box in self._boxes]


class DetectedBoxes:
    """Boxes that a detector finds.

    Args:
        detector: of the object, perhaps among others.
        name: of the object as the detector calls it.
        min_score: lowest score, in [0, 1].

    Raises:
        InputError: the detector does not know the object, or the score is out of its range.
    """

    def __init__(self, detector: Detector, name: str, min_score: float) -> None:
        if name not in detector.classes:
            raise InputError(
                f"the detector {detector.bundle.name} does not know '{name}' but "
                f"{', '.join(detector.classes)}: give one of these with --class, or a detector of "
                "the object with --detector"
            )
        if not 0 <= min_score <= 1:
            raise InputError(f"a score is between 0 and 1: --min-score {min_score:g} is not")
        self._detector, self._name, self._min_score = detector, name, min_score

    def __call__(self, photo: Photograph) -> list[tuple[Box, float | None]]:
        """Return boxes in the rectified image and their scores, best first."""
        detections = self._detector.detect(photo.image, self._min_score)
        found = [
            (tuple(box), score)
            for box, score, name in zip(
                detections.boxes.tolist(), detections.scores.tolist(), detections.names, strict=True
            )
            if name == self._name
        ]
        height, width = photo.image.shape[:2]
        return usable(found, itemgetter(0), width, height)


def estimate(
    photo: Photograph,
    boxes: Sequence[tuple[Box, float | None]],
    estimator: Estimator,
    verification: Verification | None = None,
) -> list[Found]:
    """Estimate the poses of objects in a photograph.

    Args:
        photo: the photograph.
        boxes: around the objects, with scores.
        estimator: of the object.
        verification: weighs the modes by renderings.

    Returns:
        One for each box.

    Raises:
        InputError: a box is unusable.
    """
    found: list[Found] = []
    for start in range(0, len(boxes), _BATCH):
        part = boxes[start : start + _BATCH]
        corners = np.array([box for box, _ in part], np.float32)
        distributions = estimator.estimate(photo.image, photo.K, corners)
        if verification is not None:
            distributions = [
                verification(photo.image, photo.K, box, distribution)
                for box, distribution in zip(corners, distributions, strict=True)
            ]
        found += [
            Found(box, score, distribution.to("cpu"))
            for box, (_, score), distribution in zip(corners, part, distributions, strict=True)
        ]
    return found


def record(photo: Photograph, found: Sequence[Found], estimator: Estimator, source: str) -> dict:
    """Describe a photograph and what was found in it.

    Args:
        photo: the photograph.
        found: its objects.
        estimator: of the object.
        source: where the intrinsics come from.

    Returns:
        What JSON can hold; metres, radians, nats.
    """
    width, height = photo.picture.size
    return {
        "image": str(photo.picture.path),
        "frame": photo.picture.frame,
        "width": width,
        "height": height,
        "turned": photo.picture.turned,
        "model": estimator.bundle.name,
        "camera": {
            "K": photo.K.tolist(),
            "source": source,
            "rectified_here": photo.calibration.lens is not None,
            "warnings": list(photo.calibration.warnings),
        },
        "objects": [_described(each, estimator.bundle.object.name) for each in found],
    }


def _described(found: Found, name: str) -> dict:
    distribution = found.distribution
    presence = with_score(distribution.presence, found.score or math.nan)
    mode, mean = distribution.mode(), distribution.mean()
    return {
        "class": name,
        "score": found.score,
        "box": found.box.tolist(),
        "presence": None if math.isnan(presence) else presence,
        "entropy": distribution.entropy(),
        "mode": _pose(*mode),
        "modes": [
            {
                "mass": each.mass,
                **_pose(each.rotation, each.translation),
                "covariance": each.covariance.tolist(),
            }
            for each in distribution.modes()
        ],
        "mean": _pose(*mean),
        "covariance": distribution.covariance().tolist(),
    }


def _pose(rotation: Tensor, translation: Tensor) -> dict[str, list]:
    return {"rotation": rotation.tolist(), "translation": translation.tolist()}
