"""The table in the terminal that grows with every frame."""

from __future__ import annotations

import math
import textwrap

from spyropose_ros.demo.results import FrameResult

WIDTH = 98
_BAR = 12  # characters
_BAR_DEGREES = 70.0  # a full bar
_FRACTIONS = " ▏▎▍▌▋▊▉█"  # eighths of a character
_LAYOUT = "{:>6}  {:>7}  {:>7}  {:>5}  {:>7}  {:>7}  {:>6} {:<12}  {:>5}  {:>5}  {:>5}  {:>5}"


def header(has_handle: bool, has_photographs: bool, unicode: bool) -> str:
    """Explain the columns and write their titles.

    Args:
        has_handle: The object is the mug.
        has_photographs: The frames are photographs.
        unicode: The terminal shows more than ASCII.

    Returns:
        The lines above the rows, without a line feed at the end.
    """
    part = (
        "handle: its share of the mug's visible pixels"
        if has_handle
        else "visible: share of the object's silhouette"
    )
    legend = (
        f"{part}; latency: from the image's stamp to the distribution's arrival; entropy: of the "
        "whole pose, and of the rotation about the object's z axis (1.84: any angle); spread: "
        "mean angle between the poses and the leading mode; errors of the leading mode's "
        "rotation, of the best mode's, and of the position sideways and in depth"
    )
    first = _LAYOUT.format(
        "", "handle" if has_handle else "visible", "latency", "", "entropy", "about z", "spread",
        "", "error", "best", "side", "depth",
    )  # fmt: skip
    second = _LAYOUT.format(
        "photo" if has_photographs else "frame", "%", "ms", "modes", "nats", "nats", "deg", "",
        "deg", "mode", "mm", "mm",
    )  # fmt: skip
    rule = ("─" if unicode else "-") * WIDTH
    lines = [*textwrap.wrap(legend, WIDTH), rule, first.rstrip(), second.rstrip(), rule]
    return "\n".join(lines)


def row(result: FrameResult, unicode: bool) -> str:
    """Write the numbers of a frame.

    Args:
        result: Of the frame.
        unicode: The terminal shows more than ASCII.

    Returns:
        One line of the table, without a line feed.
    """
    seen = result.visible_fraction if result.handle_fraction is None else result.handle_fraction
    return _LAYOUT.format(
        result.frame,
        "hidden" if seen == 0 else f"{100 * seen:.0f}" if seen >= 0.01 else "< 1",
        f"{1000 * result.latency:.0f}",
        result.modes,
        f"{result.entropy:.1f}",
        f"{result.axis_entropy:.2f}",
        f"{result.spread:.1f}",
        bar(result.spread / _BAR_DEGREES, unicode),
        f"{result.rotation_error:.1f}",
        "-" if result.best_mode_error is None else f"{result.best_mode_error:.1f}",
        f"{1000 * result.sideways_error:.1f}",
        f"{1000 * result.depth_error:.0f}",
    )


def missing_row(name: str, reason: str = "no distribution") -> str:
    """Return the line of a frame in which the object was missed."""
    return f"{name:>6}  {reason}"


def bar(share: float, unicode: bool) -> str:
    """Return a horizontal bar, full at a share of 1."""
    share = min(max(share, 0.0), 1.0) * _BAR
    if not unicode:
        return "#" * round(share)
    whole = math.floor(share)
    return "█" * whole + _FRACTIONS[math.floor(8 * (share - whole))].strip()
