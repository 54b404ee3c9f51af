"""Compare recipes at equal processor time: `python -m benchmarks.training.recipes TABLE`.

Every row of a table is a training with some flags changed that takes the same core-time, images and
the learning rate's fall to zero included, and is then evaluated without temperatures. Differences
from the table's first row are paired, image by image. Writes <output>/<TABLE>.md; a killed command
goes on where it was.
"""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spyropose_ros.core.bundle_files import CONFIG
from training import cli, markdown, provenance
from training.evaluate import evaluate
from training.evaluation.records import read_records
from training.train import parse_args, train

log = logging.getLogger(__name__)

_HEADER = [
    "",
    "object, seed",
    "steps x images",
    "LL",
    "less the first row's",
    "90 %",
    "Acc@10",
    "median",
]
_RUN = (
    "--num-workers 0 --validation-images 32 --steps-per-epoch 5000 --accelerator cpu --logger none"
)
_SMALL = "--crop-resolution 64"
_PAPER = (
    f"--preset paper {_SMALL} --depth 6 --backbone resnet18-slim --decoder-channels [128,64,64,32]"
    " --feature-channels 32 --embed-dim 16 --hidden-dim 64 --n-samples 32"
)
"""The published settings at a quarter of the width and images of 64 x 64 pixels."""
_FAST = f"{_PAPER} --lr 0.001"
_ROTATIONS = f"--preset rotations {_SMALL}"
_CONTINUED = "--start-from models/lmo_driller --crop-padding 1.2 --crop-resolution 128 --lr 0.0004"
_INDEPENDENT = "--sampling independent --n-samples"


@dataclass(frozen=True)
class Table:
    """Trainings that are compared.

    Attributes:
        dataset: of all of them.
        objects: of the data set, separated by commas.
        rows: name -> flags; the first is what the others are compared with.
        split: to evaluate on; the data set's first by default.
        beam: of the evaluation.
    """

    dataset: str
    objects: str
    rows: dict[str, str]
    split: str | None = None
    beam: int = 512


TABLES = {
    "steps": Table(
        "shapes",
        "cube",
        {
            "paper, reduced": _PAPER,
            "fast: ten times the learning rate": _FAST,
            "fast and batches of 16": f"{_FAST} --batch-size 16",
            "fast and EMA 0.99": f"{_FAST} --ema 0.99",
            "fast and depth 8": f"{_FAST} --depth 8",
            "fast and features twice as wide": f"{_FAST} --feature-channels 64 --embed-dim 32",
            "fast and feature stride 4": f"{_FAST} --feature-stride 4 --decoder-channels [128,64]",
            "fast and no dropout": f"{_FAST} --dropout 0 --point-dropout 0",
            "preset rotations": _ROTATIONS,
        },
    ),
    "baseline": Table(
        "shapes",
        "cone,cyl,tet,cube,ico",
        {
            "preset rotations": _ROTATIONS,
            "Implicit-PDF style": f"{_ROTATIONS} --depth 5 --kpts none --no-is --last-level-only"
            " --n-samples 4096",
        },
    ),
    "objective": Table(
        "shapes",
        "cube",
        {
            "preset rotations": _ROTATIONS,
            "4 independent families": f"{_ROTATIONS} {_INDEPENDENT} 4",
            "16 independent families": f"{_ROTATIONS} {_INDEPENDENT} 16",
            "48 independent families": f"{_ROTATIONS} {_INDEPENDENT} 48",
            "8 distinct families": f"{_ROTATIONS} --n-samples 8",
            "32 distinct families": f"{_ROTATIONS} --n-samples 32",
        },
    ),
    "rotations": Table(
        "shapes",
        "cube",
        {
            "preset rotations": _ROTATIONS,
            "learning rate 1e-3": f"{_ROTATIONS} --lr 0.001",
            "learning rate 4e-3": f"{_ROTATIONS} --lr 0.004",
            "encoder as fast as the rest": f"{_ROTATIONS} --encoder-lr 1",
            "batches of 8": f"{_ROTATIONS} --batch-size 8",
            "batches of 32": f"{_ROTATIONS} --batch-size 32",
            "EMA 0.99": f"{_ROTATIONS} --ema 0.99",
            "96 px": f"{_ROTATIONS} --crop-resolution 96",
            "128 px": f"{_ROTATIONS} --crop-resolution 128",
            "depth 7": f"{_ROTATIONS} --depth 7",
            "96 px and depth 7": f"{_ROTATIONS} --crop-resolution 96 --depth 7",
            "96 px and depth 8": f"{_ROTATIONS} --crop-resolution 96 --depth 8",
            "feature stride 2": f"{_ROTATIONS} --feature-stride 2",
        },
    ),
    "continued": Table(
        "lmo",
        "driller",
        {
            "6 distinct families": _CONTINUED,
            "3 independent families": f"{_CONTINUED} {_INDEPENDENT} 3",
            "12 independent families": f"{_CONTINUED} {_INDEPENDENT} 12",
            "3 distinct families": f"{_CONTINUED} --n-samples 3",
            "12 distinct families": f"{_CONTINUED} --n-samples 12",
            "learning rate 8e-4": f"{_CONTINUED} --lr 0.0008",
            "EMA 0.99": f"{_CONTINUED} --ema 0.99",
            "batches of 8": f"{_CONTINUED} --batch-size 8",
        },
        split="dev",
        beam=256,
    ),
}

_CEILING_IMAGES = 200


def recipes(
    table: str,
    minutes: float = 2.0,
    rows: str = "",
    seeds: str = "0",
    objects: str | None = None,
    images: int = 100,
    output: str = "runs/recipes",
    data_root: str = "data",
) -> list[str]:
    """Train, evaluate and write one table.

    Args:
        table: a key of `TABLES`.
        minutes: core-time of each training.
        rows: those to make, separated by semicolons; all by default.
        seeds: of the trainings, separated by commas.
        objects: others than the table's, separated by commas.
        images: of the evaluation.
        output: folder of the runs and the table.
        data_root: where the data sets lie.

    Returns:
        The lines of the table.

    Raises:
        ValueError: unknown table or row.
    """
    if table not in TABLES:
        raise ValueError(f"no table '{table}': choose from {', '.join(TABLES)}")
    chosen, directory = TABLES[table], Path(output)
    names = [name.strip() for name in rows.split(";")] if rows else list(chosen.rows)
    unknown = [name for name in names if name not in chosen.rows]
    if unknown:
        raise ValueError(f"no row '{unknown[0]}' in {table}: choose from {'; '.join(chosen.rows)}")
    head = (
        f"{minutes:g} min of core-time per training on {provenance.hardware('cpu')}; {images} "
        f"images, beam {chosen.beam}, no temperatures. LL over uniform, nats ± standard error."
    )
    cells: list[list[str]] = []
    first: dict[tuple[str, str], np.ndarray] = {}
    for name in names:
        for one in (objects or chosen.objects).split(","):
            for seed in seeds.split(","):
                number = list(chosen.rows).index(name)
                run = directory / f"{table}-{minutes:g}min-{number}-{one}-{seed}"
                flags = f"{_RUN} --data-root {data_root} {chosen.rows[name]}".split()
                _train([chosen.dataset, one, *flags], minutes, int(seed), run)
                report = evaluate(
                    str(run),
                    chosen.split,
                    limit=images,
                    beam=chosen.beam,
                    device="cpu",
                    data_root=data_root,
                    exhaustive="--last-level-only" in flags,
                )
                gains = _gains(run, chosen.split)
                base = first.setdefault((one, seed), gains)
                cells.append(_cells(name, one, seed, run, report, gains - base))
                lines = [head, "", *markdown.table(_HEADER, cells)]
                (directory / f"{table}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return lines


def _train(arguments: list[str], minutes: float, seed: int, run: Path) -> None:
    """Train for the time; a finished run is left as it is."""
    own = ["--hours", str(minutes / 60), "--runs", str(run.parent), "--run-id", run.name]
    train(parse_args([*arguments, *own, "--seed", str(seed)]))


def _gains(run: Path, split: str | None) -> np.ndarray:
    """Return the LL of each image over the uniform distribution, nats."""
    (path,) = (run / "bundle").glob(f"report{f'_{split}' if split else ''}*.records.jsonl")
    return np.array([record["gain_per_level"][-1] for record in read_records(path)])


def _cells(
    name: str, one: str, seed: str, run: Path, report: dict, difference: np.ndarray
) -> list[str]:
    """Format a row of the table."""
    summary = report["metrics"]["all"]
    record = json.loads((run / "bundle" / CONFIG).read_text())["record"]
    mean, error = summary["ll_uniform_zero"]
    return [
        name,
        f"{one}, {seed}",
        f"{record['steps']} x {record['config']['batch_size']}",
        f"{mean:.2f} ± {error:.2f}" + _ceiling_text(record),
        f"{difference.mean():+.2f} ± {difference.std() / math.sqrt(len(difference)):.2f}",
        f"{summary['coverage']['0.9']:.0%}",
        f"{summary['acc_10']:.0%}",
        f"{summary['rotation_median_deg']:.1f}°",
    ]


def _ceiling_text(record: dict) -> str:
    if record["dataset"] != "shapes":
        return ""
    return f" ({ceiling(record['object'], record['config']['depth']):.2f})"


def ceiling(shape: str, depth: int) -> float:
    """Return the log-likelihood over uniform, nats, that no network of this depth can exceed.

    The best distribution over cells gives each the share of the equivalent rotations it holds.

    Args:
        shape: without a mark.
        depth: levels.
    """
    import torch

    from spyropose_ros.core import so3_grid
    from training.data.shape_images import uniform_rotations
    from training.data.shape_models import make_shape
    from training.data.shapes import TEST_SEED

    symmetries = torch.from_numpy(make_shape(shape).symmetries)
    total = 0.0
    for rotation in torch.from_numpy(uniform_rotations(_CEILING_IMAGES, TEST_SEED)):
        cells = so3_grid.index((rotation @ symmetries).float(), depth - 1)
        share = cells.unique(return_counts=True)[1] / len(symmetries)
        total += math.log(so3_grid.cell_count(depth - 1)) + float((share * share.log()).sum())
    return total / _CEILING_IMAGES


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(recipes, kept="the tables that were written are kept")
