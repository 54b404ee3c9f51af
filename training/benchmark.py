"""Benchmark on real photographs: `python -m training.benchmark lmo`.

Every object is trained and calibrated on renderings (unless a bundle is given or its run exists),
and evaluated on both halves of the photographs. Writes <output>.md with the tables, <output>.csv
and <output>.png.
"""

import csv
import logging
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from spyropose_ros.bop import LMO_OBJECTS
from spyropose_ros.core.errors import InputError
from training import cli, markdown, provenance, runs
from training.calibrate import calibrate
from training.evaluate import evaluate
from training.evaluation.records import read_records
from training.train import parse_args, train

log = logging.getLogger(__name__)

SPLITS = ("dev", "test")
GROUPS = ("visible >= 0.9", "visible >= 0.5", "all")
_COLUMNS = {
    "images": ("images", "{:d}"),
    "Acc@5": ("acc_5", "{:.1%}"),
    "Acc@10": ("acc_10", "{:.1%}"),
    "Acc@15": ("acc_15", "{:.1%}"),
    "Acc@30": ("acc_30", "{:.1%}"),
    "median deg": ("rotation_median_deg", "{:.1f}"),
    "lateral mm": ("lateral_median_m", "{:.1f}"),
    "depth mm": ("depth_median_m", "{:.1f}"),
    "ADD(-S) 0.1d": ("add_recall_0.1d", "{:.1%}"),
    "MSSD": ("mssd_recall", "{:.3f}"),
    "MSPD": ("mspd_recall", "{:.3f}"),
    "LL, uniform = 0": ("ll_uniform_zero", "{:.2f}"),
    "LL pi^2": ("ll_pi2", "{:.2f}"),
    "uniform box's LL pi^2": ("ll_of_uniform_pi2", "{:.2f}"),
    "50 % region": ("coverage/0.5", "{:.1%}"),
    "80 % region": ("coverage/0.8", "{:.1%}"),
    "90 % region": ("coverage/0.9", "{:.1%}"),
    "entropy": ("entropy_mean", "{:.2f}"),
    "entropy-visible rho": ("entropy_visible_spearman", "{:.2f}"),
}
"""Title -> key of the summary and format; lengths in millimetres."""


def benchmark(
    dataset: str,
    objects: str = ",".join(LMO_OBJECTS),
    bundles: str | None = None,
    preset: str = "default",
    beam: int = 512,
    crops: int = 1,
    seed: int = 1,
    device: str | None = None,
    data_root: str = "data",
    output: str = "benchmark_lmo",
) -> Path:
    """Train where needed, evaluate, and write the tables.

    Args:
        dataset: "lmo".
        objects: names, separated by commas.
        bundles: run ids or folders of trained bundles, separated by commas, instead of objects.
            Their temperatures stay as they are.
        preset: of the trainings.
        beam: most cells expanded per level.
        crops: of each image, see `SearchSettings.crops`.
        seed: of the boxes' noise.
        device: where to run.
        data_root: where the data set lies.
        output: path of the written files, without their extensions.

    Returns:
        Path of the Markdown file.

    Raises:
        InputError: another data set, or two bundles of one object.
    """
    if dataset != "lmo":
        raise InputError(f"there is a benchmark of 'lmo' only, not of '{dataset}'")
    if bundles:
        models = bundles.split(",")
    else:
        models = [_trained(name, preset, device, data_root) for name in objects.split(",")]
    objects_of = [_record(model)["object"] for model in models]
    if len(set(objects_of)) < len(models):
        raise InputError(f"one bundle for each object, please; got {', '.join(objects_of)}")
    reports: dict[str, dict[str, dict]] = {}
    for model in models:
        found = {
            split: evaluate(
                model,
                split,
                seed=seed,
                beam=beam,
                crops=crops,
                device=device,
                data_root=data_root,
            )
            for split in SPLITS
        }
        reports[found["test"]["object"]] = found
    path = Path(f"{output}.md")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_text(reports, models, path)) + "\n")
    _write_csv(Path(f"{output}.csv"), reports)
    _figure(Path(f"{output}.png"), reports, models)
    log.info("%s", path.read_text())
    return path


def _record(model: str) -> dict:
    """Return the training record of a run's bundle, or of a bundle's folder."""
    from spyropose_ros.core.bundle import ModelBundle

    return ModelBundle.from_pretrained(runs.bundle_directory(model)).record


def _trained(name: str, preset: str, device: str | None, data_root: str) -> str:
    """Run id of an object's training, which is made or finished if need be."""
    run_id = f"lmo-{name}-{preset}"
    accelerator = "auto" if device is None else device.split(":")[0].replace("cuda", "gpu")
    flags = ["--preset", preset, "--run-id", run_id, "--runs", str(runs.RUNS)]
    flags += ["--accelerator", accelerator, "--data-root", data_root]
    bundle = train(parse_args(["lmo", name, *flags]))
    if "calibration" not in _record(str(bundle)):
        calibrate(run_id, device=device, data_root=data_root, for_photographs=True)
    return run_id


def _value(summary: dict, key: str):
    """Return a number of a summary; lengths in millimetres, means without their standard errors."""
    value: Any = summary
    for part in key.split("/"):
        value = value[part]
    if isinstance(value, list):
        value = value[0]
    return value * 1e3 if key.endswith("_m") else value


def _rows(reports: dict[str, dict[str, dict]]) -> list[tuple[str, str, str, dict]]:
    """Return (split, group, object, summary) in the order of the tables."""
    return [
        (split, group, name, found[split]["metrics"][group])
        for split in reversed(SPLITS)
        for group in GROUPS
        for name, found in reports.items()
        if group in found[split]["metrics"]
    ]


def _text(reports: dict[str, dict[str, dict]], models: list[str], path: Path) -> list[str]:
    """Return the tables in Markdown, with what they were made of."""
    lines = [
        "# LM-O photographs",
        "",
        "Trained on renderings only. The first half of the sorted photographs is dev (looked at "
        "and tuned on), the last half test. Instances visible to at least 10 %; boxes of the "
        "annotated visible silhouettes with seeded noise; visible fractions from renderings of "
        "the annotated objects. Rotations and ADD(-S) modulo symmetry.",
        "",
        f"Command: `{provenance.command()}` (version "
        f"{provenance.package_version()}, commit {provenance.git_commit()}, "
        f"{provenance.hardware()}).",
        "",
    ]
    for model in models:
        record = _record(model)
        fitted = record.get("calibration")
        calibrated = f"temperatures fitted on {fitted['data']}" if fitted else "no temperatures"
        lines.append(
            f"- {record['object']}: {record['steps']} steps of {record['config']['batch_size']} "
            f"images, seed {record['config']['seed']}, {record['seconds'] / 60:.0f} min on "
            f"{record['hardware']}; {calibrated}"
        )
    for (split, group), found in groupby(_rows(reports), itemgetter(0, 1)):
        rows = ([name, *_cells(summary)] for *_, name, summary in found)
        lines += ["", f"## {split}, {group}", "", *markdown.table(["object", *_COLUMNS], rows)]
    return [*lines, "", f"![figures]({path.stem}.png)"]


def _cells(summary: dict) -> Iterator[str]:
    for key, form in _COLUMNS.values():
        value = _value(summary, key)
        yield "-" if value is None else form.format(value)


def _write_csv(path: Path, reports: dict[str, dict[str, dict]]) -> None:
    """Write all numbers, a row per split, group and object."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "group", "object", *_COLUMNS])
        for split, group, name, summary in _rows(reports):
            values = [_value(summary, key) for key, _ in _COLUMNS.values()]
            writer.writerow([split, group, name, *values])


def _figure(path: Path, reports: dict[str, dict[str, dict]], models: list[str]) -> None:
    """Draw accuracy, calibration and entropy against what is visible, on the test half."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    angles = (5, 10, 15, 30)
    middle.plot([0, 1], [0, 1], color="0.7", lw=1)
    for (name, found), model in zip(reports.items(), models, strict=True):
        everything = found["test"]["metrics"]
        seen = everything.get("visible >= 0.5", everything["all"])
        left.plot(angles, [100 * seen[f"acc_{a}"] for a in angles], "o-", ms=4, label=name)
        coverage = everything["all"]["coverage"]
        masses = sorted(coverage, key=float)
        middle.plot([float(m) for m in masses], [coverage[m] for m in masses], "o-", ms=4)
        records = read_records(Path(runs.bundle_directory(model)) / "report.records.jsonl")
        visible = [r["visible_fraction"] for r in records]
        right.scatter(visible, [r["entropy"] for r in records], s=8, alpha=0.6)
    left.set(
        xlabel="rotation error of at most … degrees",
        ylabel="% of the images",
        title="accuracy, visible >= 0.5",
        ylim=(0, 100),
    )
    left.legend()
    middle.set(
        xlabel="mass of the highest-density region",
        ylabel="share of truths inside",
        title="calibration",
        aspect="equal",
    )
    right.set(xlabel="visible fraction", ylabel="entropy, nats", title="ambiguity")
    figure.suptitle("LM-O photographs, test half")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(benchmark, kept="what is trained and evaluated is kept: the same command goes on")
