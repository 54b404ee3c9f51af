"""Finds objects in images by the detectors in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from spyropose_ros.core.bundle_files import bundle_name
from spyropose_ros.detector.detector import Detections, Detector
from spyropose_ros.ros.pipeline.detections import Target
from spyropose_ros.ros.pipeline.detectors import require_objects, share_classes
from spyropose_ros.ros.pipeline.drops import BadInputError, Reason
from spyropose_ros.ros.pipeline.inference import OutOfMemoryError, guarded
from spyropose_ros.ros.pipeline.models import Models
from spyropose_ros.ros.pipeline.objects import naming_the_parameter

_LIMIT = 1000
"""Largest number of boxes per detector: as some may be of classes without a model, far more than
`detections.max_count` allows."""


class Finder:
    """Finds all objects that models are loaded for. Not thread-safe.

    Args:
        detectors: folders or hub ids.
        models: of the objects.
        inform: logs progress.

    Attributes:
        classes: by detector, the names of objects by the classes that it finds.

    Raises:
        ParameterError: if a bundle is missing, damaged, or a detector of other objects.
        BadInputError: see `detect`.
    """

    classes: dict[str, dict[str, str]]

    def __init__(
        self, detectors: Sequence[str], models: Models, inform: Callable[[str], object]
    ) -> None:
        self._detectors: dict[str, Detector] = {}
        for bundle in detectors:
            detector = load_detector(bundle, models.device, inform)
            require_objects(bundle, detector.classes, models.classes)
            self._detectors[bundle] = detector
        known = {bundle: detector.classes for bundle, detector in self._detectors.items()}
        self.classes = share_classes(known, models.classes)
        found = {name for share in self.classes.values() for name in share.values()}
        if missing := [name for name in models.objects if name not in found]:
            inform(f"the detector {self} does not know {', '.join(missing)}, which is never found")

    def __str__(self) -> str:
        return ", ".join(map(bundle_name, self._detectors))

    def find(self, image: np.ndarray, min_score: float) -> list[Target]:
        """Find objects.

        Args:
            image: rectified, RGB uint8 [H, W, 3].
            min_score: lowest score.

        Returns:
            What the models are for, the best scores of each detector first.

        Raises:
            BadInputError: see `detect`.
        """
        targets = []
        for bundle, detector in self._detectors.items():
            found = detect(detector, image, min_score, _LIMIT)
            classes = self.classes[bundle]
            for box, score, name in zip(
                found.boxes.tolist(), found.scores.tolist(), found.names, strict=True
            ):
                if name in classes:
                    targets.append(Target(classes[name], name, "", score, tuple(box)))
        return targets


def load_detector(
    bundle: str, device: str | torch.device, inform: Callable[[str], object]
) -> Detector:
    """Load a detector and warm it up.

    Args:
        bundle: folder or hub id.
        device: where it runs.
        inform: logs progress.

    Returns:
        The detector.

    Raises:
        ParameterError: if the bundle is missing or damaged.
        BadInputError: see `detect`.
    """
    inform(f"loading the detector {bundle}")
    with naming_the_parameter("detector"):
        detector = Detector.from_pretrained(bundle, device)
    detect(detector, np.zeros((480, 640, 3), np.uint8), 0.5, _LIMIT)
    return detector


def detect(detector: Detector, image: np.ndarray, min_score: float, limit: int) -> Detections:
    """Detect as `Detector.detect` does, but raise what a frame is dropped for.

    Args:
        detector: to run.
        image: RGB uint8 [H, W, 3].
        min_score: lowest score.
        limit: largest number of boxes.

    Returns:
        The boxes, best first.

    Raises:
        BadInputError: if the device has too little memory, or the detector's output is not finite.
    """
    try:
        return guarded(
            lambda: detector.detect(image, min_score, limit), detector.bundle.name, detector.device
        )
    except OutOfMemoryError as error:
        raise BadInputError(
            Reason.OUT_OF_MEMORY,
            f"the detector does not fit into memory ({error}): free memory on the device, or "
            "choose another device",
        ) from error
