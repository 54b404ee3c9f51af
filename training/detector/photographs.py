"""Photographs of LM-O with the boxes of the annotated visible silhouettes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spyropose_ros.bop import LMO_OBJECTS
from spyropose_ros.core.errors import InputError
from training.data.rendered import lmo_frames
from training.detector.matching import Truth


def photographs(
    classes: tuple[str, ...], data_root: str, split: str, number: int, min_visible: float
) -> Iterator[tuple[np.ndarray, Truth]]:
    """Yield photographs.

    Args:
        classes: of the detector; other objects are background.
        data_root: where downloaded data sets lie.
        split: "test" or "dev", the last or the first half.
        number: most images.
        min_visible: share of an object that must be visible for it to count.

    Returns:
        Images RGB uint8 [H, W, 3], and what is in them.

    Raises:
        InputError: a class that is no object of LM-O.
    """
    unknown = sorted(set(classes) - LMO_OBJECTS.keys())
    if unknown:
        raise InputError(f"LM-O does not show {', '.join(unknown)}: evaluate on renderings")
    return _photographs(classes, data_root, split, number, min_visible)


def _photographs(
    classes: tuple[str, ...], data_root: str, split: str, number: int, min_visible: float
) -> Iterator[tuple[np.ndarray, Truth]]:
    numbers = {LMO_OBJECTS[name]: index for index, name in enumerate(classes)}
    for frame in lmo_frames(Path(data_root) / "lmo", split)[:number]:
        seen = [
            (each.visibility.box, numbers[each.object_id], each.visibility.fraction)
            for each in frame.instances
            if each.object_id in numbers and each.visibility and each.visibility.box is not None
        ]
        boxes = np.array([box for box, *_ in seen]).reshape(-1, 4)
        kinds = np.array([kind for _, kind, _ in seen], np.int64)
        fractions = np.array([fraction for *_, fraction in seen])
        yield frame.image(), Truth(boxes, kinds, fractions >= min_visible)
