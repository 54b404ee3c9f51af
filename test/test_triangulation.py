"""Positions from boxes in several cameras, on exact geometry of spheres."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core import camera
from spyropose_ros.core.triangulation import fuse, locate, triangulate

K = np.array([[600.0, 0, 319.5], [0, 620.0, 239.5], [0, 0, 1]])
DIAMETER, RATIO = 0.12, 1.1


def look_at(eye, target):
    """Pose of a camera at a place that looks at another, x to the right of world z, [4, 4]."""
    forward = np.asarray(target, float) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = eye
    return pose


def box_of(center, world_from_camera, size=1.0):
    """The box that `translation_from_boxes` answers with this centre; size 2 looks twice as big."""
    x, y, z = np.linalg.inv(world_from_camera)[:3] @ np.append(center, 1)
    u, v = 600 * x / z + 319.5, 620 * y / z + 239.5
    stretch = np.sqrt(1 + ((x / z) ** 2 + (y / z) ** 2) / 2)
    side = size * stretch * DIAMETER * RATIO / z / np.sqrt(2)
    return np.array([u - 300 * side, v - 310 * side, u + 300 * side, v + 310 * side])


CENTER = np.array([0.1, -0.2, 0.3])
CAMERAS = np.stack(
    [look_at(e, [0.1, -0.1, 0.25]) for e in ([0.9, -0.2, 0.5], [0.1, 0.7, 0.6], [-0.5, -0.9, 0.9])]
)


def triangulated(center, cameras, sizes=(1.0, 1.0, 1.0)):
    boxes = [box_of(center, pose, size) for pose, size in zip(cameras, sizes, strict=False)]
    return triangulate(boxes, [K] * len(cameras), cameras, DIAMETER, RATIO)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_exact_boxes_give_the_centre(n):
    np.testing.assert_allclose(triangulated(CENTER, CAMERAS[:n]), CENTER, atol=1e-9)


def test_one_view_is_the_estimate_of_its_box():
    box = np.array([200.0, 100, 290, 170])
    (expected,) = camera.translation_from_boxes(
        torch.tensor(box[None]), torch.tensor(K), DIAMETER, RATIO
    )
    expected = CAMERAS[0, :3, :3] @ expected.numpy() + CAMERAS[0, :3, 3]
    found = triangulate(box[None], K[None], CAMERAS[:1], DIAMETER, RATIO)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_second_view_corrects_the_depth_of_the_first():
    """A box half as big puts one view 80 cm too far; two crossing rays hardly notice."""
    wrong = (0.5, 1.0, 1.0)
    alone = np.linalg.norm(triangulated(CENTER, CAMERAS[:1], wrong) - CENTER)
    two = np.linalg.norm(triangulated(CENTER, CAMERAS[:2], wrong) - CENTER)
    assert alone > 0.7 and two < 0.02


def test_errors_are_as_large_as_the_covariance_says():
    """Estimates drawn from the covariances: their fusion errs by the fused one."""
    boxes = [box_of(CENTER, pose) for pose in CAMERAS]
    positions, covariances = locate(boxes, [K] * 3, CAMERAS, DIAMETER, RATIO)
    np.testing.assert_allclose(positions, np.tile(CENTER, (3, 1)), atol=1e-9)
    rng = np.random.default_rng(0)
    shaken = np.stack([rng.multivariate_normal(CENTER, c, 4000) for c in covariances], 1)
    fused = [fuse(one, covariances)[0] for one in shaken]
    np.testing.assert_allclose(
        np.cov(np.array(fused).T), fuse(positions, covariances)[1], atol=5e-6
    )


def test_the_world_frame_does_not_matter():
    move = np.eye(4)
    move[:3, :3] = Rotation.random(random_state=1).as_matrix()
    move[:3, 3] = [1, -2, 3]
    boxes = [box_of(CENTER, pose, s) for pose, s in zip(CAMERAS, (0.8, 1.0, 1.3), strict=True)]
    here = triangulate(boxes, [K] * 3, CAMERAS, DIAMETER, RATIO)
    there = triangulate(boxes, [K] * 3, move @ CAMERAS, DIAMETER, RATIO)
    np.testing.assert_allclose(there, move[:3, :3] @ here + move[:3, 3], atol=1e-9)


def test_counts_must_agree():
    with pytest.raises(ValueError, match="at least one; got 0, 0, 0"):
        triangulate(np.zeros((0, 4)), np.zeros((0, 3, 3)), np.zeros((0, 4, 4)), DIAMETER, RATIO)
    with pytest.raises(ValueError, match="got 1, 3, 3"):
        triangulate(np.array([[0, 0, 9, 9]]), [K] * 3, CAMERAS, DIAMETER, RATIO)
