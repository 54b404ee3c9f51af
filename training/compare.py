"""Tables of many reports: `python -m training.compare RUN ... --output comparison`.

A row per variant, a column per object and their mean; prints the tables and writes <output>.md,
<output>.csv and, with the log-likelihood over the levels of the pyramid, <output>.png.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spyropose_ros.core.errors import DataError, InputError, MissingFileError
from training import cli, markdown, runs
from training.evaluation.report import ACCURACIES, find_reports, levels_of, read_report

METRICS = {
    "LL (uniform = 0)": ("ll_uniform_zero", 1.0),
    "LL (pi^2)": ("ll_pi2", 1.0),
    "LL (pi^2) of the uniform distribution": ("ll_of_uniform_pi2", 1.0),
    "spread (deg)": ("spread_mean_deg", 1.0),
    "median rotation error (deg)": ("rotation_median_deg", 1.0),
    **{f"Acc@{a} deg (%)": (f"acc_{a}", 100.0) for a in ACCURACIES},
    "ADD(-S) recall at 0.1 d (%)": ("add_recall_0.1d", 100.0),
}
"""What is compared: title -> key of the summary and factor."""


@dataclass(frozen=True)
class Entry:
    """One report.

    Attributes:
        variant: row of the tables.
        object_name: column of the tables.
        report: as `training.evaluate` wrote it.
    """

    variant: str
    object_name: str
    report: dict

    @property
    def summary(self) -> dict:
        """Of the first group: all images."""
        return next(iter(self.report["metrics"].values()))

    @property
    def conditions(self) -> tuple[str, str, str]:
        """What must agree for numbers to be compared: data set, split and protocol."""
        dataset = self.report["data"].split("/")[0]
        protocol = self.report["protocol"].split(";")[0]
        return dataset, self.report["split"], protocol

    @property
    def how(self) -> str:
        """What may differ, and should be known where it does."""
        search = self.report["search"]
        cells = "all cells" if search.get("exhaustive") else f"beam {search['beam']}"
        temperatures = self.report["protocol"].rpartition("; ")[2]
        return f"{self.summary['images']} images, {cells}, {search['depth']} levels, {temperatures}"


def compare(reports: list[str], output: str = "comparison") -> list[str]:
    """Print and write the tables.

    Args:
        reports: run ids, bundle folders or report.json files, each with its row's name before a "="
            if that is not to be the variant ("Ours, EMA=cube_ema"). A folder gives its report.json,
            or its only report.
        output: of the files, without extension.

    Returns:
        The Markdown lines.

    Raises:
        MissingFileError: if a report is missing.
        InputError: if two reports are of the same variant and object, or were not made alike.
    """
    entries = [_read(text) for text in reports]
    _check(entries)
    dataset, split, protocol = entries[0].conditions
    lines = [f"# {dataset}, {split} split", "", f"{protocol[0].upper()}{protocol[1:]}.", ""]
    lines += [*_how(entries), ""]
    tables = {
        title: table
        for title, what in METRICS.items()
        if (table := _table(entries, *what)) is not None
    }
    objects = [*_objects(entries), "mean"]
    for title, table in tables.items():
        lines += [f"## {title}", "", *_markdown(objects, table), ""]
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_csv(path.with_name(f"{path.name}.csv"), objects, tables)
    _plot(path.with_name(f"{path.name}.png"), entries)
    lines += [f"![LL over levels]({path.name}.png)", ""]
    path.with_name(f"{path.name}.md").write_text("\n".join(lines))
    print("\n".join(lines))
    return lines


def _read(text: str) -> Entry:
    """Find and read a report."""
    label, _, name = text.rpartition("=")
    path = Path(name)
    if path.suffix != ".json":
        path = Path(runs.bundle_directory(name))
        found = find_reports(path)
        if len(found) != 1:
            found = [file for file in found if file.name == "report.json"]
        if not found:
            raise MissingFileError(
                f"{path} has no report.json: run python -m training.evaluate {name}, or name one "
                "of several report files"
            )
        path = found[0]
    report, _ = read_report(path)
    if "variant" not in report:
        raise DataError(f"{path} is of an older version: run python -m training.evaluate again")
    return Entry(label or report["variant"], report["object"], report)


def _check(entries: list[Entry]) -> None:
    """Raise InputError unless the entries fill a table that means something."""
    seen = set()
    for entry in entries:
        cell = entry.variant, entry.object_name
        if cell in seen:
            raise InputError(
                f"two reports are of '{entry.variant}' on {entry.object_name}: name the rows, as "
                "in 'Ours, larger=RUN'"
            )
        seen.add(cell)
        if entry.conditions != entries[0].conditions:
            raise InputError(
                f"'{entry.variant}' on {entry.object_name} was evaluated on {entry.conditions}, "
                f"the first report on {entries[0].conditions}: these numbers do not compare"
            )


def _how(entries: list[Entry]) -> list[str]:
    """Return one line where all reports were made alike, otherwise one for each."""
    if len({entry.how for entry in entries}) == 1:
        return [f"Each: {entries[0].how}."]
    return [f"- {entry.variant}, {entry.object_name}: {entry.how}" for entry in entries]


def _objects(entries: list[Entry]) -> list[str]:
    """Return the columns in the order of the command line."""
    return list(dict.fromkeys(entry.object_name for entry in entries))


def _table(entries: list[Entry], key: str, factor: float) -> dict[str, list[float]] | None:
    """Return values by variant, a column per object and their mean; nan where there is none."""
    values: dict[str, dict[str, float]] = {}
    for entry in entries:
        value = entry.summary.get(key)
        value = value[0] if isinstance(value, list) else value  # [mean, standard error]
        row = values.setdefault(entry.variant, {})
        row[entry.object_name] = np.nan if value is None else factor * value
    rows = {
        variant: [row.get(name, np.nan) for name in _objects(entries)]
        for variant, row in values.items()
    }
    if not np.isfinite(list(rows.values())).any():
        return None
    return {variant: [*row, float(np.mean(row))] for variant, row in rows.items()}


def _markdown(objects: list[str], table: dict[str, list[float]]) -> list[str]:
    rows = (
        [variant, *("-" if np.isnan(value) else f"{value:.2f}" for value in row)]
        for variant, row in table.items()
    )
    return markdown.table(["", *objects], rows)


def _write_csv(path: Path, objects: list[str], tables: dict[str, dict[str, list[float]]]) -> None:
    """Write all tables below each other: metric, variant, one column per object, mean."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["metric", "variant", *objects])
        for title, table in tables.items():
            for variant, row in table.items():
                values = ["" if np.isnan(value) else round(value, 4) for value in row]
                writer.writerow([title, variant, *values])


def _plot(path: Path, entries: list[Entry]) -> None:
    """Plot LL over the levels: mean over objects, a line per variant."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    curves: dict[str, dict[int, list[float]]] = {}
    for entry in entries:
        mean = [value for value, _ in entry.summary["ll_uniform_zero_per_level"]]
        curve = curves.setdefault(entry.variant, {})
        for level, value in zip(
            levels_of(mean, entry.report["search"]["depth"]), mean, strict=True
        ):
            curve.setdefault(level, []).append(value)
    for variant, curve in curves.items():
        axis.plot(list(curve), [np.mean(v) for v in curve.values()], "o-", ms=3, label=variant)
    axis.set(
        xlabel="level", ylabel="LL (uniform = 0), nats", title=f"mean of {len(_objects(entries))}"
    )
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.compare", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "reports",
        nargs="+",
        metavar="[NAME=]RUN",
        help="run id, bundle folder or report.json; NAME replaces the variant as the row's name",
    )
    parser.add_argument("--output", default="comparison", help="of the files, without extension")
    with cli.one_line_errors("compare"):
        parsed = parser.parse_args(arguments)
        compare(parsed.reports, parsed.output)


if __name__ == "__main__":
    main()
