"""RViz markers show the weighted poses and the modes, within RViz's rules."""

import math

import numpy as np
from scipy.spatial.transform import Rotation

from spyropose_ros.ros.interfaces import Header, Marker, PoseDistribution, PoseMode
from spyropose_ros.ros.messages import conversions
from spyropose_ros.ros.messages.markers import MAX_TRIADS, marker_array
from spyropose_ros.ros.pipeline.appearance import Appearance

HEADER = Header(frame_id="camera_optical_frame")


def message_of(count=100):
    """Random poses with falling weights, and three modes."""
    generator = np.random.default_rng(0)
    turns = Rotation.random(count, random_state=0).as_matrix()
    poses = conversions.poses(turns, generator.normal(size=(count, 3)))
    weights = 0.97 ** np.arange(count)
    modes = [
        PoseMode(pose=pose, mass=mass)
        for pose, mass in zip(poses[:3], (0.6, 0.3, 0.1), strict=True)
    ]
    return PoseDistribution(poses=poses, weights=weights / weights.sum(), modes=modes)


def markers_of(*messages, mesh=None, show_mesh=True, min_mass=1.0):
    looks = [Appearance(0.12, mesh, (0.0, 0.0, 0.0), (0.1, 0.1, 0.1))] * len(messages)
    return marker_array(HEADER, messages, looks, show_mesh, min_mass).markers


def test_markers_start_by_deleting_and_have_unique_ids():
    message = message_of()
    markers = markers_of(message, message, mesh="file:///mug.ply", min_mass=0.5)
    assert markers[0].action == Marker.DELETEALL
    names = [(marker.ns, marker.id) for marker in markers[1:]]
    assert len(names) == len(set(names)) == 2 + 2 * len(message.modes)


def test_triads_are_one_blended_line_list_with_the_faintest_last():
    message = message_of(200)
    _, triads = markers_of(message, message)
    assert triads.type == Marker.LINE_LIST
    assert len(triads.points) == len(triads.colors) == 6 * MAX_TRIADS
    alpha = [color.a for color in triads.colors]
    assert alpha == sorted(alpha, reverse=True)
    assert alpha[-1] < 0.9998
    assert triads.scale.x > 0
    assert triads.pose.orientation.w == 1


def test_triads_are_the_axes_of_the_poses_and_grow_with_the_weight():
    message = message_of(50)
    points = markers_of(message)[1].points
    matrix, origin = conversions.pose_matrix(message.poses[0])
    for axis in range(3):
        start, tip = (np.array([p.x, p.y, p.z]) for p in points[2 * axis : 2 * axis + 2])
        np.testing.assert_allclose(start, origin)
        np.testing.assert_allclose(tip, origin + 0.06 * matrix[:, axis])
    lengths = [
        math.dist((a.x, a.y, a.z), (b.x, b.y, b.z))
        for a, b in zip(points[::6], points[1::6], strict=True)
    ]
    assert (np.diff(lengths) < 1e-9).all() and lengths[-1] < 0.99 * lengths[0]


def test_the_leading_mode_of_an_object_has_axes_where_it_has_enough_mass():
    sure, unsure = message_of(), message_of()
    unsure.modes[0].mass = 0.5
    unsure.modes[0].pose.position.x = 7.0
    *_, axes = markers_of(unsure, sure, min_mass=0.5)
    assert (axes.ns, axes.type, len(axes.points)) == ("leading", Marker.LINE_LIST, 6)
    matrix, origin = conversions.pose_matrix(sure.modes[0].pose)
    tip = axes.points[1]
    np.testing.assert_allclose((tip.x, tip.y, tip.z), origin + 0.7 * 0.12 * matrix[:, 0])
    assert {color.a for color in axes.colors} == {1.0}
    assert "leading" not in [marker.ns for marker in markers_of(unsure, min_mass=0.5)]


def test_meshes_stand_at_the_modes_and_can_be_switched_off():
    message = message_of()
    meshes = markers_of(message, mesh="file:///mug.ply")[2:]
    assert [marker.pose for marker in meshes] == [mode.pose for mode in message.modes]
    assert {marker.mesh_resource for marker in meshes} == {"file:///mug.ply"}
    alpha = [marker.color.a for marker in meshes]
    assert alpha == sorted(alpha, reverse=True) and alpha[0] < 1
    assert len(markers_of(message, mesh="file:///mug.ply", show_mesh=False)) == 2
    assert len(markers_of(message)) == 2


def test_an_empty_frame_only_deletes():
    (marker,) = markers_of()
    assert marker.action == Marker.DELETEALL


def test_no_mesh_and_no_triad_is_drawn_where_nothing_is_known():
    message = message_of()
    message.poses, message.weights, message.modes = [], [], []
    assert len(markers_of(message, mesh="file:///mug.ply")) == 1
    assert len(markers_of(message, message_of())) == 2
