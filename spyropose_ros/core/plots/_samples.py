"""Poses drawn from a distribution for a figure."""

import torch
from torch import Tensor

from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.errors import InputError

_SEED = 0  # a distribution always gives the same figure


def fixed_samples(distribution: PoseDistribution, samples: int) -> tuple[Tensor, Tensor]:
    """Draw rotations [N, 3, 3], translations [N, 3] with a fixed seed, float32 on the CPU."""
    if samples < 1:
        raise InputError(f"samples must be at least 1, got {samples}")
    generator = torch.Generator(device=distribution.probabilities.device).manual_seed(_SEED)
    rotations, translations = distribution.sample(samples, generator)
    return rotations.detach().cpu().float(), translations.detach().cpu().float()
