"""The two or three figures that matter, from what a part has printed."""

import json
import re
from pathlib import Path

_TILE = re.compile(r"^ *(\d+) families  tile (\(.*?\)): ([\d.]+) ms, ([\d.]+) TFLOP/s(.*)", re.M)
_COLUMNS = re.compile(r" {2,}")
_UNMEASURED = "not measured"


def last_line(log: str) -> str:
    """Return the last line that a part prints."""
    lines = log.strip().splitlines()
    return lines[-1].strip() if lines else ""


def tests(log: str) -> str:
    """Return pytest's count."""
    found = re.findall(r"^=*\s*((?:\d+ \w+(?:, )?)+ in [\d.]+s)", log, re.M)
    return found[-1] if found else ""


def tiles(log: str) -> str:
    """Return the fastest tile for the most families."""
    rows = [(int(n), float(rate), tile, mark) for n, tile, _, rate, mark in _TILE.findall(log)]
    if not rows:
        return ""
    families = max(rows)[0]
    _, rate, tile, mark = max(row for row in rows if row[0] == families)
    return f"{families} families: tile {tile}{mark}, {rate:g} TFLOP/s"


def bench(log: str) -> str:
    """Return the rows of the summary that ends the benchmark's table."""
    rows = [_COLUMNS.split(line.strip()) for line in log.rpartition("\nsummary ")[2].splitlines()]
    measured = [
        (cells[0], *(cell for cell in cells[1:] if cell != _UNMEASURED))
        for cells in rows
        if len(cells) == 3 and _UNMEASURED in cells
    ]
    return "; ".join(f"{name}: {value}" for name, value in measured)


def training(bundle: Path, log: str) -> str:
    """Return the steps, their rate, the origin of the weights and the bundle's size."""
    path = bundle / "config.json"
    if not path.is_file():
        return ""
    record = json.loads(path.read_text())["record"]
    config, steps, seconds = record["config"], record["steps"], record["seconds"]
    batch = config["batch_size"]
    rate = steps * batch / max(1, seconds)
    published = config["pretrained"] and "no pretrained weights" not in log
    start = "from published weights" if published else "from scratch"
    size = sum(file.stat().st_size for file in bundle.iterdir()) / 1e6
    return f"{steps} steps of {batch} in {seconds} s ({rate:.0f} images/s), {start}, {size:.0f} MB"


def evaluation(log: str) -> str:
    """Return the latest report."""
    found = re.findall(r"^\d+ images: .*", log, re.M)
    return found[-1] if found else ""
