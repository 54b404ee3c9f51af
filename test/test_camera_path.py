"""The camera's path from objects at rest: real annotations are rigid, people move things."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spyropose_ros.bop.camera_path import camera_path, longest_rest, object_poses
from spyropose_ros.bop.scene import BopFrame, BopInstance

RNG = np.random.default_rng(0)


def pose(scale=1.0):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=RNG).as_matrix()
    matrix[:3, 3] = scale * RNG.normal(size=3)
    return matrix


def frame(number, world_from_camera, objects):
    """What a camera sees of objects, given object -> world by number."""
    instances = []
    for index, (object_id, world) in enumerate(objects.items()):
        seen = np.linalg.inv(world_from_camera) @ world
        instances.append(BopInstance(index, object_id, seen[:3, :3], seen[:3, 3], None))
    return BopFrame(2, number, Path("none.png"), Path("none"), np.eye(3), instances)


def sequence(layouts):
    cameras = [pose() for _ in layouts]
    return cameras, [frame(i, *pair) for i, pair in enumerate(zip(cameras, layouts, strict=True))]


def places(frames, path, number):
    return [
        path.world_from_camera[index] @ object_poses(shot)[number]
        for index, shot in enumerate(frames)
        if number in object_poses(shot)
    ]


def test_world_is_the_frame_of_the_reference_object_and_the_camera_is_followed_in_it():
    rest = {1: pose(), 5: pose(), 8: pose()}
    cameras, frames = sequence([rest] * 6)
    path = camera_path(frames, reference=5)
    expected = np.linalg.inv(rest[5]) @ np.array(cameras)
    np.testing.assert_allclose(path.world_from_camera, expected, atol=1e-9)
    assert path.layout.tolist() == [0] * 6


def test_a_moved_object_does_not_move_the_camera_even_if_it_is_the_reference():
    rest = {1: pose(), 5: pose(), 8: pose()}
    cameras, frames = sequence([rest, rest, rest | {5: pose()}, rest | {5: pose()}])
    path = camera_path(frames, reference=5)
    expected = np.linalg.inv(rest[5]) @ np.array(cameras)
    np.testing.assert_allclose(path.world_from_camera, expected, atol=1e-9)
    assert path.layout.tolist() == [0] * 4


def test_a_hidden_object_costs_nothing():
    rest = {1: pose(), 5: pose(), 8: pose()}
    without = {number: rest[number] for number in (1, 8)}
    cameras, frames = sequence([without, rest, without])
    path = camera_path(frames, reference=5)
    expected = np.linalg.inv(rest[5]) @ np.array(cameras)
    np.testing.assert_allclose(path.world_from_camera, expected, atol=1e-9)


def test_where_everything_is_moved_a_new_layout_begins_and_the_reference_stays_by_definition():
    _, frames = sequence([{n: pose() for n in (1, 5, 8)} for _ in range(2)])
    path = camera_path(frames, reference=8)
    assert path.layout.tolist() == [0, 1]
    first, second = places(frames, path, 8)
    np.testing.assert_allclose(first, second, atol=1e-9)


def test_the_longest_rest_ends_where_one_of_the_chosen_objects_is_moved():
    rest = {1: pose(), 5: pose(), 8: pose(), 9: pose()}
    moved = rest | {8: pose()}
    _, frames = sequence([rest, rest, moved, moved, moved])
    path = camera_path(frames, reference=5)
    assert longest_rest(frames, path, [5, 8]) == (2, 5)
    assert longest_rest(frames, path, [5]) == (0, 5)


def test_the_longest_rest_ends_where_a_new_layout_begins():
    rest, other = ({n: pose() for n in (1, 5, 8)} for _ in range(2))
    _, frames = sequence([rest, rest, other, other, other])
    path = camera_path(frames, reference=5)
    assert longest_rest(frames, path, [5]) == (2, 5)


def test_rounded_annotations_stay_rigid_over_hundreds_of_frames():
    objects = {1: pose(), 5: pose(), 8: pose()}
    _, frames = sequence([objects] * 200)
    for shot in frames:
        for instance in shot.instances:
            instance.rotation[:] = instance.rotation.round(3)
    path = camera_path(frames, reference=5)
    rotation = path.world_from_camera[-1][:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert not path.layout.any()


def test_frames_without_a_common_object_have_no_path():
    _, frames = sequence([{1: pose()}, {5: pose()}])
    with pytest.raises(ValueError, match="frame 1 shows none"):
        camera_path(frames, reference=1)


def test_a_reference_that_is_never_seen_is_refused():
    _, frames = sequence([{1: pose()}])
    with pytest.raises(ValueError, match="object 5 is in no frame"):
        camera_path(frames, reference=5)
