"""RViz markers show the poses and the modes, within RViz's rules."""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from spyropose_ros.core.plots import Ghosts
from spyropose_ros.ros.interfaces import Header, Marker, PoseDistribution, PoseMode
from spyropose_ros.ros.messages import conversions
from spyropose_ros.ros.messages.markers import MAX_TRIADS, MESH_ALPHA, marker_array
from spyropose_ros.ros.pipeline.appearance import Appearance

ROOT = Path(__file__).parents[1]
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


def fan_of(*masses):
    turns = Rotation.random(len(masses), random_state=1).as_matrix()
    return Ghosts(turns, np.zeros((len(masses), 3)), np.array(masses))


def markers_of(*messages, fan=None, min_mass=1.0, up=(0.0, -1.0, 0.0)):
    mesh = None if fan is None else "file:///mug.ply"
    looks = [Appearance(0.12, mesh, (0.0, 0.0, 0.05), (0.1, 0.1, 0.1))] * len(messages)
    return marker_array(HEADER, messages, looks, [fan] * len(messages), min_mass, up).markers


def named(markers, namespace):
    return [marker for marker in markers if marker.ns == namespace]


def test_markers_start_by_deleting_and_have_unique_ids_in_the_namespaces_that_rviz_shows():
    message = message_of()
    markers = markers_of(message, message, fan=fan_of(0.7, 0.3), min_mass=0.5)
    assert markers[0].action == Marker.DELETEALL
    names = [(marker.ns, marker.id) for marker in markers[1:]]
    assert len(names) == len(set(names)) == 2 * 2 + 1 + 1 + 2
    config = yaml.safe_load((ROOT / "config" / "spyropose.rviz").read_text())
    shown = [d.get("Namespaces") for d in config["Visualization Manager"]["Displays"]]
    assert {marker.ns: True for marker in markers[1:]} in shown


def test_triads_are_one_opaque_line_list_that_fades_with_the_weight():
    message = message_of(200)
    (triads,) = named(markers_of(message, message), "poses")
    assert triads.type == Marker.LINE_LIST
    assert len(triads.points) == len(triads.colors) == 6 * MAX_TRIADS
    bright = [color.r for color in triads.colors[::6]]
    assert bright == sorted(bright, reverse=True) and bright[-1] < 0.5 * bright[0]
    assert {color.a for color in triads.colors} == {1.0}
    assert triads.scale.x > 0
    assert triads.pose.orientation.w == 1


def test_triads_are_the_axes_of_the_poses_and_grow_with_the_weight():
    message = message_of(50)
    points = named(markers_of(message), "poses")[0].points
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
    (axes,) = named(markers_of(unsure, sure, min_mass=0.5), "leading")
    assert (axes.type, len(axes.points)) == (Marker.LINE_LIST, 6)
    matrix, origin = conversions.pose_matrix(sure.modes[0].pose)
    tip = axes.points[1]
    np.testing.assert_allclose((tip.x, tip.y, tip.z), origin + 0.7 * 0.12 * matrix[:, 0])
    assert {color.a for color in axes.colors} == {1.0}
    assert not named(markers_of(unsure, min_mass=0.5), "leading")


def test_every_mode_has_axes_that_grow_with_its_mass():
    message = message_of()
    (axes,) = named(markers_of(message, fan=fan_of(1.0)), "modes")
    ends = np.array([[p.x, p.y, p.z] for p in axes.points]).reshape(3, 3, 2, 3)
    lengths = np.linalg.norm(ends[:, :, 1] - ends[:, :, 0], axis=2)
    np.testing.assert_allclose(lengths[:, 0], lengths[:, 2])
    assert (np.diff(lengths[:, 0]) < 0).all()
    _, origin = conversions.pose_matrix(message.modes[2].pose)
    np.testing.assert_allclose(ends[2, 1, 0], origin)


def test_ghosts_are_meshes_that_together_are_as_opaque_as_their_mass():
    fan = fan_of(0.5, 0.3, 0.2)
    ghosts = named(markers_of(message_of(), fan=fan), "poses")
    assert {marker.mesh_resource for marker in ghosts} == {"file:///mug.ply"}
    turns = [conversions.pose_matrix(marker.pose)[0] for marker in ghosts]
    np.testing.assert_allclose(turns, fan.rotations, atol=1e-12)
    alpha = np.array([marker.color.a for marker in ghosts])
    assert (np.diff(alpha) < 0).all()
    assert 1 - np.prod(1 - alpha) == pytest.approx(MESH_ALPHA)


def test_captions_stand_above_the_objects_and_say_how_sure_it_is():
    message, unsure = message_of(), message_of()
    message.class_id, message.entropy, unsure.modes = "mug", -17.25, []
    sure, lost = named(markers_of(message, unsure, up=(0.0, 0.0, 1.0)), "captions")
    assert sure.text == "mug: leading mode 60%\nentropy -17.2 nats" and "no mode" in lost.text
    matrix, origin = conversions.pose_matrix(message.modes[0].pose)
    place = sure.pose.position
    np.testing.assert_allclose(
        (place.x, place.y, place.z), origin + matrix @ (0, 0, 0.05) + (0, 0, 0.75 * 0.12)
    )


def test_objects_of_a_class_share_a_color_and_others_have_their_own():
    names = ["mug", "mug", "cup", "glue", "can", "duck", "drill"]  # as many classes as colors
    messages = [message_of() for _ in names]
    for message, name in zip(messages, names, strict=True):
        message.class_id = name
    found = [(m.color.r, m.color.g, m.color.b) for m in named(markers_of(*messages), "captions")]
    assert found[0] == found[1] and len(set(found)) == 6
    alone = named(markers_of(messages[3]), "captions")[0].color
    assert (alone.r, alone.g, alone.b) in found


def test_an_empty_frame_only_deletes():
    (marker,) = markers_of()
    assert marker.action == Marker.DELETEALL


def test_nothing_is_drawn_where_nothing_is_known():
    message = message_of()
    message.poses, message.weights, message.modes = [], [], []
    assert len(markers_of(message)) == 1
    known = markers_of(message, message_of())
    assert [marker.ns for marker in known[1:]] == ["poses", "modes", "captions"]
