"""The report as figures."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.bench import stages

_BLUE, _ORANGE, _GREEN, _GREY = "#2d6cdf", "#e08a1e", "#3c9d5d", "#8a8f99"
_COLOURS = {"reference": _GREY, "this search": _BLUE, "full beam": _ORANGE}
_PARTS = ("look-up", "MLP", "other scoring", "selection")


def draw_stages(report: dict, path: Path) -> None:
    """Draw a bar for each stage's median; levels are split into their parts."""
    found = report["stages"]
    names, bars = [], []
    for stage, times in found.items():
        words = stage.split()
        if words[0] != "level":
            names.append(stage)
            bars.append({"stage": times["median_s"]})
        elif words[2] == "scoring":
            level = int(words[1])
            shares = report["scoring_shares"][str(level)]
            kinds = (stages.GATHER, stages.MLP, stages.PROJECTION)
            parts = [shares[kind] * times["median_s"] for kind in kinds]
            parts.append(found[stages.selection(level)]["median_s"])
            names.append(f"level {level}: {report['poses'][level]:,} poses")
            bars.append(dict(zip(_PARTS, parts, strict=True)))
    colours = dict(zip(("stage", *_PARTS), (_GREY, _GREEN, _BLUE, "#9dbcf2", _ORANGE), strict=True))
    figure, axes = plt.subplots(figsize=(8, 0.34 * len(names) + 1.5), layout="constrained")
    for row, parts in enumerate(bars):
        left = 0.0
        for part, seconds in parts.items():
            axes.barh(row, 1e3 * seconds, left=left, color=colours[part], height=0.7)
            left += 1e3 * seconds
        axes.text(left, row, f" {left:.1f}", va="center", fontsize=8, color="#464a52")
    for part in _PARTS:
        axes.barh(0, 0, color=colours[part], label=part)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set(xlabel="ms, median", title=f"one detection, {report['network']}, {report['device']}")
    axes.legend(title="levels", loc="lower right", fontsize=8)
    _plain(axes)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_curves(report: dict, path: Path) -> None:
    """Draw a panel for each curve: medians with quartiles."""
    curves = list(report["curves"].values())
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(4.2 * columns, 3.4 * rows), layout="constrained", squeeze=False
    )
    panels = list(grid.flat)
    for axes, curve in zip(panels, curves, strict=False):
        _curve(axes, curve)
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    figure.suptitle(f"{report['network']}, {report['machine'].partition(';')[0]}", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _curve(axes, curve: dict) -> None:
    x = [max(value, 3e-4) for value in curve["x"]]  # a tolerance of 0 on a logarithmic axis
    others = iter((_BLUE, _ORANGE, _GREEN))
    for name, series in curve["times"].items():
        points = [(v, t) for v, t in zip(x, series, strict=True) if t is not None]
        medians = [1e3 * t["median_s"] for _, t in points]
        low = [m - 1e3 * t["quartiles_s"][0] for m, (_, t) in zip(medians, points, strict=True)]
        high = [1e3 * t["quartiles_s"][1] - m for m, (_, t) in zip(medians, points, strict=True)]
        colour = _COLOURS.get(name) or next(others)
        spread = [[max(0.0, v) for v in side] for side in (low, high)]
        axes.errorbar(
            [v for v, _ in points], medians, spread, fmt="o-", ms=4, lw=1.3, color=colour,
            label=name,
        )  # fmt: skip
    if curve["logarithmic"]:
        axes.set_xscale("log")
    axes.set_xticks(x, [f"{value:g}" for value in curve["x"]])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set(xlabel=curve["label"], ylabel="ms", title=curve["title"])
    if "difference" in curve["extra"]:
        _log_likelihoods(axes, curve, x)
    elif len(curve["times"]) > 1:
        axes.legend(fontsize=8)
    _plain(axes)


def _log_likelihoods(axes, curve: dict, x: list[float]) -> None:
    """Draw what the setting costs, on an axis of its own."""
    right = axes.twinx()
    extra = curve["extra"]
    right.errorbar(
        x, extra["difference"], extra["standard_error"], fmt="s--", ms=4, lw=1, color=_GREEN
    )
    right.set_ylabel("log-likelihood minus the reference's, nats", color=_GREEN, fontsize=8)
    right.spines[["top"]].set_visible(False)


def _plain(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="0.92", lw=0.6)
    axes.set_axisbelow(True)
