"""The pose for TF stays on its mode, leaves it for a better one, and keeps its name."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spyropose_ros.ros.messages.tf_poses import GAP, ObjectPoses, TransformChooser, frame_name

SECOND = 10**9
AT = np.array([0.0, 0.0, 0.6])
UP = Rotation.identity()
DOWN = Rotation.from_euler("x", 180, degrees=True)


def seen(*modes, name="mug", at=AT, diameter=0.12, rest=0.0):
    """An object with modes of single poses: (rotation, mass); they lead by descending mass."""
    rotations = np.array([rotation.as_matrix() for rotation, _ in modes])
    weights = np.array([mass for _, mass in modes])
    best = int(np.argmax(weights))
    places = np.broadcast_to(np.asarray(at, dtype=float), (len(modes), 3))
    return ObjectPoses(
        name, diameter, rotations[best], places[best], weights[best], rotations, places, weights
    )


def angle(pose, rotation):
    return (Rotation.from_matrix(pose.rotation) * rotation.inv()).magnitude()


def follow(frames, hysteresis=0.2, period=SECOND // 10):
    """The poses of a sequence of frames of one object."""
    chooser = TransformChooser()
    poses = []
    for index, item in enumerate(frames):
        poses += chooser.update((index + 1) * period, "camera", [item], hysteresis)
    assert len(poses) == len(frames)
    return poses


def test_the_first_pose_is_the_leading_mode():
    (pose,) = follow([seen((UP, 0.4), (DOWN, 0.6))])
    assert angle(pose, DOWN) < 1e-6
    np.testing.assert_allclose(pose.translation, AT)


def test_equivalent_modes_do_not_make_it_jump():
    frames = [seen((UP, 0.5 + wave), (DOWN, 0.5 - wave)) for wave in (0.05, -0.08, 0.09, -0.09)]
    assert all(angle(pose, UP) < 1e-6 for pose in follow(frames))


@pytest.mark.parametrize("hysteresis, jumps", [(0.1, True), (0.3, False)])
def test_a_mode_takes_over_when_it_leads_by_more_than_the_hysteresis(hysteresis, jumps):
    _, pose = follow([seen((UP, 0.6), (DOWN, 0.4)), seen((UP, 0.4), (DOWN, 0.6))], hysteresis)
    assert angle(pose, DOWN if jumps else UP) < 1e-6


def test_a_mode_that_vanishes_is_left():
    _, pose = follow([seen((UP, 0.6), (DOWN, 0.4)), seen((DOWN, 0.15))])
    assert angle(pose, DOWN) < 1e-6


def test_it_follows_a_sharp_mode_without_lag():
    turns = [Rotation.from_rotvec([0, 0.1 * step, 0]) for step in range(30)]
    frames = [seen((turn, 0.9), at=AT + 0.02 * k) for k, turn in enumerate(turns)]
    for k, (pose, turn) in enumerate(zip(follow(frames), turns, strict=True)):
        assert angle(pose, turn) < 1e-6
        np.testing.assert_allclose(pose.translation, AT + 0.02 * k)


def test_it_follows_a_sharp_mode_that_leaps():
    leap = Rotation.from_rotvec([0, 2.0, 0])
    far = seen((UP, 0.9), at=AT + 0.5)
    turned, moved = follow([seen((UP, 0.9)), seen((leap, 0.9)), far])[1:]
    assert angle(turned, leap) < 1e-6
    np.testing.assert_allclose(moved.translation, AT + 0.5)


def test_places_that_are_far_apart_are_not_averaged():
    both = seen((UP, 0.5), (UP, 0.5))
    both = dataclasses.replace(both, translations=np.array([AT, AT + 0.5]))
    _, pose = follow([seen((UP, 0.9)), both])
    np.testing.assert_allclose(pose.translation, AT)


def test_the_turn_about_an_axis_of_symmetry_stays():
    generator = np.random.default_rng(0)
    turns = Rotation.from_rotvec(
        np.linspace(0, 2 * np.pi, 360, endpoint=False)[:, None] * [0, 0, 1]
    )
    frames = []
    for _ in range(100):
        weights = generator.gamma(4.0, size=360)
        frames.append(seen(*zip(turns, weights / weights.sum(), strict=True)))
    poses = follow(frames)
    start = Rotation.from_matrix(poses[0].rotation)
    steps = [
        angle(after, Rotation.from_matrix(before.rotation))
        for before, after in zip(poses, poses[1:], strict=False)
    ]
    assert max(steps) < 0.1  # the leading pose itself is anywhere on the ring
    assert np.median([angle(pose, start) for pose in poses]) < 0.35
    assert max(angle(pose, UP) for pose in follow_the_leader(frames)) > 1


def follow_the_leader(frames):
    """What TF would show without a memory."""
    chooser = TransformChooser()
    for epoch, item in enumerate(frames):
        yield from chooser.update(SECOND, "camera", [item], 0.2, epoch)


@pytest.mark.parametrize("later", [0, -SECOND // 10])
def test_a_frame_that_is_not_newer_is_not_published(later):
    chooser = TransformChooser()
    assert chooser.update(SECOND, "camera", [seen((UP, 1.0))], 0.2)
    assert chooser.update(SECOND + later, "camera", [seen((UP, 1.0))], 0.2) == []
    assert chooser.update(SECOND + 1, "camera", [seen((UP, 1.0))], 0.2)


@pytest.mark.parametrize("later", [GAP + 1, -GAP - 1])
def test_after_a_gap_or_a_jump_back_it_starts_anew(later):
    chooser, now = TransformChooser(), 10 * SECOND
    chooser.update(now, "camera", [seen((UP, 0.6), (DOWN, 0.4))], 0.2)
    (pose,) = chooser.update(now + later, "camera", [seen((UP, 0.45), (DOWN, 0.55))], 0.2)
    assert angle(pose, DOWN) < 1e-6


@pytest.mark.parametrize("frame_id, epoch", [("camera", 1), ("base_link", 0)])
def test_another_epoch_or_frame_id_starts_over(frame_id, epoch):
    chooser = TransformChooser()
    chooser.update(SECOND, "camera", [seen((UP, 0.6), (DOWN, 0.4))], 0.2)
    (pose,) = chooser.update(SECOND, frame_id, [seen((UP, 0.45), (DOWN, 0.55))], 0.2, epoch)
    assert angle(pose, DOWN) < 1e-6


def test_several_alike_keep_their_names_in_any_order():
    chooser = TransformChooser()
    left, right = seen((UP, 1.0), at=AT - 0.2), seen((UP, 1.0), at=AT + 0.2)
    other = seen((UP, 1.0), name="duck", at=AT)

    def frames(stamp, *items):
        chosen = chooser.update(stamp * SECOND, "camera", items, 0.2)
        return {pose.child: pose.translation[0] for pose in chosen}

    assert frames(1, left) == {"mug": -0.2}
    assert frames(2, right, left, other) == {"mug": -0.2, "mug_2": 0.2, "duck": 0.0}
    assert frames(3, right) == {"mug_2": 0.2}
    assert frames(4, left, right) == {"mug": -0.2, "mug_2": 0.2}


def test_names_are_unique_also_where_objects_are_named_like_numbered_ones():
    chooser = TransformChooser()
    items = [seen((UP, 1.0), name=name) for name in ("mug", "mug", "mug_2", "camera")]
    for stamp in (1, 2):
        children = [pose.child for pose in chooser.update(stamp * SECOND, "camera", items, 0.2)]
        assert sorted(children) == ["camera_2", "mug", "mug_2", "mug_2_2"]


@pytest.mark.parametrize(
    "text, name",
    [
        ("mug", "mug"),
        ("obj_000005.v-2", "obj_000005.v-2"),
        ("/mug", "_mug"),
        ("a mug\n%s", "a_mug__s"),
        ("", "object"),
        ("Tässe", "T_sse"),
    ],
)
def test_frame_names_are_valid(text, name):
    assert frame_name(text) == name
