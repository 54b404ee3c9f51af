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


# ---- where a detector in this process finds the boxes ----------------------------------------


def detecting(parameters=ONE):
    peer = Peer(parameters)
    peer.assembler = Assembler(
        parameters, lambda name: f"/{name}", peer._drop, peer.warnings.append, detects=True
    )
    return peer


def test_an_image_and_the_calibration_make_a_frame():
    peer = detecting()
    assert Role.DETECTIONS not in [entry.role for entry in peer.assembler.inputs]
    assert peer.image(START).frame_sets == []  # until the first calibration
    info = graph.camera_info_message()
    found = peer.add(Role.CAMERA_INFO, info)
    assert found.matched == 1 and stamps(found.frame_sets) == [[START]]
    assert stamps(peer.image(START + 33 * MS).frame_sets) == [[START + 33 * MS]]
    ((frame,),) = (frame_set.frames for frame_set in found.frame_sets)
    assert (frame.detections, frame.camera_info, frame.depth) == (None, info, None)
    assert peer.add(Role.CAMERA_INFO, info).frame_sets == peer.drops == []


def test_without_calibration_an_image_waits_for_the_next_only():
    peer = detecting()
    peer.image(START)
    assert stamps(peer.image(START + 33 * MS).frame_sets) == [[START]]
    assert stamps(peer.assembler.finish()) == [[START + 33 * MS]]
    assert peer.assembler.finish() == []


def test_an_image_waits_for_its_depth_image():
    peer = detecting(Parameters(depth_image=True))
    peer.add(Role.CAMERA_INFO, graph.camera_info_message())
    assert peer.image(START).frame_sets == []
    assert peer.add(Role.DEPTH, graph.image_message(START - 33 * MS)).frame_sets == []
    (late,) = peer.add(Role.DEPTH, graph.image_message(START + 5 * MS)).frame_sets
    assert nanoseconds(late.frames[0].depth.header.stamp) == START + 5 * MS
    peer.add(Role.DEPTH, graph.image_message(START + 34 * MS))
    (early,) = peer.image(START + 33 * MS).frame_sets
    assert nanoseconds(early.frames[0].depth.header.stamp) == START + 34 * MS
    peer.image(START + 66 * MS)
    (without,) = peer.image(START + 99 * MS).frame_sets
    assert stamps([without]) == [[START + 66 * MS]] and without.frames[0].depth is None


def test_images_of_several_cameras_come_together():
    peer = detecting(TWO)
    for camera in TWO.cameras:
        peer.add(Role.CAMERA_INFO, graph.camera_info_message(), camera)
    assert peer.image(START, "left").frame_sets == []
    assert stamps(peer.image(START + MS, "right").frame_sets) == [[START, START + MS]]
    peer.image(START + 33 * MS, "left")
    assert stamps(peer.assembler.finish()) == [[START + 33 * MS]]


def test_every_image_without_detections_is_accounted_for():
    peer = detecting()
    peer.image(0)
    peer.image(START)
    (after,) = peer.image(START - 2000 * MS).frame_sets + peer.assembler.finish()
    assert after.epoch == 1
    assert peer.drops == [(Reason.IMAGE_STAMP, 1), (Reason.TIME_JUMP, 1), (Reason.INACTIVE, 1)]
    peer.image(START)
    peer.assembler.reset()
    assert peer.drops[3:] == [(Reason.INACTIVE, 1)]
