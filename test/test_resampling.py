"""Systematic resampling: counts, order, and that the node's draws stay the same."""

import numpy as np
import pytest
import torch

from spyropose_ros.core._resampling import systematic


@pytest.mark.parametrize("count", [1, 7, 256])
@pytest.mark.parametrize("offset", [0.0, 0.5, 0.999])
def test_counts_differ_from_the_weights_by_less_than_one(count, offset):
    weights = torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(40, 0.3)))
    drawn = systematic(3 * weights, count, offset)
    assert (drawn.diff() >= 0).all()
    counts = torch.bincount(drawn, minlength=40)
    assert counts.sum() == count
    assert ((counts - count * weights).abs() < 1).all()


def test_the_same_as_in_numpy():
    weights = np.random.default_rng(1).random(20_000, np.float32)
    cumulative = np.cumsum(weights.astype(float))
    positions = (np.arange(1000) + 0.5) / 1000 * cumulative[-1]
    expected = np.searchsorted(cumulative, positions, side="right")
    assert np.array_equal(systematic(torch.from_numpy(weights), 1000).numpy(), expected)
