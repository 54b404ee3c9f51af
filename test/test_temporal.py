"""The temporal filter on the demo's mug: what it remembers, and that it gives up what is wrong."""

import math

import numpy as np
import pytest
import torch

from spyropose_ros.core import camera, se3_grid, so3
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.demo.mug_views import MugViews
from spyropose_ros.ros.pipeline.tracks import TemporalSettings, Tracks

K = MugViews.K
PERIOD = 0.1  # seconds between frames
NEAR = math.radians(30)  # of the true rotation


@pytest.fixture(scope="module")
def estimator():
    return Estimator.from_pretrained("models/demo_mug", "cpu", SearchSettings(beam=64))


@pytest.fixture(scope="module")
def mug():
    return MugViews()


def sequence(mug, azimuths, yaws, seed):
    """Views of the mug and world_from_camera: the camera and the mug at these angles in degrees."""
    rng = np.random.default_rng(seed)
    frames = []
    for azimuth, yaw in zip(np.radians(azimuths), np.radians(yaws), strict=True):
        view = mug.view(azimuth - yaw, math.radians(25), 0.6, rng)
        world_from_object = np.eye(4)
        world_from_object[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        frames.append((view, world_from_object @ np.linalg.inv(view.camera_from_object)))
    return frames


def scores(estimator, frames, count, tracks=None):
    """Of the last frames: gain of the truth over uniform, entropy, mass near the true rotation."""
    info = estimator.bundle.object
    found = []
    for index, (view, world_from_camera) in enumerate(frames):
        box = torch.from_numpy(view.box[None])
        position = camera.translation_from_boxes(
            box, torch.from_numpy(K), info.diameter, info.size_ratio
        ).numpy()
        priors = None
        if tracks is not None:
            priors = tracks.priors([info.name], position, index * PERIOD, world_from_camera)
        (distribution,) = estimates = estimator.estimate(
            view.image, K, view.box[None], position, priors
        )
        if tracks is not None:
            tracks.update(estimates)
        if index < len(frames) - count:
            continue
        pose = torch.from_numpy(view.camera_from_object).float()
        density = distribution.log_density(pose[None, :3, :3], pose[None, :3, 3])
        near = so3.geodesic_angle(distribution.rotations, pose[:3, :3]) <= NEAR
        found.append(
            (
                float(density) - float(se3_grid.uniform_log_density(distribution.box)),
                distribution.entropy(),
                float(distribution.probabilities[near].sum()),
            )
        )
    return np.array(found)


def last_scores(estimator, frames, count):
    """Means over the last frames, without and with the filter, which sees the others before."""
    filtered = scores(estimator, frames, count, Tracks(TemporalSettings()))
    return scores(estimator, frames[-count:], count).mean(0), filtered.mean(0)


def test_a_glimpse_of_the_handle_is_remembered(estimator, mug):
    """Hidden again, the pose is known better than without the filter."""
    hidden = 180 + 12 * np.sin(np.arange(6) / 3)
    azimuths = [140, 120, 110, 110, 120, 140, 160, 175, *hidden]
    frames = sequence(mug, azimuths, np.zeros(len(azimuths)), seed=0)
    assert all(view.handle_fraction < 0.01 for view, _ in frames[-6:])
    (gain, entropy, near), filtered = last_scores(estimator, frames, 6)
    assert filtered[0] > gain + 0.7
    assert filtered[1] < entropy - 0.2
    assert filtered[2] > near + 0.1


@pytest.mark.parametrize(
    ("azimuths", "yaws", "seed"),
    [
        # by 120 degrees in sight of the camera: two frames later the filter is as good as none
        (60 + 2.0 * np.arange(9), [0] * 4 + [120] * 5, 1),
        # while the handle was hidden: the filter is wrong when it comes into sight
        (
            [110, 110, 110, 130, 150, *[195] * 4, 215, 235, 255, 265, *[275] * 4],
            [0] * 7 + [35] * 10,
            2,
        ),
    ],
    ids=["in sight", "hidden"],
)
def test_a_rotated_object_is_found_again(azimuths, yaws, seed, estimator, mug):
    frames = sequence(mug, azimuths, yaws, seed)
    (gain, _, near), filtered = last_scores(estimator, frames, 3)
    assert filtered[0] > gain - 1.5
    assert filtered[2] > near - 0.1
