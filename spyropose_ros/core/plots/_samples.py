"""Poses drawn from a distribution for a picture."""

import torch
from torch import Tensor

from spyropose_ros.core.distribution import PoseDistribution

_SEED = 0  # the same distribution always gives the same picture


def fixed_samples(distribution: PoseDistribution, samples: int) -> tuple[Tensor, Tensor]:
    """Rotations [N, 3, 3] and translations [N, 3] drawn with a fixed seed, float32 on the CPU."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    generator = torch.Generator(device=distribution.probabilities.device).manual_seed(_SEED)
    return tuple(part.detach().cpu().float() for part in distribution.sample(samples, generator))
