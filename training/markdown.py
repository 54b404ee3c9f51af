"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], right_aligned: bool = False
) -> list[str]:
    """Format a table.

    Args:
        header: titles of the columns.
        rows: cells of each row.
        right_aligned: align all columns but the first on the right.

    Returns:
        Its lines.
    """
    others = "---:|" if right_aligned else "---|"
    return [_line(header), "|---|" + others * (len(header) - 1), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)
