"""How confident a network should be: `python -m benchmarks.training.logit_scale BUNDLE,BUNDLE`.

The factor on each level's logits that has the least cross-entropy on fresh training images, against
48 distinct families, which are chosen by the logits as they are. 1 means that a level means what it
says; less that it is overconfident. Temperatures of a bundle are not applied.
"""

import logging

from training import cli, markdown

SCALES = (
    0.3,
    0.4,
    0.5,
    0.6,
    0.65,
    0.7,
    0.75,
    0.8,
    0.85,
    0.9,
    0.95,
    1.0,
    1.05,
    1.1,
    1.2,
    1.35,
    1.5,
    1.75,
    2.0,
)
"""Factors that are tried."""

_FAMILIES = 48
_BATCH = 16


def logit_scale(bundles: str, images: int = 96, data_root: str = "data") -> list[str]:
    """Print the table.

    Args:
        bundles: folders of models, separated by commas.
        images: training images.
        data_root: where the data sets lie.

    Returns:
        The lines of the table.
    """
    import torch

    from benchmarks.training.training_images import TrainingImages
    from spyropose_ros.core.bundle import ModelBundle
    from training.fitting.objective import BatchRandom, cross_entropy, distinct_levels

    header = ["model", "best scale per level", "nats above the least at scale 1"]
    rows: list[list[str]] = []
    for name in bundles.split(","):
        bundle = ModelBundle.from_pretrained(name)
        shown = TrainingImages.draw(bundle, images, data_root)
        loss = torch.zeros(bundle.model.config.depth, len(SCALES), dtype=torch.float64)
        random = BatchRandom(torch.Generator().manual_seed(0))
        for indices in torch.arange(images).split(_BATCH):
            part = shown.rows(indices)
            levels = distinct_levels(part.score, part.grid, part.finest, _FAMILIES, random)
            for level, (logits, weight, truth) in enumerate(levels):
                for i, scale in enumerate(SCALES):
                    loss[level, i] += cross_entropy(scale * logits, weight, truth).double().sum()
        least, best = (loss / images).min(1)
        excess = loss[:, SCALES.index(1.0)] / images - least
        scales, nats = ([f"{v:.2f}" for v in row] for row in ([SCALES[i] for i in best], excess))
        rows.append([name, " ".join(scales), " ".join(nats)])
        lines = markdown.table(header, rows)
        print("\n".join(lines), flush=True)
    return lines


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(logit_scale)
