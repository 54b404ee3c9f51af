"""From items to batches: the same items for any number of workers, processes and restarts."""

from collections.abc import Iterator

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from training.config import DataConfig, OptimConfig
from training.data.source import ENDLESS, Items
from training.data.workers import single_thread

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Streams of random numbers; each item's generator is seeded by (seed, stream, index)."""
_SHUFFLE = 3

ENDLESS_STEPS = 10**9
"""Steps of a training that its hours end."""


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


class StepSampler(Sampler[int]):
    """Consecutive positions that start after the steps done so far, also after a resume.

    Args:
        trainer: counts the steps and shares their images between its processes.
        steps: of the whole training.
        batch_size: items per step and process.
    """

    def __init__(self, trainer: lightning.Trainer, steps: int, batch_size: int):
        self.trainer = trainer
        self.steps = steps
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[int]:
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        batch = self.batch_size * processes
        return iter(range(self.trainer.global_step * batch + rank, self.steps * batch, processes))

    def __len__(self) -> int:
        return self.steps * self.batch_size


class StreamData(lightning.LightningDataModule):
    """Training stream and validation set of one run.

    Args:
        training: training items.
        validation: validation items; the first data.validation_images of them are used.
        data: settings.
        optim: batch size, steps per epoch and number of steps.
        seed: of all streams.
        composer: makes crops of the batches' items where they have none; see `Source.composer`.

    Attributes:
        trainer: counts steps and processes; Lightning sets it before it asks for a loader.
    """

    trainer: lightning.Trainer

    def __init__(
        self,
        training: Items,
        validation: Items,
        data: DataConfig,
        optim: OptimConfig,
        seed: int,
        composer: nn.Module | None = None,
    ):
        super().__init__()
        self.composer = composer or nn.Identity()
        self.data = data
        self.optim = optim
        self.seed = seed
        self.training = training
        watched = min(data.validation_images, validation.__len__())
        self.validation_set = Stream(validation, VALIDATION, seed, watched)

    def train_dataloader(self) -> DataLoader:
        """Return the loader of the rest of the stream."""
        steps = self.optim.max_steps or ENDLESS_STEPS
        batch = self.optim.batch_size
        stream = Stream(self.training, TRAIN, self.seed, steps * batch * self.trainer.world_size)
        return self._loader(stream, StepSampler(self.trainer, steps, batch))

    def val_dataloader(self) -> DataLoader:
        """Return the loader of the validation set; each process takes its share."""
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        return self._loader(self.validation_set, range(rank, len(self.validation_set), processes))

    def on_after_batch_transfer(
        self, batch: dict[str, Tensor], dataloader_idx: int
    ) -> dict[str, Tensor]:
        """Compose on the device."""
        return self.composer(batch)

    def _loader(self, dataset: Dataset, sampler: Sampler | range) -> DataLoader:
        workers = self.data.num_workers
        return DataLoader(
            dataset,
            self.optim.batch_size,
            sampler=sampler,
            num_workers=workers,
            worker_init_fn=single_thread,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=isinstance(sampler, StepSampler),
        )
