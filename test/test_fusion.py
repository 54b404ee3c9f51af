"""Several cameras on the demo's mug: each one more adds information."""

import numpy as np
import pytest

from benchmarks.accuracy.fusion import alone, fused, scene
from benchmarks.accuracy.mug_views import MugViews
from spyropose_ros.core.estimator import Estimator, SearchSettings


@pytest.fixture(scope="module")
def log_likelihoods():
    """Of four scenes: the better of two cameras, both fused, and four fused."""
    estimator = Estimator.from_pretrained("models/demo_mug", "cpu", SearchSettings(64, 0.0))
    views = MugViews()
    rows = []
    for seed in range(4):
        one = scene(views, seed)
        better = max(alone(estimator, view) for view in one.views[:2])
        rows.append([better, fused(estimator, one, 2, "sum"), fused(estimator, one, 4, "sum")])
    return np.array(rows).mean(0)


def test_two_cameras_tell_more_than_the_better_one(log_likelihoods):
    assert log_likelihoods[1] > log_likelihoods[0] + 0.3


def test_four_cameras_tell_more_than_two(log_likelihoods):
    assert log_likelihoods[2] > log_likelihoods[1]
