"""Write a bundle's model card from its record and reports: `python -m training.card BUNDLE`.

The card (README.md beside the weights) holds nothing that was not recorded by the training or
measured by the evaluation.
"""

import json
from pathlib import Path

import yaml
from jsonargparse import auto_cli

from spyropose_ros.core.bundle import WEIGHTS, ModelBundle
from training.report import metrics_table


def write_card(bundle: str, note: str = "") -> Path:
    """Write README.md.

    Args:
        bundle: folder with the bundle and at least one report*.json of `training.evaluate`.
        note: a paragraph on what the model is for.

    Returns:
        Path of the card.

    Raises:
        FileNotFoundError: if there is no report.
    """
    directory = Path(bundle)
    loaded = ModelBundle.from_pretrained(directory)
    reports = sorted(directory.glob("report*.json"))
    if not reports:
        raise FileNotFoundError(
            f"{directory} has no report*.json: run python -m training.evaluate {directory} first"
        )
    record, info = loaded.record, loaded.object
    n_parameters = sum(p.numel() for p in loaded.model.parameters())
    size = (directory / WEIGHTS).stat().st_size / 1e6
    lines = [
        f"# {directory.name}",
        "",
        *([note, ""] if note else []),
        f"Pose distributions of `{info.name}` (bounding sphere {info.diameter:.4f} m), "
        f"{loaded.model.config.depth} levels, {n_parameters / 1e6:.2f} M parameters, "
        f"{size:.1f} MB. Trained on renderings only.",
        "",
        "## Training",
        "",
        f"- command: `{record['command']}`",
        f"- seed {record['config']['seed']}, {record['steps']} steps of "
        f"{record['config']['optim']['batch_size']} images",
        f"- hardware: {record['hardware']}",
        f"- wall time: {record['seconds'] / 60:.0f} min",
        f"- package version {record['package_version']}, commit {record['git_commit']}",
        f"- temperatures per level: {loaded.temperatures} "
        f"(`python -m training.calibrate {directory}`)",
        "",
    ]
    for path in reports:
        report = json.loads(path.read_text())
        lines += [f"## {report['images'][0].upper()}{report['images'][1:]}", ""]
        lines += [*metrics_table(report), "", f"![figures]({path.stem}.png)", ""]
    lines += ["## Settings", "", "```yaml", yaml.safe_dump(record["config"]).strip(), "```", ""]
    card = directory / "README.md"
    card.write_text("\n".join(lines))
    return card


if __name__ == "__main__":
    auto_cli(write_card, as_positional=True)
