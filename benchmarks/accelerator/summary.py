"""The table of what became of the parts."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.accelerator.schedule import Outcome
from training import markdown


def write_summary(path: Path, head: str, outcomes: Sequence[Outcome]) -> None:
    """Write the table, in Markdown.

    Args:
        path: of the file.
        head: what was asked for.
        outcomes: so far.
    """
    rows = [
        [o.part, o.state.value, f"{o.seconds:.0f}", o.figures.replace("|", "/")] for o in outcomes
    ]
    lines = [f"# {head}", "", *markdown.table(["part", "state", "s", "figures"], rows)]
    path.write_text("\n".join(lines) + "\n")
