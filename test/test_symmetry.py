"""Groups of rotations, and symmetries in words and in the BOP format."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from training.generate.symmetry import symmetry_of
from training.symmetry import Symmetry, group


def test_words_and_entries_of_what_is_stated():
    mesh = trimesh.creation.box((0.1, 0.06, 0.04))
    assert symmetry_of("z2", mesh).words() == "180 degrees about z"
    assert symmetry_of("z2,x2", mesh).words() == "3 axes of 180 degrees"
    assert symmetry_of("none", mesh).entry() == {}
    nothing = Symmetry(np.zeros(3), np.eye(3)[None], np.zeros((0, 3)))
    assert nothing.words() == "no rotation" and nothing.entry() == {}
    bottle = symmetry_of("continuous_z", trimesh.creation.cylinder(0.02, 0.1))
    assert bottle.words() == "any rotation about z"
    assert bottle.entry()["symmetries_continuous"][0]["axis"] == [0, 0, 1]


def test_measured_rotations_become_an_exact_group():
    rng = np.random.default_rng(0)
    axis = np.array([0, 1, (1 + 5**0.5) / 2])
    five = Rotation.from_rotvec(axis / np.linalg.norm(axis) * 2 * np.pi / 5)
    three = Rotation.from_rotvec(np.ones(3) / 3**0.5 * 2 * np.pi / 3)
    off = [Rotation.from_rotvec(rng.normal(scale=0.004, size=3)) for _ in range(2)]
    generators = [(five * off[0]).as_matrix(), (three * off[1]).as_matrix()]
    made = group.generated(generators, np.array(generators))
    assert made is not None and len(made) == 60
    products = (made[:, None] @ made[None]).reshape(-1, 3, 3)
    assert max(group.angles(made, product).min() for product in products) < 1e-9
    assert [order for _, order in group.axis_orders(made)] == 6 * [5] + 10 * [3] + 15 * [2]


@pytest.mark.parametrize("order", [2, 3, 5, 8, 24, 36])
def test_angles_are_simple_fractions_of_a_turn(order):
    axis = np.array([0.6, 0, 0.8])
    measured = Rotation.from_rotvec(axis * (2 * np.pi / order + 0.002)).as_matrix()
    exact = Rotation.from_rotvec(axis * 2 * np.pi / order).as_matrix()
    np.testing.assert_allclose(group.snapped(measured), exact, atol=1e-9)
