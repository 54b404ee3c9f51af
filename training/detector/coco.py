"""COCO's metrics, by pycocotools."""

import contextlib
import io

import numpy as np

from spyropose_ros.core.errors import MissingFileError
from spyropose_ros.detector.detector import Detections
from training.detector.matching import Truth


def coco_metrics(found: list[Detections], truth: list[Truth], classes: int) -> dict[str, float]:
    """Compute the average precision over classes.

    Args:
        found: the boxes of each image.
        truth: the objects of each image; those that do not count are COCO's crowds.
        classes: number of classes.

    Returns:
        "ap" over the thresholds 0.5, 0.55, ..., 0.95 of the intersection over union, "ap50" and
        "ap75"; -1 where no object counts.

    Raises:
        MissingFileError: pycocotools is missing.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingFileError(
            "pycocotools is missing: install it with pip install pycocotools"
        ) from error
    objects = [
        {"image_id": i, "category_id": int(kind), "bbox": _xywh(box), "iscrowd": int(not counts)}
        | {"id": 0, "area": float(np.prod(_xywh(box)[2:]))}
        for i, each in enumerate(truth)
        for box, kind, counts in zip(each.boxes, each.classes, each.counts, strict=True)
    ]
    for number, each in enumerate(objects, start=1):  # pycocotools takes 0 for no object
        each["id"] = number
    answers = [
        {"image_id": i, "category_id": int(kind), "bbox": _xywh(box), "score": float(score)}
        for i, each in enumerate(found)
        for box, kind, score in zip(each.boxes, each.classes, each.scores, strict=True)
    ]
    if not answers:
        return dict.fromkeys(("ap", "ap50", "ap75"), 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = {
            "images": [{"id": i} for i in range(len(truth))],
            "categories": [{"id": i} for i in range(classes)],
            "annotations": objects,
        }
        truths.createIndex()
        evaluation = COCOeval(truths, truths.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("ap", "ap50", "ap75"), evaluation.stats[:3].tolist(), strict=True))


def _xywh(box: np.ndarray) -> list[float]:
    x0, y0, x1, y1 = map(float, box)
    return [x0, y0, x1 - x0, y1 - y0]
