"""Renderings that no training draws, and what is in them."""

from collections.abc import Iterator

import numpy as np

from spyropose_ros.detector.bundle import DetectorBundle
from training.data.streams import TEST, item_generator
from training.detector.config import MIN_VISIBLE, DetectorConfig
from training.detector.images import KnownObjects, counts, open_objects
from training.detector.matching import Truth


def renderings(
    known: KnownObjects, seed: int, stream: int, number: int, min_visible: float = MIN_VISIBLE
) -> Iterator[tuple[np.ndarray, Truth]]:
    """Yield renderings.

    Args:
        known: the objects.
        seed: of the images.
        stream: of `training.data.streams`, not TRAIN.
        number: of images.
        min_visible: share of an object that must be visible for it to count.

    Yields:
        Images RGB uint8 [H, W, 3], and what is in them.
    """
    for index in range(number):
        group = known.sampler.sample(item_generator(seed, stream, index))
        yield group.image, Truth(group.boxes, group.classes, counts(group, min_visible))


def trained_renderings(
    bundle: DetectorBundle, data_root: str, seed: int, number: int, min_visible: float
) -> Iterator[tuple[np.ndarray, Truth]]:
    """Yield renderings as a detector was trained on; see `renderings`.

    Args:
        bundle: the detector.
        data_root: where downloaded data sets lie.
        seed: of the images.
        number: of images.
        min_visible: share of an object that must be visible for it to count.

    Returns:
        Images RGB uint8 [H, W, 3], and what is in them.
    """
    record = bundle.record
    views = DetectorConfig(**record["config"]).views
    known = open_objects(record["source"], record["objects"], data_root, bundle.info.side, views)
    return renderings(known, seed, TEST, number, min_visible)
