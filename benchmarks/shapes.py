"""What pays on the shapes, under equal compute: `python -m benchmarks.shapes TABLE --minutes 4`.

Every variant gets the same processor time: its steps follow from what a step of it costs, images
included, measured first, and the learning rate falls to zero over them. Then it is evaluated, with
and without temperatures fitted on validation images. Writes <output>/<TABLE>.md; a killed command
goes on where it was.

Tables: "steps" changes one thing at a time; "shapes" compares the preset `rotations` with a network
without keypoints that is trained and searched on the finest level alone, after Implicit-PDF.
"""

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from benchmarks.clock import step_seconds
from spyropose_ros.core import so3_grid
from spyropose_ros.core.bundle import ModelBundle
from training import cli, provenance
from training.calibrate import calibrate
from training.data.shape_images import uniform_rotations
from training.data.shape_models import make_shape
from training.data.shapes import TEST_SEED
from training.data.streams import StreamData
from training.evaluate import evaluate
from training.fit import build_model, crop_settings, make_module, object_info
from training.train import parse_args, settings_of, source_of, train

log = logging.getLogger(__name__)

_SMALL = "--crop-resolution 64 --num-workers 1 --validation-images 32 --steps-per-epoch 500"
_PAPER = (
    f"--preset paper {_SMALL} --depth 6 --backbone resnet18-slim --decoder-channels [128,64,64,32]"
    " --feature-channels 32 --embed-dim 16 --hidden-dim 64 --n-samples 32"
)
"""The published settings at a quarter of the width and images of 64 x 64 pixels."""
_FAST = f"{_PAPER} --lr 0.001"
_DEFAULT = f"--preset default {_SMALL}"
_ROTATIONS = f"--preset rotations {_SMALL}"

TABLES = {
    "steps": {
        "paper, reduced": _PAPER,
        "fast: ten times the learning rate": _FAST,
        "fast and batches of 16": f"{_FAST} --batch-size 16",
        "fast and EMA 0.99": f"{_FAST} --ema 0.99",
        "fast and depth 8": f"{_FAST} --depth 8",
        "fast and features twice as wide": f"{_FAST} --feature-channels 64 --embed-dim 32",
        "fast and feature stride 4": f"{_FAST} --feature-stride 4 --decoder-channels [128,64]",
        "fast and no dropout": f"{_FAST} --dropout 0 --point-dropout 0",
        "preset default": _DEFAULT,
        "preset rotations": _ROTATIONS,
    },
    "shapes": {
        "preset rotations": _ROTATIONS,
        "Implicit-PDF style": f"{_ROTATIONS} --depth 5 --kpts none --no-is --last-level-only"
        " --n-samples 4096",
    },
}
"""Row -> flags of the training."""

_WARM_UP_SHARE = 0.02  # of the steps, as published
_CEILING_IMAGES = 200


@dataclass(frozen=True)
class Result:
    """A trained variant on one shape; log-likelihoods in nats, of the uniform distribution 0.

    Attributes:
        steps: of the training.
        batch_size: of the training.
        depth: levels.
        ceiling: log-likelihood of a perfect network of this depth.
        raw: summary of the evaluation without temperatures.
        fitted: summary with temperatures; None where the search is exhaustive.
    """

    steps: int
    batch_size: int
    depth: int
    ceiling: float
    raw: dict
    fitted: dict | None


def shapes(
    table: Literal["steps", "shapes"],
    minutes: float = 4.0,
    objects: str = "cube,cone",
    images: int = 500,
    output: str = "runs/shapes",
) -> list[str]:
    """Train, evaluate and write one table.

    Args:
        table: a key of `TABLES`.
        minutes: processor time of each training.
        objects: shapes, separated by commas.
        images: test images.
        output: folder of the runs and the table.

    Returns:
        The lines of the table.
    """
    directory = Path(output)
    shared = f"--runs {directory} --accelerator cpu --logger none"
    results: dict[str, dict[str, Result]] = {}
    for number, (name, flags) in enumerate(TABLES[table].items()):
        for shape in objects.split(","):
            run = directory / f"{table}-{minutes:g}min-{number}-{shape}"
            _train(shape, f"{flags} {shared} --run-id {run.name}".split(), minutes, run)
            results.setdefault(name, {})[shape] = _result(run, shape, images)
            lines = _lines(results, minutes, images)
            (directory / f"{table}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return lines


def _train(shape: str, flags: list[str], minutes: float, run: Path) -> None:
    """Train for as many steps as the time allows."""
    budget = run.with_name(f"{run.name}.json")
    if not budget.is_file():
        cost = _cost(["shapes", shape, *flags])
        steps = max(1, round(60 * minutes / cost))
        log.info("%s: %.0f ms per step, %d steps", run.name, 1e3 * cost, steps)
        budget.parent.mkdir(parents=True, exist_ok=True)
        budget.write_text(json.dumps({"seconds_per_step": cost, "steps": steps}))
    steps = json.loads(budget.read_text())["steps"]
    warm_up = round(_WARM_UP_SHARE * steps)
    schedule = ["--max-steps", str(steps), "--warmup-steps", str(warm_up)]
    train(parse_args(["shapes", shape, *flags, *schedule]))


def _cost(arguments: list[str]) -> float:
    """Processor seconds of a training step, images included."""
    config = settings_of(args := parse_args([*arguments, "--num-workers", "0"]))
    source = source_of(args, config)
    items = source.training_items(crop_settings(config, source, training=True))
    info = object_info(source, config.network)
    module = make_module(build_model(config.network, info, source), info, source, config)
    data = StreamData(items, items, config.data, config.optim, config.seed)
    return step_seconds(module, data, time.process_time, accelerator="cpu")[0]


def _result(run: Path, shape: str, images: int) -> Result:
    """Evaluate a finished run; the paper's protocol has no temperatures."""
    raw = evaluate(str(run), limit=images, paper_protocol=True)
    record = ModelBundle.from_pretrained(run / "bundle").record
    fitted = None
    if not record["config"]["last_level_only"]:
        if "calibration" not in record:
            calibrate(str(run))
        fitted = evaluate(str(run), limit=images)["metrics"]["all"]
    depth = record["config"]["depth"]
    return Result(
        steps=record["steps"],
        batch_size=record["config"]["batch_size"],
        depth=depth,
        ceiling=ceiling(shape, depth),
        raw=raw["metrics"]["all"],
        fitted=fitted,
    )


def ceiling(shape: str, depth: int) -> float:
    """Log-likelihood over uniform that no network of some depth can exceed, nats.

    The best distribution over cells gives each the share of the equivalent rotations it holds.

    Args:
        shape: without a mark.
        depth: levels.
    """
    symmetries = torch.from_numpy(make_shape(shape).symmetries)
    total = 0.0
    for rotation in torch.from_numpy(uniform_rotations(_CEILING_IMAGES, TEST_SEED)):
        cells = so3_grid.index((rotation @ symmetries).float(), depth - 1)
        share = cells.unique(return_counts=True)[1] / len(symmetries)
        total += math.log(so3_grid.cell_count(depth - 1)) + float((share * share.log()).sum())
    return total / _CEILING_IMAGES


def _lines(results: dict[str, dict[str, Result]], minutes: float, images: int) -> list[str]:
    """The table in Markdown."""
    objects = list(next(iter(results.values())))
    lines = [
        f"{minutes:g} min of processor time per training on {provenance.hardware('cpu')}, seed 0; "
        f"{images} test images, beam 512. LL over uniform in nats ± standard error, its ceiling in "
        "brackets; 90 %: share of truths in the 90 % region. T: with temperatures.",
        "",
        "| | steps x images | "
        + " | ".join(f"{o}: LL | {o}: LL, T | {o}: 90 %, T" for o in objects)
        + " |",
        "|---" * (2 + 3 * len(objects)) + "|",
    ]
    for name, row in results.items():
        cells = []
        for result in row.values():
            cells += [f"{_ll(result.raw)} ({result.ceiling:.2f})"]
            fitted = result.fitted
            cells += [_ll(fitted), f"{fitted['coverage']['0.9']:.0%}"] if fitted else ["-", "-"]
        steps = ", ".join(f"{result.steps} x {result.batch_size}" for result in row.values())
        lines.append(f"| {name} | {steps} | " + " | ".join(cells) + " |")
    return lines


def _ll(summary: dict) -> str:
    mean, error = summary["ll_uniform_zero"]
    return f"{mean:.2f} ± {error:.2f}"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(shapes)
