"""A network of the published size, backbone included: `python -m benchmarks.bench.paper_size`.

None is trained here, and random weights would choose poses that no trained network does. So both
searches compute the logits of the large network, and then choose by those that the demo's network
gives the same poses: they do all the work of the large network on the poses that a trained one
looks at. The likelihoods are those of the demo's network.
"""

from __future__ import annotations

import math
import statistics
from itertools import islice

from spyropose_ros.core.search_settings import SearchSettings
from training import cli, markdown, provenance, runs


def paper_size(
    images: int = 20,
    tolerances: tuple[float, ...] = (0.0, 0.05, 0.1),
    threads: int = 1,
    data_root: str = "data",
) -> None:
    """Compare settings of this search with the reference formulation.

    Args:
        images: of the demo's test images.
        tolerances: of this search, whose beam is 512.
        threads: of PyTorch.
        data_root: where data sets lie.

    Raises:
        ValueError: fewer than two images.
    """
    if images < 2:
        raise ValueError("the standard error needs two images or more")
    import torch

    from benchmarks.bench.networks import Scene, open_network
    from benchmarks.bench.quality import gain
    from benchmarks.bench.steered_search import SteeredReference, SteeredSearch

    torch.set_num_threads(threads)
    bundle = open_network("demo")
    source = runs.bundle_source(bundle, data_root)
    ways = {"reference formulation": SteeredReference(SearchSettings())}
    for tolerance in tolerances:
        ways[f"this search, tolerance {tolerance:g}"] = SteeredSearch(
            SearchSettings(mass_tolerance=tolerance)
        )
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for number, sample in enumerate(islice(source.samples(source.splits[0], seed=1), images)):
        scene = Scene(sample.image, sample.K, sample.box[None])
        names = list(ways)
        if number == 0:
            for name in names:  # a warm-up
                ways[name].run(scene)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            pyramid, whole, alone = ways[name].run(scene)
            poses = float(pyramid.evaluations[0])
            found[name].append((gain(pyramid, sample, bundle), poses, whole, alone))
    print(f"{provenance.command()}; {provenance.hardware('cpu')}, {threads} threads")
    print(f"{images} images; medians of ms and of ratios; beam 512, depth 7")
    header = ["", "LL difference", "poses", "ms", "faster", "search ms", "faster"]
    reference = found["reference formulation"]
    rows = [_cells(name, values, reference) for name, values in found.items()]
    print(*markdown.table(header, rows), sep="\n")


def _cells(
    name: str, rows: list[tuple[float, ...]], reference: list[tuple[float, ...]]
) -> list[str]:
    differences = [row[0] - other[0] for row, other in zip(rows, reference, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(rows))
    poses = statistics.mean(row[1] for row in rows)
    cells = [name, f"{statistics.mean(differences):+.4f} ± {error:.4f}", f"{poses:,.0f}"]
    for part in (2, 3):
        ratios = [other[part] / row[part] for row, other in zip(rows, reference, strict=True)]
        cells += [f"{1000 * statistics.median(row[part] for row in rows):,.0f}"]
        cells += [f"{statistics.median(ratios):.1f} x"]
    return cells


if __name__ == "__main__":
    cli.run(paper_size)
