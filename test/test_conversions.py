"""Messages say exactly what the distribution says, in ROS conventions."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.ros import conversions, rotations
from spyropose_ros.ros.detections import Target
from spyropose_ros.ros.diagnostics import BadInput
from spyropose_ros.ros.interfaces import Marker
from spyropose_ros.ros.markers import MAX_TRIADS, Appearance, marker_array

TARGET = Target("mug", "cup", "7", 0.8, (0.0, 0.0, 10.0, 10.0))
HEADER = Header(frame_id="camera_optical_frame")
UPSIDE_DOWN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


def two_sided(level, rotation, translation):
    """Two bumps: object axes along the camera's, or turned by 180 degrees about x."""
    upright = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    upside_down = (rotation @ UPSIDE_DOWN).diagonal(dim1=-2, dim2=-1).sum(-1)
    offset = translation - torch.tensor([0.0, 0.0, 0.6])
    return 8 * torch.maximum(upright, upside_down - 0.1) - 1000 * offset.square().sum(-1)


@pytest.fixture(scope="module")
def distribution():
    box = TranslationBox.from_view(torch.tensor([[0.0, 0.0, 0.6]]), 0.12)
    return search(two_sided, box, depth=3, beam=16).distribution(0, torch.zeros(3), 0.12)


def message_of(distribution, max_poses=100):
    return conversions.distribution_message(distribution, HEADER, TARGET, max_poses, "mug", 0.25)


@pytest.mark.parametrize("max_poses", [1, 100, 10**6])
def test_message_keeps_its_promises(distribution, max_poses):
    message = message_of(distribution, max_poses)
    conversions.check_invariants(message)
    assert len(message.poses) <= max_poses
    assert message.num_cells == len(distribution)


def test_truncated_mass_is_what_the_limit_cut_off(distribution):
    kept = float(distribution.probabilities.double()[:100].sum())
    assert message_of(distribution).truncated_mass == pytest.approx(1 - kept, abs=1e-6)
    assert message_of(distribution, 10**6).truncated_mass == pytest.approx(0, abs=1e-6)


def test_message_reads_back_as_the_distribution(distribution):
    message = message_of(distribution)
    top = distribution.top(100)
    turns = [p.orientation for p in message.poses]
    matrices = rotations.matrices(np.array([[q.x, q.y, q.z, q.w] for q in turns]))
    np.testing.assert_allclose(matrices, top.rotations, atol=1e-5)
    places = [[p.position.x, p.position.y, p.position.z] for p in message.poses]
    np.testing.assert_allclose(places, top.translations, atol=1e-6)
    np.testing.assert_allclose(message.weights, top.probabilities, rtol=1e-5)
    assert (message.class_id, message.detection_id, message.detection_score) == ("cup", "7", 0.8)
    assert (message.recursion_depth, message.model_id) == (3, "mug")
    assert message.inference_time.nanosec == 250_000_000


def test_log_densities_integrate_to_one_with_the_volume_8_pi_squared(distribution):
    message = message_of(distribution, 10**6)
    cell = np.asarray(message.weights) / np.exp(np.asarray(message.log_densities, dtype=float))
    covered = cell.sum() / (8 * math.pi**2 * float(distribution.box.volume[0]))
    assert covered == pytest.approx(1, rel=1e-3)
    entropy = -np.dot(message.weights, message.log_densities)
    assert message.entropy == pytest.approx(entropy, abs=1e-3)


def test_modes_carry_mass_pose_and_covariance(distribution):
    modes = distribution.modes()
    messages = message_of(distribution).modes
    assert len(messages) == len(modes) >= 2
    for mode, message in zip(modes, messages, strict=True):
        assert message.mass == pytest.approx(mode.mass)
        np.testing.assert_allclose(
            np.reshape(message.covariance, (6, 6)), mode.covariance, rtol=1e-5
        )


def test_values_that_are_not_finite_are_refused():
    box = TranslationBox.from_view(torch.tensor([[0.0, 0.0, 0.6]]), 0.12)
    broken = search(two_sided, box, depth=2, beam=8).distribution(0, torch.zeros(3), 0.12)
    broken.log_probabilities[0] = torch.nan
    with pytest.raises(BadInput, match="not finite"):
        message_of(broken)


@pytest.mark.parametrize(
    "spoil, promise",
    [
        (lambda m: m.weights.reverse(), "descending"),
        (lambda m: m.weights.append(0.0), "one weight per pose"),
        (lambda m: m.log_densities.pop(), "one log density"),
        (lambda m: setattr(m, "truncated_mass", 0.9), "add up to 1"),
        (lambda m: setattr(m.poses[3].orientation, "w", 2.0), "unit quaternions"),
        (lambda m: setattr(m.poses[0].position, "z", math.nan), "finite positions"),
        (lambda m: setattr(m, "entropy", math.inf), "finite entropy"),
        (lambda m: setattr(m.modes[-1], "mass", 1.0), "modes"),
        (lambda m: setattr(m, "rotation_resolution", 0.0), "positive resolutions"),
    ],
)
def test_broken_promises_are_found(distribution, spoil, promise):
    message = message_of(distribution)
    spoil(message)
    with pytest.raises(ValueError, match=promise):
        conversions.check_invariants(message)


def test_an_empty_message_is_valid(distribution):
    message = message_of(distribution)
    message.poses, message.weights, message.log_densities = [], [], []
    message.truncated_mass = 1.0
    conversions.check_invariants(message)


@pytest.mark.parametrize("count", [1, 7, 256])
def test_systematic_resampling_counts_differ_from_the_weights_by_less_than_one(count):
    weights = np.random.default_rng(0).dirichlet(np.full(40, 0.3))
    drawn = conversions.systematic_resampling(weights, count)
    counts = np.bincount(drawn, minlength=40)
    assert counts.sum() == count
    assert (np.abs(counts - count * weights) < 1).all()


def test_resampled_poses_show_the_whole_distribution(distribution):
    message = conversions.resampled_poses([distribution, distribution], HEADER, 1000)
    assert len(message.poses) == 2000
    assert message.header == HEADER
    upright = [Rotation.from_quat(_xyzw(p)).as_matrix()[2, 2] > 0 for p in message.poses[:1000]]
    expected = distribution.probabilities @ (distribution.rotations[:, 2, 2] > 0).float()
    assert np.mean(upright) == pytest.approx(float(expected), abs=0.02)


def test_no_distributions_give_no_poses():
    assert len(conversions.resampled_poses([], HEADER, 10).poses) == 0


@pytest.mark.parametrize("seconds", [0.0, 0.25, 1.0, 3.9999999999])
def test_durations_are_exact_to_the_nanosecond(seconds):
    message = conversions.duration(seconds)
    assert 0 <= message.nanosec < 10**9
    assert message.sec + message.nanosec * 1e-9 == pytest.approx(seconds, abs=1e-9)


# ---- quaternions -----------------------------------------------------------------------------


def test_quaternion_order_is_x_y_z_w():
    quarter_turn_about_x = [[[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]]
    half = math.sqrt(0.5)
    np.testing.assert_allclose(
        rotations.quaternions(np.array(quarter_turn_about_x)), [[half, 0, 0, half]], atol=1e-12
    )


def test_quaternions_round_trip_with_positive_w():
    matrices = Rotation.random(500, random_state=0).as_matrix()
    half_turns = Rotation.from_rotvec(math.pi * np.eye(3)).as_matrix()
    matrices = np.concatenate((matrices, half_turns, np.eye(3)[None]))
    quaternions = rotations.quaternions(matrices)
    assert (quaternions[:, 3] >= 0).all()
    np.testing.assert_allclose(rotations.matrices(quaternions), matrices, atol=1e-12)


def test_no_rotations_convert():
    assert rotations.quaternions(np.zeros((0, 3, 3))).shape == (0, 4)
    assert rotations.matrices(np.zeros((0, 4))).shape == (0, 3, 3)


# ---- markers ---------------------------------------------------------------------------------


def markers_of(*messages, mesh=None, show_mesh=True):
    looks = [Appearance(0.12, mesh)] * len(messages)
    return marker_array(HEADER, messages, looks, show_mesh).markers


def test_markers_start_by_deleting_and_have_unique_ids(distribution):
    message = message_of(distribution)
    markers = markers_of(message, message, mesh="file:///mug.ply")
    assert markers[0].action == Marker.DELETEALL
    names = [(marker.ns, marker.id) for marker in markers[1:]]
    assert len(names) == len(set(names)) == 1 + 2 * len(message.modes)


def test_triads_are_one_blended_line_list_with_the_faintest_last(distribution):
    message = message_of(distribution, 200)
    _, triads = markers_of(message, message)
    assert triads.type == Marker.LINE_LIST
    assert len(triads.points) == len(triads.colors) == 6 * MAX_TRIADS
    alpha = [color.a for color in triads.colors]
    assert alpha == sorted(alpha, reverse=True)
    assert alpha[-1] < 0.9998
    assert triads.scale.x > 0
    assert triads.pose.orientation.w == 1


def test_triads_are_the_axes_of_the_poses_and_grow_with_the_weight(distribution):
    message = message_of(distribution, 50)
    points = markers_of(message)[1].points
    pose = message.poses[0]
    matrix = Rotation.from_quat(_xyzw(pose)).as_matrix()
    origin = np.array([pose.position.x, pose.position.y, pose.position.z])
    for axis in range(3):
        start, tip = (np.array([p.x, p.y, p.z]) for p in points[2 * axis : 2 * axis + 2])
        np.testing.assert_allclose(start, origin)
        np.testing.assert_allclose(tip, origin + 0.06 * matrix[:, axis])
    lengths = [
        math.dist((a.x, a.y, a.z), (b.x, b.y, b.z))
        for a, b in zip(points[::6], points[1::6], strict=True)
    ]
    assert (np.diff(lengths) < 1e-9).all() and lengths[-1] < 0.99 * lengths[0]


def test_meshes_stand_at_the_modes_and_can_be_switched_off(distribution):
    message = message_of(distribution)
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


def _xyzw(pose):
    q = pose.orientation
    return [q.x, q.y, q.z, q.w]
