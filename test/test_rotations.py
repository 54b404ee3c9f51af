"""Rotations: the order x, y, z, w, and the same numbers with and without tf_transformations."""

import importlib.util
import math
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spyropose_ros.ros.pipeline import rotations

HALF_TURNS = Rotation.from_rotvec(math.pi * np.eye(3)).as_matrix()
MATRICES = np.concatenate(
    (Rotation.random(100, random_state=0).as_matrix(), HALF_TURNS, np.eye(3)[None])
)

# The two functions with the arguments and results of tf_transformations, by other formulas
STAND_IN = """
import numpy

def quaternion_matrix(quaternion):
    x, y, z, w = numpy.asarray(quaternion) / numpy.linalg.norm(quaternion)
    cross = numpy.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    result = numpy.identity(4)
    result[:3, :3] += 2 * w * cross + 2 * cross @ cross
    return result

def quaternion_from_matrix(matrix):
    assert matrix.shape == (4, 4)
    r = matrix
    k = numpy.array([
        [r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
        [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
        [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
        [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
    ])
    x, y, z, w = numpy.linalg.eigh(k)[1][:, -1]
    return x, y, z, w
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Imports the module anew where tf_transformations has a given text."""

    def load_with(text):
        (tmp_path / "tf_transformations.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "tf_transformations", raising=False)
        spec = importlib.util.spec_from_file_location("rotations_again", rotations.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load_with
    sys.modules.pop("tf_transformations", None)


def same_rotation(a, b):
    """Half turns have two quaternions with w = 0."""
    return min(np.abs(a - b).max(), np.abs(a + b).max()) < 1e-7


def test_tf_transformations_gives_the_same(load):
    other = load(STAND_IN)
    assert other.tf_transformations is not None
    for matrix in MATRICES:
        quaternion = other.quaternion(matrix)
        assert same_rotation(quaternion, rotations.quaternion(matrix))
        assert quaternion[3] >= 0
        for scale in (1.0, 0.5):
            back = other.matrix(scale * quaternion)
            np.testing.assert_allclose(back, rotations.matrix(scale * quaternion), atol=1e-12)
            np.testing.assert_allclose(back, matrix, atol=1e-7)


def test_a_tf_transformations_that_cannot_be_imported_is_done_without(load):
    broken = load("import numpy\nnumpy.maximum_sctype(numpy.float)")
    assert broken.tf_transformations is None
    np.testing.assert_array_equal(broken.quaternion(np.eye(3)), [0, 0, 0, 1])


def test_single_rotations_are_those_of_a_batch():
    for matrix, quaternion in zip(MATRICES, rotations.quaternions(MATRICES), strict=True):
        np.testing.assert_allclose(rotations.quaternion(matrix), quaternion, atol=1e-12)
        np.testing.assert_allclose(rotations.matrix(quaternion), matrix, atol=1e-12)


def test_quaternion_order_is_x_y_z_w():
    quarter_turn_about_x = [[[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]]
    half = math.sqrt(0.5)
    np.testing.assert_allclose(
        rotations.quaternions(np.array(quarter_turn_about_x)), [[half, 0, 0, half]], atol=1e-12
    )


def test_quaternions_round_trip_with_positive_w():
    quaternions = rotations.quaternions(MATRICES)
    assert (quaternions[:, 3] >= 0).all()
    np.testing.assert_allclose(rotations.matrices(quaternions), MATRICES, atol=1e-12)


def test_no_rotations_convert():
    assert rotations.quaternions(np.zeros((0, 3, 3))).shape == (0, 4)
    assert rotations.matrices(np.zeros((0, 4))).shape == (0, 3, 3)
