"""Evaluate a model bundle: `python -m training.evaluate models/demo_mug`.

Runs the same `Estimator` as the node on held-out renderings, or on the LM-O photographs, and writes
report.json, report.md and figures next to the bundle (or to --output). Deterministic: the images,
the boxes' noise and the grid's orientation follow from the seed.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from tqdm import tqdm

from spyropose_ros.core.estimator import Estimator, SearchSettings
from training import provenance
from training.data.samples import (
    Sample,
    evaluation_object,
    photograph_samples,
    rendered_samples,
)
from training.metrics import image_metrics, summarise
from training.report import write_report

log = logging.getLogger(__name__)

HANDLE_VISIBLE = 0.05  # share of the visible pixels


def evaluate(
    bundle: str,
    photographs: str | None = None,
    images: int = 500,
    seed: int = 1,
    beam: int = 512,
    mass_tolerance: float = 0.01,
    depth: int | None = None,
    device: str | None = None,
    data_root: str = "data",
    output: str | None = None,
) -> dict:
    """Evaluate a bundle and write the report.

    Args:
        bundle: folder or hub id.
        photographs: "dev" or "test" half of the LM-O photographs; None for held-out renderings.
        images: number of renderings, or at most so many photographs.
        seed: of the renderings and of the boxes' noise.
        beam: most cells expanded per level.
        mass_tolerance: mass that may stay at coarse levels.
        depth: levels; None for all.
        device: where to run.
        data_root: where downloaded data sets lie.
        output: folder of the report; next to the bundle by default.

    Returns:
        The report.
    """
    settings = SearchSettings(beam, mass_tolerance, depth)
    estimator = Estimator.from_pretrained(bundle, device, settings)
    info = estimator.bundle.object
    name = estimator.bundle.record["object"]
    target = evaluation_object(name, data_root)
    samples, identity = _samples(name, photographs, images, seed, data_root)

    estimator.warm_up()
    records = []
    for sample in tqdm(samples, total=images if photographs is None else None, unit="image"):
        started = time.perf_counter()
        pyramid = estimator.search(sample.image, sample.K, sample.box[None])
        seconds = time.perf_counter() - started
        metrics = image_metrics(pyramid, np.array(info.center), info.diameter, sample, target)
        records.append(metrics | {"seconds": seconds})
        if len(records) == images:
            break

    groups = {"all": records}
    if np.isfinite(records[0]["handle_fraction"]):
        seen = [r for r in records if r["handle_fraction"] >= HANDLE_VISIBLE]
        groups["handle visible (>= 5 %)"] = seen
        groups["handle hidden"] = [r for r in records if r["handle_fraction"] == 0]
    groups["visible >= 0.9"] = [r for r in records if r["visible_fraction"] >= 0.9]
    groups["visible < 0.5"] = [r for r in records if r["visible_fraction"] < 0.5]
    report = {
        "object": name,
        "images": identity,
        "seed": seed,
        "search": {"beam": beam, "mass_tolerance": mass_tolerance, "depth": estimator.depth},
        "protocol": "box from the detector's estimate, regular grid, T from validation data",
        "command": provenance.command("training.evaluate"),
        "package_version": provenance.package_version(),
        "git_commit": provenance.git_commit(),
        "hardware": provenance.hardware(str(estimator.device)),
        "seconds_per_image_median": float(np.median([r["seconds"] for r in records])),
        "metrics": {k: summarise(v, target, info.diameter) for k, v in groups.items() if v},
    }
    stem = "report" if photographs is None else f"report_photographs_{photographs}"
    directory = Path(output or estimator.bundle.name)
    write_report(directory, stem, report, records)
    return report


def _samples(
    name: str, photographs: str | None, images: int, seed: int, data_root: str
) -> tuple[Iterator[Sample], str]:
    """Samples and what to call them."""
    if photographs is None:
        text = f"held-out renderings of {name}, stream of seed {seed}"
        return rendered_samples(name, images, seed, data_root), text
    if photographs not in ("dev", "test"):
        raise ValueError(f"photographs must be 'dev' or 'test', got '{photographs}'")
    if not name.startswith("lmo/"):
        raise ValueError(f"there are photographs of LM-O objects only, not of '{name}'")
    text = (
        f"LM-O photographs, {photographs} half, visible >= 10 %, "
        "boxes of the annotated silhouettes with noise"
    )
    return photograph_samples(name, photographs, seed, data_root), text


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    auto_cli(evaluate, as_positional=True)
