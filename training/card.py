"""Write a bundle's model card from its record and reports: `python -m training.card BUNDLE`.

The card (README.md beside the weights) holds nothing that was not recorded by the training or
measured by the evaluation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from spyropose_ros.core.bundle_files import WEIGHTS, bundle_name
from spyropose_ros.core.errors import MissingFileError
from training import cli, markdown, runs
from training.evaluation.report import PRESENCE, find_reports, read_report, report_lines, title

if TYPE_CHECKING:
    from spyropose_ros.core.bundle import ModelBundle


def write_card(run_or_bundle: str, note: str = "") -> Path:
    """Write README.md.

    Args:
        run_or_bundle: run id, or folder with the bundle and at least one report*.json of
            `training.evaluate`.
        note: a paragraph on what the model is for.

    Returns:
        Path of the card.

    Raises:
        InputError: if the bundle is on the hub.
        MissingFileError: if there is no report.
    """
    directory = runs.stored_bundle(run_or_bundle)

    from spyropose_ros.core.bundle import ModelBundle

    loaded = ModelBundle.from_pretrained(directory)
    reports = find_reports(directory)
    if not reports:
        raise MissingFileError(
            f"{directory} has no report*.json: run python -m training.evaluate {directory} first"
        )
    record = loaded.record
    lines = [f"# {bundle_name(directory)}", "", *([note, ""] if note else [])]
    lines += [*_model_lines(loaded, directory), "", "## Training", "", *_training_lines(loaded), ""]
    for path in reports:
        report, times = read_report(path)
        lines += [f"## {title(report)}", "", *report_lines(report, times), ""]
        lines += [f"![figures]({path.stem}.png)", ""]
    lines += _presence_lines(directory)
    lines += ["## Settings", "", "```yaml", yaml.safe_dump(record["config"]).strip(), "```", ""]
    card = directory / "README.md"
    card.write_text("\n".join(lines))
    return card


def _model_lines(bundle: ModelBundle, directory: Path) -> list[str]:
    """Return lines on object and size."""
    config, info = bundle.model.config, bundle.object
    parameters = sum(p.numel() for p in bundle.model.parameters())
    kind = "Rotation" if config.rotation_only else "Pose"
    return [
        f"{kind} distributions of `{info.name}` (bounding sphere {info.diameter:.4f} m), "
        f"{config.depth} levels, {parameters / 1e6:.2f} M parameters, "
        f"{(directory / WEIGHTS).stat().st_size / 1e6:.1f} MB. "
        f"Trained on {bundle.record['dataset']}/{bundle.record['object']}."
    ]


def _training_lines(bundle: ModelBundle) -> list[str]:
    """Return lines on how, on what and for how long it was trained."""
    record = bundle.record
    fitted = record.get("calibration")
    temperatures = (
        f"{bundle.temperatures}, fitted on {fitted['images']} {fitted['data']} (seed "
        f"{fitted['seed']}, beam {fitted['beam']})"
        if fitted
        else "off"
    )
    return [
        f"- command: `{record['command']}`",
        f"- seed {record['config']['seed']}, {runs.steps_of(record)} of "
        f"{record['config']['batch_size']} images",
        f"- hardware: {record['hardware']}",
        f"- wall time: {record['seconds'] / 60:.0f} min",
        f"- package version {record['package_version']}, commit {record['git_commit']}",
        f"- temperatures per level: {temperatures}",
        *_earlier_lines(record),
    ]


def _presence_lines(directory: Path) -> list[str]:
    """Return a section that sums up the evaluations of presence, where there are any."""
    rows = []
    for path in sorted(directory.glob(f"{PRESENCE}*.json")):
        found = json.loads(path.read_text())
        told = f"{found['auc']:.3f}", f"{found['ece']:.3f}"
        rows.append((f"[{found['data']}]({path.stem}.md)", *told))
    if not rows:
        return []
    titles = "measured on", "AUC against all else", "calibration error"
    return ["## Presence", "", *markdown.table(titles, rows), ""]


def _earlier_lines(record: dict) -> list[str]:
    """Return the trainings that this one continued from, latest first."""
    lines = []
    earlier = record.get("started_from")
    while earlier:
        lines.append(
            f"- continued from `{earlier['command']}` ({runs.steps_of(earlier)}, "
            f"{earlier['seconds'] / 60:.0f} min, commit {earlier['git_commit']})"
        )
        earlier = earlier.get("started_from")
    return lines


if __name__ == "__main__":
    cli.run(write_card, kept="the card is as it was")
