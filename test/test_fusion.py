"""Several cameras on the demo's mug: each one more adds information."""

import math

import numpy as np
import pytest
import torch

from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.triangulation import triangulate
from spyropose_ros.demo.mug_views import MugViews

K = MugViews.K
CAMERAS = 4


def log_density(found, world_from_object):
    pose = torch.from_numpy(world_from_object).float()[None]
    return float(found.log_density(pose[:, :3, :3], pose[:, :3, 3]))


@pytest.fixture(scope="module")
def log_likelihoods():
    """Of four scenes: the better of two cameras, both fused, and four fused."""
    estimator = Estimator.from_pretrained("models/demo_mug", "cpu", SearchSettings(64, 0.0))
    info, mug = estimator.bundle.object, MugViews()
    rows = []
    for seed in range(4):
        rng = np.random.default_rng([7, seed])
        azimuths = rng.uniform(0, 360) + np.arange(CAMERAS) * 90 + rng.uniform(-20, 20, CAMERAS)
        views = [
            mug.view(azimuth, math.radians(rng.uniform(15, 55)), rng.uniform(0.45, 0.8), rng)
            for azimuth in np.radians(azimuths)
        ]
        poses = [np.linalg.inv(view.camera_from_object) for view in views]  # the object is at rest
        row = [
            max(
                log_density(estimator.estimate(v.image, K, v.box[None])[0], v.camera_from_object)
                for v in views[:2]
            )
        ]
        for n in (2, CAMERAS):
            images, boxes = ([getattr(v, name) for v in views[:n]] for name in ("image", "box"))
            center = triangulate(boxes, [K] * n, poses[:n], info.diameter, info.size_ratio)
            world = np.stack(poses[:n])
            found = estimator.estimate_multiview(images, [K] * n, world, center, "sum")
            row.append(log_density(found, np.eye(4)))
        rows.append(row)
    return np.array(rows).mean(0)


def test_two_cameras_tell_more_than_the_better_one(log_likelihoods):
    assert log_likelihoods[1] > log_likelihoods[0] + 0.3


def test_four_cameras_tell_more_than_two(log_likelihoods):
    assert log_likelihoods[2] > log_likelihoods[1]
