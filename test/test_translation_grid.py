"""The translation box: its geometry in front of the camera and the dyadic grid inside it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from spyropose_ros.core import so3
from spyropose_ros.core.translation_grid import TranslationBox

DIAMETER = 0.1
ESTIMATES = torch.tensor([[0.0, 0.0, 0.7], [0.2, -0.1, 0.5], [-0.3, 0.4, 1.2]])


def views(oriented, seed=0):
    generator = torch.Generator().manual_seed(seed)
    orientation = so3.random_rotations(len(ESTIMATES), generator) if oriented else None
    return TranslationBox.from_view(ESTIMATES, DIAMETER, orientation)


@pytest.mark.parametrize("oriented", [False, True])
def test_volume_of_a_view(oriented):
    box = views(oriented)
    torch.testing.assert_close(box.volume, DIAMETER**2 * ESTIMATES[:, 2])
    assert torch.equal(box.center, ESTIMATES)


def test_extent_of_a_view():
    """From half to one and a half times the depth; the diameter wide in every slice."""
    box = views(oriented=False)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    position = box.from_coordinates(corners.expand(3, -1, -1))  # [3, 8, 3]
    depth = ESTIMATES[:, 2:]
    torch.testing.assert_close(position[..., 2].amin(1, keepdim=True), 0.5 * depth)
    torch.testing.assert_close(position[..., 2].amax(1, keepdim=True), 1.5 * depth)
    for near in (corners[:, 2] == 0, corners[:, 2] == 1):
        face = position[:, near]
        extent = face.amax(1) - face.amin(1)
        torch.testing.assert_close(extent[:, :2], torch.full((3, 2), DIAMETER))
        # The middle of the slice lies on the ray of the estimate.
        ray = ESTIMATES / depth
        torch.testing.assert_close(face.mean(1), ray * face[:, 0, 2:])


def test_an_oriented_view_is_a_turned_cube_stretched_and_sheared():
    """G = shear . stretch . Q d, built here by hand."""
    generator = torch.Generator().manual_seed(0)
    Q = so3.random_rotations(3, generator)
    box = TranslationBox.from_view(ESTIMATES, DIAMETER, Q)
    for (x, y, z), q, basis in zip(ESTIMATES.tolist(), Q.numpy(), box.basis.numpy(), strict=True):
        stretch = np.diag([1, 1, z / DIAMETER])
        shear = np.array([[1, 0, x / z], [0, 1, y / z], [0, 0, 1]])
        np.testing.assert_allclose(basis, shear @ stretch @ q * DIAMETER, atol=1e-6)


def test_cubic():
    generator = torch.Generator().manual_seed(1)
    Q = so3.random_rotations(3, generator)
    box = TranslationBox.cubic(ESTIMATES, 0.2, Q)
    torch.testing.assert_close(box.volume, torch.full((3,), 0.2**3))
    torch.testing.assert_close(box.basis, 0.2 * Q)
    plain = TranslationBox.cubic(ESTIMATES, torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(plain.volume, torch.tensor([0.1, 0.2, 0.3]) ** 3)


@pytest.mark.parametrize("level", range(1, 10))
def test_centres_lie_in_their_cells(level):
    box = views(oriented=True)
    index = torch.randint(2**level, (3, 500, 3), generator=torch.Generator().manual_seed(level))
    centre = box.positions(index, level)
    assert torch.equal(box.index(centre, level), index)
    assert bool(box.contains(centre).all())
    fraction = box.coordinates(centre) * 2**level
    np.testing.assert_allclose(fraction, index + 0.5, atol=2e-3)


def test_levels_are_nested():
    box = views(oriented=True)
    g = torch.rand((3, 2000, 3), generator=torch.Generator().manual_seed(0))
    position = box.from_coordinates(g)
    finest = box.index(position, 9)
    for level in range(9):
        assert torch.equal(box.index(position, level), finest >> (9 - level))


@given(st.tuples(*[st.floats(-0.5, 1.5)] * 3))
def test_inside_and_outside(g):
    """Floor, not truncation: just below the lower face is outside, not in cell 0."""
    box = TranslationBox(ESTIMATES[:1].double(), views(oriented=True).basis[:1].double())
    position = box.from_coordinates(torch.tensor(g, dtype=torch.float64).view(1, 1, 3))
    g = box.coordinates(position)[0, 0]
    index = box.index(position, 3)[0, 0]
    assert torch.equal(index, torch.tensor([np.floor(8 * float(v)) for v in g]).long())
    inside = all(0 <= float(v) < 1 for v in g)
    assert bool(box.contains(position)) == inside
    assert inside == bool(((index >= 0) & (index < 8)).all())


def test_just_below_the_lower_face():
    box = TranslationBox.cubic(torch.zeros(1, 3), 1.0)
    position = torch.tensor([[[-0.5 - 1e-3, 0.0, 0.0]]])
    assert not bool(box.contains(position))
    assert box.index(position, 3)[0, 0].tolist() == [-1, 4, 4]


def test_sampling_in_a_cell_is_uniform(generator):
    box = views(oriented=True)[1]
    index = torch.tensor([1, 2, 3]).expand(1, 50_000, 3)
    position = box.sample_in_cells(index, 2, generator)
    fine = box.index(position, 4)[0]
    inside = (fine >> 2 == index[0]).all(1)  # float32 may round across a face
    assert float(inside.float().mean()) > 1 - 1e-3
    local = fine[inside] - 4 * index[0][inside]
    counts = torch.bincount((local * torch.tensor([16, 4, 1])).sum(1), minlength=64).numpy()
    expected = counts.sum() / 64
    assert chi2.sf(((counts - expected) ** 2 / expected).sum(), 63) > 1e-3


def test_shift_moves_the_grid_by_box_units():
    box = views(oriented=True)
    u = torch.tensor([[0.1, 0.2, 0.3]] * 3)
    g = torch.rand((3, 5, 3), generator=torch.Generator().manual_seed(0))
    moved = box.shifted(u)
    np.testing.assert_allclose(
        moved.coordinates(box.from_coordinates(g)), g + u[:, None], atol=1e-5
    )


def test_a_batch_is_its_elements():
    box = views(oriented=True)
    assert len(box) == 3
    index = torch.randint(4, (3, 7, 3), generator=torch.Generator().manual_seed(0))
    for b in range(3):
        torch.testing.assert_close(
            box[b].positions(index[b : b + 1], 2)[0], box.positions(index, 2)[b]
        )


@pytest.mark.parametrize("z", [0.0, -0.5, float("nan")])
def test_an_estimate_behind_the_camera_is_refused(z):
    with pytest.raises(ValueError, match="in front of the camera"):
        TranslationBox.from_view(torch.tensor([[0.0, 0.0, z]]), 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_estimate_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        TranslationBox.from_view(torch.tensor([[value, 0.0, 0.5]]), 0.1)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"basis \[B, 3, 3\].*\(2, 3\).*\(1, 3, 3\)"):
        TranslationBox(torch.zeros(2, 3), torch.eye(3)[None])
