"""From streams of items to a training's batches: what is left of them after a restart."""

from collections.abc import Iterator

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from training.config import DataConfig, OptimConfig
from training.data.mixture import collate
from training.data.source import Items
from training.data.streams import TRAIN, VALIDATION, Stream
from training.data.workers import single_thread

ENDLESS_STEPS = 10**9
"""Steps of a training that its hours end."""


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
            collate_fn=collate,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=isinstance(sampler, StepSampler),
        )
