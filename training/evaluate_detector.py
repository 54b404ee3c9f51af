"""Evaluate a detector: `python -m training.evaluate_detector RUN_ID_OR_BUNDLE`.

On renderings that no training has drawn, or with --dataset lmo on photographs. Writes
report_detector_<data>_<split>.json and .md next to the bundle, and keeps the numbers in its
detector.json, unless it is on the hub, among them how far the boxes are off.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Literal

from spyropose_ros.core.bundle_files import is_hub_id
from spyropose_ros.core.errors import DataError
from spyropose_ros.core.files import write_text
from training import cli, runs
from training.detector.config import MIN_VISIBLE

log = logging.getLogger(__name__)


def evaluate_detector(
    run_or_bundle: str,
    dataset: Literal["rendered", "lmo"] = "rendered",
    split: Literal["test", "dev"] = "test",
    min_visible: float = MIN_VISIBLE,
    images: int = 500,
    seed: int = 1,
    device: str | None = None,
    data_root: str = "data",
    output: str | None = None,
) -> dict:
    """Evaluate a detector and write the report.

    Args:
        run_or_bundle: run id, folder of a bundle, or hub id.
        dataset: rendered, the objects of the training in renderings, or lmo, photographs.
        split: half of the photographs.
        min_visible: share of an object that must be visible for it to count.
        images: most images.
        seed: of the renderings.
        device: where to run.
        data_root: where data sets lie.
        output: folder of the report; next to the bundle by default.

    Returns:
        The report.

    Raises:
        BundleError: missing, damaged or foreign, with the reason.
        DataError: the bundle does not say what it was trained on.
        MissingFileError: pycocotools or the photographs are missing.
    """
    from spyropose_ros.detector.detector import Detector
    from training.detector.evaluation import evaluate, report_lines
    from training.detector.photographs import photographs
    from training.detector.renderings import trained_renderings
    from training.evaluation.report import DETECTOR

    detector = Detector.from_pretrained(runs.bundle_directory(run_or_bundle), device)
    bundle = detector.bundle
    if dataset == "rendered":
        if "objects" not in bundle.record:
            raise DataError(
                f"{bundle.name} does not say what it was trained on: evaluate it with --dataset lmo"
            )
        stem, data = "rendered", "renderings"
        shown = trained_renderings(bundle, data_root, seed, images, min_visible)
    else:
        stem, data = f"lmo_{split}", f"photographs of LM-O, {split} half"
        shown = photographs(detector.classes, data_root, split, images, min_visible)
    report = {"data": data, "seed": seed, "min_visible": min_visible} | evaluate(detector, shown)
    directory = Path(output or bundle.name)
    lines = report_lines(report)
    stem = f"{DETECTOR}{stem}" + ("" if min_visible == MIN_VISIBLE else f"_{min_visible:g}")
    write_text(directory / f"{stem}.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_text(directory / f"{stem}.md", "\n".join(lines) + "\n")
    if not is_hub_id(bundle.name):
        bundle.record.setdefault("evaluations", {})[stem] = report
        bundle.save_config(bundle.name)
    for line in lines:
        log.info(line)
    return report


def main() -> None:
    """Run the command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(evaluate_detector)


if __name__ == "__main__":
    main()
