"""Assembler: frame sets from messages, time that is set back, and the warning of distortion."""

import pytest

import graph
from spyropose_ros.ros.pipeline.assembler import Assembler
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.drops import Reason
from spyropose_ros.ros.pipeline.frame_source import Role
from spyropose_ros.ros.pipeline.parameters import Parameters

MS = 1_000_000
START = 1_000_000 * MS  # stamps of a running system
ONE = Parameters()
TWO = Parameters(cameras=("left", "right"), fixed_frame="world")


class Peer:
    """Feeds an assembler and keeps what comes out."""

    def __init__(self, parameters=ONE, resolve=lambda name: f"/{name}"):
        self.drops, self.warnings = [], []
        self.now = 0.0
        self.assembler = Assembler(parameters, resolve, self._drop, self.warnings.append)

    def _drop(self, reason, text, count=1):
        assert text
        self.drops.append((reason, count))

    def add(self, role, message, camera=""):
        entries = self.assembler.inputs
        (entry,) = (e for e in entries if e.role is role and e.camera == camera)
        return self.assembler.add(entry, message, self.now)

    def image(self, stamp, camera=""):
        return self.add(Role.IMAGE, graph.image_message(stamp), camera)

    def detections(self, stamp, camera=""):
        return self.add(Role.DETECTIONS, graph.detections_message(stamp), camera)

    def frame(self, stamp, camera=""):
        """Feed image and detections; return the frame sets."""
        return self.image(stamp, camera).frame_sets + self.detections(stamp, camera).frame_sets


def stamps(frame_sets):
    return [[nanoseconds(f.image.header.stamp) for f in s.frames] for s in frame_sets]


def test_a_frame_has_the_newest_calibration_and_the_depth_of_its_time():
    peer = Peer(Parameters(depth_image=True))
    info = graph.camera_info_message()
    peer.add(Role.CAMERA_INFO, info)
    for shift in (-33, 5, 33):
        peer.add(Role.DEPTH, graph.image_message(START + shift * MS))
    assert peer.image(START).frame_sets == []
    found = peer.detections(START)
    assert found.matched == 1
    ((frame,),) = (frame_set.frames for frame_set in found.frame_sets)
    assert frame.camera_info is info
    assert nanoseconds(frame.depth.header.stamp) == START + 5 * MS


def test_frames_of_several_cameras_come_together():
    peer = Peer(TWO)
    assert peer.frame(START, "left") == []
    assert stamps(peer.frame(START + MS, "right")) == [[START, START + MS]]


def test_time_set_back_clears_pending_messages_and_begins_an_epoch():
    peer = Peer()
    (before,) = peer.frame(START)
    peer.image(START + 33 * MS)
    peer.detections(START + 50 * MS)
    restart = START - 2000 * MS
    (after,) = peer.frame(restart)
    assert stamps([after]) == [[restart]]
    assert after.epoch != before.epoch
    assert peer.drops == [(Reason.TIME_JUMP, 1), (Reason.NO_DETECTIONS, 1), (Reason.UNMATCHED, 1)]
    (later,) = peer.frame(restart + 33 * MS)
    assert later.epoch == after.epoch


def test_a_step_back_of_less_than_a_second_is_only_out_of_order():
    peer = Peer()
    peer.image(START)
    peer.image(START - 999 * MS)
    (frame_set,) = peer.detections(START).frame_sets
    assert (frame_set.epoch, peer.drops) == (0, [])


def test_one_stamp_in_the_far_future_does_not_block():
    peer = Peer()
    peer.image(START + 10**15)
    assert stamps(peer.frame(START)) == [[START]]
    assert [reason for reason, _ in peer.drops] == [Reason.TIME_JUMP, Reason.NO_DETECTIONS]


def test_a_zero_stamp_is_no_time():
    peer = Peer()
    peer.image(START)
    peer.image(0)
    assert [reason for reason, _ in peer.drops] == [Reason.IMAGE_STAMP]
    assert stamps(peer.detections(START).frame_sets) == [[START]]


def test_frames_that_wait_for_other_cameras_when_time_is_set_back_are_not_lost():
    peer = Peer(TWO)
    assert peer.frame(START, "left") == []
    restart = START - 5000 * MS
    (old,) = peer.image(restart, "left").frame_sets
    assert stamps([old]) == [[START]]
    assert peer.detections(restart, "left").frame_sets == []
    (new,) = peer.frame(restart, "right")
    assert stamps([new]) == [[restart, restart]]
    assert new.epoch != old.epoch


def test_a_straggler_of_the_old_time_keeps_no_camera_out():
    peer = Peer(TWO)
    peer.frame(START, "left")
    peer.frame(START, "right")
    restart = START - 5000 * MS
    peer.frame(restart, "left")
    peer.now += 1.0
    (lonely, straggler) = peer.frame(START + 33 * MS, "right") + peer.assembler.flush(10.0)
    peer.now = 20.0
    (after,) = peer.frame(restart + 33 * MS, "left") + peer.assembler.flush(30.0)
    assert stamps([lonely, straggler, after])[2] == [restart + 33 * MS]
    assert after.epoch != straggler.epoch
    assert Reason.LATE_VIEW not in [reason for reason, _ in peer.drops]


def test_a_reset_clears_pending_messages_and_begins_an_epoch():
    peer = Peer(TWO)
    peer.frame(START, "left")
    peer.detections(START + 50 * MS, "right")
    peer.assembler.reset()
    assert peer.drops == [(Reason.UNMATCHED, 1), (Reason.INACTIVE, 1)]
    peer.frame(START, "left")
    (frame_set,) = peer.frame(START, "right")
    assert frame_set.epoch == 1


@pytest.mark.parametrize(
    "changes, topic, warned",
    [
        ({}, "/camera/image", True),
        ({}, "/camera/image_rect", False),
        ({"rectified": False}, "/camera/image", False),
    ],
)
def test_distortion_of_an_image_that_should_be_rectified_is_said_once(changes, topic, warned):
    peer = Peer(Parameters(**changes), lambda name: topic)
    info = graph.camera_info_message()
    info.d = [0.1, 0.0, 0.0, 0.0, 0.0]
    peer.add(Role.CAMERA_INFO, info)
    peer.frame(START)
    peer.frame(START + 33 * MS)
    assert len(peer.warnings) == warned
    assert all("set rectified: false" in text for text in peer.warnings)
