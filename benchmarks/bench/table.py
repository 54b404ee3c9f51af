"""The table in the terminal."""

from collections.abc import Sequence

WIDTH = 98


class Table:
    """Lines of text in columns.

    Args:
        first: width of the first column.
        others: widths of the others, whose text stands on the right.
    """

    def __init__(self, first: int, others: Sequence[int]):
        self._first, self._others = first, tuple(others)
        self.lines: list[str] = []

    def row(self, name: str, *cells: str) -> None:
        """Append a row."""
        widths = self._others[: len(cells)]
        text = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        self.lines.append(f"{name:<{self._first}}{text}".rstrip())

    def header(self, name: str, *cells: str) -> None:
        """Append a row of titles between rules."""
        self.rule()
        self.row(name, *cells)
        self.rule()

    def rule(self) -> None:
        """Append a rule."""
        self.lines.append("─" * WIDTH)


def milliseconds(seconds: float | None) -> str:
    """Format seconds as milliseconds with three significant digits."""
    if seconds is None:
        return "-"
    value = 1e3 * seconds
    if value >= 99_950:
        return f"{seconds:,.0f} s" if seconds < 86_400 else f"{seconds / 86_400:,.0f} d"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def percent(share: float | None) -> str:
    """Format a share in percent."""
    if share is None:
        return "-"
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.01 else "< 1 %"


def count(number: float) -> str:
    """Format a count, with an exponent if it is large."""
    return f"{number:,.0f}" if number < 1e9 else f"{number:.1e}"
