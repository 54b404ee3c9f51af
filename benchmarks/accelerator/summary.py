"""The table of what became of the parts."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.accelerator.schedule import Outcome


def write_summary(path: Path, head: str, outcomes: Sequence[Outcome]) -> None:
    """Write the table, in Markdown.

    Args:
        path: of the file.
        head: what was asked for.
        outcomes: so far.
    """
    lines = [f"# {head}", "", "| part | state | s | figures |", "|---|---|---:|---|"]
    for outcome in outcomes:
        figures = outcome.figures.replace("|", "/")
        lines.append(
            f"| {outcome.part} | {outcome.state.value} | {outcome.seconds:.0f} | {figures} |"
        )
    path.write_text("\n".join(lines) + "\n")
