"""Frames of several cameras that were taken at one time."""

import pytest

from spyropose_ros.ros.pipeline.drops import Reason
from spyropose_ros.ros.pipeline.view_group import SILENCE, ViewGroup

MS = 1_000_000


def group(wait=0.1, slop=20 * MS, drop=pytest.fail):
    return ViewGroup(("left", "right", "top"), slop, wait, drop)


def warm(views, cameras=("left", "right", "top"), now=0.0):
    """Lets the cameras deliver once."""
    for camera in cameras:
        views.add(camera, 1, camera, now)
    assert views.reset() == 0


def test_a_set_is_complete_with_all_living_cameras():
    views = group()
    warm(views)
    assert views.add("right", 1000 * MS, "r", 0.50) == []
    assert views.add("left", 1010 * MS, "l", 0.51) == []
    assert views.add("top", 995 * MS, "t", 0.52) == [["l", "r", "t"]]


@pytest.mark.parametrize("alive", [("left",), ("left", "top"), ("right", "top")])
def test_dead_cameras_are_waited_for_once(alive):
    views = group()
    warm(views)
    for camera in alive:
        assert views.add(camera, 900 * MS, "old", SILENCE + 0.5) == []
    assert views.flush(SILENCE + 0.7) == [["old"] * len(alive)]
    results = [views.add(camera, 2000 * MS, camera, SILENCE + 0.8) for camera in alive]
    assert results[:-1] == [[]] * (len(alive) - 1)
    assert results[-1] == [[camera for camera in ("left", "right", "top") if camera in alive]]


def test_the_first_set_and_slow_cameras_are_waited_for():
    views = group()
    for second in range(0, 20, 5):
        stamp = second * 1000 * MS
        assert views.add("left", stamp, "l", second) == []
        assert views.add("right", stamp, "r", second + 0.01) == []
        assert views.add("top", stamp, "t", second + 0.02) == [["l", "r", "t"]]


def test_a_late_camera_is_waited_for_only_so_long():
    views = group(wait=0.1)
    warm(views)
    assert views.add("left", 1000 * MS, "l", 0.5) == []
    assert views.flush(0.59) == []
    assert views.flush(0.61) == [["l"]]
    assert views.flush(0.9) == []


def test_stamps_beyond_the_slop_are_other_frame_sets_in_order():
    views = group()
    warm(views)
    assert views.add("left", 1030 * MS, "l2", 0.50) == []
    assert views.add("left", 1000 * MS, "l1", 0.50) == []
    assert views.add("right", 1035 * MS, "r2", 0.50) == []
    assert views.add("top", 1030 * MS, "t2", 0.50) == [["l1"], ["l2", "r2", "t2"]]


def test_the_nearest_set_gets_the_frame():
    views = group(slop=50 * MS)
    warm(views)
    views.add("left", 1000 * MS, "l1", 0.5)
    views.add("left", 1040 * MS, "l2", 0.5)
    views.add("right", 1035 * MS, "r2", 0.5)
    assert views.add("top", 1036 * MS, "t2", 0.5) == [["l1"], ["l2", "r2", "t2"]]


def test_cameras_whose_stamps_never_meet_do_not_pile_up():
    views = group(wait=100.0)
    warm(views)
    ended = []
    for count in range(100):
        for camera, offset in (("left", 0), ("right", 50 * MS), ("top", 25 * MS)):
            stamp = 1000 * MS + count * 100 * MS + offset
            ended += views.add(camera, stamp, (camera, count), 0.5)
    assert len(ended) + views.reset() == 300
    assert views.flush(1e6) == []


def test_frames_later_than_their_set_are_counted_and_time_never_goes_back():
    late = []
    views = group(drop=lambda reason, text: late.append(reason))
    out, now = [], 0.0
    for k in range(30):  # left at 10 Hz, right 0.25 s behind, top dead
        now = 0.1 * k
        out += views.add("left", 1000 * MS + k * 100 * MS, ("left", k), now)
        if k >= 3:
            out += views.add("right", 1000 * MS + (k - 3) * 100 * MS, ("right", k - 3), now + 0.05)
        out += views.flush(now + 0.099)
    shown = [frame for group_ in out for frame in group_]
    numbers = [max(k for _, k in group_) for group_ in out]
    assert numbers == sorted(numbers)
    assert len(shown) + len(late) + views.reset() == 57
    assert set(late) == {Reason.LATE_VIEW}


def test_a_camera_that_returns_is_waited_for_after_its_first_frame():
    late = []
    views = group(drop=lambda reason, text: late.append(text))
    for second in (0, 5):  # slow cameras; right is gone
        views.add("left", second * 1000 * MS, "l", second)
        views.add("top", second * 1000 * MS, "t", second)
        assert views.flush(second + 1) == ([["l", "t"]] if second == 0 else [])
    assert views.add("right", 5000 * MS, "r", 6.0) == [] and len(late) == 1
    views.add("left", 10_000 * MS, "l", 10.0)
    assert views.add("top", 10_000 * MS, "t", 10.0) == []
    assert views.add("right", 10_000 * MS, "r", 10.05) == [["l", "r", "t"]]


def test_after_a_restart_no_frame_is_late_and_old_frames_are_handed_out():
    views = group()
    warm(views)
    assert views.add("left", 8500 * MS, "l", 0.5) == []
    assert views.flush(0.7) == [["l"]]
    assert views.add("right", 9000 * MS, "r", 0.75) == []
    assert views.add("right", 7400 * MS, "new", 0.75) == []
    assert views.restart(7400 * MS) == [["r"]]
    assert views.add("left", 7410 * MS, "again", 0.8) == []
    assert views.flush(1.0) == [["again", "new"]]


def test_every_frame_comes_out_once_or_is_late():
    import random

    random.seed(0)
    frames = [(c, k) for k in range(50) for c in ("left", "right", "top") if random.random() < 0.8]
    late = []
    views, out, now = group(drop=lambda reason, text: late.append(reason)), [], 0.0
    for camera, k in frames:
        now += random.random() * 0.05
        stamp = 1000 * MS + k * 100 * MS + random.randint(-9, 9) * MS
        out += [f for group_ in views.add(camera, stamp, (camera, k), now) for f in group_]
    out += [f for group_ in views.flush(now + 1) for f in group_]
    assert len(set(out)) == len(out) and set(out) <= set(frames)
    assert len(out) + len(late) == len(frames)
