"""Where the time goes: `./run bench`, or `python -m benchmarks.bench`.

Prints one table and writes it, with the numbers and two figures, to a folder. `quality` compares
the log-likelihood of settings of the search: `./run bench quality --images 100`; `./run bench
--against COMMIT` measures another commit and this tree in turn.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from spyropose_ros.core.bundle_files import bundle_name
from spyropose_ros.core.search_settings import SearchSettings
from training import cli, provenance

OUTPUT = "bench_output"
_DEFAULT = f"{SearchSettings.beam}:{SearchSettings.mass_tolerance:g}"


def bench(
    model: str = "demo",
    device: str = "cpu",
    depth: int | None = None,
    beam: int = SearchSettings.beam,
    mass_tolerance: float = SearchSettings.mass_tolerance,
    threads: int | None = None,
    curves: str = "all",
    images: int | None = None,
    memory: bool = True,
    quick: bool = False,
    against: str | None = None,
    data_root: str = "data",
    output: str = OUTPUT,
) -> dict:
    """Measure stages, memory, other ways to the same distribution, and how times grow.

    Args:
        model: "demo" for the shipped network, "paper" for one of the published sizes with random
            weights, or a run or the folder of a bundle.
        device: "cpu", or "cuda" for a GPU.
        depth: levels; deeper than the network has, the last head is used again (times only).
        beam: most cells expanded per level.
        mass_tolerance: mass that may stay at coarse levels.
        threads: of PyTorch on the CPU; its default.
        curves: names separated by commas, of depth, beam, tolerance, batch, views, threads,
            training; "all" (with --quick the quickest), or "none".
        images: test images of the curve over tolerances; 0 for none, by default 40, or 2.
        memory: measure it, in a process of its own.
        quick: three minutes instead of twenty.
        against: another commit to measure instead, in turns with this tree: the search, the crop
            and the backbone with it, all from message to message, and 16 detections.
        data_root: where data sets lie.
        output: folder for what is written.

    Returns:
        The numbers.

    Raises:
        ValueError: an unknown curve, device, or a network of rotations only.
        InputError: another commit that git does not know, or whose code cannot be measured.
    """
    import torch

    from benchmarks.bench import against as other_commit
    from benchmarks.bench import figures, tables
    from benchmarks.bench.machine import describe
    from benchmarks.bench.report import Options, measure
    from spyropose_ros.core.estimator import resolve_device

    if threads:
        torch.set_num_threads(threads)
    chosen = _curves(curves, quick)
    if images is None:
        images = 0 if model == "paper" else 2 if quick else 40
    settings = SearchSettings(beam, mass_tolerance)
    where = resolve_device(device)
    options = Options(model, where, settings, depth, chosen, quick, images, memory, data_root)
    folder, stem = Path(output), f"{bundle_name(model)}_{where.type}"
    folder.mkdir(parents=True, exist_ok=True)
    if against:
        found = other_commit.compare(against, options, torch.get_num_threads(), _tell)
        text = other_commit.render(found, describe(where))
        _write(folder / f"{stem}_against.json", {"command": provenance.command()} | found)
        (folder / f"{stem}_against.txt").write_text(text + "\n")
        print(text)
        return found
    report = measure(options, _tell)
    text = tables.render(report)
    _write(folder / f"{stem}.json", report)
    (folder / f"{stem}.txt").write_text(text + "\n")
    figures.draw_stages(report, folder / f"{stem}_stages.png")
    if report["curves"]:
        figures.draw_curves(report, folder / f"{stem}_curves.png")
    print(text)
    print(f"written to {folder}/{stem}.txt and .json, with figures beside them")
    return report


def compare(
    model: str = "demo",
    images: int = 100,
    settings: str = f"{_DEFAULT},512:0",
    device: str = "cpu",
    depth: int | None = None,
    threads: int | None = None,
    data_root: str = "data",
    output: str = OUTPUT,
) -> list[dict]:
    """Compare log-likelihoods of search settings with the reference formulation.

    Args:
        model: "demo", or a run or the folder of a bundle.
        images: of the test images.
        settings: "beam:mass_tolerance", separated by commas.
        device: "cpu", or "cuda" for a GPU.
        depth: levels; at most the network's.
        threads: of PyTorch on the CPU; its default.
        data_root: where data sets lie.
        output: folder for what is written.

    Returns:
        The rows of the table.

    Raises:
        ValueError: settings that cannot be read, or more levels than the network has.
    """
    import torch

    from benchmarks.bench import machine, quality, tables
    from benchmarks.bench.baselines import deeper
    from benchmarks.bench.networks import open_network
    from spyropose_ros.core.estimator import resolve_device

    if threads:
        torch.set_num_threads(threads)
    where = resolve_device(device)
    bundle = open_network(model)
    if depth and depth > bundle.model.config.depth:
        raise ValueError(f"depth {depth}: the network has {bundle.model.config.depth} levels")
    bundle = deeper(bundle, depth)
    pairs = [_setting(text) for text in settings.split(",")]
    rows = quality.compare(bundle, where, pairs, images, data_root)
    text = tables.render_quality(rows, machine.describe(where))
    folder, stem = Path(output), f"{bundle_name(model)}_{where.type}_quality"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"{stem}.json", {"command": provenance.command(), "rows": rows})
    (folder / f"{stem}.txt").write_text(text + "\n")
    print(text)
    return rows


def _curves(text: str, quick: bool) -> Sequence[str]:
    """Return the names of the curves to measure."""
    from benchmarks.bench.curves import CURVES, QUICK

    if text == "all":
        return QUICK if quick else tuple(CURVES)
    names = [] if text == "none" else text.split(",")
    unknown = sorted(set(names) - set(CURVES))
    if unknown:
        raise ValueError(f"no curve '{unknown[0]}': choose from {', '.join(CURVES)}")
    return names


def _setting(text: str) -> SearchSettings:
    beam, _, tolerance = text.partition(":")
    try:
        return SearchSettings(int(beam), float(tolerance))
    except ValueError as error:
        raise ValueError(
            f"'{text}' is not of the form beam:mass_tolerance, e.g. 512:0.01"
        ) from error


def _write(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n")


def _tell(what: str) -> None:
    print(f"{time.process_time():5.0f} s of computing; now: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["quality"]:
        cli.run(compare, sys.argv[2:])
    else:
        cli.run(bench)
