"""What settings of the search cost in log-likelihood, and what they save: the same images for all.

`./run bench quality --images 100` compares this search with the reference formulation on the test
images of the network's data. Crops and features are made once per image; every search of an image
follows the others at once, in an order that changes.
"""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.bench.networks import Crops, Scene, open_estimator, search_features
from benchmarks.bench.timing import synchronise
from spyropose_ros.core import se3_grid
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.estimator import SearchSettings
from spyropose_ros.core.reference import ReferenceSearch
from spyropose_ros.core.search import PosePyramid
from training import runs
from training.data.source import Sample
from training.evaluation.metrics import OUTSIDE_FLOOR


@dataclass(frozen=True)
class Quality:
    """One setting on all images, against the reference on the same.

    Attributes:
        settings: of the search; None is the reference.
        gains: log-likelihood of the truth above the uniform distribution over the box, nats, by
            image; the log-likelihoods differ by as much as the gains.
        poses: scored, by image.
        seconds: of the search alone, by image.
    """

    settings: SearchSettings | None
    gains: list[float]
    poses: list[int]
    seconds: list[float]

    def against(self, reference: "Quality") -> dict:
        """Return means, the paired difference with its standard error, and the ratio of times."""
        difference = np.array(self.gains) - np.array(reference.gains)
        error = difference.std(ddof=1) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
        ratios = [r / s for r, s in zip(reference.seconds, self.seconds, strict=True)]
        settings = self.settings or SearchSettings(512, 0.0)
        return {
            "reference": self.settings is None,
            "beam": settings.beam,
            "mass_tolerance": settings.mass_tolerance,
            "images": len(self.gains),
            "ll_uniform_zero": statistics.fmean(self.gains),
            "difference": float(difference.mean()),
            "standard_error": float(error),
            "poses": statistics.fmean(self.poses),
            "median_s": statistics.median(self.seconds),
            "times_faster": statistics.median(ratios),
        }


def compare(
    bundle: ModelBundle,
    device: torch.device,
    settings: Sequence[SearchSettings],
    images: int,
    data_root: str = "data",
) -> list[dict]:
    """Search all images with the reference formulation and with every setting.

    Args:
        bundle: the network; its data's first test split is used.
        device: where.
        settings: of the search.
        images: how many.
        data_root: where data sets lie.

    Returns:
        `Quality.against` of the reference and of each setting.
    """
    source = runs.bundle_source(bundle, data_root)
    reference = ReferenceSearch(bundle, device=device)
    ours = {one: open_estimator(bundle, device, one) for one in settings}
    found = {one: Quality(one, [], [], []) for one in (None, *ours)}
    any_estimator = next(iter(ours.values()))
    samples = islice(source.samples(source.splits[0], seed=1), images)
    for number, sample in enumerate(tqdm(samples, total=images, unit="image", disable=None)):
        scene = Scene(sample.image, sample.K, sample.box[None])
        seen = Crops.of(any_estimator, scene)
        features = reference.features(seen.crops)
        calls = {None: lambda s=seen, f=features: reference.search_features(f, s.K_crop, s.box)}
        calls |= {key: lambda e=e, s=seen: search_features(e, s) for key, e in ours.items()}
        order = list(calls)
        if number == 0:
            for call in calls.values():  # a warm-up
                call()
        for key in order[number % len(order) :] + order[: number % len(order)]:
            synchronise(device)
            begin = time.perf_counter()
            pyramid = calls[key]()
            synchronise(device)
            found[key].seconds.append(time.perf_counter() - begin)
            found[key].poses.append(int(pyramid.evaluations[0]))
            found[key].gains.append(gain(pyramid, sample, bundle))
    return [quality.against(found[None]) for quality in found.values()]


def gain(pyramid: PosePyramid, sample: Sample, bundle: ModelBundle) -> float:
    """Log density of the truth above the uniform one, with the evaluation's floor, nats."""
    center = sample.rotation @ np.array(bundle.object.center) + sample.translation
    rotation = torch.from_numpy(sample.rotation).float()[None, None]
    position = torch.from_numpy(center).float()[None, None]
    density = pyramid.log_density_per_level(rotation, position)[0, 0, -1]
    gain = float(density - se3_grid.uniform_log_density(pyramid.box)[0])
    return gain if math.isfinite(gain) else OUTSIDE_FLOOR
