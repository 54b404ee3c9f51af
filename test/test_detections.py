"""Which detections are used, and the reason for each that is not."""

import math

import pytest
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from spyropose_ros.ros.pipeline.detections import enclosing_box, select_targets
from spyropose_ros.ros.pipeline.drops import Reason

NAN = float("nan")


def detection(*hypotheses, x=100.0, y=80.0, size_x=40.0, size_y=20.0, theta=0.0):
    message = Detection2D(id="3")
    message.bbox.center.position.x, message.bbox.center.position.y = x, y
    message.bbox.center.theta = theta
    message.bbox.size_x, message.bbox.size_y = size_x, size_y
    for class_id, score in hypotheses or (("mug", 0.9),):
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        message.results.append(result)
    return message


def select(*detections, classes=None, min_score=0.0, max_count=10):
    dropped = []
    targets = select_targets(
        Detection2DArray(detections=list(detections)),
        640,
        480,
        classes or {"mug": "mug", "41": "mug", "duck": "duck"},
        min_score,
        max_count,
        lambda reason, text: dropped.append((reason, text)),
    )
    return targets, dropped


def test_a_good_detection_becomes_a_target():
    (target,), dropped = select(detection())
    assert target.box == (80.0, 70.0, 120.0, 90.0)
    assert (target.object_name, target.class_id, target.detection_id) == ("mug", "mug", "3")
    assert target.score == 0.9
    assert dropped == []


def test_class_map_translates_and_the_message_keeps_the_detectors_class():
    (target,), _ = select(detection(("41", 0.5)))
    assert (target.object_name, target.class_id) == ("mug", "41")


def test_best_hypothesis_that_has_a_model_is_used():
    (target,), _ = select(detection(("person", 0.99), ("duck", 0.3), ("mug", 0.6)))
    assert (target.object_name, target.score) == ("mug", 0.6)


def test_unknown_class_and_no_class_are_dropped_and_named():
    no_class = detection()
    no_class.results = []
    targets, dropped = select(detection(("person", 0.9)), no_class)
    assert targets == []
    assert [reason for reason, _ in dropped] == [Reason.UNKNOWN_CLASS] * 2
    assert "'person'" in dropped[0][1] and "no class" in dropped[1][1]


@pytest.mark.parametrize(
    "changes",
    [
        {"x": NAN},
        {"y": float("inf")},
        {"size_x": NAN},
        {"size_y": float("inf")},
        {"theta": NAN},
        {"size_x": 0.0},
        {"size_y": -3.0},
        {"x": -1.0},
        {"x": 640.0},
        {"y": -0.6},
        {"y": 1000.0},
        {"x": 0.4, "y": 0.6, "size_x": 0.2, "size_y": 0.1},
        {"size_x": 1e-9},
        {"size_y": 1e300},
    ],
)
def test_bad_boxes_are_dropped_and_the_others_stay(changes):
    targets, dropped = select(detection(**changes), detection())
    assert len(targets) == 1
    assert [reason for reason, _ in dropped] == [Reason.BAD_BOX]


def test_boxes_may_reach_over_the_border():
    (target,), dropped = select(detection(x=5.0, y=475.0))
    assert target.box == (-15.0, 465.0, 25.0, 485.0)
    assert dropped == []


@pytest.mark.parametrize("theta", [0.3, math.pi / 2, -2.0, math.pi])
def test_rotated_boxes_are_enclosed(theta):
    left, top, right, bottom = enclosing_box(100, 80, 40, 20, theta)
    cos, sin = math.cos(theta), math.sin(theta)
    corners = [(sx * 20, sy * 10) for sx in (-1, 1) for sy in (-1, 1)]
    xs = [100 + x * cos - y * sin for x, y in corners]
    ys = [80 + x * sin + y * cos for x, y in corners]
    expected = (min(xs), min(ys), max(xs), max(ys))
    assert (left, top, right, bottom) == pytest.approx(expected)


def test_low_scores_are_dropped_and_an_unknown_score_passes():
    targets, dropped = select(
        detection(("mug", 0.29)), detection(("mug", 0.3)), detection(("mug", NAN)), min_score=0.3
    )
    assert [target.score for target in targets][0] == 0.3
    assert math.isnan(targets[1].score)
    assert [reason for reason, _ in dropped] == [Reason.LOW_SCORE]


def test_the_best_scores_stay_in_the_order_of_the_message():
    scores = (0.2, 0.9, NAN, 0.5, 0.9)
    targets, dropped = select(*(detection(("mug", score)) for score in scores), max_count=3)
    assert [target.score for target in targets] == [0.9, 0.5, 0.9]
    assert [reason for reason, _ in dropped] == [Reason.TOO_MANY] * 2


def test_no_detections_give_no_targets():
    assert select() == ([], [])
