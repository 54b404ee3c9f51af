"""The product grid: families, keys, volumes and the bounds of table 1.5."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spyropose_ros.core import se3_grid, so3, so3_grid
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox


@pytest.fixture
def box():
    estimates = torch.tensor([[0.1, 0.0, 0.7], [0.0, -0.2, 0.5]])
    return TranslationBox.from_view(estimates, 0.1)


def random_cells(level, n, batch=1, seed=0):
    rng = np.random.default_rng(seed)
    rotation = rng.integers(0, so3_grid.cell_count(level), (batch, n))
    position = rng.integers(0, 2 ** (level + 1), (batch, n, 3))
    return Cells(level, torch.from_numpy(rotation), torch.from_numpy(position))


def test_base_level(box):
    cells = se3_grid.all_cells(box)
    assert cells.rotation_index.shape == (2, 576) and cells.position_index.shape == (2, 576, 3)
    assert torch.equal(cells.keys()[0].unique(), torch.arange(576))
    enlarged = se3_grid.all_cells(box[0], positions_per_axis=3)
    poses = torch.cat((enlarged.rotation_index[..., None], enlarged.position_index), -1)[0]
    assert len(poses.unique(dim=0)) == len(poses) == 1944
    assert poses[:, 1:].min() == 0 and poses[:, 1:].max() == 2


def test_children_are_all_the_parts_of_their_parent(box):
    cells = random_cells(2, 10, batch=2)
    children = cells.children()
    assert children.level == 3 and children.rotation_index.shape == (2, 640)
    families = children.keys().reshape(2, 10, 64)
    assert all(len(family.unique()) == 64 for family in families.flatten(0, 1))
    rotation = so3_grid.parent(children.rotation_index)
    assert torch.equal(rotation, cells.rotation_index.repeat_interleave(64, 1))
    position = children.position_index // 2
    assert torch.equal(position, cells.position_index.repeat_interleave(64, 1))
    # Rotation children outer, octants inner.
    assert torch.equal(children.rotation_index[0, :8].unique(), children.rotation_index[0, :1])
    # And so says the geometry.
    back = se3_grid.containing(*children.poses(box), box, 2)
    assert torch.equal(back.keys(), cells.keys().repeat_interleave(64, 1))


@pytest.mark.parametrize("level", range(9))
def test_poses_of_cells_lie_in_their_cells(box, level):
    cells = random_cells(level, 300, batch=2, seed=level)
    again = se3_grid.containing(*cells.poses(box), box, level)
    assert torch.equal(again.rotation_index, cells.rotation_index)
    assert torch.equal(again.position_index, cells.position_index)
    samples = se3_grid.containing(*cells.sample(box), box, level)
    assert float((samples.keys() != cells.keys()).float().mean()) < 0.01  # float32 at the faces


@pytest.mark.parametrize("level", range(9))
def test_keys_are_unique_and_fit_int64(level):
    """Every digit of the cell can be read back from its key, at the extremes too."""
    cells = random_cells(level, 1000, seed=level)
    last = torch.tensor([[so3_grid.cell_count(level) - 1]])
    corner = torch.full((1, 1, 3), 2 ** (level + 1) - 1)
    cells = Cells(
        level,
        torch.cat((cells.rotation_index, last), 1),
        torch.cat((cells.position_index, corner), 1),
    )
    keys = cells.keys()
    side = 2 ** (level + 1)
    assert bool((keys >= 0).all())
    assert int(keys[0, -1]) == so3_grid.cell_count(level) * side**3 - 1 < 2**63
    digits = torch.stack((keys // side**2 % side, keys // side % side, keys % side), -1)
    assert torch.equal(digits, cells.position_index)
    assert torch.equal(keys // side**3, cells.rotation_index)


def test_ancestors_undo_children(box):
    cells = se3_grid.all_cells(box)
    finest = cells.children().children()
    base = finest.ancestors(0)
    assert base.level == 0
    assert torch.equal(base.keys(), cells.keys().repeat_interleave(64 * 64, 1))
    assert torch.equal(finest.ancestors(2).keys(), finest.keys())


def test_take(box):
    cells = random_cells(1, 20, batch=2)
    index = torch.tensor([[3, 0], [19, 19]])
    taken = cells.take(index)
    assert torch.equal(taken.keys(), cells.keys().gather(1, index))


def test_bounds_of_the_method():
    """Table 1.5: d = 0.1 m, z = 0.7 m, level 6."""
    center = torch.tensor([[0.0, 0.0, 0.7]])
    frustum = TranslationBox.from_view(center, 0.1)
    assert float(se3_grid.uniform_log_density(frustum)) == pytest.approx(2.67, abs=0.005)
    assert -float(se3_grid.log_volume(frustum, 6)) == pytest.approx(33.98, abs=0.005)
    cube = TranslationBox.cubic(center, 0.1)
    assert float(se3_grid.uniform_log_density(cube)) == pytest.approx(4.62, abs=0.005)
    assert -float(se3_grid.log_volume(cube, 6)) == pytest.approx(35.93, abs=0.005)
    gain = -se3_grid.log_volume(cube, 6) - se3_grid.uniform_log_density(cube)
    assert float(gain) == pytest.approx(31.309, abs=1e-3)


@pytest.mark.parametrize("level", range(9))
def test_cells_fill_the_space(box, level):
    cells = 576 * 64**level
    total = se3_grid.log_volume(box, level) + math.log(cells)
    np.testing.assert_allclose(total, -se3_grid.uniform_log_density(box), atol=1e-9)
    product = so3_grid.cell_volume(level) * box.volume.double() / 8 ** (level + 1)
    np.testing.assert_allclose(se3_grid.log_volume(box, level), product.log(), atol=1e-6)


@given(
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 1e-3),
    st.tuples(*[st.floats(0, 0.99)] * 3),
    st.integers(0, 8),
)
def test_any_pose_is_within_half_a_cell_of_its_centre(quaternion, g, level):
    box = TranslationBox.from_view(torch.tensor([[0.1, 0.0, 0.7]]), 0.1)
    rotation = torch.from_numpy(Rotation.from_quat(quaternion).as_matrix()).float().view(1, 1, 3, 3)
    position = box.from_coordinates(torch.tensor(g).view(1, 1, 3))
    cell = se3_grid.containing(rotation, position, box, level)
    R, t = cell.poses(box)
    assert float(so3.geodesic_angle(R, rotation)) < math.radians(74) / 2**level
    offset = box.coordinates(t) - box.coordinates(position)
    assert float(offset.abs().max()) <= 0.5 / 2 ** (level + 1) + 1e-5


def test_all_cells_of_a_level_have_consecutive_keys(box):
    for level in (0, 1):
        keys = se3_grid.all_cells(box, level).keys()
        assert torch.equal(keys[1], torch.arange(576 * 64**level))


def test_a_known_translation_leaves_the_grid_on_so3():
    center = torch.tensor([[0.1, 0.0, 0.7], [0.0, -0.2, 0.5]])
    known = TranslationBox.known(center)
    cells = se3_grid.all_cells(known)
    assert cells.branching == 8 and torch.equal(cells.keys()[1], torch.arange(72))
    children = cells.take(torch.tensor([[3, 71], [0, 5]])).children()
    assert torch.equal(
        children.keys(), so3_grid.children(torch.tensor([[3, 71], [0, 5]])).flatten(1)
    )
    R, t = children.poses(known)
    torch.testing.assert_close(R, so3_grid.rotations(children.rotation_index, 1))
    assert torch.equal(t, center.unsqueeze(1).expand_as(t))
    inside = se3_grid.containing(R, t, known, 1)
    assert torch.equal(inside.keys(), children.keys())
    for level in range(9):
        # Table 1.1: the log density of a one-cell delta.
        delta = -float(se3_grid.log_volume(known, level)[0])
        assert delta == pytest.approx(1.987 + level * math.log(8), abs=1e-3)
    assert se3_grid.uniform_log_density(known).tolist() == pytest.approx([-2.2895] * 2, abs=1e-4)
