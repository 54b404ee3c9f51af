"""The report as text."""

import statistics
from operator import truediv

from benchmarks.bench import baselines, stages
from benchmarks.bench.table import Table, count, milliseconds, percent

_BOTH = ("search", "with_backbone")
_NAMES = {
    "ll_uniform_zero": "mean log-likelihood, nats",
    "difference": "difference, nats",
    "standard_error": "its standard error",
    "mean_poses": "poses, mean of the images",
    "poses": "poses",
}


def render(report: dict) -> str:
    """Render the whole table."""
    parts = [_head(report), _stages(report), _bound(report), _against(report)]
    if report["memory"]:
        parts.append(_memory(report))
    parts += [_curve(curve) for curve in report["curves"].values()]
    return "\n\n".join([*parts, _summary(report)])


def _head(report: dict) -> str:
    settings, (height, width) = report["settings"], report["image_size"]
    levels, trained = report["levels"], report["trained_levels"]
    lines = [
        f"{report['network']}: {levels} levels, {report['keypoints']} keypoints; beam "
        f"{settings['beam']}, mass tolerance {settings['mass_tolerance']:g}",
        f"one detection in an image of {width} x {height}",
        report["machine"],
    ]
    if levels > trained:
        lines.append(f"levels from {trained} on use the last head again: for times only")
    return "\n".join(lines)


def _quartiles(times: dict) -> str:
    low, high = times["quartiles_s"]
    return f"{milliseconds(low)} - {milliseconds(high)}"


def _stages(report: dict) -> str:
    """Render a row per stage and per level."""
    table = Table(27, (8, 17, 7, 8, 7, 7, 8, 9))
    table.header(
        "ms", "median", "quartiles", "share", "look-up", "MLP", "other", "select", "of bound"
    )
    found, bound = report["stages"], report["bound"]["parts"]
    total = sum(times["median_s"] for times in found.values())
    for stage, times in found.items():
        share = percent(times["median_s"] / total)
        words = stage.split()
        if words[0] != "level":
            reached = [percent(bound[stage]["reached"])] if stage in bound else []
            blanks = [""] * (4 * len(reached))
            cells = milliseconds(times["median_s"]), _quartiles(times), share
            table.row(stage, *cells, *blanks, *reached)
        elif words[2] == "scoring":
            selected = found[stages.selection(int(words[1]))]
            table.row(*_level(report, int(words[1]), times, selected, total))
    for stage in () if report["ros"] else (stages.DECODE, stages.MESSAGE):
        table.row(stage, "not measured: no ROS 2")
    table.row("sum", milliseconds(total), "", "100 %")
    whole = report["end_to_end"]
    table.row("end to end, not watched", milliseconds(whole["median_s"]), _quartiles(whole))
    return "\n".join(table.lines)


def _level(report: dict, level: int, scored: dict, selected: dict, total: float) -> tuple[str, ...]:
    """Return the cells of a level's row."""
    both = scored["median_s"] + selected["median_s"]
    quartiles = zip(scored["quartiles_s"], selected["quartiles_s"], strict=True)
    shares = report["scoring_shares"][str(level)]
    parts = [shares[kind] * scored["median_s"] for kind in (stages.GATHER, stages.MLP)]
    parts += [shares[stages.PROJECTION] * scored["median_s"], selected["median_s"]]
    return (
        f"level {level}, {report['poses'][level]:,} poses",
        milliseconds(both),
        " - ".join(milliseconds(sum(pair)) for pair in quartiles),
        percent(both / total),
        *map(milliseconds, parts),
        percent(report["bound"]["parts"][f"level {level}"]["reached"]),
    )


def _bound(report: dict) -> str:
    bound = report["bound"]
    table = Table(38, (12, 12, 12, 12, 12))
    table.header("lower bound", "GMAC", "MB", "bound ms", "measured", "reached")
    for name, row in bound["parts"].items():
        if not name.startswith("level"):
            table.row(
                name,
                f"{row['macs'] / 1e9:.3f}",
                f"{row['bytes'] / 1e6:.1f}",
                milliseconds(row["bound_s"]),
                milliseconds(row["measured_s"]),
                percent(row["reached"]),
            )
    table.lines.append(
        f"measured here: {bound['macs_per_s'] / 1e9:,.1f} GMAC/s ({bound['dtype']} matrices), "
        f"{bound['copied_bytes_per_s'] / 1e9:,.1f} GB/s copied"
    )
    return "\n".join(table.lines)


def _against(report: dict) -> str:
    table = Table(38, (14, 12, 12, 11, 11))
    table.header("in the same minutes", "poses", "search ms", "+ backbone", "faster", "with b.")
    for depth, searches in report["against"]["searches"].items():
        by_name = {baseline["name"]: baseline for baseline in searches}
        reference = by_name.get(baselines.REFERENCE)
        for name, baseline in by_name.items():
            _baseline(table, f"{name}, depth {depth}", baseline, reference)
    for baseline in report["against"]["others"]:
        _baseline(table, baseline["name"], baseline, None)
    table.lines.append(
        "faster: than the reference of that depth, search alone; with b.: backbone too"
    )
    if any(r["extrapolated_from_poses"] for r in report["against"]["others"]):
        table.lines.append("* extrapolated from the time of fewer poses")
    return "\n".join(table.lines)


def _baseline(table: Table, name: str, baseline: dict, reference: dict | None) -> None:
    mark = "*" if baseline["extrapolated_from_poses"] else ""
    whole = baseline["with_backbone"]
    cells = [
        count(baseline["poses"]),
        milliseconds(baseline["search"]["median_s"]) + mark,
        milliseconds(whole and whole["median_s"]) + mark if whole else "-",
    ]
    if reference is not None and baseline is not reference:
        cells += [f"{ratio:.1f} x" for ratio in speed_ups(baseline, reference)]
    table.row(name, *cells)


def speed_ups(baseline: dict, reference: dict) -> tuple[float, float]:
    """Return how many times faster than the reference: the search alone, and with the backbone.

    Medians over the rounds in which they alternated: what slows one round down slows both.
    """
    pairs = [(reference[key]["seconds"], baseline[key]["seconds"]) for key in _BOTH]
    return tuple(statistics.median(map(truediv, *pair)) for pair in pairs)


def _memory(report: dict) -> str:
    table = Table(62, (12,))
    where = "device" if report["device"].startswith("cuda") else "resident"
    table.header(f"peak {where} memory of a search above the weights", "MB")
    for name, megabytes in report["memory"].items():
        table.row(name, "not measured" if megabytes is None else f"{megabytes:,.0f}")
    return "\n".join(table.lines)


def _curve(curve: dict) -> str:
    """Render a curve: values across, series down."""
    table = Table(30, [9] * len(curve["x"]))
    table.header(curve["label"], *(f"{x:g}" for x in curve["x"]))
    for name, series in curve["times"].items():
        cells = [milliseconds(times and times["median_s"]) for times in series]
        table.row(f"{name}, ms", *cells)
    for name, values in curve["extra"].items():
        table.row(_NAMES.get(name, name), *map(_number, values))
    if curve["note"]:
        table.lines.append(curve["note"])
    return "\n".join(table.lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def _summary(report: dict) -> str:
    """Render the main figures, last because the end stays in view."""
    table = Table(62, (18, 18))
    gpu = report["device"].startswith("cuda")
    table.header("summary", "CPU", "GPU")

    def row(name: str, value: str) -> None:
        table.row(name, *(("not measured", value) if gpu else (value, "not measured")))

    for depth, searches in report["against"]["searches"].items():
        by_name = {baseline["name"]: baseline for baseline in searches}
        if baselines.REFERENCE in by_name:
            alone, whole = speed_ups(by_name[baselines.FAST], by_name[baselines.REFERENCE])
            row(f"search against the reference, depth {depth}", f"{alone:.1f} x")
            row(f"the same with the backbone, depth {depth}", f"{whole:.1f} x")
    what = "image message in, result messages out" if report["ros"] else "image in, modes out"
    row(f"{what}, one detection", f"{milliseconds(report['end_to_end']['median_s'])} ms")
    batch = report["curves"].get("batch")
    if batch and 16 in batch["x"]:
        times = next(iter(batch["times"].values()))[batch["x"].index(16)]
        row("16 detections in one image", f"{milliseconds(times['median_s'])} ms")
    memory = report["memory"].get(baselines.FAST)
    if memory is not None:
        row("memory above the weights", f"{memory:,.0f} MB")
    reached = report["bound"]["parts"]["search, all levels"]["reached"]
    row("lower bound over the time of the search", percent(reached))
    table.rule()
    return "\n".join(table.lines)


def render_quality(rows: list[dict], machine: str) -> str:
    """Render the table of `quality.compare`."""
    table = Table(24, (6, 11, 9, 19, 10, 10, 8))
    title = f"{rows[0]['images']} test images"
    table.header(title, "beam", "tolerance", "LL", "difference", "poses", "ms", "faster")
    for row in rows:
        table.row(
            "reference formulation" if row["reference"] else "this search",
            *(f"{row[key]:g}" for key in ("beam", "mass_tolerance")),
            f"{row['ll_uniform_zero']:.3f}",
            "" if row["reference"] else f"{row['difference']:+.4f} ± {row['standard_error']:.4f}",
            f"{row['poses']:,.0f}",
            milliseconds(row["median_s"]),
            "" if row["reference"] else f"{row['times_faster']:.1f}",
        )
    table.rule()
    notes = (
        machine,
        "LL: of the truth, nats above the uniform distribution over the box; difference: this less",
        "the reference on the same images, mean ± standard error; ms: of the search alone; faster:",
        "median ratio of these times",
    )
    return "\n".join([*table.lines, *notes])
