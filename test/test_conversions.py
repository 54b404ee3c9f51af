"""Messages say exactly what the distribution says, in ROS conventions."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.ros.messages import conversions, invariants
from spyropose_ros.ros.messages.tf_poses import ChosenPose
from spyropose_ros.ros.pipeline import rotations
from spyropose_ros.ros.pipeline.appearance import Appearance
from spyropose_ros.ros.pipeline.detections import Target
from spyropose_ros.ros.pipeline.drops import BadInputError

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
    invariants.check_invariants(message)
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


def test_presence_is_unknown_or_joined_with_the_detectors_score(distribution):
    message = message_of(distribution)
    assert math.isnan(message.presence)
    invariants.check_invariants(message)
    known = copy.copy(distribution)
    known.presence = 0.5
    assert message_of(known).presence == pytest.approx(TARGET.score)


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
    broken._log_p[7] = torch.nan
    with pytest.raises(BadInputError, match="not finite"):
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
        (lambda m: setattr(m, "presence", 1.5), "presence from 0 to 1"),
    ],
)
def test_broken_promises_are_found(distribution, spoil, promise):
    message = message_of(distribution)
    spoil(message)
    with pytest.raises(ValueError, match=promise):
        invariants.check_invariants(message)


def test_an_empty_message_is_valid(distribution):
    message = message_of(distribution)
    message.poses, message.weights, message.log_densities = [], [], []
    message.truncated_mass = 1.0
    invariants.check_invariants(message)


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


# ---- detections_3d, ~/pose and TF --------------------------------------------------------------

LOOK = Appearance(0.12, None, (0.01, 0.02, 0.03), (0.1, 0.06, 0.08))


def test_detections_3d_list_the_modes_by_mass_with_their_covariance(distribution):
    message = message_of(distribution)
    array = conversions.detections_3d(HEADER, [message, message], [LOOK, LOOK], 100)
    assert array.header == HEADER
    assert len(array.detections) == 2
    detection = array.detections[1]
    assert (detection.header, detection.id) == (HEADER, "7")
    assert {result.hypothesis.class_id for result in detection.results} == {"cup"}
    for result, mode in zip(detection.results, distribution.modes(), strict=True):
        assert result.hypothesis.score == pytest.approx(mode.mass)
        rotation, position = conversions.pose_matrix(result.pose.pose)
        np.testing.assert_allclose(rotation, mode.rotation, atol=1e-5)
        np.testing.assert_allclose(position, mode.translation, atol=1e-6)
        np.testing.assert_allclose(
            np.reshape(result.pose.covariance, (6, 6)), mode.covariance, rtol=1e-5
        )


@pytest.mark.parametrize("max_modes", [1, 2])
def test_detections_3d_keep_the_most_probable_modes(distribution, max_modes):
    message = message_of(distribution)
    assert len(message.modes) >= 2
    (detection,) = conversions.detections_3d(HEADER, [message], [LOOK], max_modes).detections
    scores = [result.hypothesis.score for result in detection.results]
    assert scores == [mode.mass for mode in message.modes][:max_modes]


def test_the_box_of_a_detection_lies_around_the_object_at_its_leading_mode(distribution):
    message = message_of(distribution)
    (detection,) = conversions.detections_3d(HEADER, [message], [LOOK], 5).detections
    leading = distribution.modes()[0]
    center = detection.bbox.center.position
    expected = leading.rotation.double().numpy() @ LOOK.center + leading.translation.numpy()
    np.testing.assert_allclose([center.x, center.y, center.z], expected, atol=1e-5)
    assert detection.bbox.center.orientation == message.modes[0].pose.orientation
    size = detection.bbox.size
    assert (size.x, size.y, size.z) == LOOK.extents


def test_a_detection_without_modes_has_no_results(distribution):
    message = message_of(distribution)
    message.modes = []
    (detection,) = conversions.detections_3d(HEADER, [message], [LOOK], 5).detections
    assert (len(detection.results), detection.bbox.size.x, detection.id) == (0, 0.0, "7")
    assert conversions.detections_3d(HEADER, [], [], 5).detections == []


def spread_over(axis):
    """A scorer that is sharp except about one axis (0 to 5: x y z rx ry rz) of the camera."""
    precision = torch.full((6,), 100.0)
    precision[:3] = 4e4
    precision[axis] /= 25

    def score(level, rotation, translation):
        offset = translation - torch.tensor([0.0, 0.0, 0.6])
        turn = rotation - rotation.mT  # twice the rotation vector, for small angles
        vector = torch.stack((turn[..., 2, 1], turn[..., 0, 2], turn[..., 1, 0]), -1) / 2
        flipped = 3 - rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
        square = torch.cat((offset, vector), -1).square()
        return -0.5 * (square * precision).sum(-1) - 100 * (flipped > 3)

    return score


@pytest.mark.parametrize("axis", range(6))
def test_the_covariance_is_in_the_order_x_y_z_and_rotations_about_x_y_z(axis):
    box = TranslationBox.cubic(torch.tensor([[0.0, 0.0, 0.6]]), 0.2)
    pyramid = search(spread_over(axis), box, depth=4, beam=512)
    message = message_of(pyramid.distribution(0, torch.zeros(3), 0.4))
    pose = conversions.leading_pose(HEADER, [message], 0.0)
    deviation = np.sqrt(np.reshape(pose.pose.covariance, (6, 6)).diagonal())
    alike = deviation[:3] if axis < 3 else deviation[3:]
    assert alike.argmax() == axis % 3
    assert alike[axis % 3] > 1.5 * np.sort(alike)[1]


def test_the_leading_pose_is_of_the_object_that_is_surest(distribution):
    sure, unsure = message_of(distribution), message_of(distribution)
    sure.modes = [sure.modes[1], *sure.modes[2:]]
    sure.modes[0].mass = 0.99
    pose = conversions.leading_pose(HEADER, [unsure, sure, unsure], 0.0)
    assert pose.header == HEADER
    assert pose.pose.pose == sure.modes[0].pose
    np.testing.assert_array_equal(pose.pose.covariance, sure.modes[0].covariance)


def test_the_leading_pose_needs_more_than_the_least_mass(distribution):
    message = message_of(distribution)
    mass = message.modes[0].mass
    assert conversions.leading_pose(HEADER, [message], mass - 1e-6) is not None
    assert conversions.leading_pose(HEADER, [message], mass) is None
    message.modes = []
    assert conversions.leading_pose(HEADER, [message], 0.0) is None
    assert conversions.leading_pose(HEADER, [], 0.0) is None


def test_transforms_lead_from_the_frame_to_the_object():
    turn = Rotation.from_rotvec([0.1, 0.2, 0.3])
    header = Header(frame_id="/camera")
    header.stamp.sec = 5
    chosen = ChosenPose("mug", "mug_2", 5 * 10**9, turn.as_matrix(), np.array([0.1, 0.2, 0.6]))
    (message,) = conversions.transforms(header, "camera", [chosen]).transforms
    assert (message.header.frame_id, message.child_frame_id) == ("camera", "mug_2")
    assert message.header.stamp == header.stamp
    place, orientation = message.transform.translation, message.transform.rotation
    assert (place.x, place.y, place.z) == (0.1, 0.2, 0.6)
    quaternion = [orientation.x, orientation.y, orientation.z, orientation.w]
    np.testing.assert_allclose(quaternion, turn.as_quat())


def _xyzw(pose):
    q = pose.orientation
    return [q.x, q.y, q.z, q.w]
