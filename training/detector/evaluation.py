"""How good a detector is: on images with known objects, in numbers and as a text."""

from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from spyropose_ros.detector.detector import Detector
from training import markdown
from training.detector.coco import coco_metrics
from training.detector.matching import Matches, Truth, match
from training.evaluation.calibration import calibration_error

PRECISION = 0.9
"""At which recall, boxes and false boxes are stated."""

LOWEST_SCORE = 0.01
"""Of the boxes that are measured."""

_BINS = 15
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_ERRORS = ("shift_x", "shift_y", "log_width", "log_height")


def evaluate(detector: Detector, images: Iterable[tuple[np.ndarray, Truth]]) -> dict:
    """Measure a detector.

    Args:
        detector: to measure.
        images: RGB uint8 [H, W, 3] and what is in them.

    Returns:
        Plain values: "images", "objects", COCO's "ap", "ap50" and "ap75", and see `summarise`.

    Raises:
        MissingFileError: pycocotools is missing.
    """
    found, truth = [], []
    for image, objects in tqdm(images, unit="image"):
        found.append(detector.detect(image, LOWEST_SCORE))
        truth.append(objects)
    matches = Matches.join([match(*pair) for pair in zip(found, truth, strict=True)])
    coco = coco_metrics(found, truth, len(detector.classes))
    return {"images": matches.images, "objects": matches.objects} | coco | summarise(matches)


def summarise(matches: Matches) -> dict:
    """Compute what does not depend on COCO's conventions.

    Args:
        matches: of all images.

    Returns:
        "score" from which on the precision is `PRECISION`, and for the boxes from this score:
        "recall", "median_iou", "false_per_empty_image" (None without such images), and
        "box_errors", the mean, standard deviation and quantiles of each of the errors, see
        `Matches`; "ece" of all boxes.
    """
    score = operating_score(matches)
    good = matches.found & (matches.scores >= score)
    errors = good_errors(matches)
    return {
        "precision": PRECISION,
        "score": score if good.any() else None,
        "recall": float(good.sum() / max(1, matches.objects)),
        "median_iou": float(np.median(matches.overlaps[good])) if good.any() else None,
        "empty_images": matches.empty,
        "false_per_empty_image": (
            float((matches.false >= score).sum() / matches.empty) if matches.empty else None
        ),
        "ece": calibration_error(matches.scores, matches.found, _BINS)
        if len(matches.scores)
        else None,
        "box_errors": {
            name: _distribution(column) for name, column in zip(_ERRORS, errors.T, strict=True)
        }
        if good.any()
        else None,
    }


def good_errors(matches: Matches) -> np.ndarray:
    """Return `Matches.errors` of the boxes that found an object at the operating score."""
    return matches.errors[matches.found & (matches.scores >= operating_score(matches))]


def operating_score(matches: Matches) -> float:
    """Return the lowest score from which on the precision is `PRECISION`; inf if there is none."""
    order = np.argsort(-matches.scores, kind="stable")
    precision = matches.found[order].cumsum() / np.arange(1, len(order) + 1)
    last = np.flatnonzero(precision >= PRECISION)
    return float(matches.scores[order[last[-1]]]) if len(last) else float("inf")


def _distribution(values: np.ndarray) -> dict:
    """Return mean, standard deviation and quantiles."""
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "quantiles": {str(q): float(np.quantile(values, q)) for q in _QUANTILES},
    }


def report_lines(report: dict) -> list[str]:
    """Return a report as Markdown."""
    shown = {
        "images": report["images"],
        "objects": report["objects"],
        "AP": report["ap"],
        "AP50": report["ap50"],
        "AP75": report["ap75"],
        f"recall at precision {PRECISION}": report["recall"],
        "score there": report["score"],
        "median IoU there": report["median_iou"],
        "images without an object": report["empty_images"],
        "false boxes in each of these": report["false_per_empty_image"],
        "calibration error of the scores": report["ece"],
    }
    lines = [f"# Detector on {report['data']}", ""]
    lines += markdown.table(("", ""), [(name, _shown(value)) for name, value in shown.items()])
    if report["box_errors"]:
        lines += [
            "",
            "Errors of the boxes: shifts over the true sides, logarithms of their ratios.",
            "",
        ]
        rows = [
            (name, *map(_shown, (e["mean"], e["std"], *e["quantiles"].values())))
            for name, e in report["box_errors"].items()
        ]
        lines += markdown.table(("", "mean", "std", *map(str, _QUANTILES)), rows)
    return lines


def _shown(value: float | None) -> str:
    if value is None:
        return "none"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
