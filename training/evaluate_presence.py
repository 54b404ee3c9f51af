"""Judge a bundle's presence: `python -m training.evaluate_presence RUN_ID_OR_BUNDLE`.

On renderings that neither the training nor the fit has drawn, or on photographs (--split). Writes
presence_<split>.json, .md and .png next to the bundle.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.files import write_text
from training import cli, provenance, runs

log = logging.getLogger(__name__)


def evaluate_presence(
    run_or_bundle: str,
    split: str = "renderings",
    images: int = 500,
    things: int = 1,
    seed: int = 1,
    device: str | None = None,
    data_root: str = "data",
    output: str | None = None,
) -> dict:
    """Evaluate a bundle's presence and write the report.

    Args:
        run_or_bundle: run id, folder of a bundle, or hub id.
        split: "renderings", or photographs such as LM-O's "dev" and "test", whose other annotated
            objects are what the object must be told from.
        images: number of renderings.
        things: most in a rendering; several hide parts of each other, as in those of the fit.
        seed: of the images and boxes.
        device: where to run.
        data_root: where data sets lie.
        output: folder of the report; next to the bundle by default.

    Returns:
        The report.

    Raises:
        InputError: the bundle has no presence, or there is no such split.
    """
    runs.require_bundle(run_or_bundle)

    from training.data.streams import TEST
    from training.evaluation.report import PRESENCE
    from training.presence.crops import look_at
    from training.presence.evaluation import draw, report_lines, summarise
    from training.presence.shown import renderings
    from training.presence.subject import open_subject

    subject = open_subject(run_or_bundle, device, data_root)
    source, bundle = subject.source, subject.estimator.bundle
    if bundle.presence is None:
        raise InputError(
            f"{bundle.name} has no presence: fit it with "
            f"'{runs.next_command('fit_presence', Path(bundle.name))}'"
        )
    if split == "renderings":
        shown = renderings(source, seed, TEST, images, things)
    else:
        shown = subject.photographs(split, seed)
    crops = look_at(subject.estimator, shown)
    data = f"{source.name}, {split}" + (f" of up to {things} things" if things > 1 else "")
    head = {"name": bundle.object.name, "data": data, "seed": seed}
    head |= {"command": provenance.command(), "git_commit": provenance.git_commit()}
    report = head | summarise(bundle.presence, crops)
    stem = Path(output or bundle.name) / f"{PRESENCE}{split}"
    lines = [*report_lines(report), "", f"![figures]({stem.name}.png)"]
    write_text(stem.with_suffix(".json"), json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_text(stem.with_suffix(".md"), "\n".join(lines) + "\n")
    draw(stem.with_suffix(".png"), bundle.presence, crops)
    for line in report_lines(report):
        log.info(line)
    return report


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(evaluate_presence)
