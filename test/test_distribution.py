"""The distribution: density, samples and summaries against what they must be."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from spyropose_ros.core import distribution as distribution_module
from spyropose_ros.core import se3_grid, so3, so3_grid
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox

ESTIMATE = torch.tensor([[0.05, -0.02, 0.6]])
SIDE = 0.1
DEPTH = 4
CUBE = TranslationBox.cubic(ESTIMATE, SIDE)
VIEW = TranslationBox.from_view(ESTIMATE, SIDE)
CENTER = torch.tensor([0.01, -0.03, 0.02])
R0 = torch.from_numpy(Rotation.from_euler("ZYX", [0.4, -1.1, 2.0]).as_matrix()).float()
T0 = ESTIMATE[0] + torch.tensor([0.004, -0.003, 0.005])


def rotation_vectors(rotations, reference):
    """Rotation vectors in fixed camera axes from a reference, [N, 3]."""
    relative = rotations.double().numpy() @ reference.double().numpy().T
    return torch.from_numpy(Rotation.from_matrix(relative).as_rotvec())


def finest_rotations(depth=DEPTH):
    return so3_grid.rotations(torch.arange(so3_grid.cell_count(depth - 1)), depth - 1)


def gaussian_rotations(sigma, reference=R0):
    """Density about a rotation, sigma [3] in degrees about the camera's axes, at cells' centres."""
    vector = rotation_vectors(finest_rotations(), reference)
    return (-(vector / torch.tensor(sigma).deg2rad()).square().sum(-1) / 2).exp()


def gaussian_positions(sigma, mean=T0, depth=DEPTH):
    """Density about a translation, sigma in metres, at the centres of the cube's cells."""
    axis = torch.arange(2**depth)
    index = torch.cartesian_prod(axis, axis, axis)[None]
    offset = CUBE.positions(index, depth)[0] - mean
    density = (-(offset / torch.tensor(sigma)).square().sum(-1) / 2).exp()
    return density.view((2**depth,) * 3)


def ring_rotations(axis, sigma=0.1):
    """It is known where an object axis points and nothing of the turn about it."""
    axis = torch.tensor(axis)
    cos = (finest_rotations() @ axis) @ (R0 @ axis)
    return (-(cos.clamp(-1, 1).acos() / sigma).square() / 2).exp()


@pytest.fixture(scope="module")
def product(product_scorer):
    """Searches a product of densities at the finest cells of the cube for all but 0.2 %."""

    def run(rotations, positions, **options):
        scorer = product_scorer(CUBE, rotations, positions)
        pyramid = search(scorer, CUBE, DEPTH, beam=20_000, mass_tolerance=0.002)
        return pyramid.distribution(0, **({"diameter": SIDE} | options))

    return run


@pytest.fixture(scope="module")
def narrow(product):
    """Anisotropic, in camera axes: 6, 8, 12 degrees and 4, 5, 6 mm."""
    rotations = gaussian_rotations([6.0, 8.0, 12.0])
    return product(rotations, gaussian_positions([0.004, 0.005, 0.006]))


@pytest.fixture(scope="module")
def isotropic(product):
    return product(gaussian_rotations([8.0] * 3), gaussian_positions([0.005] * 3))


@pytest.fixture(scope="module")
def tetrahedral(product):
    """Twelve equal modes."""
    group = torch.from_numpy(Rotation.create_group("T").as_matrix()).float()
    rotations = sum(gaussian_rotations([6.0] * 3, reference) for reference in R0 @ group)
    return product(rotations, gaussian_positions([0.003] * 3)), R0 @ group


@pytest.fixture
def rough(rough_scorer):
    """Leaves at three levels, in a sheared box, of an object whose centre is not its origin."""
    return search(rough_scorer(2.0), VIEW, depth=3, beam=30).distribution(0, CENTER, SIDE)


def uniform_poses(box, center, n, generator):
    """Uniform object poses over SO(3) x box."""
    rotation = so3.random_rotations(n, generator)
    position = box.from_coordinates(torch.rand((1, n, 3), generator=generator))[0]
    return rotation, position - rotation @ center


def isotropic_moment(sigma, power):
    """E[angle^power] of the density exp(-angle^2 / 2 sigma^2) with respect to Haar measure."""
    weight = lambda a: math.sin(a / 2) ** 2 * math.exp(-(a**2) / (2 * sigma**2))  # noqa: E731
    return quad(lambda a: a**power * weight(a), 0, np.pi)[0] / quad(weight, 0, np.pi)[0]


# --- density and samples ---


def test_leaves_are_sorted_and_consistent(rough):
    p = rough.probabilities
    assert len(rough) == len(p) == len(rough.levels) == len(rough.log_densities)
    assert bool((p.diff() <= 0).all())
    assert float(p.double().sum()) == pytest.approx(1, abs=1e-5)
    assert sorted(rough.levels.unique().tolist()) == [0, 1, 2]
    for level in range(3):
        at = rough.levels == level
        volume = se3_grid.log_volume(VIEW, level)
        np.testing.assert_allclose(
            rough.log_densities[at], rough.log_probabilities[at].double() - volume, atol=1e-5
        )
    np.testing.assert_allclose(
        rough.log_density(rough.rotations, rough.translations), rough.log_densities, atol=1e-9
    )


def test_density_integrates_to_one(rough, generator):
    """Monte Carlo over all of SO(3) x box: the leaves neither overlap nor leave gaps."""
    n = 200_000
    density = rough.log_density(*uniform_poses(VIEW, CENTER, n, generator)).exp()
    integral = density * float(VIEW.volume) * math.pi**2
    error = float(integral.std()) / math.sqrt(n)
    assert error < 0.02
    assert float(integral.mean()) == pytest.approx(1, abs=4 * error)


def test_outside_the_box_the_density_is_zero(rough, generator):
    rotation, translation = rough.sample(200, generator)
    assert bool(rough.log_density(rotation, translation).isfinite().all())
    beyond = VIEW.basis[0] @ torch.tensor([1.01, 0.0, 0.0])
    for offset in (beyond, -beyond, torch.tensor([0.0, 0.0, -5.0]), torch.tensor([9.0, 9, 9])):
        outside = rough.log_density(rotation, translation + offset)
        assert bool((outside == -torch.inf).all())


def test_samples_follow_the_masses(rough, generator):
    """Chi-square over all leaves that expect five samples or more, the others pooled."""
    n = 100_000
    density = rough.log_density(*rough.sample(n, generator))
    assert float(density.isfinite().double().mean()) > 1 - 1e-4
    # Random masses: a leaf is known by its density, bar rare ties.
    known, leaf_of = rough.log_densities.unique(return_inverse=True)
    expected = torch.zeros(len(known)).double().index_add(0, leaf_of, rough.probabilities.double())
    finite = density[density.isfinite()]
    counts = torch.bincount(torch.searchsorted(known, finite), minlength=len(known)).double()
    expected *= counts.sum()
    many = expected >= 5
    counts = torch.cat((counts[many], counts[~many].sum().view(1)))
    expected = torch.cat((expected[many], expected[~many].sum().view(1)))
    assert len(counts) > 500
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert chi2.sf(statistic, len(counts) - 1) > 1e-3


def test_samples_are_uniform_within_leaves(rough, generator):
    """E over samples of 1 / density is the volume of the support, here everything."""
    n = 200_000
    rotation, translation = rough.sample(n, generator)
    log_density = rough.log_density(rotation, translation)
    inverse = (-log_density).exp()
    volume = inverse / (float(VIEW.volume) * math.pi**2)
    error = float(volume.std()) / math.sqrt(n)
    assert error < 0.02
    assert float(volume.mean()) == pytest.approx(1, abs=4 * error)
    # And finer: base cells that stayed leaves are evenly filled in depth and tilt.
    at_base = torch.isin(log_density, rough.log_densities[rough.levels == 0])
    position = (translation + rotation @ CENTER)[at_base]
    half = VIEW.coordinates(position[None])[0] * 2 % 1
    for axis in range(3):
        counts = torch.histc(half[:, axis], 16, 0, 1).numpy()
        expected = counts.sum() / 16
        assert chi2.sf(((counts - expected) ** 2 / expected).sum(), 15) > 1e-3


def test_entropy_is_the_mean_of_minus_log_density(rough, generator):
    log_density = rough.log_density(*rough.sample(50_000, generator))
    error = float(log_density.std()) / math.sqrt(50_000)
    assert rough.entropy() == pytest.approx(-float(log_density.mean()), abs=4 * error)


def test_the_uniform_distribution():
    found = search(lambda level, R, t: torch.zeros(R.shape[:2]), VIEW, 1).distribution(0)
    volume = math.pi**2 * float(VIEW.volume)
    assert len(found) == 576 and found.unexpanded_mass == 0
    assert found.entropy() == pytest.approx(math.log(volume), abs=1e-5)
    assert found.effective_sample_size() == pytest.approx(576, rel=1e-4)
    np.testing.assert_allclose(found.log_densities, -math.log(volume), atol=1e-5)
    # The mean angle between a fixed and a uniform rotation, here to the cells' centres.
    assert found.rotation_spread(R0[None]) == pytest.approx(math.pi / 2 + 2 / math.pi, rel=0.02)
    region = found.credible_region(0.5)
    assert region.volume == pytest.approx(volume / 2, rel=5e-3)


# --- frames ---


def test_the_object_frame_hides_the_bounding_sphere(rough_scorer, generator):
    """The same pyramid seen with and without an offset between origin and sphere centre."""
    pyramid = search(rough_scorer(), VIEW, depth=2, beam=40)
    sphere, moved = pyramid.distribution(0), pyramid.distribution(0, CENTER)
    torch.testing.assert_close(moved.rotations, sphere.rotations)
    torch.testing.assert_close(
        moved.translations + moved.rotations @ CENTER, sphere.translations, atol=1e-6, rtol=0
    )
    rotation, position = uniform_poses(VIEW, torch.zeros(3), 2000, generator)
    got = moved.log_density(rotation, position - rotation @ CENTER)
    assert float((got == sphere.log_density(rotation, position)).double().mean()) > 0.999
    seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
    R, t = moved.sample(100, seeds[0])
    R_sphere, t_sphere = sphere.sample(100, seeds[1])
    torch.testing.assert_close(R, R_sphere)
    torch.testing.assert_close(t + R @ CENTER, t_sphere, atol=1e-6, rtol=0)
    assert moved.entropy() == sphere.entropy()


# --- moments ---


def test_moments_of_a_gaussian(narrow):
    assert narrow.unexpanded_mass <= 0.002
    R, t = narrow.mean()
    assert math.degrees(float(so3.geodesic_angle(R, R0))) < 0.3
    torch.testing.assert_close(t, T0, atol=1e-4, rtol=0)
    covariance = narrow.covariance().double()
    torch.testing.assert_close(covariance, covariance.T)
    deviation = covariance.diagonal().sqrt()
    cell = np.array([SIDE / 16 * 1e3, 7.4]) / math.sqrt(12)  # mm and degrees of a uniform cell
    np.testing.assert_allclose(deviation[:3] * 1e3, np.hypot([4, 5, 6], cell[0]), rtol=0.03)
    np.testing.assert_allclose(deviation[3:].rad2deg(), np.hypot([6, 8, 12], cell[1]), rtol=0.03)
    correlation = covariance / torch.outer(deviation, deviation)
    assert float((correlation - torch.eye(6)).abs().max()) < 0.03


def test_covariance_matches_samples(narrow, generator):
    """Rotation vectors in the camera's axes, about the mean; both include the cells' extent."""
    R, t = narrow.sample(20_000, generator)
    R_mean, t_mean = narrow.mean()
    delta = torch.cat((t - t_mean, rotation_vectors(R, R_mean).float()), 1)
    np.testing.assert_allclose(
        torch.cov(delta.T).diagonal(), narrow.covariance().diagonal(), rtol=0.06
    )


def test_a_single_leaf_has_its_own_extent(generator):
    """All mass in one cell, far from the object's origin: the moments of uniform samples in it."""
    center = torch.tensor([0.3, -0.2, 0.1])

    def scorer(level, rotations, translations):
        logits = torch.full(rotations.shape[:2], -60.0)
        logits[:, 7] = 0
        return logits

    for depth in (2, 4):
        leaf = search(scorer, VIEW, depth, beam=8).distribution(0, center)
        R, t = leaf.sample(40_000, generator)
        R_mean, t_mean = leaf.mean()
        delta = torch.cat((t - t_mean, rotation_vectors(R, R_mean).float()), 1)
        measured, stated = torch.cov(delta.T), leaf.covariance()
        scale = measured.diagonal().sqrt()
        difference = (stated - measured) / torch.outer(scale, scale)
        assert float(difference.abs().max()) < 0.35  # cells are not quite isotropic
        assert float(torch.linalg.eigvalsh(stated.double()).min()) > 0


def test_entropy_of_a_gaussian(isotropic):
    """The rotation's share by quadrature over the angle; volume element 2 pi sin^2(angle / 2)."""
    sigma = math.radians(8)
    weight = lambda a: 2 * np.pi * math.sin(a / 2) ** 2 * math.exp(-(a**2) / (2 * sigma**2))  # noqa: E731
    log_z = math.log(quad(weight, 0, np.pi)[0])
    rotation = log_z + isotropic_moment(sigma, 2) / (2 * sigma**2)
    translation = 1.5 * math.log(2 * math.pi * math.e * 0.005**2)
    assert isotropic.entropy() == pytest.approx(rotation + translation, abs=0.05)
    centre = isotropic.rotations[:1], isotropic.translations[:1]
    peak = -log_z - 1.5 * math.log(2 * math.pi * 0.005**2)
    offset = rotation_vectors(centre[0], R0) / sigma, (centre[1] - T0) / 0.005
    exact = peak - sum(float(v.square().sum()) / 2 for v in offset)
    assert float(isotropic.log_density(*centre)) == pytest.approx(exact, abs=0.02)


def test_rotation_spread_of_a_gaussian(isotropic, tetrahedral):
    expected = isotropic_moment(math.radians(8), 1)
    assert isotropic.rotation_spread(R0[None]) == pytest.approx(expected, rel=0.02)
    # About the mode, a cell's centre a few degrees off, it is a little more.
    assert expected * 0.98 < isotropic.rotation_spread() < expected * 1.2
    distribution, references = tetrahedral
    expected = isotropic_moment(math.radians(6), 1)
    assert distribution.rotation_spread(references) == pytest.approx(expected, rel=0.03)
    assert distribution.rotation_spread(references[:1]) > 1.5


def test_the_densest_leaf_is_not_the_heaviest():
    """A base cell of 39 % beside one of 60 % that is split, a fifth of it into one child."""

    def scorer(level, rotations, translations):
        if level == 0:
            share = torch.full((1, 576), 0.01 / 574)
            share[0, 10], share[0, 200] = 0.6, 0.39
            return share.log()
        share = torch.full((1, 64), 0.8 / 63)
        share[0, 17] = 0.2
        return share.log()

    found = search(scorer, VIEW, 2, beam=1).distribution(0)
    assert found.levels[:2].tolist() == [0, 1]
    np.testing.assert_allclose(found.probabilities[:2], [0.39, 0.12], rtol=1e-4)
    R, t = found.densest()
    torch.testing.assert_close(R, found.rotations[1])
    torch.testing.assert_close(t, found.translations[1])
    cell = se3_grid.containing(R[None, None], t[None, None], VIEW, 1)
    assert (
        cell.keys().item()
        == se3_grid.all_cells(VIEW).take(torch.tensor([[10]])).children().keys()[0, 17]
    )


def test_the_mode_is_the_leading_mode_not_the_densest_leaf(product):
    """A narrow peak of a third of the mass beside a broad one of two thirds."""
    far = torch.from_numpy(Rotation.from_rotvec([2.5, 0, 0]).as_matrix()).float() @ R0
    narrow, broad = gaussian_rotations([3.0] * 3, far), gaussian_rotations([9.0] * 3)
    rotations = narrow / narrow.sum() + 2 * broad / broad.sum()
    found = product(rotations, gaussian_positions([0.004] * 3))
    leading, *others = found.modes()
    R, t = found.mode()
    assert torch.equal(R, leading.rotation) and torch.equal(t, leading.translation)
    assert float(so3.geodesic_angle(R, R0)) < math.radians(2)
    assert float(so3.geodesic_angle(found.densest()[0], far)) < math.radians(10)
    assert 0.5 < leading.mass < 0.7 and others


def test_clusters_are_computed_once(rough, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return find(*arguments)

    find = distribution_module.modes
    monkeypatch.setattr(distribution_module, "modes", counted)
    first = rough.modes()
    rough.mode()
    rough.modes().clear()  # a list of one's own
    assert len(calls) == 1 and all(a is b for a, b in zip(rough.modes(), first, strict=True))
    rough.modes(rotation_radius=0.1)
    assert len(calls) == 2


def test_a_diffuse_distribution_has_no_modes_but_still_an_answer():
    flat = lambda level, rotations, translations: torch.zeros(translations.shape[:2])  # noqa: E731
    uniform = search(flat, VIEW, 2).distribution(0, CENTER, SIDE)
    assert uniform.modes() == []
    for mode, densest in zip(uniform.mode(), uniform.densest(), strict=True):
        assert torch.equal(mode, densest)


def test_top(rough):
    top = rough.top(10)
    torch.testing.assert_close(top.probabilities, rough.probabilities[:10])
    torch.testing.assert_close(top.rotations, rough.rotations[:10])
    torch.testing.assert_close(top.translations, rough.translations[:10])
    assert top.truncated_mass == pytest.approx(1 - float(top.probabilities.sum()), abs=1e-5)
    everything = rough.top(10**9)
    assert len(everything.probabilities) == len(rough)
    assert everything.truncated_mass == pytest.approx(0, abs=1e-5)


# --- modes ---


def test_one_mode_of_a_gaussian(isotropic):
    wide = isotropic.modes(rotation_radius=1.0, translation_radius=0.05)
    assert len(wide) == 1 and wide[0].mass > 0.99
    assert math.degrees(float(so3.geodesic_angle(wide[0].rotation, R0))) < 0.3
    torch.testing.assert_close(wide[0].translation, T0, atol=1e-4, rtol=0)
    torch.testing.assert_close(wide[0].covariance, isotropic.covariance(), rtol=0.05, atol=1e-4)


def test_twelve_equal_modes(tetrahedral):
    distribution, references = tetrahedral
    modes = distribution.modes(max_modes=20)
    assert len(modes) == 12
    found = set()
    for mode in modes:
        assert mode.mass == pytest.approx(1 / 12, rel=0.03)
        angle = so3.geodesic_angle(references, mode.rotation)
        found.add(int(angle.argmin()))
        assert math.degrees(float(angle.min())) < 0.5
        torch.testing.assert_close(mode.translation, T0, atol=2e-4, rtol=0)
        moment = float(mode.covariance[3:, 3:].trace())
        within = 3 * math.radians(7.4) ** 2 / 12
        assert moment == pytest.approx(isotropic_moment(math.radians(6), 2) + within, rel=0.1)
    assert len(found) == 12
    masses = [mode.mass for mode in modes]
    assert masses == sorted(masses, reverse=True)
    assert len(distribution.modes(max_modes=5)) == 5
    assert distribution.modes(min_mass=0.1) == []


def test_modes_without_a_least_mass_have_mass(tetrahedral):
    found = tetrahedral[0].modes(min_mass=0.0, max_modes=100)
    assert all(mode.mass > 0 for mode in found)
    assert sum(mode.mass for mode in found) <= 1 + 1e-5


def test_modes_of_no_radius_are_single_leaves(tetrahedral):
    distribution, _ = tetrahedral
    found = distribution.modes(rotation_radius=0.0, translation_radius=0.0, min_mass=1e-9)
    assert len(found) == 8
    masses = distribution.probabilities
    assert all((masses - mode.mass).abs().min() < 1e-9 for mode in found)


def test_modes_apart_in_translation(product):
    """Two places 40 mm apart: one mode each within a quarter of the diameter."""
    left, right = T0 - torch.tensor([0.02, 0, 0]), T0 + torch.tensor([0.02, 0, 0])
    positions = 2 * gaussian_positions([0.003] * 3, left) + gaussian_positions([0.003] * 3, right)
    found = product(gaussian_rotations([5.0] * 3), positions)
    first, second = found.modes()
    assert (first.mass, second.mass) == pytest.approx((2 / 3, 1 / 3), abs=0.01)
    torch.testing.assert_close(first.translation, left, atol=2e-4, rtol=0)
    torch.testing.assert_close(second.translation, right, atol=2e-4, rtol=0)
    assert len(found.modes(translation_radius=0.1)) == 1
    found.diameter = None  # then nothing separates places
    assert len(found.modes()) == 1


def test_a_ring_has_several_modes_around_its_axis(product):
    found = product(ring_rotations([0.0, 0, 1]), gaussian_positions([0.003] * 3))
    modes = found.modes(max_modes=30)
    assert len(modes) >= 6
    turns = []
    for mode in modes:
        assert float(mode.rotation[:, 2] @ R0[:, 2]) > math.cos(0.2)
        relative = R0.T @ mode.rotation
        turns.append(float(torch.atan2(relative[1, 0], relative[0, 0])))
    gaps = np.diff(sorted(turns), append=min(turns) + 2 * math.pi)
    assert gaps.max() < 1.5  # they go all the way round


# --- regions ---


@pytest.mark.parametrize("mass", [0.1, 0.5, 0.9, 0.99])
def test_credible_regions(rough, mass, generator):
    region = rough.credible_region(mass)
    p = rough.probabilities.double()
    assert float(p[region.mask].sum()) == pytest.approx(region.mass, abs=1e-9)
    assert mass <= region.mass < mass + float(p.max()) + 1e-9
    inside, outside = rough.log_densities[region.mask], rough.log_densities[~region.mask]
    assert float(inside.min()) == region.log_density_threshold
    assert float(outside.max()) <= region.log_density_threshold
    volumes = torch.stack([se3_grid.log_volume(VIEW, r)[0] for r in range(3)]).exp()
    assert region.volume == pytest.approx(float(volumes[rough.levels[region.mask]].sum()), rel=1e-6)
    # Coverage: truths drawn from the distribution are inside that often.
    n = 20_000
    covered = rough.log_density(*rough.sample(n, generator)) >= region.log_density_threshold
    error = math.sqrt(region.mass * (1 - region.mass) / n)
    assert float(covered.double().mean()) == pytest.approx(region.mass, abs=4 * error)


def test_a_region_of_all_mass_is_everything(rough):
    assert bool(rough.credible_region(1.0).mask.sum() >= len(rough) - 5)


@pytest.mark.parametrize("mass", [0.0, -0.5, 1.1, math.nan])
def test_a_region_of_impossible_mass_is_refused(rough, mass):
    with pytest.raises(ValueError, match=r"must be in \(0, 1\]"):
        rough.credible_region(mass)


# --- entropy about an axis ---


@pytest.mark.parametrize("axis", [[0.0, 0, 1], [1.0, 0, 0], [0.0, 0.6, -0.8]])
def test_entropy_about_the_axis_of_a_ring(product, axis):
    found = product(ring_rotations(axis), gaussian_positions([0.003] * 3))
    entropy = found.entropy_about_axis(torch.tensor(axis))
    assert entropy == pytest.approx(math.log(2 * math.pi), abs=0.03)


@pytest.mark.parametrize("sigma", [0.2, 0.5])
def test_entropy_about_an_axis_of_known_width(product, sigma):
    """A Gaussian turn about object z, whose direction is well known."""
    vector = rotation_vectors(R0.mT @ finest_rotations(), torch.eye(3))  # in object axes
    rotations = (-(vector / torch.tensor([0.08, 0.08, sigma])).square().sum(-1) / 2).exp()
    found = product(rotations, gaussian_positions([0.003] * 3))
    expected = 0.5 * math.log(2 * math.pi * math.e * sigma**2)
    assert found.entropy_about_axis(torch.tensor([0.0, 0, 1])) == pytest.approx(expected, abs=0.08)


def test_entropy_about_an_axis_is_small_for_a_sharp_mode(product):
    found = product(
        gaussian_rotations([0.1] * 3, finest_rotations()[123]), gaussian_positions([0.003] * 3)
    )
    z = torch.tensor([0.0, 0, 1])
    entropy = found.entropy_about_axis(z)
    # Uniform over a tilt step of 7.5 degrees, which a direction's spread blurs a little.
    assert entropy == pytest.approx(math.log(math.radians(7.5)), abs=0.4)
    assert entropy == found.entropy_about_axis(z)  # seeded


# --- the rest ---


def test_resolution():
    found = search(lambda level, R, t: torch.zeros(R.shape[:2]), CUBE, 3, beam=1).distribution(0)
    assert found.depth == 3
    assert math.degrees(found.rotation_resolution) == pytest.approx(7.5)
    assert found.translation_resolution == pytest.approx(SIDE / 16)  # half of SIDE / 8


def test_moving_to_a_device_changes_nothing(rough):
    same = rough.to("cpu")
    assert torch.equal(same.log_densities, rough.log_densities)
    assert torch.equal(same.translations, rough.translations)
    assert (same.depth, same.unexpanded_mass, same.diameter) == (3, rough.unexpanded_mass, SIDE)


def test_its_text_is_a_line_that_says_what_is_known(narrow):
    x, y, z = narrow.mode()[1].tolist()
    spread = math.degrees(narrow.rotation_spread())
    masses = ", ".join(f"{mode.mass:.0%}" for mode in narrow.modes())
    found = re.fullmatch(r"(.*) rotations spread (\d+) deg, (.*)", repr(narrow))
    assert found[1] == f"PoseDistribution(modes [{masses}], best at [{x:.3f}, {y:.3f}, {z:.3f}] m,"
    assert float(found[2]) == pytest.approx(spread, abs=1)  # of the leaves that modes are made of
    assert found[3] == f"entropy {narrow.entropy():.1f} nats, {len(narrow)} leaves)"
