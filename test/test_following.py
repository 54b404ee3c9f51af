"""Between detections: which frames are detected in, and where objects are expected meanwhile."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from result_tools import K, result_of, two_sided, view_of
from spyropose_ros.core import camera
from spyropose_ros.core.bundle_files import ObjectInfo
from spyropose_ros.core.inputs import check_box
from spyropose_ros.ros.pipeline.drops import BadInputError, Reason
from spyropose_ros.ros.pipeline.following import Follower, RateLimit
from spyropose_ros.ros.pipeline.parameters import (
    DetectorParameters,
    Parameters,
    TemporalParameters,
)
from spyropose_ros.ros.pipeline.tracks import mean_position

REST = np.eye(4)
SEEN = [frozenset([""])]
OBJECTS = {"mug": ObjectInfo("mug", [0.0, 0.0, 0.0], 0.12, 0.9, 0.05, [])}


def settings(rate, enabled=True):
    return Parameters(
        detector=DetectorParameters(rate=rate), temporal=TemporalParameters(enabled=enabled)
    )


@pytest.fixture(scope="module")
def result():
    return result_of(two_sided(0))


def followed(result, stamp=100.0, rest_from_frame=REST):
    follower = Follower()
    assert follower.begin(stamp, settings(1.0))
    follower.count_detection()
    follower.update(stamp, result.targets, result.distributions, SEEN, rest_from_frame)
    return follower


def test_every_frame_is_detected_in_by_default():
    follower = Follower()
    assert all(follower.begin(100.0 + 0.01 * i, settings(0.0)) for i in range(5))


def test_the_rate_is_kept_on_average_whatever_the_stamps_jitter(result):
    follower = followed(result)
    rng = np.random.default_rng(0)
    stamps = 101.0 + np.arange(600) / 30 + rng.uniform(-0.004, 0.004, 600)
    detected = []
    for stamp in stamps:
        detected.append(follower.begin(stamp, settings(10.0)))
        if detected[-1]:
            follower.count_detection()
            follower.count_detection()  # of another camera
        follower.update(stamp, result.targets, result.distributions, SEEN, REST)
    assert 196 <= sum(detected) <= 201  # in 20 s


def test_a_pause_is_not_made_up_for(result):
    follower = followed(result)
    assert follower.begin(150.0, settings(10.0))
    follower.count_detection()
    follower.update(150.0, result.targets, result.distributions, SEEN, REST)
    assert not follower.begin(150.01, settings(10.0))
    assert follower.begin(150.1, settings(10.0))


def test_without_temporal_filter_other_frames_are_dropped(result):
    follower = followed(result)
    with pytest.raises(BadInputError, match="without temporal.enabled") as dropped:
        follower.begin(100.1, settings(1.0, enabled=False))
    assert dropped.value.reason is Reason.NO_DETECTIONS


@pytest.mark.parametrize("found, stamp", [(False, 100.1), (True, 102.5)])
def test_what_was_not_found_or_long_ago_is_not_followed(result, found, stamp):
    follower = Follower()
    follower.begin(100.0, settings(0.1))
    follower.count_detection()
    if found:
        follower.update(100.0, result.targets, result.distributions, SEEN, REST)
    with pytest.raises(BadInputError, match="nothing to follow until") as dropped:
        follower.begin(stamp, settings(0.1))
    assert dropped.value.reason is Reason.NO_DETECTIONS


def test_what_the_detector_no_longer_finds_is_gone(result):
    follower = followed(result)
    follower.update(100.1, [], [], [], REST)
    assert follower.targets(view_of(), np.eye(4), OBJECTS) == []


def test_a_reset_detects_again(result):
    follower = followed(result)
    follower.reset()
    assert follower.begin(50.0, settings(1.0))
    follower.count_detection()
    with pytest.raises(BadInputError):
        follower.begin(50.1, settings(1.0))


def test_the_box_is_where_the_object_was_and_the_rest_stays(result):
    (target,) = followed(result).targets(view_of(), np.eye(4), OBJECTS)
    (before,) = result.targets
    assert (target.object_name, target.class_id, target.score) == ("mug", "cup", 0.8)
    assert target.detection_id == before.detection_id and target.box != before.box
    estimate = camera.translation_from_boxes(
        torch.tensor([target.box]), torch.tensor(K, dtype=torch.float32), 0.12, 0.9
    )
    expected = mean_position(result.distributions[0])
    np.testing.assert_allclose(estimate[0].numpy(), expected, atol=1e-5)


def test_the_box_moves_with_the_camera(result):
    moved = np.eye(4)
    moved[0, 3] = 0.1  # of the camera, to the right
    follower = followed(result, rest_from_frame=moved)
    (at_rest,) = follower.targets(view_of(), np.linalg.inv(moved), OBJECTS)
    (other,) = follower.targets(view_of(), np.eye(4), OBJECTS)
    assert other.box[0] - at_rest.box[0] > 20
    behind = np.diag([1.0, -1.0, -1.0, 1.0])
    assert follower.targets(view_of(), behind, OBJECTS) == []


def test_an_object_is_expected_only_where_it_was_seen(result):
    follower = Follower()
    follower.begin(100.0, settings(1.0))
    seen = [frozenset(["left", "top"])]
    follower.update(100.0, result.targets, result.distributions, seen, REST)
    expected = [
        len(follower.targets(replace(view_of(), camera=camera), REST, OBJECTS))
        for camera in ("left", "right", "top")
    ]
    assert expected == [1, 0, 1]


@pytest.mark.parametrize("offset", [(0.4, 0), (-0.4, 0), (0, 0.3), (0, -0.3)])
def test_what_leaves_the_image_is_not_expected(result, offset):
    follower = followed(result)
    away, nearly = np.eye(4), np.eye(4)
    away[:2, 3], nearly[:2, 3] = offset, 0.7 * np.array(offset)
    assert follower.targets(view_of(), away, OBJECTS) == []
    (target,) = follower.targets(view_of(), nearly, OBJECTS)
    check_box(target.box, 160, 120)


def happens(limit, stamp, rate):
    allowed = limit.allows(stamp, rate)
    if allowed:
        limit.count()
    return allowed


def test_another_rate_applies_at_once():
    limit = RateLimit()
    assert happens(limit, 100.0, 0.01)
    assert not happens(limit, 101.0, 0.01)
    assert happens(limit, 101.1, 1.0)
    assert not happens(limit, 101.5, 1.0)
    assert not happens(limit, 102.5, 0.1)
    assert happens(limit, 111.2, 0.1)
    assert happens(limit, 111.3, 0.0)
    assert not happens(limit, 111.4, 1.0)


def test_time_that_was_set_back_begins_anew():
    limit = RateLimit()
    assert happens(limit, 100.0, 0.01)
    assert not happens(limit, 99.5, 0.01)
    assert happens(limit, 50.0, 0.01)


def test_what_does_not_happen_is_not_counted():
    limit = RateLimit()
    assert limit.allows(100.0, 0.01)
    assert happens(limit, 100.1, 0.01)
    assert not limit.allows(100.2, 0.01)
