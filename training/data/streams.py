"""Streams of items: the same for any number of workers, processes and restarts."""

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from training.data.source import ENDLESS, Items

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Streams of random numbers; each item's generator is seeded by (seed, stream, index)."""
_SHUFFLE = 3


def item_generator(seed: int, stream: int, index: int) -> np.random.Generator:
    """Return the random generator of one item."""
    return np.random.default_rng((seed, stream, index))


class Stream(Dataset):
    """Items by their position in a training or validation.

    A finite training set is passed through in a new order each time.

    Args:
        items: the set.
        stream: `TRAIN`, which shuffles, or `VALIDATION`.
        seed: of the stream.
        length: number of positions.
    """

    def __init__(self, items: Items, stream: int, seed: int, length: int):
        self.items = items
        self.stream = stream
        self.seed = seed
        self.length = length
        self._order: tuple[int, np.ndarray] | None = None  # of the latest pass

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """Return one item; its generator is its own."""
        rng = item_generator(self.seed, self.stream, position)
        return self.items.item(self._index(position), rng)

    def _index(self, position: int) -> int:
        """Return the index of the item that a position shows."""
        n = self.items.__len__()
        if n == ENDLESS or self.stream != TRAIN:
            return position
        epoch, offset = divmod(position, n)
        if self._order is None or self._order[0] != epoch:
            order = item_generator(self.seed, _SHUFFLE, epoch).permutation(n)
            self._order = epoch, order
        return int(self._order[1][offset])
