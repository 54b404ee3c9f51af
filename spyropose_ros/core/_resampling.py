"""Systematic resampling: as many draws of everything as its weight asks for, to within one.

Source: Kitagawa, Monte Carlo filter and smoother, 1996.
"""

import torch
from torch import Tensor


def systematic(weights: Tensor, n: int, offset: Tensor | float = 0.5) -> Tensor:
    """Draw indices so that each comes up floor or ceil of n times its share of the weight.

    Args:
        weights: non-negative with a positive sum, [N].
        n: how many to draw.
        offset: in [0, 1); uniformly random for unbiased draws, fixed for repeatable ones.

    Returns:
        Ascending indices, int64 [n].
    """
    cumulative = weights.double().cumsum(0)
    steps = torch.arange(n, dtype=torch.float64, device=weights.device)
    positions = (steps + offset) / n * cumulative[-1]
    return torch.searchsorted(cumulative, positions, right=True).clamp(max=len(weights) - 1)
