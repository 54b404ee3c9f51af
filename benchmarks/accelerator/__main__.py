"""All that needs a GPU: `python -m benchmarks.accelerator --minutes 9 --output DIR`.

Tests, the kernel's tiles, the benchmark of a network of the published size, and a training of one
with the minutes that are left. The most valuable comes first. Every part is a process of its own
with a time limit, so that none costs the others, and the whole ends within the minutes. It needs no
network, and says at the beginning which parts it leaves out for want of a package. DIR holds a
summary, tables, figures, and archives of the logs and of the trained bundle.
"""

import argparse
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.accelerator.packing import pack
from benchmarks.accelerator.parts import make_parts
from benchmarks.accelerator.schedule import State, run_parts
from benchmarks.accelerator.summary import write_summary


def main() -> None:
    """See the module's text.

    Raises:
        SystemExit: the folder holds something, or a part failed or took too long.
    """
    started = time.monotonic()
    parser = argparse.ArgumentParser(
        "python -m benchmarks.accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, required=True, help="until the end, at most")
    parser.add_argument("--output", type=Path, required=True, help="an empty or a new folder")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="of data sets")
    args = parser.parse_args()
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        parser.error(f"{output} is not empty")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        run = Path(work) / "run"
        parts = make_parts(args.device, args.data_root.resolve(), output, run)
        for part in parts:
            if part.missing:
                print(f"{part.name} is left out: {part.missing}")
        head = f"{args.minutes:g} minutes on {args.device}"
        tell = partial(write_summary, output / "summary.md", head)
        outcomes = run_parts(parts, output, started, 60 * args.minutes, tell)
        pack(output, run)
    print((output / "summary.md").read_text())
    if any(outcome.state in (State.FAILED, State.KILLED) for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    # An exit that ends the process of the current part, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    main()
