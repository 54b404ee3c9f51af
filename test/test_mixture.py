"""Gaussian mixtures on SE(3): the convention, the density, the fit."""

import math

import pytest
import torch

from spyropose_ros.core import so3, so3_grid
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.mixture import Mixture
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox

DEPTH = 4
CUBE = TranslationBox.cubic(torch.tensor([[0.05, -0.02, 0.6]]), 0.1)
R0 = so3.exp(torch.tensor([[0.0, 0.0, 0.0], [0.8, 0.0, 0.0]])) @ so3.exp(
    torch.tensor([0.4, -1.1, 2.0])
)
T0 = torch.tensor([[0.05, -0.02, 0.6], [0.055, -0.015, 0.59]])
WEIGHTS = torch.tensor([0.7, 0.3]).double()
ROOT = torch.tensor([0.01, 0.004, 0.03, 0.1, 0.2, 0.15]).double()


@pytest.fixture(scope="module")
def covariances():
    """Correlated, each in its own way."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.eye(6).double() + 0.4 * torch.randn((2, 6, 6), generator=generator).double()
    mixed = mixed * ROOT[:, None]
    return mixed @ mixed.mT


@pytest.fixture(scope="module")
def two(covariances):
    return Mixture(WEIGHTS, R0, T0, covariances)


SIGMA = torch.tensor([0.004, 0.005, 0.006, 0.1, 0.12, 0.15])  # of the distribution's modes


@pytest.fixture(scope="module")
def known(product_scorer):
    """Two Gaussians of 70 and 30 %, in the finest cells, at one place."""
    cells = torch.arange(so3_grid.cell_count(DEPTH - 1))
    vectors = so3.log(so3_grid.rotations(cells, DEPTH - 1) @ R0.mT.unsqueeze(1))  # [2, cells, 3]
    density = (-(vectors / SIGMA[3:]).square().sum(-1) / 2).exp()
    rotations = (WEIGHTS / density.sum(1)) @ density
    axis = torch.arange(2**DEPTH)
    offset = CUBE.positions(torch.cartesian_prod(axis, axis, axis)[None], DEPTH)[0] - T0[0]
    positions = (-(offset / SIGMA[:3]).square().sum(-1) / 2).exp().view((2**DEPTH,) * 3)
    scorer = product_scorer(CUBE, rotations, positions)
    return search(scorer, CUBE, DEPTH, beam=10_000, mass_tolerance=0.01).distribution(0)


def test_a_tangent_vector_is_of_the_fixed_axes_of_the_camera(two):
    """R = exp(r) R_mean, t = t_mean + d, order d then r: the convention in one line."""
    d, r = torch.tensor([0.01, -0.02, 0.03]), torch.tensor([0.2, 0.1, -0.3])
    tangents = two.tangents((so3.exp(r) @ R0[0])[None], (T0[0] + d)[None])
    torch.testing.assert_close(tangents[0, 0].float(), torch.cat((d, r)), atol=1e-6, rtol=0)


def test_samples_have_the_covariances(two, covariances, generator):
    R, t = two.sample(20_000, generator)
    first = WEIGHTS[0] * T0[0] + WEIGHTS[1] * T0[1]
    assert bool(((t.mean(0) - first).abs() < 4 * t.std(0) / math.sqrt(20_000)).all())
    for k in range(2):
        alone = Mixture(torch.ones(1).double(), R0[[k]], T0[[k]], covariances[[k]])
        R, t = alone.sample(20_000, generator)
        tangents = alone.tangents(R, t)[0]
        scale = covariances[k].diagonal().sqrt()
        assert bool((tangents.mean(0).abs() < 0.05 * scale).all())
        difference = (torch.cov(tangents.mT) - covariances[k]) / torch.outer(scale, scale)
        assert float(difference.abs().max()) < 0.05


def test_the_density_integrates_to_one(covariances, generator):
    """Over uniform rotations and positions of a known density, in the distribution's measure."""
    one = Mixture(torch.ones(1).double(), R0[:1], T0[:1], 2 * covariances[:1])
    n, spread = 100_000, 2.5 * covariances[0, :3, :3]
    R = so3.random_rotations(n, generator)
    proposal = torch.distributions.MultivariateNormal(T0[0].double(), spread)
    noise = torch.randn((n, 3), generator=generator).double()
    t = T0[0] + noise @ torch.linalg.cholesky(spread).mT
    log_ratio = one.log_density(R, t.float()) - proposal.log_prob(t) + 2 * math.log(math.pi)
    ratio = log_ratio.exp()
    error = float(ratio.std()) / math.sqrt(n)
    assert error < 0.1
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * error)


def test_the_density_at_a_mean(covariances):
    one = Mixture(torch.ones(1).double(), R0[:1], T0[:1], covariances[:1])
    exact = -torch.logdet(2 * math.pi * covariances[0]) / 2 + math.log(8)  # true rad^3 are 8 pi^2's
    assert float(one.log_density(R0[:1], T0[:1])) == pytest.approx(float(exact), abs=1e-5)


def test_a_fit_finds_the_gaussians_again(known, generator):
    found = known.mixture(2)
    assert len(found) == 2 and float(found.weights.sum()) == pytest.approx(1)
    torch.testing.assert_close(found.weights, WEIGHTS, atol=0.02, rtol=0)
    cell = torch.tensor([0.1 / 16] * 3 + [math.radians(7.5)] * 3) / math.sqrt(12)
    for k in range(2):
        tangent = found.tangents(R0[[k]], T0[:1])[k, 0]
        assert bool((tangent.abs() < 0.15 * SIGMA).all())
        deviation = found.covariances[k].diagonal().sqrt()
        ratio = deviation / torch.hypot(SIGMA, cell)  # cells have extent
        assert float(ratio.min()) > 0.9 and float(ratio.max()) < 1.15
    R, t = known.sample(4000, generator)
    quality = [float(known.mixture(n).log_density(R, t).mean()) for n in (1, 2, 5)]
    assert quality[1] > quality[0] + 0.5
    assert quality[2] > quality[1] - 0.02


def test_one_component_has_the_moments_of_the_distribution(known):
    found = known.mixture(1)
    scale = found.covariances[0].diagonal().sqrt()
    difference = (found.covariances[0] - known.covariance()) / torch.outer(scale, scale)
    assert float(difference.abs().max()) < 0.1
    R, t = known.mean()
    assert bool((found.tangents(R[None], t[None])[0, 0].abs() < 0.1 * scale).all())


def test_fits_are_repeatable_and_sorted(known):
    first, again = known.mixture(3), known.mixture(3)
    assert torch.equal(first.covariances, again.covariances)
    assert bool((first.weights.diff() <= 0).all())


def test_where_the_translation_is_known_the_rotation_is_fitted(rough_scorer):
    box = TranslationBox.known(T0[:1])
    found = search(rough_scorer(), box, 3, beam=40).distribution(0).mixture(3)
    torch.testing.assert_close(found.translations, T0[:1].expand(len(found), 3))
    assert bool(found.log_density(R0[:1], T0[:1]).isfinite().all())


@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_impossible_numbers_of_components_are_refused(known, n):
    with pytest.raises(InputError, match="at least one component"):
        known.mixture(n)
