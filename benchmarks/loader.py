"""Does the data loader keep up with the training? `python -m benchmarks.loader DATASET OBJECT`.

Measures, one after the other on the same machine: samples per second of the loader alone, and of
the training step alone on one batch that is always the same. A ratio above 1 means that the device
never waits. All flags of `training.train` work; --num-workers is the one to turn.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING

from training import provenance
from training.train import parse_args, settings_of, source_of

if TYPE_CHECKING:
    import torch


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.WARNING)
    args = parse_args()

    import lightning
    from torch.utils.data import DataLoader

    from benchmarks.clock import MEASURED, WARM_UP, step_seconds
    from training.data.streams import StreamData
    from training.fitting.assembly import assemble, crop_settings
    from training.fitting.precision import trainer_precision

    config = settings_of(args)
    lightning.seed_everything(config.seed, verbose=False)
    source = source_of(args, config)
    crop = crop_settings(config, source, training=True)
    items = source.training_items(crop)
    data = StreamData(items, items, config.data, config.optim, config.seed)
    data.trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
    batches = iter(data.train_dataloader())
    batch = next(batches)
    loader = _rate(batches, config.optim.batch_size)
    del batches  # the loader's processes end here

    module = assemble(source, config).module
    # A bare list would be taken for several loaders.
    batch = source.composer(crop)(batch)
    same = DataLoader([batch] * (WARM_UP + MEASURED), batch_size=None)
    seconds, device = step_seconds(
        module,
        same,
        time.perf_counter,
        accelerator=args.accelerator if args.gpu_idx is None else "gpu",
        devices=1 if args.gpu_idx is None else [args.gpu_idx],
        precision=trainer_precision(config.optim.precision, args.accelerator),
    )
    step = config.optim.batch_size / seconds
    workers = config.data.num_workers
    print(f"{source.name}, {workers} loader processes, {provenance.hardware(device)}")
    print(f"loader alone {loader:8.1f} samples/s")
    print(f"step alone   {step:8.1f} samples/s")
    print(f"ratio        {loader / step:8.2f}")


def _rate(batches: Iterator[dict[str, torch.Tensor]], batch_size: int) -> float:
    """Samples per second, after a warm-up."""
    from benchmarks.clock import MEASURED, WARM_UP

    for _ in range(WARM_UP):
        next(batches)
    started = time.perf_counter()
    for _ in range(MEASURED):
        next(batches)
    return MEASURED * batch_size / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
