"""Random numbers that travel with an item, for drawing on any device."""

import math

import numpy as np
import torch
from torch import Tensor

COUNT = 512
"""Uniform numbers per item; composing a crop takes fewer."""


def draw(rng: np.random.Generator) -> Tensor:
    """Return the numbers of one item: float32 [COUNT], uniform in [0, 1)."""
    return torch.from_numpy(rng.random(COUNT, dtype=np.float32))


class Chance:
    """Deals the numbers of a batch, the same columns to every item.

    What an item becomes thus depends on nothing but its own numbers: not on the batch it is in, on
    the device, the process or the step.
    """

    def __init__(self, numbers: Tensor):
        """Take the numbers.

        Args:
            numbers: of `draw`, [B, COUNT].
        """
        self._numbers = numbers
        self._used = 0

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw uniformly in [low, high).

        Args:
            low: smallest number.
            high: bound of the numbers.
            shape: of the numbers of an item.

        Returns:
            [B, *shape].

        Raises:
            ValueError: all numbers are used up.
        """
        begin, self._used = self._used, self._used + math.prod(shape)
        if self._used > self._numbers.shape[1]:
            raise ValueError(f"an item has {self._numbers.shape[1]} random numbers: draw more")
        numbers = self._numbers[:, begin : self._used].unflatten(1, shape or (1,))
        numbers = numbers if shape else numbers.squeeze(1)
        return numbers * (high - low) + low

    def normal(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw from the standard normal, [B, *shape]."""
        return torch.special.ndtri(self.uniform(1e-6, 1 - 1e-6, shape))

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw integers from low to high, both included, int64 [B, *shape]."""
        return self.uniform(low, high + 1, shape).long().clamp(max=high)

    def happens(self, share: float, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw booleans that are true with a probability, [B, *shape]."""
        return self.uniform(shape=shape) < share
