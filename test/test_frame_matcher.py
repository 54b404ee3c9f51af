"""FrameMatcher: every detection message ends as a match, waits, or is dropped with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyropose_ros.ros.pipeline.drops import Reason
from spyropose_ros.ros.pipeline.frame_matcher import FrameMatcher

MS = 1_000_000
START = 1_000_000 * MS  # stamps of a running system


class Drops(list):
    def __call__(self, reason, text, count):
        assert text
        self.append((reason, count))

    def count(self, *reasons):
        return sum(count for reason, count in self if reason in reasons)


@pytest.fixture
def drops():
    return Drops()


@pytest.fixture
def matcher(drops):
    return FrameMatcher(slop=10 * MS, capacity=4, drop=drops)


def pairs(matches):
    return [(match.image, match.detections) for match in matches]


def test_detections_after_their_image_match_at_once(matcher):
    assert matcher.add_image(START, "image") == []
    assert pairs(matcher.add_detections(START, "boxes")) == [("image", "boxes")]


def test_detections_before_their_image_wait_for_it(matcher):
    assert matcher.add_detections(START, "boxes") == []
    assert pairs(matcher.add_image(START, "image")) == [("image", "boxes")]
    assert matcher.add_image(START + MS, "next") == []


def test_exact_stamp_wins_over_a_newer_and_nearer_arrival(matcher):
    matcher.add_image(START, "exact")
    matcher.add_image(START + MS, "near")
    assert pairs(matcher.add_detections(START, "boxes")) == [("exact", "boxes")]


def test_a_near_image_is_not_taken_while_the_exact_one_may_still_come(matcher):
    matcher.add_image(START, "near")
    assert matcher.add_detections(START + 5 * MS, "boxes") == []
    assert pairs(matcher.add_image(START + 5 * MS, "exact")) == [("exact", "boxes")]


def test_nearest_image_within_slop_is_taken_once_a_newer_image_is_known(matcher):
    matcher.add_image(START, "near")
    assert matcher.add_detections(START + 4 * MS, "boxes") == []
    assert pairs(matcher.add_image(START + 33 * MS, "next")) == [("near", "boxes")]


@pytest.mark.parametrize("offset, matches", [(10 * MS, 1), (10 * MS + 1, 0)])
def test_slop_is_inclusive(matcher, drops, offset, matches):
    matcher.add_image(START, "image")
    matcher.add_image(START + 100 * MS, "next")
    assert len(matcher.add_detections(START + offset, "boxes")) == matches
    assert drops == [(Reason.UNMATCHED, 1)] * (1 - matches)


def test_without_slop_exact_stamps_still_match(drops):
    matcher = FrameMatcher(slop=0, capacity=2, drop=drops)
    matcher.add_image(START, "image")
    assert pairs(matcher.add_detections(START, "boxes")) == [("image", "boxes")]


def test_several_detectors_may_answer_for_one_image(matcher):
    matcher.add_image(START, "image")
    assert pairs(matcher.add_detections(START, "a")) == [("image", "a")]
    assert pairs(matcher.add_detections(START, "b")) == [("image", "b")]


def test_detections_later_than_the_buffer_are_dropped(matcher, drops):
    for index in range(5):
        matcher.add_image(START + index * 33 * MS, index)
    assert matcher.add_detections(START, "late") == []
    assert drops == [(Reason.NO_DETECTIONS, 1), (Reason.UNMATCHED, 1)]


def test_only_images_that_were_never_matched_are_counted_when_they_leave(matcher, drops):
    matcher.add_image(START, "used")
    matcher.add_detections(START, "boxes")
    for index in range(1, 7):
        matcher.add_image(START + index * 33 * MS, index)
    assert drops == [(Reason.NO_DETECTIONS, 1)] * 2


def test_an_image_sent_twice_counts_twice(matcher, drops):
    matcher.add_image(START, "first")
    matcher.add_image(START, "again")
    assert drops == [(Reason.NO_DETECTIONS, 1)]
    assert pairs(matcher.add_detections(START, "boxes")) == [("again", "boxes")]


def test_detections_without_images_do_not_pile_up(matcher, drops):
    for index in range(10):
        assert matcher.add_detections(START + index * 33 * MS, index) == []
    assert drops == [(Reason.UNMATCHED, 1)] * 6
    assert pairs(matcher.add_image(START + 297 * MS, "image")) == [("image", 9)]
    assert drops == [(Reason.UNMATCHED, 1)] * 9


def test_images_out_of_order_match(matcher):
    matcher.add_image(START + 33 * MS, "second")
    matcher.add_image(START, "first")
    assert pairs(matcher.add_detections(START, "boxes")) == [("first", "boxes")]


def test_zero_stamps_are_dropped_and_never_matched(matcher, drops):
    assert matcher.add_image(0, "image") == []
    assert matcher.add_detections(0, "boxes") == []
    assert drops == [(Reason.IMAGE_STAMP, 1), (Reason.DETECTIONS_STAMP, 1)]
    assert matcher.add_image(START, "image") == []


@pytest.mark.parametrize("slop, capacity", [(-1, 1), (0, 0)])
def test_useless_settings_are_refused(slop, capacity, drops):
    with pytest.raises(ValueError):
        FrameMatcher(slop, capacity, drops)


stamps = st.integers(0, 60).map(lambda tick: tick and START + tick * 100 * MS)


@given(st.lists(st.tuples(st.booleans(), stamps), max_size=60), st.integers(0, 200))
def test_nothing_is_lost_or_doubled_and_memory_is_bounded(events, slop):
    drops = Drops()
    matcher = FrameMatcher(slop * MS, 4, drops)
    matched, images, messages = [], 0, 0
    for serial, (is_image, stamp) in enumerate(events):
        if is_image:
            images += 1
            found = matcher.add_image(stamp, (serial, stamp))
        else:
            messages += 1
            found = matcher.add_detections(stamp, (serial, stamp))
        matched += found
        assert len(matcher._images) <= 4 and len(matcher._waiting) <= 4
        assert matcher._used <= matcher._images.keys()
    assert all(abs(match.image[1] - match.detections[1]) <= slop * MS for match in matched)
    serials = [match.detections[0] for match in matched]
    assert len(serials) == len(set(serials))
    matcher_drops = drops.count(Reason.UNMATCHED, Reason.DETECTIONS_STAMP)
    assert len(matched) + matcher_drops + len(matcher._waiting) == messages
    matcher.reset()
    used = {match.image[0] for match in matched}
    assert len(used) + drops.count(Reason.NO_DETECTIONS, Reason.IMAGE_STAMP) == images
