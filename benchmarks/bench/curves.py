"""How times grow with depth, beam, tolerance, detections, views, threads and training samples."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from benchmarks.bench import quality
from benchmarks.bench.networks import Crops, Scene, open_estimator, search_features, with_depth
from benchmarks.bench.timing import Times, in_turn
from spyropose_ros.core import camera
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.estimator import SearchSettings
from spyropose_ros.core.reference import MAX_DEPTH, ReferenceSearch

FAST, FULL, REFERENCE = "this search", "full beam", "reference"


@dataclass
class Curve:
    """Measurements along one setting.

    Attributes:
        title: what grows.
        label: of the setting, with its unit.
        x: its values.
        times: by series, one for each value or None.
        extra: further numbers by name, one for each value.
        note: what to know.
        logarithmic: axes.
    """

    title: str
    label: str
    x: list
    times: dict[str, list[Times | None]] = field(default_factory=dict)
    extra: dict[str, list] = field(default_factory=dict)
    note: str = ""
    logarithmic: bool = True

    def add(self, times: dict[str, Times], **extra) -> None:
        """Append the measurements of the next value."""
        done = max(map(len, self.times.values()), default=0)
        for name in {**self.times, **times}:
            series = self.times.setdefault(name, [None] * done)
            series.append(times.get(name))
        for name, value in extra.items():
            self.extra.setdefault(name, []).append(value)

    def to_dict(self) -> dict:
        """Return plain values."""
        times = {name: [t and t.to_dict() for t in series] for name, series in self.times.items()}
        return {
            "title": self.title,
            "label": self.label,
            "x": self.x,
            "times": times,
            "extra": self.extra,
            "note": self.note,
            "logarithmic": self.logarithmic,
        }


@dataclass(frozen=True)
class Bench:
    """What all curves need.

    Attributes:
        bundle: the network.
        device: where.
        settings: of this search.
        scene: what is seen.
        quick: fewer values, less time for each.
        images: for log-likelihoods; 0 for none.
        data_root: where data sets lie.
    """

    bundle: ModelBundle
    device: torch.device
    settings: SearchSettings
    scene: Scene
    quick: bool
    images: int
    data_root: str

    @property
    def budget(self) -> float:
        """Seconds for each value."""
        return 1.5 if self.quick else 6.0

    def time(self, calls: dict[str, Callable[[], object]]) -> dict[str, Times]:
        """Time several calls in turn."""
        return in_turn(calls, self.device, self.budget, least=1 if self.quick else 3)

    def values(self, every: list, quick: list) -> list:
        """Return the values to measure."""
        return quick if self.quick else every


def depth(bench: Bench) -> Curve:
    """Measure along the number of levels, search alone."""
    own = bench.bundle.model.config.depth
    values = bench.values([4, 5, 6, 7, 8, 9], [4, 6, 8])
    note = f"deeper than {own} levels the last head is used again: times only"
    curve = Curve("depth", "levels", values, note=note, logarithmic=False)
    for levels in values:
        bundle = with_depth(bench.bundle, levels)
        full = replace(bench.settings, mass_tolerance=0.0)
        ours = {FAST: open_estimator(bundle, bench.device, bench.settings)}
        ours[FULL] = open_estimator(bundle, bench.device, full)
        seen = Crops.of(ours[FAST], bench.scene)
        calls = {name: lambda e=e, s=seen: search_features(e, s) for name, e in ours.items()}
        if levels <= (MAX_DEPTH - 1 if bench.quick else MAX_DEPTH):
            reference = ReferenceSearch(bundle, device=bench.device)
            features = reference.features(seen.crops)
            calls[REFERENCE] = lambda r=reference, f=features, s=seen: r.search_features(
                f, s.K_crop, s.box
            )
        poses = int(calls[FAST]().evaluations[0])
        curve.add(bench.time(calls), poses=poses)
    return curve


def beam(bench: Bench) -> Curve:
    """Measure along the most cells expanded per level, search alone."""
    values = bench.values([32, 64, 128, 256, 512, 1024, 2048], [32, 128, 512, 2048])
    curve = Curve("beam", "most cells expanded per level", values)
    for cells in values:
        calls = {}
        full = replace(bench.settings, mass_tolerance=0.0)
        for name, settings in ((FAST, bench.settings), (FULL, full)):
            settings = replace(settings, beam=cells)
            estimator = open_estimator(bench.bundle, bench.device, settings)
            seen = Crops.of(estimator, bench.scene)
            calls[name] = lambda e=estimator, s=seen: search_features(e, s)
        poses = int(calls[FAST]().evaluations[0])
        curve.add(bench.time(calls), poses=poses)
    return curve


def tolerance(bench: Bench) -> Curve:
    """Measure along the mass left unexpanded, with log-likelihoods if there are images."""
    values = bench.values([0.0, 0.003, 0.01, 0.05, 0.1, 0.2], [0.0, 0.01, 0.1])
    curve = Curve("mass tolerance", "mass tolerance", values)
    for mass in values:
        settings = replace(bench.settings, mass_tolerance=mass)
        estimator = open_estimator(bench.bundle, bench.device, settings)
        seen = Crops.of(estimator, bench.scene)
        poses = int(search_features(estimator, seen).evaluations[0])
        curve.add(
            bench.time({FAST: lambda e=estimator, s=seen: search_features(e, s)}), poses=poses
        )
    if bench.images:
        settings = [replace(bench.settings, mass_tolerance=mass) for mass in values]
        _, *rows = quality.compare(
            bench.bundle, bench.device, settings, bench.images, bench.data_root
        )
        for key in ("ll_uniform_zero", "difference", "standard_error"):
            curve.extra[key] = [row[key] for row in rows]
        curve.extra["mean_poses"] = [row["poses"] for row in rows]
        curve.note = f"log-likelihoods of {bench.images} test images, against the reference"
    return curve


def batch(bench: Bench) -> Curve:
    """Measure along the detections in one image: crops, backbone and search."""
    values = bench.values([1, 2, 4, 8, 16, 32], [1, 4, 16])
    curve = Curve("detections", "detections in one image", values)
    curve.note = "crop, backbone and search"
    estimator = open_estimator(bench.bundle, bench.device, bench.settings)
    for detections in values:
        scene = bench.scene.crowded(detections)
        call = {FAST: lambda s=scene: estimator.search(s.image, s.K, s.boxes)}
        curve.add(bench.time(call))
    return curve


def views(bench: Bench) -> Curve:
    """Measure along the images of one object: crops, backbone and fused search."""
    values = bench.values([1, 2, 4, 8], [1, 4])
    curve = Curve("views", "views of one object", values)
    curve.note = "crop, backbone and fused search with a full beam"
    estimator = open_estimator(bench.bundle, bench.device, bench.settings)
    scene, info = bench.scene, bench.bundle.object
    boxes, K = torch.from_numpy(scene.boxes).float(), torch.from_numpy(scene.K).float()
    center = camera.translation_from_boxes(boxes, K, info.diameter, info.size_ratio)[0].numpy()
    for count in values:
        poses = np.tile(np.eye(4), (count, 1, 1))
        poses[:, 0, 3] = np.linspace(-0.05, 0.05, count) if count > 1 else 0  # a stereo rig's
        call = {
            FAST: lambda n=count, p=poses: estimator.search_multiview(
                [scene.image] * n, [scene.K] * n, p, center
            )
        }
        curve.add(bench.time(call))
    return curve


def threads(bench: Bench) -> Curve:
    """Measure along PyTorch's threads on the CPU: crops, backbone and search."""
    cores = os.cpu_count() or 1
    values = sorted({2**k for k in range(cores.bit_length()) if 2**k <= cores} | {cores})
    curve = Curve("threads", "threads", values, logarithmic=False)
    curve.note = "crop, backbone and search"
    estimator = open_estimator(bench.bundle, bench.device, bench.settings)
    scene = bench.scene
    for count in values:
        with _threads(count):
            call = {FAST: lambda: estimator.search(scene.image, scene.K, scene.boxes)}
            curve.add(bench.time(call))
    return curve


def training(bench: Bench) -> Curve:
    """Measure training steps along the objective's samples, by batch size."""
    # Only here: what it imports takes seconds
    from benchmarks.bench.training_steps import training_curve

    sizes = bench.values([4, 16], [4])
    samples = bench.values([4, 16, 32], [4, 16])
    curve = Curve("training", "families drawn per level and image", samples)
    curve.note = "a step on a batch that is always the same"
    for name, times in training_curve(
        bench.bundle, bench.device, samples, sizes, bench.quick, bench.data_root
    ).items():
        curve.times[name] = times
    return curve


CURVES: dict[str, Callable[[Bench], Curve]] = {
    function.__name__: function
    for function in (depth, beam, tolerance, batch, views, threads, training)
}
QUICK = ("depth", "beam", "tolerance", "batch")
"""Those of a quick run that names none."""


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the number of PyTorch's threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
