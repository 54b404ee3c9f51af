"""Fit one temperature per level: `python -m training.calibrate RUN_ID_OR_BUNDLE`.

At each level the temperature maximises the likelihood of the true child among the expanded cells.
The temperatures are written into the bundle's config.json; weights do not change.

Source: Guo et al., ICML 2017 (temperature scaling), applied level by level.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from spyropose_ros.core.bundle_files import CONFIG, write_config
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.search_settings import SearchSettings
from training import cli, runs
from training.evaluation.verdict import FOR_PHOTOGRAPHS

if TYPE_CHECKING:
    import torch

    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.core.search import PosePyramid
    from training.data.source import Source

    Searched = tuple[PosePyramid, torch.Tensor, torch.Tensor]
    """A pyramid with the true rotation [3, 3] and translation of the sphere's centre [3]."""

log = logging.getLogger(__name__)

_SEED_OFFSET = 10_000  # apart from every evaluation seed
_BOUNDS = (0.3, 5.0)  # of what a pass changes, and of what can be trusted in all
_REMEDY = "train again for longer (more --hours), or on images like these"
_FEW_IMAGES = 50  # below which the temperatures scatter
_LEAST = 10  # images that tell the temperature of a level
_PASSES = 2  # an overconfident model's beam misses the truth until its temperatures are about right


def calibrate(
    run_or_bundle: str,
    split: str | None = None,
    dataset: str | None = None,
    images: int = 200,
    seed: int = 0,
    beam: int = 256,
    device: str | None = None,
    data_root: str = "data",
    for_photographs: bool = False,
) -> list[float]:
    """Fit and store the temperatures.

    Args:
        run_or_bundle: run id or folder of a bundle.
        split: an evaluation split to fit on, such as LM-O's "dev"; the validation images of the
            training by default.
        dataset: another data set that shows the object, in BOP format; that of the training by
            default.
        images: most images.
        seed: of the images and boxes.
        beam: of the search that collects logits. A small one reaches the fine levels only in images
            that it is sure of, and their temperatures hold for no others.
        device: where to run.
        data_root: where data sets lie.
        for_photographs: for lack of them, on renderings that differ from those of the training as
            photographs do: painted surfaces, harsh light, and a bad camera whose calibration is a
            little wrong.

    Returns:
        The temperatures, coarse to fine.

    Raises:
        InputError: if the bundle is on the hub, the split does not exist or is the one that is
            evaluated on, or there are no images but the test's, or for_photographs is combined
            with a split or a model of rotations only.
    """
    directory = runs.stored_bundle(run_or_bundle)

    from spyropose_ros.core.bundle import ModelBundle
    from spyropose_ros.core.estimator import Estimator

    bundle = ModelBundle.from_pretrained(directory)
    source = runs.bundle_source(bundle, data_root, dataset)
    bundle.temperatures = [1.0] * bundle.model.config.depth
    settings = SearchSettings(beam, 0.0)
    estimator = Estimator(bundle, device, settings)
    if for_photographs and (split is not None or source.rotation_only):
        raise InputError(
            "--for-photographs changes renderings, of models that search positions, too: leave it "
            "out for a model of rotations, and with --split"
        )
    if split is not None:
        source.check_split(split)
        if split == source.splits[0]:
            raise InputError(
                f"'{split}' is what {source.name} is evaluated on: temperatures that are fitted on "
                "it flatter the evaluation; choose another split, or leave it out"
            )
    batches = []
    if split is None:
        batches = list(_validation_batches(estimator, source, images, seed, for_photographs))
    searched: Iterable[Searched]
    passes = []
    for _ in range(_PASSES):
        if split is None:
            searched = map(partial(_searched, estimator), batches)
        else:
            searched = _evaluation(estimator, source, split, images, seed)
        found = [_true_cells(*one) for one in tqdm(searched, unit="image")]
        before = bundle.temperatures
        bundle.temperatures, reached = _fitted(before, found)
        passes.append([t / b for t, b in zip(bundle.temperatures, before, strict=True)])
        estimator = Estimator(bundle, device, settings)  # with these temperatures
        log.info("temperatures: %s", bundle.temperatures)
    data = f"{split or 'validation'} images of {source.name}"
    data += f", {FOR_PHOTOGRAPHS}" * for_photographs
    record = {"images": len(found), "data": data, "seed": seed, "beam": beam}
    _store(directory / CONFIG, bundle.temperatures, record)
    for doubt in doubts(len(found), reached, passes):
        log.warning("WARNING: %s", doubt)
    log.info("stored in %s", directory / CONFIG)
    return bundle.temperatures


def doubts(images: int, reached: list[int], passes: list[list[float]]) -> list[str]:
    """Say why temperatures may be wrong.

    Args:
        images: that they were fitted on.
        reached: how many of these reach each level, coarse to fine.
        passes: what each pass multiplied them by, coarse to fine.

    Returns:
        Sentences; none if the temperatures can be trusted.
    """
    found = []
    if images < _FEW_IMAGES:
        found.append(
            f"temperatures fitted on {images} images scatter: use {_FEW_IMAGES} or more (--images, "
            "or a data set with more images for validation)"
        )
    last, together = passes[-1], np.prod(passes, axis=0)
    ended = [
        str(level)
        for level, factors in enumerate(zip(last, together, strict=True))
        if not all(1.01 * _BOUNDS[0] < factor < _BOUNDS[1] / 1.01 for factor in factors)
    ]
    scarce = [str(level) for level, number in enumerate(reached) if level and number < _LEAST]
    if ended:
        found.append(
            f"the temperature of level {', '.join(ended)} is at a bound or beyond, not at its best "
            f"value: the model has not learned that level; {_REMEDY}"
        )
    if scarce:
        found.append(
            f"level {', '.join(scarce)} has the temperature of the level above: the search "
            f"reaches the true pose there in fewer than {_LEAST} images; {_REMEDY}"
        )
    return found


def _validation_batches(
    estimator: Estimator, source: Source, images: int, seed: int, for_photographs: bool
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield crops as the training validates on, or such as photographs may be, one by one."""
    from training.data.box_noise import bundle_noise
    from training.data.looks import Looks
    from training.data.source import CropSettings
    from training.data.streams import VALIDATION, item_generator
    from training.data.unfamiliar import LOOKS, unfamiliar

    if source.validates_on_test:
        raise InputError(
            f"the validation images of {source.name} are test images, which must not be fitted on: "
            "train with --low-data-regime, or leave the temperatures off"
        )
    config = estimator.bundle.model.config
    crop = CropSettings(
        resolution=config.crop_resolution,
        map_size=config.crop_resolution // config.feature_stride,
        padding=config.crop_padding,
        box_noise=bundle_noise(estimator.bundle.name),
        max_roll=0.0,
        surface=False,
        looks=LOOKS if for_photographs else Looks(),
    )
    items, composer = source.validation_items(crop), source.composer(crop)
    for index in range(min(images, len(items))):
        item = items.item(index, item_generator(seed + _SEED_OFFSET, VALIDATION, index))
        item = {key: value[None].to(estimator.device) for key, value in item.items()}
        batch = composer(item)
        yield unfamiliar(batch, seed + index) if for_photographs else batch


def _searched(estimator: Estimator, item: dict[str, torch.Tensor]) -> Searched:
    """Search a batch of one."""
    crops, box = item["crop"].float().div(255), estimator.box(item["estimate"])
    pyramid = estimator.search_crops(crops, item["K_crop"], box)
    return pyramid, item["rotation"][0], item["translation"][0]


def _evaluation(
    estimator: Estimator, source: Source, split: str, images: int, seed: int
) -> Iterator[Searched]:
    """Yield images of an evaluation split, as the node sees them."""
    import torch

    from training.evaluation.protocol import Protocol

    center = np.array(estimator.bundle.object.center)
    for sample in islice(source.samples(split, seed + _SEED_OFFSET), images):
        sphere = sample.rotation @ center + sample.translation
        yield (
            Protocol().search(estimator, sample, seed),
            torch.from_numpy(sample.rotation).float(),
            torch.from_numpy(sphere).float(),
        )


def _true_cells(
    pyramid: PosePyramid, R: torch.Tensor, t: torch.Tensor
) -> list[tuple[torch.Tensor, int] | None]:
    """Return per level the log masses of the scored cells and which holds the truth, or None."""
    from spyropose_ros.core import se3_grid

    R, t = R.to(pyramid.box.center)[None, None], t.to(pyramid.box.center)[None, None]
    if not pyramid.box.contains(t):
        return [None] * len(pyramid.levels)
    found = []
    for level in pyramid.levels:
        cell = se3_grid.containing(R, t, pyramid.box, level.cells.level)
        hit = (level.cells.keys()[0] == cell.keys()[0, 0]).nonzero()
        found.append((level.log_probability[0], int(hit[0])) if len(hit) else None)
    return found


def _fitted(
    temperatures: list[float], found: list[list[tuple[torch.Tensor, int] | None]]
) -> tuple[list[float], list[int]]:
    """Improve temperatures by the true cells of images, level by level.

    Returns:
        The temperatures, and the number of images that reach each level.
    """
    better: list[float] = []
    reached = []
    for temperature, level in zip(temperatures, zip(*found, strict=True), strict=True):
        pairs = [pair for pair in level if pair]
        reached.append(len(pairs))
        if len(pairs) < _LEAST and better:  # they would tell little of all others
            better.append(better[-1])
        else:
            better.append(round(temperature * _fit(pairs), 4))
    return better, reached


def _fit(pairs: list[tuple[torch.Tensor, int]]) -> float:
    """Return the temperature of least negative log-likelihood; 1 without data."""
    import torch
    from scipy.optimize import minimize_scalar

    if not pairs:
        return 1.0

    def loss(log_temperature: float) -> float:
        scale = torch.tensor(-log_temperature).exp()
        total = sum(float((v * scale).log_softmax(0)[i]) for v, i in pairs)
        return -total / len(pairs)

    bounds = tuple(torch.tensor(_BOUNDS).log().tolist())
    best = minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(torch.tensor(best.x).exp())


def _store(path: Path, temperatures: list[float], record: dict) -> None:
    """Put the temperatures and where they come from into a bundle's config.json."""
    config = json.loads(path.read_text())
    config["temperatures"] = temperatures
    config["record"]["calibration"] = record
    write_config(path.parent, config)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(calibrate, kept="the bundle is as it was")
