"""The searches of `benchmarks.bench.paper_size`: a large network works, a small one chooses."""

import time

import torch
from torch import Tensor

from benchmarks.bench.networks import Crops, Scene, open_estimator, open_network
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.reference import ReferenceSearch
from spyropose_ros.core.search import FamilyScorer, PosePyramid, search
from spyropose_ros.core.search_settings import SearchSettings

_CPU = torch.device("cpu")


class _Recorder:
    """A scorer of families whose logits are kept by level."""

    def __init__(self, scorer: FamilyScorer):
        self._scorer = scorer
        self.logits: dict[int, Tensor] = {}

    def family_logits(self, level: int, *given: Tensor) -> Tensor:
        self.logits[level] = self._scorer.family_logits(level, *given)
        return self.logits[level]


class _Steered:
    """A scorer of families whose logits are computed, and replaced."""

    def __init__(self, scorer: FamilyScorer, logits: dict[int, Tensor]):
        self._scorer, self._logits = scorer, logits

    def family_logits(self, level: int, *given: Tensor) -> Tensor:
        self._scorer.family_logits(level, *given)
        return self._logits[level]


class SteeredSearch:
    """This search with the large network, steered by the small one."""

    def __init__(self, settings: SearchSettings):
        self._settings = settings
        self._small = open_estimator(open_network("demo"), _CPU, settings)
        self._large = open_estimator(open_network("paper"), _CPU, settings)

    @torch.inference_mode()
    def run(self, scene: Scene) -> tuple[PosePyramid, float, float]:
        """Return the pyramid, and the large network's seconds with and without its backbone."""
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
    """Return the backbone's features, and the scorer of them."""
    return estimator._scorer(seen.crops.unsqueeze(1), seen.K_crop.unsqueeze(1))


class SteeredReference(ReferenceSearch):
    """The reference formulation with the large network, steered by the small one."""

    def __init__(self, settings: SearchSettings):
        super().__init__(open_network("paper"), beam=settings.beam)
        self._small = ReferenceSearch(open_network("demo"), beam=settings.beam)
        self._views = [open_estimator(open_network(n), _CPU, settings) for n in ("demo", "paper")]

    @torch.inference_mode()
    def run(self, scene: Scene) -> tuple[PosePyramid, float, float]:
        """Search as `SteeredSearch` does."""
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
        """Return the small network's logits, after the large one's are computed."""
        super().logits(features, K_crop, level, *poses)
        start = time.perf_counter()
        steering = self._small.logits(*self._given, level, *poses)
        self._choosing += time.perf_counter() - start
        return steering
