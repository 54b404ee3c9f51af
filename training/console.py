"""What of a training's log a screen shows."""

import logging
import sys

PROGRESS = "training.fitting.progress"
"""Logger of what `training.fitting.progress` draws on a terminal."""


def console() -> logging.Handler:
    """Handler of the screen, without what a terminal's line shows already."""
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.addFilter(lambda record: record.name != PROGRESS)
    return handler
