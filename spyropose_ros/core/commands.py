"""Commands that messages tell the user to run."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def starter() -> str:
    """Return how to start Python in this environment: with ./run where that has made it."""
    return "./run exec python" if Path(sys.prefix).resolve() == _ROOT / ".venv" else "python"
