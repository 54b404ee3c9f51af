"""Evaluation reports: JSON for machines, Markdown and figures for people.

<stem>.json holds only what the same evaluation gives again, byte by byte; times, hardware and the
command line are in <stem>_times.json. The Markdown shows both.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spyropose_ros.core.files import write_bytes, write_text
from training import markdown
from training.evaluation.verdict import verdict

COVERAGES = (0.5, 0.8, 0.9, 0.95)
ACCURACIES = (5, 10, 15, 30)
"""What the tables show: mass of highest-density regions, rotation errors in degrees."""

_CURVE = np.linspace(0.05, 0.95, 19)
_TIMES = "_times"
DETECTOR = "report_detector_"
"""Prefix of the names of a detector's reports, which may lie in the same folder."""

PRESENCE = "presence_"
"""Prefix of the names of presence's reports."""


def write_report(
    directory: Path,
    stem: str,
    report: dict,
    times: dict,
    records: list[dict],
    pictures: Sequence[Path] = (),
) -> None:
    """Write <stem>.json, <stem>_times.json, <stem>.md and <stem>.png.

    Args:
        directory: created when missing.
        stem: of the file names.
        report: as `training.evaluate.evaluate` returns it.
        times: what differs from run to run.
        records: per-image metrics, for the figure.
        pictures: of single images, in the same folder.
    """
    for name, content in ((stem, report), (stem + _TIMES, times)):
        text = json.dumps(content, indent=1, allow_nan=False)
        write_text(directory / f"{name}.json", text + "\n")
    lines = [f"# {title(report)}", ""]
    if "groups" not in report:  # what is calibrated is a single view
        lines += [f"Verdict: {verdict(report)}.", ""]
    lines += [*report_lines(report, times), "", f"![figures]({stem}.png)", ""]
    lines += [f"![predictions]({picture.name})\n" for picture in pictures]
    write_text(directory / f"{stem}.md", "\n".join(lines))
    _figure(directory / f"{stem}.png", report, records)


def find_reports(directory: Path) -> list[Path]:
    """Return a pose model's report*.json files in a folder, without those of times, by name."""
    found = sorted(directory.glob("report*.json"))
    others = [path for path in found if path.stem.startswith(DETECTOR)]
    return [path for path in found if path not in others and not path.stem.endswith(_TIMES)]


def read_report(path: Path) -> tuple[dict, dict]:
    """Return a report, and times, hardware and command of the evaluation; {} if those are gone."""
    times = path.with_name(f"{path.stem}{_TIMES}.json")
    return json.loads(path.read_text()), json.loads(times.read_text()) if times.is_file() else {}


def title(report: dict) -> str:
    """Return what was evaluated on what."""
    return f"{report['object']}: {report['data']}, {report['split']} split"


def _pair(value: list) -> str:
    """Format mean and standard error."""
    mean, error = value
    return f"{mean:.2f}" if error is None else f"{mean:.2f} ± {error:.2f}"


_ROWS = (
    ("images", "images", "{:d}".format),
    ("LL (uniform = 0)", "ll_uniform_zero", _pair),
    ("LL (pi^2)", "ll_pi2", _pair),
    ("LL (pi^2) of the uniform distribution", "ll_of_uniform_pi2", "{:.2f}".format),
    ("truth inside the box", "inside_box", "{:.1%}".format),
    ("spread, mean (deg)", "spread_mean_deg", "{:.2f}".format),
    ("rotation error of the mode, median (deg)", "rotation_median_deg", "{:.2f}".format),
    ("... of the densest leaf", "densest_rotation_median_deg", "{:.2f}".format),
    ("... of the best mode", "best_mode_rotation_median_deg", "{:.2f}".format),
    *((f"Acc@{a} deg", f"acc_{a}", "{:.1%}".format) for a in ACCURACIES),
    ("lateral error, median (m)", "lateral_median_m", "{:.4f}".format),
    ("lateral error, median (of the diameter)", "lateral_median_of_diameter", "{:.2%}".format),
    ("depth error, median (m)", "depth_median_m", "{:.4f}".format),
    ("ADD(-S) recall at 0.1 d", "add_recall_0.1d", "{:.1%}".format),
    ("MSSD recall", "mssd_recall", "{:.3f}".format),
    ("MSPD recall", "mspd_recall", "{:.3f}".format),
    ("mean of MSSD and MSPD recall", "mssd_mspd_mean", "{:.3f}".format),
    ("entropy, mean (nats)", "entropy_mean", "{:.2f}".format),
    (
        "entropy against visible fraction, Spearman",
        "entropy_visible_spearman",
        "{:.2f}".format,
    ),
    ("entropy about the object's z axis, mean (nats)", "axis_entropy_mean", "{:.2f}".format),
    ("admissible poses, median", "admissible_median", "{:.0f}".format),
    ("precision by surface distance (MSD)", "msd_precision", "{:.3f}".format),
    ("recall by surface distance (MSD)", "msd_recall", "{:.3f}".format),
    ("precision by projected distance (MPD)", "mpd_precision", "{:.3f}".format),
    ("recall by projected distance (MPD)", "mpd_recall", "{:.3f}".format),
    ("modes, mean", "modes_mean", "{:.2f}".format),
    ("mass left unexpanded, mean", "unexpanded_mass_mean", "{:.4f}".format),
    ("evaluations per image, mean", "evaluations_mean", "{:.0f}".format),
)


def report_lines(report: dict, times: dict) -> list[str]:
    """Return Markdown lines: how the numbers were made, all metrics of all groups, LL per level."""
    return [
        f"{report['protocol'][0].upper()}{report['protocol'][1:]}. Search: "
        f"{', '.join(f'{key} {value}' for key, value in report['search'].items())}; "
        f"seed {report['seed']}.",
        f"Command: `{times.get('command', 'not kept')}` (version {report['package_version']}, "
        f"commit {report['git_commit']}, {times.get('hardware', 'unknown hardware')}).",
        *_speed(times),
        "",
        *metrics_table(report["metrics"]),
        "",
        *_level_table(report),
    ]


def _speed(times: dict) -> list[str]:
    if not times:
        return []
    return [f"Time per search (median): {times['seconds_per_search_median']:.3f} s."]


def metrics_table(groups: dict[str, dict]) -> list[str]:
    """Return a Markdown table of summaries: a row per metric, a column per group."""
    rows = []
    for label, key, show in _ROWS:
        values = [group.get(key) for group in groups.values()]
        if any(value is not None for value in values):
            rows.append([label, *("-" if v is None else show(v) for v in values)])
    for mass in COVERAGES:
        shares = (f"{group['coverage'][str(mass)]:.1%}" for group in groups.values())
        rows.append([f"coverage of the {mass:.0%} region", *shares])
    return markdown.table(["", *groups], rows)


def levels_of(curve: list, depth: int) -> range:
    """Return the levels of a pyramid that have a value: all, or the last if there was no search."""
    return range(depth - len(curve), depth)


def _level_table(report: dict) -> list[str]:
    """Return a Markdown table of the first group's LL as the pyramid grows."""
    (name, group), *_ = report["metrics"].items()
    depth = report["search"]["depth"]
    zero, pi2 = group["ll_uniform_zero_per_level"], group["ll_pi2_per_level"]
    rows = ("LL (uniform = 0)", *map(_pair, zero)), ("LL (pi^2)", *map(_pair, pi2))
    return markdown.table([f"level, {name}", *map(str, levels_of(zero, depth))], rows)


def _figure(path: Path, report: dict, records: list[dict]) -> None:
    """Draw calibration, LL over levels, entropy: its histogram and against what is visible."""
    from matplotlib.figure import Figure

    has_handle = records[0]["handle_fraction"] is not None
    visible = "handle_fraction" if has_handle else "visible_fraction"
    fractions = [r[visible] for r in records]
    count = 4 if min(fractions) < max(fractions) else 3  # of a solid, all is visible in all images
    figure = Figure(figsize=(17 / 4 * count, 4), layout="constrained")
    calibration, levels, histogram, *ambiguity = figure.subplots(1, count)
    rank = np.array([r["truth_rank"] for r in records])
    calibration.plot([0, 1], [0, 1], color="0.7", lw=1)
    calibration.plot(_CURVE, [(rank < c).mean() for c in _CURVE], "o-", ms=3)
    calibration.set(
        xlabel="mass of the highest-density region",
        ylabel="share of truths inside",
        title="calibration",
        aspect="equal",
    )
    for name, group in report["metrics"].items():
        mean, error = np.array(group["ll_uniform_zero_per_level"], dtype=float).T
        at = levels_of(mean, report["search"]["depth"])
        levels.errorbar(at, mean, error, fmt="o-", ms=3, label=name)
    levels.set(xlabel="level", ylabel="LL (uniform = 0), nats", title="LL over levels")
    levels.legend(fontsize=8)
    histogram.hist([r["entropy"] for r in records], bins=30)
    histogram.set(xlabel="entropy, nats", ylabel="images", title="entropy")
    key, label = (
        ("axis_entropy", "entropy about z, nats") if has_handle else ("entropy", "entropy, nats")
    )
    for axes in ambiguity:
        axes.scatter(fractions, [r[key] for r in records], s=6, alpha=0.5)
        axes.set(xlabel=visible.replace("_", " "), ylabel=label, title="ambiguity")
    image = io.BytesIO()
    figure.savefig(image, dpi=110)
    write_bytes(path, image.getvalue())
