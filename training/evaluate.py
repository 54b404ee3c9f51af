"""Evaluate a model: `python -m training.evaluate RUN_ID_OR_BUNDLE --split test`.

Runs the same `Estimator` as the node on an evaluation split and writes, next to the bundle or to
--output, report.json, report.md, report.png, report_predictions.png (report_<split> for splits
other than the first) and, with what no two runs share, report_times.json; prints the numbers that
matter most and a verdict. Deterministic: images, noise and grids follow from the seed. Per-image
records are kept as they come, so that the same command goes on after a kill.
"""

from __future__ import annotations

import logging
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from spyropose_ros.bop.results import BopEstimate, with_image_times, write_results
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.search_settings import SearchSettings
from training import cli, runs
from training.evaluation.records import RecordFile
from training.evaluation.verdict import summary_lines, verdict

if TYPE_CHECKING:
    from training.evaluation.run import Evaluation

log = logging.getLogger(__name__)

HANDLE_VISIBLE = 0.05  # share of the visible pixels


def evaluate(
    run_or_bundle: str,
    split: str | None = None,
    dataset: str | None = None,
    limit: int | None = None,
    seed: int = 1,
    beam: int = 512,
    mass_tolerance: float | None = None,
    depth: int | None = None,
    device: str | None = None,
    data_root: str = "data",
    output: str | None = None,
    paper_protocol: bool = False,
    regular_grid: bool = False,
    exhaustive: bool = False,
    crops: int = 1,
    verify: bool = False,
    ambiguity: bool = False,
    results_csv: str | None = None,
) -> dict:
    """Evaluate a bundle and write the report.

    Args:
        run_or_bundle: run id, folder of a bundle, or hub id.
        split: of the data set; its first evaluation split by default.
        dataset: another data set that shows the object, in BOP format; that of the training by
            default.
        limit: most images.
        seed: of the images, where they are rendered, and of the boxes' noise.
        beam: most cells expanded per level.
        mass_tolerance: mass that may stay at coarse levels; 0.05 by default, 0 in the paper's
            protocol.
        depth: levels; None for all.
        device: where to run.
        data_root: where data sets lie.
        output: folder of the report; next to the bundle by default.
        paper_protocol: as published: crop and grid around the truth plus noise, the grid turned at
            random, temperatures off, a full beam.
        regular_grid: a cubic grid of translations instead of the frustum-aligned one.
        exhaustive: score every cell of the last level instead of searching, as a baseline.
        crops: of each image, see `SearchSettings.crops`.
        verify: weigh the modes by renderings, see `spyropose_ros.scenes.verification`.
        ambiguity: measure precision and recall against all poses that explain an image, see
            `training.evaluation.ambiguity`.
        results_csv: also write the answers to this file, in the BOP format.

    Returns:
        The report.

    Raises:
        InputError: if the split does not exist or has no image, or if results are asked for where
            only rotations are estimated.
    """
    runs.require_bundle(run_or_bundle)

    from training.evaluation.pictures import draw_predictions
    from training.evaluation.protocol import Protocol
    from training.evaluation.run import Evaluation

    protocol = Protocol(paper_protocol, regular_grid)
    tolerance = protocol.mass_tolerance(mass_tolerance)
    settings = SearchSettings(beam, tolerance, depth, exhaustive, crops)
    evaluation = Evaluation.open(
        run_or_bundle, split, seed, settings, protocol, device, data_root, output, dataset
    )
    source, split = evaluation.source, evaluation.split
    if results_csv is not None and source.rotation_only:
        raise InputError(f"{source.name} has known translations: there is no BOP result of it")
    evaluation = evaluation.verified() if verify else evaluation
    evaluation = evaluation.with_ambiguity() if ambiguity else evaluation
    head = evaluation.head(protocol.describe(evaluation.estimator.bundle, source.rotation_only))
    head |= {"ambiguity": True} if ambiguity else {}
    stem = "report" + ("" if split == source.splits[0] else f"_{split}") + protocol.suffix
    stem += "_exhaustive" * evaluation.estimator.settings.exhaustive + "_verified" * verify
    if verify:
        head["protocol"] += "; modes verified by renderings"
    file = RecordFile(evaluation.directory / f"{stem}.records.jsonl", head)
    _measure(evaluation, limit, file)
    records = file.records[:limit]
    if not records:
        raise InputError(f"{source.name} has no image to evaluate in its split '{split}'")
    if results_csv is not None:
        write_results(results_csv, with_image_times(map(_bop_estimate, records)))
    seconds = (r["seconds"] for r in records)
    picture = evaluation.directory / f"{stem}_predictions.png"
    report = evaluation.write(stem, head, visibility_groups(records), seconds, [picture])
    draw_predictions(picture, evaluation, records)
    _conclude(report, picture.with_name(f"{stem}.md"), picture)
    return report


def _conclude(report: dict, text: Path, picture: Path) -> None:
    """Print the essence of a report, where it is, and what to think of it."""
    for line in ("", *summary_lines(report)):
        log.info(line)
    log.info("%-16s%s, %s", "report", text, picture.name)
    log.info("%-16s%s", "verdict", verdict(report))


def _measure(evaluation: Evaluation, limit: int | None, file: RecordFile) -> None:
    """Search every sample that has no record yet, and record its metrics."""
    done, seed = len(file.records), evaluation.seed
    samples = evaluation.source.samples(evaluation.split, seed)
    rest = islice(samples, done, None if limit is None else max(done, limit))
    for sample in tqdm(rest, initial=done, total=limit, unit="image"):
        started = time.perf_counter()
        pyramid = evaluation.protocol.search(evaluation.estimator, sample, seed)
        seconds = time.perf_counter() - started
        identity = {"scene": sample.scene_id, "image": sample.image_id, "object": sample.object_id}
        file.append(evaluation.metrics(pyramid, sample) | identity | {"seconds": seconds})


def visibility_groups(records: list[dict]) -> dict[str, list[dict]]:
    """Return all records, and their parts by visibility that are neither empty nor everything."""
    groups = {
        "visible >= 0.9": [r for r in records if r["visible_fraction"] >= 0.9],
        "visible >= 0.5": [r for r in records if r["visible_fraction"] >= 0.5],
        "visible < 0.5": [r for r in records if r["visible_fraction"] < 0.5],
    }
    handle = [r for r in records if r["handle_fraction"] is not None]
    groups["handle visible (>= 5 %)"] = [
        r for r in handle if r["handle_fraction"] >= HANDLE_VISIBLE
    ]
    groups["handle hidden"] = [r for r in handle if r["handle_fraction"] == 0]
    parts = {name: part for name, part in groups.items() if 0 < len(part) < len(records)}
    return {"all": records} | parts


def _bop_estimate(record: dict) -> BopEstimate:
    """Return the leading mode, its mass as the score."""
    return BopEstimate(
        record["scene"],
        record["image"],
        record["object"],
        record["mode_mass"],
        np.array(record["R"]),
        np.array(record["t"]),
        record["seconds"],
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(evaluate, kept="what is done is kept: the same command goes on")
