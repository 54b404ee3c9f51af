"""The transform buffer against plain matrix products, and what it refuses."""

import threading
from types import SimpleNamespace as Message

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spyropose_ros.ros.pipeline.tf_buffer import (
    MAX_FRAMES,
    MAX_SAMPLES,
    TransformBuffer,
    TransformError,
)

SECOND = 10**9
IDENTITY = (0.0, 0.0, 0.0, 1.0)


def matrix(translation, rotation: Rotation) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = rotation.as_matrix(), translation
    return result


numbers = st.floats(-10, 10)
vectors = st.tuples(numbers, numbers, numbers)
turns = vectors.map(Rotation.from_rotvec)


@st.composite
def trees(draw):
    """Parent, translation and rotation of frames 1 to n; frame 0 is the root."""
    count = draw(st.integers(1, 8))
    return [
        (draw(st.integers(0, child - 1)), draw(vectors), draw(turns))
        for child in range(1, count + 1)
    ]


@given(trees(), st.data())
def test_any_two_frames_of_a_tree_agree_with_the_products_through_its_root(tree, data):
    buffer = TransformBuffer()
    root_from = [np.eye(4)]
    for child, (parent, translation, rotation) in enumerate(tree, 1):
        static = data.draw(st.booleans())
        buffer.set_transform(
            f"f{parent}", f"f{child}", SECOND, translation, rotation.as_quat(), static
        )
        root_from.append(root_from[parent] @ matrix(translation, rotation))
    frames = st.integers(0, len(tree))
    target, source = data.draw(frames), data.draw(frames)
    expected = np.linalg.inv(root_from[target]) @ root_from[source]
    found = buffer.lookup(f"f{target}", f"f{source}", SECOND)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@given(vectors, vectors, turns, st.permutations(range(6)), st.floats(0, 1))
def test_a_steady_motion_is_interpolated_exactly(start, velocity, first, order, share):
    spin = 0.05 * np.array(velocity)  # less than half a turn between samples

    def pose(seconds):
        turn = Rotation.from_rotvec(spin * seconds) * first
        return np.add(start, np.multiply(velocity, seconds)), turn

    buffer = TransformBuffer()
    for index in order:  # late samples are sorted in
        translation, rotation = pose(0.2 * index)
        stamp = 100 * SECOND + index * SECOND // 5
        buffer.set_transform("map", "camera", stamp, translation, rotation.as_quat())
    stamp = 100 * SECOND + round(share * SECOND)
    expected = matrix(*pose(stamp / SECOND - 100))
    np.testing.assert_allclose(buffer.lookup("map", "camera", stamp), expected, atol=1e-6)


def test_the_shorter_way_round_is_taken_whatever_the_sign_of_the_quaternion():
    buffer = TransformBuffer()
    turn = Rotation.from_rotvec([0, 0, 0.4])
    buffer.set_transform("a", "b", SECOND, (0, 0, 0), IDENTITY)
    buffer.set_transform("a", "b", 2 * SECOND, (0, 0, 0), -turn.as_quat())
    middle = buffer.lookup("a", "b", 3 * SECOND // 2)[:3, :3]
    np.testing.assert_allclose(Rotation.from_matrix(middle).as_rotvec(), [0, 0, 0.2], atol=1e-9)


def test_outside_the_samples_the_nearest_holds_within_the_tolerance_only():
    buffer = TransformBuffer(tolerance=SECOND // 10)
    for seconds in (5, 6):
        buffer.set_transform("a", "b", seconds * SECOND, (seconds, 0, 0), IDENTITY)
    assert buffer.lookup("a", "b", 61 * SECOND // 10)[0, 3] == 6
    assert buffer.lookup("a", "b", 49 * SECOND // 10)[0, 3] == 5
    with pytest.raises(TransformError, match=r"0\.200 s newer .*'b' to 'a': does it still publish"):
        buffer.lookup("a", "b", 62 * SECOND // 10)
    with pytest.raises(TransformError, match=r"0\.200 s older .*1\.0 s are stored"):
        buffer.lookup("a", "b", 48 * SECOND // 10)


def test_static_transforms_hold_at_any_time():
    buffer = TransformBuffer()
    buffer.set_transform("a", "b", 0, (1, 2, 3), IDENTITY, static=True)
    for stamp in (0, SECOND, 10**18):
        np.testing.assert_array_equal(buffer.lookup("a", "b", stamp)[:3, 3], [1, 2, 3])


def test_only_the_edges_between_the_frames_need_the_time():
    buffer = TransformBuffer()
    buffer.set_transform("map", "base", SECOND, (0, 0, 0), IDENTITY)  # long out of date
    buffer.set_transform("base", "left", 0, (1, 0, 0), IDENTITY, static=True)
    buffer.set_transform("base", "right", 0, (3, 0, 0), IDENTITY, static=True)
    assert buffer.lookup("left", "right", 100 * SECOND)[0, 3] == 2


def test_leading_slashes_do_not_matter_and_a_frame_is_itself():
    buffer = TransformBuffer()
    buffer.set_transform("/a", "b", SECOND, (1, 0, 0), IDENTITY)
    assert buffer.lookup("a", "/b", SECOND)[0, 3] == 1
    np.testing.assert_array_equal(buffer.lookup("/x", "x", SECOND), np.eye(4))


def test_unknown_and_unconnected_frames_are_named():
    buffer = TransformBuffer()
    buffer.set_transform("map", "base", SECOND, (0, 0, 0), IDENTITY)
    buffer.set_transform("world", "camera", SECOND, (0, 0, 0), IDENTITY)
    with pytest.raises(TransformError, match="no transform names the frame 'lens'"):
        buffer.lookup("map", "lens", SECOND)
    with pytest.raises(TransformError, match="'base' and 'camera' .* end at 'map' and 'world'"):
        buffer.lookup("base", "camera", SECOND)


@pytest.mark.parametrize(
    "parent, child, stamp, translation, quaternion, text",
    [
        ("a", "a", SECOND, (0, 0, 0), IDENTITY, "two different"),
        ("", "b", SECOND, (0, 0, 0), IDENTITY, "two different"),
        ("a", "/", SECOND, (0, 0, 0), IDENTITY, "two different"),
        ("a", "b", SECOND, (0, float("nan"), 0), IDENTITY, "not finite"),
        ("a", "b", SECOND, (0, 0, float("inf")), IDENTITY, "not finite"),
        ("a", "b", SECOND, (0, 0, 0), (0, 0, 0, 0), "not 1"),
        ("a", "b", SECOND, (0, 0, 0), (0, 0, 0, 2), "not 1"),
        ("a", "b", SECOND, (0, 0, 0), (0, 0, 0, float("nan")), "not 1"),
        ("a", "b", 0, (0, 0, 0), IDENTITY, "zero stamp"),
        ("b", "root", SECOND, (0, 0, 0), IDENTITY, "closes a loop"),
    ],
)
def test_unusable_transforms_are_refused_and_change_nothing(
    parent, child, stamp, translation, quaternion, text
):
    buffer = TransformBuffer()
    buffer.set_transform("root", "b", SECOND, (7, 0, 0), IDENTITY)
    with pytest.raises(TransformError, match=text):
        buffer.set_transform(parent, child, stamp, translation, quaternion)
    assert buffer.lookup("root", "b", SECOND)[0, 3] == 7


def test_a_frame_that_changes_its_parent_forgets_the_old_one():
    buffer = TransformBuffer()
    buffer.set_transform("table", "cup", SECOND, (1, 0, 0), IDENTITY)
    buffer.set_transform("hand", "cup", 2 * SECOND, (2, 0, 0), IDENTITY)
    assert buffer.lookup("hand", "cup", 2 * SECOND)[0, 3] == 2
    with pytest.raises(TransformError, match="'table'"):
        buffer.lookup("table", "cup", SECOND)


def test_time_that_was_set_back_starts_anew():
    buffer = TransformBuffer()
    for seconds in (100, 101):
        buffer.set_transform("a", "b", seconds * SECOND, (seconds, 0, 0), IDENTITY)
    buffer.set_transform("a", "b", 98 * SECOND, (1, 0, 0), IDENTITY)
    assert buffer.lookup("a", "b", 98 * SECOND)[0, 3] == 1
    with pytest.raises(TransformError, match="newer"):
        buffer.lookup("a", "b", 100 * SECOND)


def test_clearing_keeps_what_is_static():
    buffer = TransformBuffer()
    buffer.set_transform("a", "b", SECOND, (1, 0, 0), IDENTITY)
    buffer.set_transform("a", "c", 0, (2, 0, 0), IDENTITY, static=True)
    buffer.clear()
    assert buffer.lookup("a", "c", SECOND)[0, 3] == 2
    with pytest.raises(TransformError, match="'b'"):
        buffer.lookup("a", "b", SECOND)


def test_memory_is_bounded():
    buffer = TransformBuffer(history=10 * SECOND)
    for index in range(200):
        buffer.set_transform("a", "b", SECOND + index * SECOND // 10, (index, 0, 0), IDENTITY)
    frame = buffer._frames["b"]
    assert len(frame.stamps) == len(frame.translations) == len(frame.quaternions) == 101
    for index in range(MAX_SAMPLES + 50):
        buffer.set_transform("a", "fast", SECOND + index, (0, 0, 0), IDENTITY)
    assert len(buffer._frames["fast"].stamps) == MAX_SAMPLES
    with pytest.raises(TransformError, match=f"{MAX_FRAMES} are stored"):
        for index in range(MAX_FRAMES):
            buffer.set_transform("a", f"c{index}", SECOND, (0, 0, 0), IDENTITY)
    buffer.set_transform("a", "b", 100 * SECOND, (0, 0, 0), IDENTITY)  # known ones still move


def transform(parent, child, seconds, x):
    return Message(
        header=Message(frame_id=parent, stamp=Message(sec=seconds, nanosec=500_000_000)),
        child_frame_id=child,
        transform=Message(
            translation=Message(x=x, y=0.0, z=0.0), rotation=Message(x=0.0, y=0.0, z=0.6, w=0.8)
        ),
    )


def test_messages_are_read_and_their_bad_transforms_reported():
    buffer = TransformBuffer()
    good, bad = transform("a", "b", 1, 4.0), transform("c", "c", 1, 0.0)
    (refused,) = buffer.add_message(Message(transforms=[bad, good]), static=False)
    assert "two different" in refused
    found = buffer.lookup("a", "b", 3 * SECOND // 2)
    np.testing.assert_allclose(found, matrix((4, 0, 0), Rotation.from_quat([0, 0, 0.6, 0.8])))


def test_threads_may_write_and_read_at_once():
    buffer = TransformBuffer(history=SECOND // 100)
    buffer.set_transform("a", "b", SECOND, (1, 0, 0), IDENTITY)
    errors = []

    def write():
        for index in range(2000):
            stamp = SECOND + index * SECOND // 1000
            buffer.set_transform("a", "b", stamp, (1, 0, 0), IDENTITY)

    def read():
        while writer.is_alive():
            try:
                buffer.lookup("a", "b", SECOND)
            except TransformError:  # forgotten meanwhile
                pass
            except Exception as error:
                errors.append(error)

    writer, reader = threading.Thread(target=write), threading.Thread(target=read)
    writer.start()
    reader.start()
    writer.join()
    reader.join()
    assert not errors
