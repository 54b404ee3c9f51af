"""How well the training estimates log Z: `python -m benchmarks.training.partition_estimate BUNDLE`.

For a trained network, fresh training images and every way of choosing families: bias and standard
deviation of log Z per level, nats, and the processor time of an image's evaluations. The reference
has so many distinct families that its own error, which is printed, does not matter.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from training import cli, markdown, provenance

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.training.training_images import TrainingImages

    Estimate = Callable[[TrainingImages, int, int], Tensor]
    """(images, families, seed) -> log Z, [B, levels]."""


def partition_estimate(
    bundle: str, images: int = 16, repeats: int = 6, reference: int = 512, data_root: str = "data"
) -> list[str]:
    """Print the table.

    Args:
        bundle: folder of the model.
        images: training images.
        repeats: draws of the families per image.
        reference: distinct families of the reference.
        data_root: where the data sets lie.

    Returns:
        The lines of the table.
    """
    import torch

    from benchmarks.training.training_images import TrainingImages
    from spyropose_ros.core.bundle import ModelBundle

    model = ModelBundle.from_pretrained(bundle)
    shown = TrainingImages.draw(model, images, data_root)
    log_z = _distinct(shown, reference, 0)
    error = (log_z - _distinct(shown, reference, 1)).abs().mean(0)
    rows = []
    for name, estimate, counts in (
        ("independent", _independent, (3, 4, 12, 16, 48)),
        ("distinct", _distinct, (3, 4, 6, 8, 12, 16, 24, 32)),
    ):
        for n in counts:
            started = time.process_time()
            drawn = torch.stack([estimate(shown, n, 10 + seed) for seed in range(repeats)])
            milliseconds = 1e3 * (time.process_time() - started) / repeats / images
            found = drawn - log_z  # [repeats, B, levels]
            spread = found.std(0).square().mean(0).sqrt()
            bias = _row(found.mean((0, 1)))
            rows.append([f"{name} {n}", f"{milliseconds:.1f}", bias, _row(spread)])
    header = ["families", "ms per image", "bias of log Z per level", "standard deviation"]
    lines = [
        f"{model.object.name}, {images} images, {repeats} draws; {provenance.hardware('cpu')}; "
        f"two references of {reference} families differ by {_row(error)} nats",
        "",
        *markdown.table(header, rows),
    ]
    print("\n".join(lines))
    return lines


def _row(values: Tensor) -> str:
    return " ".join(f"{v:.2f}" for v in values.tolist())


def _distinct(shown: TrainingImages, n: int, seed: int) -> Tensor:
    """Return the estimates of log Z, [B, levels]."""
    import torch

    from training.fitting.objective import BatchRandom, distinct_levels

    random = BatchRandom(torch.Generator().manual_seed(seed))
    levels = distinct_levels(shown.score, shown.grid, shown.finest, n, random)
    return torch.stack([(logits + weight).logsumexp(1) for logits, weight, _ in levels], 1)


def _independent(shown: TrainingImages, n: int, seed: int) -> Tensor:
    """Return the paper's estimate of log Z, the positive included, [B, levels]."""
    import torch

    from training.fitting.objective import BatchRandom, independent_levels

    random = BatchRandom(torch.Generator().manual_seed(seed))
    found = []
    for true, negatives in independent_levels(shown.score, shown.grid, shown.finest, n, random):
        total = torch.cat((true, negatives), 1).logsumexp(1)
        # The base level has all cells, with the weight cells / children instead of n.
        scale = negatives.shape[1] / shown.finest.branching
        found.append(total - math.log(scale))
    return torch.stack(found, 1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(partition_estimate)
