"""Which of a detector's boxes find which objects."""

from dataclasses import dataclass

import numpy as np
import torch

from spyropose_ros.detector.boxes import overlap
from spyropose_ros.detector.detector import Detections

FOUND = 0.5
"""Intersection over union from which a box has found an object."""


@dataclass(frozen=True)
class Truth:
    """The objects in an image.

    Attributes:
        boxes: [N, 4] xyxy around what is visible, pixels; pixel centres lie at integers.
        classes: [N], of the detector's.
        counts: [N] bool; the others are neither found nor missed.
    """

    boxes: np.ndarray
    classes: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Matches:
    """The boxes of one or more images and what became of them.

    Attributes:
        scores: [D] of the boxes, without those that found what does not count.
        overlaps: [D] intersection over union with the object that is found, else 0.
        errors: [D, 4] how far off the boxes are, for those that found an object: centre in units of
            the true width and height, logarithm of width and height over the true ones.
        objects: number of objects that count.
        images: number of images.
        empty: number of images in which no object is visible at all.
        false: number of boxes in these, with their scores.
    """

    scores: np.ndarray
    overlaps: np.ndarray
    errors: np.ndarray
    objects: int
    images: int
    empty: int
    false: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """[D] bool, the boxes that found an object."""
        return self.overlaps > 0

    @classmethod
    def join(cls, parts: list["Matches"]) -> "Matches":
        """Join those of several images."""
        arrays = [[p.scores, p.overlaps, p.errors, p.false] for p in parts]
        scores, overlaps, errors, false = map(np.concatenate, zip(*arrays, strict=True))
        objects, images, empty = (
            sum(getattr(p, name) for p in parts) for name in ("objects", "images", "empty")
        )
        return cls(scores, overlaps, errors, objects, images, empty, false)


def match(detections: Detections, truth: Truth) -> Matches:
    """Let boxes, best first, take the object of their class that they overlap most.

    Args:
        detections: of an image, best first.
        truth: of the same image.

    Returns:
        What became of the boxes.
    """
    table = overlap(
        torch.from_numpy(detections.boxes).double()[:, None],
        torch.from_numpy(np.asarray(truth.boxes)).double().reshape(-1, 4),
    ).numpy()
    table = table * (detections.classes[:, None] == truth.classes)
    left, kept, overlaps, errors = truth.counts.copy(), [], [], []
    for number, row in enumerate(table):
        best = int(np.argmax(row * left)) if left.any() else -1
        if best >= 0 and row[best] >= FOUND and left[best]:
            left[best] = False
            kept.append(number)
            overlaps.append(row[best])
            errors.append(box_errors(detections.boxes[number], truth.boxes[best]))
        elif not (row * ~truth.counts >= FOUND).any():
            kept.append(number)
            overlaps.append(0.0)
            errors.append(np.zeros(4))
    scores = detections.scores[kept].astype(np.float64)
    empty = len(truth.boxes) == 0
    return Matches(
        scores,
        np.array(overlaps, np.float64),
        np.array(errors, np.float64).reshape(-1, 4),
        int(truth.counts.sum()),
        1,
        int(empty),
        scores if empty else scores[:0],
    )


def box_errors(box: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return shift in x and y and logarithms of the ratios of width and height, [4].

    Args:
        box: xyxy, [4].
        true: xyxy, [4].

    Returns:
        The shift in units of the true box's width and height.
    """
    size, true_size = box[2:] - box[:2], true[2:] - true[:2]
    shift = (box[:2] + box[2:] - true[:2] - true[2:]) / 2 / true_size
    return np.concatenate((shift, np.log(size / true_size)))
