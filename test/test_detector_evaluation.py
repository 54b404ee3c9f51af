"""What a detector's evaluation counts, and the calibration of its scores."""

import logging

import numpy as np
import pytest
import torch

from spyropose_ros.core.errors import BundleError, InputError
from spyropose_ros.detector.bundle import DetectorBundle, DetectorInfo
from spyropose_ros.detector.detector import Detections, Detector
from spyropose_ros.detector.network import DetectionNetwork
from training.detector.calibration import calibrated, fit_calibration
from training.detector.evaluation import operating_score, report_lines, summarise
from training.detector.matching import Matches, Truth, box_errors, match
from training.evaluation.calibration import calibration_error

BOX = [10.0, 10, 30, 50]


def detections(*rows):
    """Of rows box, score, class; best first."""
    boxes, scores, classes = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(classes, np.int64),
        [str(c) for c in classes],
    )


def truth(*rows):
    """Of rows box, class, counts."""
    boxes, classes, counted = zip(*rows, strict=True) if rows else ((), (), ())
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    return Truth(boxes, np.array(classes, np.int64), np.array(counted, bool))


def matches(scores, found, objects=None):
    found = np.array(found, bool)
    errors = np.zeros((len(found), 4))
    number = int(found.sum()) if objects is None else objects
    return Matches(np.array(scores, float), found * 0.8, errors, number, 1, 0, np.zeros(0))


def test_each_object_is_found_once_and_by_its_class():
    seen = match(
        detections((BOX, 0.9, 0), (BOX, 0.8, 0), (BOX, 0.7, 1), ([60, 60, 70, 70], 0.6, 0)),
        truth((BOX, 0, True), ([100, 100, 120, 120], 0, True)),
    )
    assert seen.found.tolist() == [True, False, False, False]
    assert (seen.objects, seen.images, seen.empty) == (2, 1, 0)
    assert seen.overlaps[0] == 1


def test_what_finds_an_object_that_does_not_count_is_neither_right_nor_wrong():
    seen = match(detections((BOX, 0.9, 0), (BOX, 0.8, 1)), truth((BOX, 0, False)))
    assert seen.scores.tolist() == pytest.approx([0.8])
    assert seen.objects == 0 and not seen.found.any() and seen.empty == 0


def test_boxes_in_images_without_objects_are_counted_apart():
    parts = [match(detections((BOX, 0.9, 0), (BOX, 0.2, 0)), truth()), match(detections(), truth())]
    seen = Matches.join(parts)
    assert (seen.images, seen.empty, seen.objects) == (2, 2, 0)
    assert seen.false.tolist() == pytest.approx([0.9, 0.2])


def test_errors_are_in_units_of_the_box():
    moved = np.array([14.0, 6, 34, 46])  # 20 x 40: a fifth to the right, a tenth up
    np.testing.assert_allclose(box_errors(moved, np.array(BOX)), [0.2, -0.1, 0, 0])
    wide = np.array([0.0, 10, 40, 50])
    np.testing.assert_allclose(box_errors(wide, np.array(BOX)), [0, 0, np.log(2), 0])


def test_the_report_states_what_holds_at_the_chosen_precision():
    """Nine right boxes, one wrong one, then two right ones: the last with a precision of 11/12."""
    found = [True] * 9 + [False] + [True] * 2 + [False] * 5
    scores = np.linspace(0.9, 0.1, len(found))
    seen = matches(scores, found, objects=20)
    assert operating_score(seen) == pytest.approx(scores[11])
    report = summarise(seen)
    assert report["recall"] == pytest.approx(11 / 20) and report["median_iou"] == 0.8
    assert report["false_per_empty_image"] is None
    none = summarise(matches([0.5, 0.4], [False, False], objects=3))
    assert (none["recall"], none["score"], none["box_errors"]) == (0, None, None)
    shown = {"data": "renderings", "images": 1, "objects": 20, "ap": 0.1, "ap50": 0.2, "ap75": 0.3}
    assert "| recall at precision 0.9 | 0.550 |" in report_lines(shown | report)


def test_calibration_finds_slope_and_offset():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=20000) * 2
    scores = 1 / (1 + np.exp(-logits))
    right = rng.random(len(logits)) < 1 / (1 + np.exp(-(2.0 * logits + 0.5)))
    slope, offset = fit_calibration(matches(scores, right))
    assert slope == pytest.approx(2.0, abs=0.1) and offset == pytest.approx(0.5, abs=0.1)
    fitted = calibrated(scores, slope, offset)
    assert calibration_error(fitted, right, 15) < 0.02 < calibration_error(scores, right, 15)


def test_the_order_of_boxes_stays_even_where_scores_are_upside_down():
    scores = np.linspace(0.01, 0.99, 200)
    slope, offset = fit_calibration(matches(scores, scores < 0.5))
    assert slope > 0
    assert (np.diff(calibrated(scores, slope, offset)) >= 0).all()


def test_few_boxes_calibrate_nothing(caplog):
    caplog.set_level(logging.WARNING)
    assert fit_calibration(matches([0.9, 0.2], [True, False])) == (1.0, 0.0)
    assert "only 1 right and 1 wrong boxes" in caplog.text


def test_a_detector_gives_calibrated_scores(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DetectionNetwork(2).eval()
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    raw = Detector(DetectorBundle(network, DetectorInfo(("mug", "can"), 64)), "cpu")
    info = DetectorInfo(("mug", "can"), 64, (0.5, -1.0))
    DetectorBundle(network, info).save_pretrained(tmp_path, half=False)
    other = Detector.from_pretrained(tmp_path, "cpu")
    assert other.bundle.info == info
    before, after = raw.detect(image, 0.0), other.detect(image, 0.0)
    assert len(before) > 0
    np.testing.assert_array_equal(after.boxes, before.boxes)
    np.testing.assert_allclose(after.scores, calibrated(before.scores, 0.5, -1.0), atol=1e-5)


def test_a_calibration_that_turns_the_order_is_refused(tmp_path):
    with pytest.raises(InputError, match="slope > 0"):
        DetectorInfo(("mug",), 64, (-1.0, 0.0))
    bundle = DetectorBundle(DetectionNetwork(1).eval(), DetectorInfo(("mug",), 64))
    bundle.save_pretrained(tmp_path)
    path = tmp_path / "detector.json"
    path.write_text(path.read_text().replace("1.0,\n  0.0", "0.0,\n  0.0"))
    with pytest.raises(BundleError, match="slope > 0"):
        DetectorBundle.from_pretrained(tmp_path)


def test_coco_metrics_are_the_reference_implementations():
    pytest.importorskip("pycocotools")
    from training.detector.coco import coco_metrics

    there = [truth((BOX, 0, True), ([60, 60, 90, 80], 1, False))]
    perfect = coco_metrics([detections((BOX, 0.9, 0), ([60, 60, 90, 80], 0.8, 1))], there, 2)
    assert perfect == pytest.approx({"ap": 1.0, "ap50": 1.0, "ap75": 1.0})
    off = coco_metrics([detections(([10, 10, 30, 40], 0.9, 0))], there, 2)  # IoU 0.75
    assert off == pytest.approx({"ap": 0.6, "ap50": 1.0, "ap75": 1.0})
    assert coco_metrics([detections()], there, 2)["ap50"] == 0
