"""Where poses put their keypoints: the CPU's kernel against the tensor operations."""

import subprocess
import sys

import pytest
import torch

from spyropose_ros.core.kernels.lookup import look_up, padded, plain_look_up, row_sums

HEIGHT, WIDTH, BATCH, P = 6, 9, 2, 3
SHAPE = torch.Size((BATCH, 8, HEIGHT, WIDTH))


def random_families(generator, families=5, rotations=8, translations=4):
    """Keypoints in, around and behind the map."""
    image = torch.randint(BATCH, (families,), generator=generator)
    rotated = torch.randn((3, families, rotations, P), generator=generator)
    moved = torch.rand((3, families, translations), generator=generator)
    moved *= torch.tensor([WIDTH, HEIGHT, 1.0]).view(3, 1, 1)
    rotated[:2] *= 3
    return image, rotated, moved


def at_pixels(pixels, z=1.0):
    """One family of one rotation whose keypoints are all at pixel [N, 2] for translation n."""
    moved = torch.tensor([[*pixel, 1.0] for pixel in pixels]).T.unsqueeze(1) * z
    rotated = torch.zeros(3, 1, 1, P)
    return torch.ones(1, dtype=torch.int64), rotated, moved.contiguous()


def values(lookup):
    """Sums over a table that tells every row from the others, [N, 5]."""
    rows = torch.arange(P * BATCH * padded(HEIGHT, WIDTH), dtype=torch.float32)
    return lookup.sum_of(torch.stack([(rows * k).sin() for k in range(1, 6)], 1))


@pytest.mark.parametrize("shape", [(5, 8, 4), (1, 72, 8), (3, 1, 1), (0, 8, 8)])
def test_the_kernel_agrees_with_the_tensor_operations(generator, shape):
    families = random_families(generator, *shape)
    found, expected = look_up(*families, SHAPE), plain_look_up(*families, SHAPE)
    assert found.rows.shape == expected.rows.shape == (shape[0] * shape[1] * shape[2], 4, P)
    torch.testing.assert_close(values(found), values(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("width", [5, 24, 32])
@pytest.mark.parametrize("shape", [(5, 8, 4), (1, 72, 8), (0, 8, 8)])
def test_sums_in_one_pass_are_those_of_the_look_up(generator, shape, width):
    families = random_families(generator, *shape)
    table = torch.randn((P * BATCH * padded(HEIGHT, WIDTH), width), generator=generator)
    found = row_sums(table, SHAPE, P)(*families)
    expected = look_up(*families, SHAPE).sum_of(table)
    # The order of the sums is the same; PyTorch does not fuse products with sums on every CPU.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_views_of_a_larger_tensor_are_read_right(generator):
    image, rotated, moved = random_families(generator)
    part = image[1:3], rotated[:, 1:3], moved[:, 1:3]
    expected = values(look_up(image, rotated, moved, SHAPE)).view(5, -1, 5)[1:3].flatten(0, 1)
    assert torch.equal(values(look_up(*part, SHAPE)), expected)


@pytest.mark.parametrize("implementation", [look_up, plain_look_up])
def test_pixels_by_hand(implementation):
    pixels = [(0.0, 0.0), (8.0, 5.0), (2.25, 3.5), (-0.4, 5.4), (-0.6, 2.0), (3.0, 5.6)]
    lookup = implementation(*at_pixels(pixels), SHAPE)
    table = torch.zeros(P * BATCH * padded(HEIGHT, WIDTH), 2)
    table[:, 1] = 1.0
    for p in range(P):
        first = (p * BATCH + 1) * padded(HEIGHT, WIDTH)
        table[first : first + HEIGHT * WIDTH, 0] = torch.arange(HEIGHT * WIDTH) / P
        table[first + HEIGHT * WIDTH : first + padded(HEIGHT, WIDTH), 0] = -100 / P
    index, weight = lookup.sum_of(table).T
    inside = [0.0, 53.0, 3.5 * WIDTH + 2.25, 5.0 * WIDTH]  # at the border the pixel next to it
    torch.testing.assert_close(index, torch.tensor([*inside, -100.0, -100.0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(weight, torch.full((6,), float(P)))


@pytest.mark.parametrize("implementation", [look_up, plain_look_up])
@pytest.mark.parametrize("z", [0.0, -1.0])
def test_what_is_not_in_front_of_the_camera_is_outside(implementation, z):
    image, rotated, moved = at_pixels([(3.0, 3.0)], z)
    rows = implementation(image, rotated, moved, SHAPE).rows
    start = rows[0] - (torch.arange(P) * BATCH + 1) * padded(HEIGHT, WIDTH)  # [4, P]
    assert (start >= HEIGHT * WIDTH).all()


def test_a_machine_where_nothing_can_be_cached(tmp_path):
    source = """
import numba.core.caching
numba.core.caching.CacheImpl._locator_classes = []
from spyropose_ros.core.kernels import numba_kernels
print(numba_kernels.look_up.signatures)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "float32" in done.stdout
