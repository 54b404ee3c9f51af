"""The SO(3) grid against healpy, SciPy and table 1.1 of the method."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from spyropose_ros.core import so3, so3_grid

LEVELS = range(9)
ANGLES = st.floats(-math.pi, math.pi)

# level: cells, tilt step, HEALPix spacing, mean and largest quantisation error in degrees, log
# density of a single cell. Levels 7 and 8 continue the measured rows by halving.
TABLE = {
    0: (72, 60, 58.6, 28.6, 55.3, 1.987),
    1: (576, 30, 29.3, 14.4, 32.2, 4.067),
    2: (4_608, 15, 14.7, 7.24, 17.2, 6.146),
    3: (36_864, 7.5, 7.33, 3.63, 8.98, 8.226),
    4: (294_912, 3.75, 3.66, 1.81, 4.45, 10.305),
    5: (2_359_296, 1.875, 1.83, 0.907, 2.21, 12.384),
    6: (18_874_368, 0.9375, 0.916, 0.453, 1.12, 14.464),
    7: (150_994_944, 0.46875, 0.458, 0.2265, 0.56, 16.543),
    8: (1_207_959_552, 0.234375, 0.229, 0.1133, 0.28, 18.623),
}


def scipy_rotations(n, seed=0):
    return torch.from_numpy(Rotation.random(n, random_state=seed).as_matrix())


def random_cells(level, n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 72 * 8**level, n))


def healpix_pixel(index, level):
    """Nested HEALPix pixel of a cell: the base pixel's digit, then every level's base-4 digit."""
    index = np.asarray(index)
    pixel = index // (6 * 8**level)
    for step in range(level - 1, -1, -1):
        pixel = pixel * 4 + index // (8**step * 2) % 4
    return pixel


def tilt_step(index, level):
    """Tilt step of a cell: the base tilt's digit, then every level's binary digit."""
    index = np.asarray(index)
    tilt = index // 8**level % 6
    for step in range(level - 1, -1, -1):
        tilt = tilt * 2 + index // 8**step % 2
    return tilt


def p_value(counts, expected):
    """Of a chi-square test."""
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    return chi2.sf(((counts - expected) ** 2 / expected).sum(), counts.size - 1)


@pytest.fixture(scope="module")
def healpy():
    """Here, because it imports astropy: a second in each process that collects the tests."""
    import healpy

    return healpy


@pytest.mark.parametrize("level", LEVELS)
def test_table_of_the_method(level, healpy):
    cells, tilt, spacing, mean_error, max_error, log_density = TABLE[level]
    assert so3_grid.cell_count(level) == cells
    assert math.degrees(2 * so3_grid.cell_radius(level)) == pytest.approx(tilt)
    assert math.degrees(healpy.nside2resol(2**level)) == pytest.approx(spacing, rel=3e-3)
    assert -math.log(so3_grid.cell_volume(level)) == pytest.approx(log_density, abs=1e-3)

    truth = scipy_rotations(40_000)
    centre = so3_grid.rotations(so3_grid.index(truth, level), level, torch.float64)
    error = so3.geodesic_angle(truth, centre).rad2deg()
    assert float(error.mean()) == pytest.approx(mean_error, rel=0.01)
    # Few rotations come near the farthest corners: the largest of a sample varies by some percent.
    assert 0.9 * max_error < float(error.max()) < 1.05 * max_error


@pytest.mark.parametrize("level", LEVELS)
def test_directions_are_healpix_pixels(level, healpy):
    index = random_cells(level, 20_000)
    direction = so3_grid.rotations(index, level, torch.float64)[..., 2].numpy()
    expected = healpy.pix2vec(2**level, healpix_pixel(index, level), nest=True)
    np.testing.assert_allclose(direction, np.stack(expected, -1), atol=1e-12)

    rotation = scipy_rotations(20_000, seed=level)
    pixel = healpy.vec2pix(2**level, *rotation[..., 2].numpy().T, nest=True)
    np.testing.assert_array_equal(healpix_pixel(so3_grid.index(rotation, level), level), pixel)


@pytest.mark.parametrize("level", LEVELS)
def test_rotations_follow_the_published_construction(level, healpy):
    """Base frame carried to the pixel by the minimal rotation, then half-step tilts about z."""
    index = random_cells(level, 300).numpy()
    direction = np.stack(healpy.pix2vec(2**level, healpix_pixel(index, level), nest=True), -1)
    z = np.stack(healpy.pix2vec(1, index // (6 * 8**level), nest=True), -1)
    x = np.cross(np.ones(3), z)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    base = np.stack((x, np.cross(z, x), z), -1)
    axis = np.cross(z, direction)
    sin = np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.arctan2(sin, (z * direction).sum(1, keepdims=True))
    carry = Rotation.from_rotvec(axis / np.maximum(sin, 1e-300) * angle).as_matrix()
    tilt = (tilt_step(index, level) + 0.5) * 2 * np.pi / (6 * 2**level)
    expected = carry @ base @ Rotation.from_euler("z", tilt[:, None]).as_matrix()
    got = so3_grid.rotations(torch.from_numpy(index), level, torch.float64)
    np.testing.assert_allclose(got, expected, atol=1e-9)
    single = so3_grid.rotations(torch.from_numpy(index), level)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, expected, atol=2e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_centres_lie_in_their_cells(level):
    n = so3_grid.cell_count(level)
    index = torch.arange(n) if level <= 2 else random_cells(level, 20_000)
    for dtype in (torch.float32, torch.float64):
        again = so3_grid.index(so3_grid.rotations(index, level, dtype), level)
        assert torch.equal(again, index)


def test_levels_are_nested():
    rotation = scipy_rotations(10_000, seed=3)
    finest = so3_grid.index(rotation, 8)
    for level in range(8):
        assert torch.equal(so3_grid.index(rotation, level), finest // 8 ** (8 - level))


def test_children_and_parents():
    index = random_cells(7, 500)
    children = so3_grid.children(index)
    assert children.shape == (500, 8)
    assert torch.equal(children, 8 * index[:, None] + torch.arange(8))
    assert torch.equal(so3_grid.parent(children), index[:, None].expand(-1, 8))
    # The geometry says the same: children's centres lie in the parent.
    centres = so3_grid.rotations(children, 8)
    assert torch.equal(so3_grid.index(centres, 7), index[:, None].expand(-1, 8))


@pytest.mark.parametrize("level", range(8))
def test_the_kernel_computes_the_rotations_of_children(level, generator):
    cells = torch.randint(so3_grid.cell_count(level), (2, 3, 400), generator=generator)
    found = so3_grid.child_rotations(cells, level)
    expected = so3_grid.rotations(so3_grid.children(cells), level + 1)
    assert found.shape == (2, 3, 400, 8, 3, 3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [0, 1])
def test_cells_have_equal_volume(level):
    n = so3_grid.cell_count(level)
    counts = torch.bincount(so3_grid.index(scipy_rotations(200_000, seed=1), level), minlength=n)
    assert p_value(counts, np.full(n, 200_000 / n)) > 1e-3
    assert so3_grid.cell_volume(level) * n == pytest.approx(math.pi**2)


def test_random_rotations_are_uniform(generator):
    rotation = so3.random_rotations(100_000, generator)
    np.testing.assert_allclose(
        rotation @ rotation.mT, np.eye(3)[None].repeat(100_000, 0), atol=3e-6
    )
    assert bool((torch.linalg.det(rotation) > 0).all())
    counts = torch.bincount(so3_grid.index(rotation, 1), minlength=576)
    assert p_value(counts, np.full(576, 100_000 / 576)) > 1e-3


@pytest.mark.parametrize(("level", "cell"), [(0, 0), (0, 31), (0, 71), (1, 300), (3, 20_001)])
def test_sampling_in_a_cell_is_uniform(level, cell, generator):
    """Over its 512 descendants three levels deeper, which have equal volumes."""
    n = 100_000
    rotation = so3_grid.sample_in_cells(torch.full((n,), cell), level, generator)
    fine = so3_grid.index(rotation, level + 3)
    # float32 matrices may cross a cell's border by a rounding.
    inside = fine // 512 == cell
    assert float(inside.float().mean()) > 1 - 1e-4
    counts = torch.bincount(fine[inside] - 512 * cell, minlength=512)
    assert p_value(counts, np.full(512, counts.sum() / 512)) > 1e-3


@pytest.mark.parametrize("level", LEVELS)
def test_sampling_stays_in_its_cells(level, generator):
    index = random_cells(level, 5_000)
    again = so3_grid.index(so3_grid.sample_in_cells(index, level, generator), level)
    # At level 8 a cell is 4e-3 rad wide and float32 is good to 1e-7.
    assert float((again != index).float().mean()) < 1e-3


def check_quantisation(rotation, level):
    """rotation -> cell -> centre is within the largest error, and the centre is in the cell."""
    index = so3_grid.index(rotation, level)
    assert bool(((index >= 0) & (index < so3_grid.cell_count(level))).all())
    centre = so3_grid.rotations(index, level, torch.float64)
    error = so3.geodesic_angle(rotation.double(), centre).rad2deg()
    assert float(error.max()) < 1.05 * TABLE[level][4]
    assert torch.equal(so3_grid.index(centre, level), index)


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 1e-6))
def test_any_quaternion(quaternion):
    rotation = torch.from_numpy(Rotation.from_quat(quaternion).as_matrix())
    for level in (0, 4, 8):
        check_quantisation(rotation, level)
        check_quantisation(rotation.float(), level)


@given(ANGLES, st.sampled_from([0.0, 1e-12, 1e-7, 1e-3]), ANGLES)
def test_near_the_poles(azimuth, colatitude, tilt):
    for pole in (0.0, math.pi):
        rotation = Rotation.from_euler("ZYZ", [azimuth, pole + colatitude, tilt]).as_matrix()
        for level in (0, 3, 8):
            check_quantisation(torch.from_numpy(rotation), level)


@given(ANGLES, st.floats(-1e-9, 1e-9), ANGLES)
def test_near_the_border_between_belt_and_caps(azimuth, offset, tilt):
    colatitude = math.acos(2 / 3) + offset
    for c in (colatitude, math.pi - colatitude):
        rotation = Rotation.from_euler("ZYZ", [azimuth, c, tilt]).as_matrix()
        for level in (0, 3, 8):
            check_quantisation(torch.from_numpy(rotation), level)


@pytest.mark.parametrize("level", LEVELS)
def test_special_rotations(level):
    """Identity, half turns and all axis-aligned rotations: directions on the pixels' borders."""
    octahedral = torch.from_numpy(Rotation.create_group("O").as_matrix())
    axes = np.array([[1, 1, 0], [1, 0, 1], [0, 1, -1], [1, 1, 1], [3, -2, 1]], float)
    axes *= np.pi / np.linalg.norm(axes, axis=1, keepdims=True)
    half_turns = torch.from_numpy(Rotation.from_rotvec(axes).as_matrix())
    check_quantisation(torch.cat((octahedral, octahedral.round(), half_turns)), level)


def test_batch_shapes(generator):
    index = random_cells(2, 24).reshape(2, 3, 4)
    rotation = so3_grid.rotations(index, 2)
    assert rotation.shape == (2, 3, 4, 3, 3)
    assert so3_grid.index(rotation, 2).shape == (2, 3, 4)
    assert so3_grid.sample_in_cells(index, 2, generator).shape == (2, 3, 4, 3, 3)
    assert so3_grid.children(index).shape == (2, 3, 4, 8)
