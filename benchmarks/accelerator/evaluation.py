"""Evaluate for some time: `python -m benchmarks.accelerator.evaluation BUNDLE SPLIT SECONDS ...`.

The report is written after 8 images, and again each time their number has doubled, so that there is
one when the time is over.
"""

import argparse
import time

from training.evaluate import evaluate

_FIRST = 8
"""Images of the first report."""


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", help="its folder, and the report's")
    parser.add_argument("split", help="of the data that it was trained for")
    parser.add_argument("seconds", type=float, help="after the imports")
    parser.add_argument("device")
    parser.add_argument("data_root")
    args = parser.parse_args()

    import training.evaluation  # noqa: F401 - before the clock starts

    started = time.monotonic()
    limit = _FIRST
    while True:
        began = time.monotonic()
        report = evaluate(
            args.bundle, args.split, limit=limit, device=args.device, data_root=args.data_root
        )
        found, now = report["metrics"]["all"], time.monotonic()
        mean, error = found["ll_uniform_zero"]
        print(
            f"{found['images']} images: {mean:.2f} ± {error:.2f} nats above uniform, "
            f"{found['rotation_median_deg']:.1f} deg median rotation error, "
            f"{found['add_recall_0.1d']:.0%} ADD(-S) recall"
        )
        # As many images again take twice as long as those of the latest round, or a little more.
        enough = now - started + 3 * (now - began) > args.seconds
        if enough or found["images"] < limit:
            return
        limit *= 2


if __name__ == "__main__":
    main()
