"""The results of a campaign as a Markdown table."""

from training import markdown
from training.campaign.queue import EntryRun

_HEAD = """# Campaign

LL in nats over the uniform distribution, mean ± standard error of the test images; T: with the
temperatures, fitted on validation images. Coverage: share of truths in the 90 % region. Median
error: of the mode, modulo symmetry.

"""
_COLUMNS = (
    *("name", "state", "steps", "images", "core-hours", "LL per level, T", "LL", "LL, T"),
    *("temperatures", "coverage", "coverage, T", "median error, T", "Acc@10, T", "commit"),
)


def table_text(runs: list[EntryRun], states: dict[str, str]) -> str:
    """Tabulate the results of runs.

    Args:
        runs: all entries of the queue.
        states: of each, by name.

    Returns:
        A page of Markdown: what the columns mean, and the table with one row per run.
    """
    rows = (_row(run, states[run.entry.name]) for run in runs)
    return _HEAD + "\n".join(markdown.table(_COLUMNS, rows)) + "\n"


def _row(run: EntryRun, state: str) -> list[str]:
    cells = dict.fromkeys(_COLUMNS, "-") | {"name": run.entry.name, "state": state}
    if (config := run.config) is not None:
        record = config["record"]
        images = record["steps"] * record["config"]["batch_size"] * record["processes"]
        cells |= {
            "steps": str(record["steps"]),
            "images": str(images),
            "core-hours": f"{record['core_hours']:.2f}",
            "commit": record["git_commit"],
        }
        if "calibration" in record:
            cells["temperatures"] = ", ".join(f"{t:.2f}" for t in config["temperatures"])
    if (raw := run.raw) is not None:
        cells |= {"LL": _pair(raw["ll_uniform_zero"]), "coverage": _coverage(raw)}
    if (fitted := run.fitted) is not None:
        levels = fitted["ll_uniform_zero_per_level"]
        cells |= {
            "LL per level, T": ", ".join(f"{mean:.2f}" for mean, _ in levels),
            "LL, T": _pair(fitted["ll_uniform_zero"]),
            "coverage, T": _coverage(fitted),
            "median error, T": _error(fitted),
            "Acc@10, T": f"{fitted['acc_10']:.1%}",
        }
    return list(cells.values())


def _pair(value: list) -> str:
    mean, error = value
    return f"{mean:.2f}" if error is None else f"{mean:.2f} ± {error:.2f}"


def _coverage(metrics: dict) -> str:
    return f"{metrics['coverage']['0.9']:.1%}"


def _error(metrics: dict) -> str:
    text = f"{metrics['rotation_median_deg']:.1f}°"
    if "lateral_median_m" in metrics:
        text += f", {1000 * metrics['lateral_median_m']:.1f} mm across"
        text += f", {1000 * metrics['depth_median_m']:.1f} mm in depth"
    return text
