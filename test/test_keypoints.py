"""Farthest points and box corners."""

import numpy as np
import pytest

from spyropose_ros.core.network.keypoints import box_keypoints, farthest_points


def test_farthest_points_by_the_definition():
    """First the point farthest from the mean, then always the one farthest from those chosen."""
    points = np.random.default_rng(0).normal(size=(500, 3))
    chosen = farthest_points(points, 10)
    first = np.linalg.norm(points - points.mean(0), axis=1).argmax()
    np.testing.assert_array_equal(chosen[0], points[first])
    for n in range(1, 10):
        distance = np.linalg.norm(points[:, None] - chosen[None, :n], axis=-1).min(1)
        np.testing.assert_array_equal(chosen[n], points[distance.argmax()])


def test_farthest_points_spread_over_a_sphere():
    points = np.random.default_rng(1).normal(size=(5000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    chosen = farthest_points(points, 16)
    gaps = np.linalg.norm(chosen[:, None] - chosen[None], axis=-1) + 9 * np.eye(16)
    assert gaps.min() > 0.6  # the best 16 points: 0.88
    covered = np.linalg.norm(points[:, None] - chosen[None], axis=-1).min(1)
    assert covered.max() <= gaps.min() + 1e-12


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="16 keypoints from 5 points"):
        farthest_points(np.zeros((5, 3)), 16)


def test_box_keypoints():
    points = box_keypoints(0.2)
    assert points.shape == (16, 3)
    assert len(np.unique(points, axis=0)) == 16
    np.testing.assert_allclose(np.abs(points[:8]), 0.2)
    np.testing.assert_allclose(np.abs(points[8:]), 0.1)
