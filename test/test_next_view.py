"""The camera to look from next: what is told, by whom, and what is refused."""

import math

import numpy as np
import pytest
import torch

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.next_view import next_view
from spyropose_ros.core.search_settings import SearchSettings
from spyropose_ros.demo.mug_views import MugViews, camera_from_object
from spyropose_ros.scenes.mug import make_mug
from spyropose_ros.scenes.portrait import Portrait

HYPOTHESES = 256


@pytest.fixture(scope="module")
def estimator():
    return Estimator.from_pretrained("models/demo_mug", "cpu", SearchSettings(64))


@pytest.fixture(scope="module")
def portrait():
    return Portrait(make_mug().mesh)


@pytest.fixture(scope="module")
def hidden(estimator):
    """A mug whose handle is behind it: the pose of the truth and the distribution."""
    views = MugViews()
    view = views.view(math.pi, math.radians(25), 0.6, np.random.default_rng(0))
    (found,) = estimator.estimate(view.image, MugViews.K, view.box[None])
    return view.camera_from_object, found


def cameras(truth, azimuths, distance=0.6):
    """Poses of cameras round the mug, in the first camera's frame."""
    center = MugViews().center
    return np.stack(
        [
            truth @ np.linalg.inv(camera_from_object(center, a, math.radians(25), distance))
            for a in azimuths
        ]
    )


def told(estimator, found, poses, portrait, **settings):
    Ks = np.repeat(MugViews.K[None], len(poses), 0)
    settings = {"looks": 6, "hypotheses": HYPOTHESES} | settings
    return next_view(estimator, found, Ks, poses, portrait, **settings)


def test_the_side_tells_more_than_the_place_where_the_camera_is(estimator, hidden, portrait):
    """From the side the handle comes into sight."""
    truth, found = hidden
    poses = cameras(truth, np.radians([180, 80]))
    result = told(estimator, found, poses, portrait)
    assert result.best == 1
    assert result.information[1] > result.information[0] + 0.5
    assert (result.information > 0).all() and (result.information < math.log(HYPOTHESES)).all()
    assert (result.standard_error > 0).all()
    assert np.allclose(result.entropy, found.entropy() - result.information)
    again = told(estimator, found, poses, portrait)
    assert np.array_equal(result.information, again.information)


def test_a_plain_loop_gives_the_same(estimator, hidden, portrait):
    """One look and one pose at a time: the posterior's divergence from the prior by its sum."""
    truth, found = hidden
    (pose,) = cameras(truth, [1.0])
    looks, n = 2, 32
    result = told(estimator, found, pose[None], portrait, looks=looks, hypotheses=n)
    generator = torch.Generator().manual_seed(0)
    truths = found.sample(looks, generator, systematic=True)
    poses = found.sample(n, generator, systematic=True)
    to_camera = torch.from_numpy(np.linalg.inv(pose)).float()
    R, t = to_camera[:3, :3], to_camera[:3, 3]
    center = torch.tensor(estimator.bundle.object.center)
    positions = torch.stack([R @ (p + r @ center) + t for r, p in zip(*poses, strict=True)])
    from spyropose_ros.core import camera

    config, bundle = estimator.model.config, estimator.bundle
    K_crop = camera.crop_intrinsics(
        positions.mean(0, keepdim=True),
        bundle.object.diameter,
        torch.from_numpy(MugViews.K).float(),
        config.crop_resolution,
        config.crop_padding,
    )
    gains = []
    for r, p in zip(*truths, strict=True):
        seen = portrait(
            *((R @ r).double().numpy(), (R @ p + t).double().numpy()),
            *(K_crop[0].double().numpy(), config.crop_resolution),
        )
        crop = torch.from_numpy(seen).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            features = estimator.features(crop)
            level = estimator.depth - 1
            logits = [
                float(estimator.model.logits(features, K_crop, level, (R @ r)[None, None], x))
                for r, x in zip(poses[0], positions[:, None, None], strict=True)
            ]
        p = np.exp(np.array(logits) / bundle.temperatures[level])
        p /= p.sum()
        gains.append((p * np.log(p * n)).sum())
    assert result.information[0] == pytest.approx(np.mean(gains), abs=1e-4)


def test_a_camera_that_looks_away_tells_nothing(estimator, hidden, portrait):
    truth, found = hidden
    poses = cameras(truth, [math.pi, 1.0])
    poses[0] = poses[0] @ np.diag([-1.0, 1, -1, 1])
    result = told(estimator, found, poses, portrait)
    assert result.information[0] == 0 and result.best == 1


@pytest.mark.parametrize(
    ("Ks", "poses", "settings", "text"),
    [
        (1, np.empty((0, 4, 4)), {}, "as many Ks"),
        (1, np.eye(4)[None], {"looks": 1}, "2 or more looks"),
        (1, np.full((1, 4, 4), np.nan), {}, "finite rigid motion"),
        (1, np.diag([2.0, 2, 2, 1])[None], {}, "finite rigid motion"),
        (0, np.eye(4)[None], {}, "as many Ks"),
        (-1, np.eye(4)[None], {}, "focal"),
    ],
)
def test_what_is_refused(estimator, hidden, portrait, Ks, poses, settings, text):
    cameras = [MugViews.K * Ks] if Ks else []
    with pytest.raises(InputError, match=text):
        next_view(estimator, hidden[1], cameras, poses, portrait, **settings)


def test_a_portrait_lies_where_the_camera_sees_the_object(portrait):
    """Its middle is on the principal point; what is around it is the background."""
    pose = camera_from_object(MugViews().center, 1.0, 0.4, 0.5)
    K = np.array([[200.0, 0, 31.5], [0, 200, 31.5], [0, 0, 1]])
    picture = portrait(pose[:3, :3], pose[:3, 3], K, 64)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    seen = np.argwhere((picture != picture[0, 0]).any(-1))
    assert 500 < len(seen) < 3000
    assert np.abs((seen.min(0) + seen.max(0)) / 2 - 31.5).max() < 8
