"""A network of the published size, backbone included: `python -m benchmarks.bench.paper_size`.

None is trained here, and random weights would choose poses that no trained network does. So both
searches compute the logits of the large network, and then choose by those that the demo's network
gives the same poses: they do all the work of the large network on the poses that a trained one
looks at. The likelihoods are those of the demo's network.
"""

from __future__ import annotations

import math
import statistics
import time
from itertools import islice

import torch
from torch import Tensor

from benchmarks.bench.networks import Crops, Scene, open_estimator, open_network
from benchmarks.bench.quality import gain
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.reference import ReferenceSearch
from spyropose_ros.core.search import FamilyScorer, PosePyramid, search
from training import cli, provenance, runs

_CPU = torch.device("cpu")


class _Recorder:
    """A scorer of families whose logits are kept by level."""

    def __init__(self, scorer: FamilyScorer):
        self._scorer = scorer
        self.logits: dict[int, Tensor] = {}

    def families(self, level: int, *given: Tensor) -> Tensor:
        self.logits[level] = self._scorer.families(level, *given)
        return self.logits[level]


class _Steered:
    """A scorer of families whose logits are computed, and replaced."""

    def __init__(self, scorer: FamilyScorer, logits: dict[int, Tensor]):
        self._scorer, self._logits = scorer, logits

    def families(self, level: int, *given: Tensor) -> Tensor:
        self._scorer.families(level, *given)
        return self._logits[level]


class _Steering:
    """This search with the large network, steered by the small one."""

    def __init__(self, settings: SearchSettings):
        self._settings = settings
        self._small = open_estimator(open_network("demo"), _CPU, settings)
        self._large = open_estimator(open_network("paper"), _CPU, settings)

    def run(self, scene: Scene) -> tuple[PosePyramid, float, float]:
        """The pyramid, and the seconds of the large network with and without its backbone."""
        small, large = Crops.of(self._small, scene), Crops.of(self._large, scene)
        recorder = _Recorder(_scorer(self._small, small))
        self._search(recorder, small)
        start = time.perf_counter()
        scorer = _Steered(_scorer(self._large, large), recorder.logits)
        features = time.perf_counter()
        pyramid = self._search(scorer, small)
        end = time.perf_counter()
        return pyramid, end - start, end - features

    def _search(self, scorer: FamilyScorer, seen: Crops) -> PosePyramid:
        settings = self._settings
        depth = self._small.depth
        return search(scorer, seen.box, depth, settings.beam, settings.mass_tolerance)


def _scorer(estimator: Estimator, seen: Crops) -> FamilyScorer:
    """Backbone, and what scores with its features."""
    return estimator._scorer(seen.crops.unsqueeze(1), seen.K_crop.unsqueeze(1))


class _SteeredReference(ReferenceSearch):
    """The reference formulation with the large network, steered by the small one."""

    def __init__(self, settings: SearchSettings):
        super().__init__(open_network("paper"), beam=settings.beam)
        self._small = ReferenceSearch(open_network("demo"), beam=settings.beam)
        self._views = [open_estimator(open_network(n), _CPU, settings) for n in ("demo", "paper")]

    def run(self, scene: Scene) -> tuple[PosePyramid, float, float]:
        """As of `_Steering`."""
        small, large = (Crops.of(view, scene) for view in self._views)
        self._given = self._small.features(small.crops), small.K_crop
        self._choosing = 0.0
        start = time.perf_counter()
        features = self.features(large.crops)
        middle = time.perf_counter()
        pyramid = self.search_features(features, large.K_crop, small.box)
        end = time.perf_counter() - self._choosing
        return pyramid, end - start, end - middle

    def logits(self, features: Tensor, K_crop: Tensor, level: int, *poses: Tensor) -> Tensor:
        """Those of the small network, after the large one's were computed."""
        super().logits(features, K_crop, level, *poses)
        start = time.perf_counter()
        steering = self._small.logits(*self._given, level, *poses)
        self._choosing += time.perf_counter() - start
        return steering


@torch.inference_mode()
def paper_size(
    images: int = 20,
    tolerances: tuple[float, ...] = (0.0, 0.05, 0.1),
    threads: int = 1,
    data_root: str = "data",
) -> None:
    """Compares settings of this search with the reference formulation.

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
    torch.set_num_threads(threads)
    bundle = open_network("demo")
    source = runs.bundle_source(bundle, data_root)
    ways = {"reference formulation": _SteeredReference(SearchSettings())}
    for tolerance in tolerances:
        ways[f"this search, tolerance {tolerance:g}"] = _Steering(
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
    print("| | LL difference | poses | ms | faster | search ms | faster |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    reference = found["reference formulation"]
    for name, rows in found.items():
        print(_line(name, rows, reference))


def _line(name: str, rows: list[tuple[float, ...]], reference: list[tuple[float, ...]]) -> str:
    differences = [row[0] - other[0] for row, other in zip(rows, reference, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(rows))
    poses = statistics.mean(row[1] for row in rows)
    cells = [f"{statistics.mean(differences):+.4f} ± {error:.4f}", f"{poses:,.0f}"]
    for part in (2, 3):
        ratios = [other[part] / row[part] for row, other in zip(rows, reference, strict=True)]
        cells += [f"{1000 * statistics.median(row[part] for row in rows):,.0f}"]
        cells += [f"{statistics.median(ratios):.1f} x"]
    return f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    cli.run(paper_size)
