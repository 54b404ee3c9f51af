"""Rotations: exp, log, mean, angle and samples, over batch shapes, dtypes, and near 0 and pi."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spyropose_ros.core import so3

SHAPES = [(), (0,), (5,), (2, 3), (4, 1, 2)]
ANGLES = [0.0, 1e-12, 1e-8, 1e-4, 0.1, 1.0, math.pi / 2, 3.0]
NEAR_PI = [math.pi - 1e-4, math.pi - 1e-8, math.pi - 1e-12, math.pi]
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}


def vectors(shape, angle, generator, dtype=torch.float64):
    axis = torch.randn((*shape, 3), generator=generator, dtype=torch.float64)
    return (angle * axis / axis.norm(dim=-1, keepdim=True)).to(dtype)


def scipy_exp(vector):
    flat = vector.double().reshape(-1, 3).numpy()
    matrix = Rotation.from_rotvec(flat).as_matrix() if len(flat) else np.empty((0, 3, 3))
    return torch.from_numpy(matrix).view(*vector.shape, 3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_shapes_and_dtypes(shape, dtype, generator):
    vector = vectors(shape, 1.0, generator, dtype)
    rotation = so3.exp(vector)
    assert rotation.shape == (*shape, 3, 3) and rotation.dtype == dtype
    assert so3.log(rotation).shape == (*shape, 3)
    assert so3.skew(vector).shape == (*shape, 3, 3)
    assert so3.chordal_mean(rotation).shape == (*shape, 3, 3)
    assert so3.geodesic_angle(rotation, rotation.mT).shape == shape


@pytest.mark.parametrize("angle", ANGLES + NEAR_PI)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_exp_agrees_with_scipy(angle, dtype, generator):
    vector = vectors((100,), angle, generator, dtype)
    error = (so3.exp(vector).double() - scipy_exp(vector)).abs().max()
    assert float(error) < TOLERANCE[dtype]


@pytest.mark.parametrize("angle", ANGLES)
def test_log_undoes_exp(angle, generator):
    vector = vectors((100,), angle, generator)
    error = (so3.log(scipy_exp(vector)) - vector).norm(dim=-1).max()
    assert float(error) <= 1e-14 * max(angle, 1e-3)


@pytest.mark.parametrize("angle", NEAR_PI)
def test_log_near_pi_is_one_of_the_two_vectors(angle, generator):
    vector = vectors((100,), angle, generator)
    found = so3.log(scipy_exp(vector))
    assert float(found.norm(dim=-1).max()) <= math.pi + 1e-14
    opposite = -vector * (2 * math.pi - angle) / angle  # the same rotation, the long way round
    error = torch.minimum((found - vector).norm(dim=-1), (found - opposite).norm(dim=-1))
    assert float(error.max()) < 1e-14


@pytest.mark.parametrize("axis", torch.eye(3).tolist() + (-torch.eye(3)).tolist(), ids=str)
def test_log_of_half_turns_about_the_axes(axis):
    axis = torch.tensor(axis, dtype=torch.float64)
    found = so3.log(2 * torch.outer(axis, axis) - torch.eye(3, dtype=torch.float64))
    assert torch.allclose(found.abs(), math.pi * axis.abs(), atol=1e-15)


def test_skew_is_the_cross_product(generator):
    a, b = (torch.randn((20, 3), generator=generator, dtype=torch.float64) for _ in range(2))
    product = (so3.skew(a) @ b.unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(product, torch.linalg.cross(a, b))


def test_chordal_mean_of_two_is_half_way(generator):
    first = so3.random_rotations(50, generator).double()
    vector = vectors((50,), 1.2, generator)
    mean = so3.chordal_mean(first + first @ so3.exp(vector))
    assert torch.allclose(mean, first @ so3.exp(vector / 2), atol=1e-12)


def test_chordal_mean_of_any_sum_is_a_rotation(generator):
    sums = torch.randn((200, 3, 3), generator=generator, dtype=torch.float64)
    mean = so3.chordal_mean(sums)
    assert torch.allclose(mean @ mean.mT, torch.eye(3, dtype=mean.dtype).expand_as(mean))
    assert torch.allclose(torch.linalg.det(mean), torch.ones(200, dtype=mean.dtype))
    others = so3.random_rotations(200, generator).double()
    overlap = lambda r: (r * sums).sum((-2, -1))  # noqa: E731
    assert bool((overlap(mean) >= overlap(others)).all())


@pytest.mark.parametrize("angle", ANGLES + NEAR_PI)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_geodesic_angle(angle, dtype, generator):
    first = scipy_exp(vectors((50,), 1.5, generator))
    second = first @ scipy_exp(vectors((50,), angle, generator))
    found = so3.geodesic_angle(first.to(dtype), second.to(dtype)).double()
    # Rounding of the matrices; near pi it counts by its root.
    near_pi = math.sqrt(TOLERANCE[dtype]) * 2 if angle > 3.1 else 0
    assert float((found - angle).abs().max()) < 2 * TOLERANCE[dtype] + near_pi


@pytest.mark.parametrize("angle", [-3.0, -1.0, 0.0, 1e-6, 2.0])
def test_twist_is_what_remains_without_the_swing(angle, generator):
    axis = vectors((), 1.0, generator)
    swing = vectors((100,), 1.5, generator)
    swing = swing - (swing @ axis).unsqueeze(1) * axis  # about axes across it
    rotation = so3.exp(swing) @ so3.exp(angle * axis)
    found = so3.twist(rotation, axis)
    error = torch.remainder(found - angle + math.pi, 2 * math.pi) - math.pi
    assert float(error.abs().max()) < 1e-12
    assert so3.twist(rotation.view(4, 25, 3, 3), axis).shape == (4, 25)


def test_twist_entropy_of_uniform_angles_and_of_one(generator):
    axis = torch.tensor([0.0, 0.0, 1.0])
    reference = so3.random_rotations(1, generator)[0]
    uniform = 2 * math.pi * torch.rand(20_000, generator=generator)
    rotations = reference @ so3.exp(uniform.unsqueeze(1) * axis)
    assert so3.twist_entropy(rotations, reference, axis) == pytest.approx(
        math.log(2 * math.pi), abs=0.01
    )
    one_bin = math.log(2 * math.pi / 36)
    assert so3.twist_entropy(rotations[:1], reference, axis, 36) == pytest.approx(one_bin)


def test_random_rotations_are_uniform_rotations(generator):
    rotation = so3.random_rotations(100_000, generator)
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-6)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(len(rotation)), atol=1e-6)
    assert float(rotation.mean(0).abs().max()) < 0.01
    angle = so3.geodesic_angle(rotation, torch.eye(3)).double().sort().values
    expected = (angle - angle.sin()) / math.pi  # the distribution function of Haar's measure
    rank = torch.arange(1, len(angle) + 1) / len(angle)
    assert float((expected - rank).abs().max()) < 1.63 / math.sqrt(len(angle))  # Kolmogorov, 1 %
