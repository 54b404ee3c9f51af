"""The part of a training's log that the terminal shows."""

import logging
import sys

PROGRESS = "training.fitting.progress"
"""Logger of what `training.fitting.progress` draws on a terminal."""


def console() -> logging.Handler:
    """Return the handler of the screen, without what a terminal's line shows already."""
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.addFilter(lambda record: record.name != PROGRESS)
    return handler
