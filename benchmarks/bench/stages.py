"""How long each stage of an estimate takes, watched from outside."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.bench.networks import Crops, Scene, search_features
from benchmarks.bench.timing import Stopwatch, Times
from spyropose_ros.core import estimator as estimators
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.kernels import torch_heads
from spyropose_ros.core.kernels.packed_head import PackedHead
from spyropose_ros.core.search import FamilyScorer

try:
    from benchmarks.bench import messages
except ImportError:  # without ROS 2
    messages = None

UPLOAD, CROP, BACKBONE = "preprocess, upload", "crop", "backbone"
SETUP, DISTRIBUTION, MODES = "search set-up", "distribution, download", "modes"
DECODE, MESSAGE = "image message in", "result messages"
ORDER = (DECODE, UPLOAD, CROP, BACKBONE, SETUP, "level", DISTRIBUTION, MODES, MESSAGE)

GATHER, MLP, PROJECTION = "gather", "mlp", "projection"
_KINDS = (GATHER, MLP, PROJECTION)
_SCORING = "scoring of level "
_GATHERS = "grid_sampler", "embedding_bag", "index", "take", "triton"
_LAYERS = "addmm", "gelu", "linear", "relu"


def scoring(level: int) -> str:
    """Return the name of the stage that scores a level."""
    return f"level {level} scoring"


def selection(level: int) -> str:
    """Return the name of the stage that normalises a level, and selects and expands its cells."""
    return f"level {level} selection"


def stage_times(
    estimator: Estimator, scene: Scene, budget: float, most: int = 20, warm_up: int = 2
) -> dict[str, Times]:
    """Time all stages of the first detection, from the image message to the result messages.

    Args:
        estimator: whose stages are watched.
        scene: what it sees.
        budget: seconds after which no further round begins, but for the second.
        most: rounds.
        warm_up: rounds before.

    Returns:
        By stage, in their order.
    """
    watch = Stopwatch(estimator.device)
    found: dict[str, list[float]] = defaultdict(list)
    with _watched(estimator, watch):
        started = time.perf_counter()
        for index in range(warm_up + most):
            if index > warm_up + 1 and time.perf_counter() - started > budget:
                break
            _run(estimator, scene, watch)
            for stage, seconds in watch.stop().items():
                if index >= warm_up and stage:
                    found[stage].append(seconds)
    order = sorted(found, key=lambda s: (ORDER.index("level" if "level" in s else s), s))
    return {stage: Times(found[stage]) for stage in order}


def end_to_end(estimator: Estimator, scene: Scene) -> None:
    """Estimate from the image message to the result messages; without ROS 2, from the image."""
    _run(estimator, scene, Stopwatch(torch.device("cpu")))


def _run(estimator: Estimator, scene: Scene, watch: Stopwatch) -> None:
    info = estimator.bundle.object
    image = scene.image
    if messages:
        packed = messages.pack(scene)
        watch.enter(DECODE)
        image = messages.unpack(packed)
    watch.enter(UPLOAD)
    pyramid = estimator.search(image, scene.K, scene.boxes)
    watch.enter(DISTRIBUTION)
    center = torch.tensor(info.center, device=estimator.device)
    found = [
        pyramid.distribution(b, center, info.diameter).to("cpu") for b in range(len(scene.boxes))
    ]
    watch.enter(MESSAGE if messages else MODES)
    if messages:
        messages.answer(found, scene)
    else:
        for distribution in found:
            distribution.modes()


@contextmanager
def _watched(estimator: Estimator, watch: Stopwatch) -> Iterator[None]:
    """Let the stages of an estimator tell the watch when they begin and end."""
    plain = estimators.search

    def timed(function: Callable, level: int, *args):
        watch.enter(scoring(level))
        logits = function(level, *args)
        watch.enter(selection(level))
        return logits

    def search(scorer, *args, **kwargs):
        before = watch.enter(SETUP)
        pyramid = plain(_Wrapped(scorer, timed), *args, **kwargs)
        watch.enter(before)
        return pyramid

    patches = (
        (estimators, "search", search),
        (estimators.camera, "crop_image", watch.wrapped(estimators.camera.crop_image, CROP)),
        (estimator.model, "features", watch.wrapped(estimator.model.features, BACKBONE)),
        (PoseDistribution, "modes", watch.wrapped(PoseDistribution.modes, MODES)),
    )
    with ExitStack() as stack:
        for owner, name, value in patches:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


class _Wrapped:
    """A scorer of families whose calls go through another function.

    Args:
        scorer: of the search.
        through: called with the function to call, the level and the other arguments.
    """

    def __init__(self, scorer: FamilyScorer, through: Callable):
        self._scorer, self._through = scorer, through

    def family_logits(self, level: int, *args) -> Tensor:
        """Score families as the wrapped scorer does."""
        return self._through(self._scorer.family_logits, level, *args)


def scoring_shares(estimator: Estimator, seen: Crops) -> dict[int, dict[str, float]]:
    """Measure the shares of look-up, MLP and the rest in each level's scoring.

    Returns:
        By level: shares of GATHER, MLP and PROJECTION (of keypoints, and tables), sum 1.
    """
    plain = estimators.search

    def named(function: Callable, level: int, *args):
        with record_function(f"{_SCORING}{level}"):
            return function(level, *args)

    def search(scorer, *args, **kwargs):
        return plain(_Wrapped(scorer, named), *args, **kwargs)

    plain_layers, plain_sums = PackedHead.layers_after_first, torch_heads.row_sums

    def layers(head: PackedHead, first: Tensor) -> Tensor:
        with record_function(MLP):
            return plain_layers(head, first)

    def row_sums(*given) -> Callable:
        sums = plain_sums(*given)

        def named_sums(*families: Tensor) -> Tensor:
            with record_function(GATHER):  # compiled, so the profiler sees nothing in it
                return sums(*families)

        return named_sums

    activities = [ProfilerActivity.CPU]
    if estimator.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    search_features(estimator, seen)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would print that it starts
    watched = mock.patch.object(estimators, "search", search)
    named_layers = mock.patch.object(PackedHead, "layers_after_first", layers)
    named_sums = mock.patch.object(torch_heads, "row_sums", row_sums)
    with watched, named_layers, named_sums, profile(activities=activities) as prof:
        search_features(estimator, seen)
    spent: dict[int, dict[str, float]] = defaultdict(lambda: dict.fromkeys(_KINDS, 0.0))
    for event in prof.events():
        level = _level_of(event)
        if level is None or event.name.startswith(_SCORING):
            continue
        cuda = estimator.device.type == "cuda"
        spent[level][_kind(event)] += (
            event.self_device_time_total if cuda else event.self_cpu_time_total
        )
    return {
        level: {kind: value / max(sum(kinds.values()), 1e-9) for kind, value in kinds.items()}
        for level, kinds in spent.items()
    }


def _level_of(event) -> int | None:
    """Return the level that an operation of a profile belongs to."""
    while event is not None:
        if event.name.startswith(_SCORING):
            return int(event.name.removeprefix(_SCORING))
        event = event.cpu_parent
    return None


def _kind(event) -> str:
    operation = event.name
    while event is not None:
        if event.name in (GATHER, MLP):
            return event.name
        event = event.cpu_parent
    if any(word in operation for word in _GATHERS):
        return GATHER
    return MLP if any(word in operation for word in _LAYERS) else PROJECTION
