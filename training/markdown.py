"""Tables in Markdown."""

from collections.abc import Iterable, Sequence

import numpy as np


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Format a table.

    Args:
        header: titles of the columns.
        rows: cells of each row.

    Returns:
        Its lines.
    """
    return [_line(header), "|" + "---|" * len(header), *map(_line, rows)]


def mean(values: np.ndarray, sign: str = "") -> str:
    """Return the mean ± standard error of independent values [N]; with its sign if that is "+"."""
    return f"{values.mean():{sign}.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}"


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)
