"""Evaluation reports: JSON for machines, Markdown and figures for people."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from training.metrics import COVERAGES

_CURVE = np.linspace(0.05, 0.95, 19)


def write_report(directory: Path, stem: str, report: dict, records: list[dict]) -> None:
    """Write <stem>.json, <stem>.md and <stem>.png.

    Args:
        directory: created when missing.
        stem: of the file names.
        report: as `training.evaluate.evaluate` returns it.
        records: per-image metrics, for the figure.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    title = f"# {report['object']}: {report['images']}"
    lines = [title, "", *metrics_table(report), "", f"![figures]({stem}.png)", ""]
    (directory / f"{stem}.md").write_text("\n".join(lines))
    _figure(directory / f"{stem}.png", report, records)


_ROWS = (
    ("images", "images", "{:d}"),
    ("LL, uniform box = 0 (nats)", "ll_uniform_zero", "{0[0]:.2f} ± {0[1]:.2f}"),
    ("LL, pi^2 convention x m^3", "ll_pi2", "{:.2f}"),
    ("LL of the uniform box, pi^2 x m^3", "ll_of_uniform_box_pi2", "{:.2f}"),
    ("truth inside the box", "inside_box", "{:.1%}"),
    ("rotation error of the mode, median (deg)", "rotation_median_deg", "{:.2f}"),
    ("rotation error of the best mode, median (deg)", "best_mode_rotation_median_deg", "{:.2f}"),
    ("Acc@5 deg", "acc_5", "{:.1%}"),
    ("Acc@10 deg", "acc_10", "{:.1%}"),
    ("Acc@15 deg", "acc_15", "{:.1%}"),
    ("Acc@30 deg", "acc_30", "{:.1%}"),
    ("spread, mean (deg)", "spread_mean_deg", "{:.2f}"),
    ("lateral error, median (m)", "lateral_median_m", "{:.4f}"),
    ("lateral error, median (of the diameter)", "lateral_median_of_diameter", "{:.2%}"),
    ("depth error, median (m)", "depth_median_m", "{:.4f}"),
    ("ADD(-S) recall at 0.1 d", "add_recall_0.1d", "{:.1%}"),
    ("MSSD recall", "mssd_recall", "{:.3f}"),
    ("MSPD recall", "mspd_recall", "{:.3f}"),
    ("entropy, mean (nats)", "entropy_mean", "{:.2f}"),
    ("entropy about the object's z axis, mean (nats)", "axis_entropy_mean", "{:.2f}"),
    ("modes, mean", "modes_mean", "{:.2f}"),
    ("mass left unexpanded, mean", "unexpanded_mass_mean", "{:.4f}"),
    ("evaluations per image, mean", "evaluations_mean", "{:.0f}"),
)


def metrics_table(report: dict) -> list[str]:
    """Markdown lines: how the numbers were made, and all metrics of all groups."""
    groups = report["metrics"]
    lines = [
        f"Search {report['search']}; {report['protocol']}.",
        f"Command: `{report['command']}` (version {report['package_version']}, commit "
        f"{report['git_commit']}, {report['hardware']}).",
        f"Time per image (median, search included): {report['seconds_per_image_median']:.3f} s.",
        "",
        "| | " + " | ".join(groups) + " |",
        "|---|" + "---|" * len(groups),
    ]
    for label, key, form in _ROWS:
        cells = [form.format(group[key]) for group in groups.values()]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    for mass in COVERAGES:
        cells = [f"{group['coverage'][str(mass)]:.1%}" for group in groups.values()]
        lines.append(f"| coverage of the {mass:.0%} region | " + " | ".join(cells) + " |")
    per_level = groups["all"]["ll_uniform_zero_per_level"]
    lines += [
        "",
        "LL (uniform box = 0) per level, all images: "
        + ", ".join(f"{v:.2f}" for v in per_level)
        + ".",
    ]
    return lines


def _figure(path: Path, report: dict, records: list[dict]) -> None:
    """Calibration, LL over levels, entropy against what is visible."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    rank = np.array([r["truth_rank"] for r in records])
    left.plot([0, 1], [0, 1], color="0.7", lw=1)
    left.plot(_CURVE, [(rank <= c).mean() for c in _CURVE], "o-", ms=3)
    left.set(
        xlabel="mass of the highest-density region",
        ylabel="share of truths inside",
        title="calibration",
        aspect="equal",
    )
    for name, group in report["metrics"].items():
        middle.plot(group["ll_uniform_zero_per_level"], "o-", ms=3, label=name)
    middle.set(xlabel="level", ylabel="LL (uniform box = 0), nats", title="LL over levels")
    middle.legend(fontsize=8)
    has_handle = np.isfinite(records[0]["handle_fraction"])
    key, label = (
        ("axis_entropy", "entropy about z, nats") if has_handle else ("entropy", "entropy, nats")
    )
    x = "handle_fraction" if has_handle else "visible_fraction"
    right.scatter([r[x] for r in records], [r[key] for r in records], s=6, alpha=0.5)
    right.set(xlabel=x.replace("_", " "), ylabel=label, title="ambiguity")
    figure.savefig(path, dpi=110)
    plt.close(figure)
