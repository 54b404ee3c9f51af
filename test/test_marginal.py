"""Where a feature is: against samples, in any frame."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core import se3_grid
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox

VIEW = TranslationBox.from_view(torch.tensor([[0.05, -0.02, 0.6]]), 0.1)
CENTER = torch.tensor([0.01, -0.03, 0.02])
POINT, DIRECTION = torch.tensor([0.06, 0.01, 0.03]), torch.tensor([2.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def rough(rough_scorer):
    return search(rough_scorer(8.0), VIEW, depth=3, beam=30).distribution(0, CENTER, 0.1)


@pytest.fixture(scope="module")
def samples(rough):
    return rough.sample(40_000, torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def motion():
    frame = np.eye(4)
    frame[:3, :3] = Rotation.from_rotvec([0.3, -2.0, 0.4]).as_matrix()
    frame[:3, 3] = [1.0, -2.0, 0.5]
    return torch.from_numpy(frame)


def leaves_at(rotations, positions, masses):
    """All mass in the level-3 cells of some poses of the bounding sphere."""
    rotations, positions = rotations.unsqueeze(0), positions.unsqueeze(0)

    def scorer(level, R, t):
        keys = se3_grid.containing(R, t, VIEW, level).keys()
        wanted = se3_grid.containing(rotations, positions, VIEW, level).keys()[0]
        logits = torch.full(keys.shape, -60.0)
        for key, mass in zip(wanted, masses, strict=True):
            logits[keys == key] = math.log(mass)
        return logits

    return search(scorer, VIEW, 4, beam=8).distribution(0, CENTER, 0.1)


def test_few_poses_give_about_the_same(rough):
    every, few = rough.marginal(POINT, DIRECTION), rough.marginal(POINT, DIRECTION, poses=4096)
    deviation = every.covariance.diagonal().sqrt()
    assert bool(((few.mean - every.mean).abs() < 0.05 * deviation).all())
    assert bool(((few.covariance - every.covariance).diagonal().abs() < 0.1 * deviation**2).all())
    assert float(few.direction @ every.direction) > 0.99
    assert few.direction_spread == pytest.approx(every.direction_spread, rel=0.05)


def test_mean_and_covariance_are_those_of_samples(rough, samples):
    found = rough.marginal(POINT, DIRECTION)
    R, t = samples
    positions = R @ POINT + t
    error = positions.std(0) / math.sqrt(len(R))
    assert bool(((found.mean - positions.mean(0)).abs() < 4 * error + 1e-4).all())
    scale = torch.outer(positions.std(0), positions.std(0))
    difference = (found.covariance - torch.cov(positions.mT)) / scale
    assert float(difference.abs().max()) < 0.04
    directions = R @ (DIRECTION / DIRECTION.norm())
    mean = directions.mean(0)
    error = 4 / (math.sqrt(len(R)) * float(mean.norm()))  # the mean of wide directions is short
    assert float((found.direction - mean / mean.norm()).norm()) < error < 0.3
    spread = float((directions @ found.direction).clamp(-1, 1).acos().mean())
    assert found.direction_spread == pytest.approx(spread, abs=0.02)


def test_the_extent_of_a_single_cell_counts():
    """A point at the bounding sphere's centre does not turn: the box cell's own moments."""
    found = leaves_at(torch.eye(3)[None], VIEW.center + 0.01, [1.0]).marginal(CENTER)
    edges = VIEW.basis[0] / 2**4
    np.testing.assert_allclose(found.covariance, edges @ edges.mT / 12, rtol=0.02, atol=1e-8)
    assert found.direction is None and math.isnan(found.direction_spread)


def test_samples_are_of_the_feature(rough):
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    R, t = rough.sample(50, seeds[0])
    positions, directions = rough.marginal(POINT, DIRECTION).sample(50, seeds[1])
    torch.testing.assert_close(positions, R @ POINT + t)
    torch.testing.assert_close(directions, R @ DIRECTION / DIRECTION.norm())
    assert rough.marginal(POINT).sample(5)[1] is None


@pytest.mark.parametrize("mass", [0.5, 0.9, 0.99])
def test_an_ellipsoid_holds_its_mass(rough, samples, mass):
    region = rough.marginal(POINT).ellipsoid(mass)
    assert region.mass == pytest.approx(mass, abs=1e-3)
    assert bool((region.semi_axes.diff() <= 0).all())
    torch.testing.assert_close(region.axes @ region.axes.mT, torch.eye(3), atol=1e-5, rtol=0)
    scaled = (samples[0] @ POINT + samples[1] - region.center) @ region.axes / region.semi_axes
    share = float((scaled.norm(dim=1) <= 1).double().mean())
    assert share == pytest.approx(mass, abs=4 * math.sqrt(mass * (1 - mass) / len(scaled)) + 0.002)


def test_a_fixed_frame_moves_everything(rough, motion):
    here, there = rough.marginal(POINT, DIRECTION), rough.marginal(POINT, DIRECTION, motion)
    turn, shift = motion[:3, :3].float(), motion[:3, 3].float()
    torch.testing.assert_close(there.mean, turn @ here.mean + shift, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        there.covariance, turn @ here.covariance @ turn.mT, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(there.direction, turn @ here.direction, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        there.ellipsoid(0.9).semi_axes, here.ellipsoid(0.9).semi_axes, atol=1e-5, rtol=1e-3
    )


@pytest.mark.parametrize("direction", [None, DIRECTION])
def test_modes_are_the_places_where_a_feature_may_be(direction):
    """Two small cells of 70 and 30 %."""
    R = torch.from_numpy(Rotation.from_rotvec([[0.3, 0, 0], [0, 2.0, 0]]).as_matrix()).float()
    positions = VIEW.center + torch.tensor([[0.02, 0.0, 0.0], [-0.02, 0.01, 0.1]])
    distribution = leaves_at(R, positions, [0.7, 0.3])
    first, second = distribution.marginal(POINT, direction).modes(0.06)
    assert (first.mass, second.mass) == pytest.approx((0.7, 0.3), abs=0.02)
    for k, mode in enumerate((first, second)):
        assert float((mode.mean - (R[k] @ (POINT - CENTER) + positions[k])).norm()) < 0.025
        assert float(torch.linalg.eigvalsh(mode.covariance)[0]) > 0
        if direction is None:
            assert mode.direction is None
        else:
            assert float(mode.direction @ R[k] @ direction / direction.norm()) > 0.98
    assert distribution.marginal(POINT).modes(10.0)[0].mass == pytest.approx(1)
    assert len(distribution.marginal(POINT).modes(0.06, max_modes=1)) == 1
    assert len(distribution.marginal(POINT).modes(0.06, min_mass=0.5)) == 1


def test_by_default_a_mode_is_a_quarter_of_the_diameter_wide(rough):
    found = rough.marginal(POINT)
    same = zip(found.modes(), found.modes(0.1 / 4), strict=True)
    assert all(torch.equal(a.mean, b.mean) for a, b in same)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (([0.0, 1.0],), "point of a feature must be three finite"),
        (([0.0, 1.0, math.inf],), "point of a feature must be three finite"),
        (([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]), "must have a length"),
        (
            ([0.0, 0.0, 0.0], None, np.diag([2.0, 1, 1, 1])),
            "frame_from_camera must be a finite rigid",
        ),
        (([0.0, 0.0, 0.0], None, np.eye(3)), "frame_from_camera must be a finite rigid"),
    ],
)
def test_impossible_features_are_refused(rough, arguments, reason):
    with pytest.raises(InputError, match=reason):
        rough.marginal(*arguments)


@pytest.mark.parametrize("mass", [0.0, 1.0, math.nan])
def test_an_ellipsoid_of_impossible_mass_is_refused(rough, mass):
    with pytest.raises(InputError, match=r"in \(0, 1\)"):
        rough.marginal(POINT).ellipsoid(mass)
