"""What keeps photographs below renderings: `python -m benchmarks.accuracy.appearance_gap MODEL`.

The same poses and boxes of LM-O with six images each: the photograph; its object's colours brought
to the mean and spread of the rendered object's; the photographed object before a rendered
background, cut out beside the annotated outline, which leaves its own outline, and along it, which
does not; the rendered object in the photograph; and a rendering.
Writes <output>/OBJECT.md and, with the first images, <output>/OBJECT.png.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from spyropose_ros import bop
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.search_settings import SearchSettings
from training import cli, markdown, provenance

if TYPE_CHECKING:
    from spyropose_ros.scenes.sampler import SceneSampler
    from training.data.source import Sample
    from training.evaluation.run import Evaluation

RUNGS = (
    "photograph",
    "photograph, object in the rendering's colours",
    "photographed object and 6 px around it, rendered background",
    "photographed object, rendered background",
    "rendered object in the photograph",
    "rendering",
)
_RIM = np.ones((13, 13), np.uint8)  # reaches 6 pixels further
_SOFTNESS = 0.7  # of the edges of what is pasted, pixels
_SHOWN = 4  # images of the figure
_SIDE = 200  # of each, pixels
_LEAST_SPREAD = 1e-3  # of colours, of 255: of what is black


def appearance_gap(
    model: str,
    split: str = "dev",
    limit: int = 40,
    min_visible: float = 0.9,
    beam: int = 256,
    seed: int = 1,
    data_root: str = "data",
    output: str = "runs/appearance_gap",
) -> list[str]:
    """Measure and write the table.

    Args:
        model: bundle of an object of LM-O.
        split: photographs, "dev" or "test".
        limit: most photographs.
        min_visible: least visible fraction.
        beam: of the search.
        seed: of boxes, light and backgrounds.
        data_root: where LM-O lies.
        output: folder of the table and the figure.

    Returns:
        The lines of the table.

    Raises:
        InputError: the model is of no object of LM-O.
    """
    from training.evaluation.protocol import Protocol
    from training.evaluation.run import Evaluation

    evaluation = Evaluation.open(
        model, split, seed, SearchSettings(beam), Protocol(), "cpu", data_root, output
    )
    name = evaluation.source.object_name
    if name not in bop.LMO_OBJECTS:
        raise InputError(f"{model} is of {name}, which is no object of LM-O")
    records, shown = _measure(evaluation, limit, min_visible)
    lines = _lines(evaluation, min_visible, records)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.md").write_text("\n".join(lines) + "\n")
    picture = np.concatenate([np.concatenate(crops, 1) for crops in shown])
    cv2.imwrite(str(directory / f"{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    print("\n".join(lines))
    return lines


def _measure(
    evaluation: Evaluation, limit: int, min_visible: float
) -> tuple[dict[str, list[dict]], list[list[np.ndarray]]]:
    """Return metrics by rung, and crops of the first images, one list per image."""
    from spyropose_ros.core.plots import close_up
    from spyropose_ros.scenes.sampler import SceneSampler
    from training.data.rendered import LmoSource

    source = evaluation.source
    assert isinstance(source, LmoSource)
    settings = replace(source.settings, full_frame=True, occlusion_probability=0.0)
    scenes = SceneSampler(source.model, settings)
    samples = source.samples(evaluation.split, evaluation.seed)
    chosen = list(islice((s for s in samples if s.visible_fraction >= min_visible), limit))
    records: dict[str, list[dict]] = {rung: [] for rung in RUNGS}
    shown = []
    for sample in tqdm(chosen, unit="image"):
        rng = np.random.default_rng((evaluation.seed, sample.image_id))
        assert sample.seen is not None  # photographs are annotated
        images = rungs(sample, sample.seen().mask, scenes, rng)
        for rung, image in zip(RUNGS, images, strict=True):
            one = replace(sample, image=image)
            pyramid = evaluation.protocol.search(evaluation.estimator, one, evaluation.seed)
            records[rung].append(evaluation.metrics(pyramid, one))
        if len(shown) < _SHOWN:
            assert sample.box is not None  # photographs have boxes
            box = sample.box
            shown.append([close_up(image, sample.K, box, _SIDE)[0] for image in images])
    return records, shown


def rungs(
    sample: Sample, mask: np.ndarray, scenes: SceneSampler, rng: np.random.Generator
) -> list[np.ndarray]:
    """Make the images of a photograph.

    Args:
        sample: the photograph.
        mask: pixels that show its object, [H, W] bool.
        scenes: makes renderings at the sample's pose.
        rng: of light and background.

    Returns:
        [H, W, 3] uint8 each, in the order of `RUNGS`.
    """
    photograph = sample.image
    scene = scenes.render(sample.rotation, sample.translation, rng)
    assert scene is not None  # as much is visible as is asked for
    elsewhere = scenes.backdrops.draw(rng, *mask.shape)
    matched = photograph.astype(np.float64)
    seen, wanted = photograph[mask].astype(np.float64), scene.image[scene.mask]
    spread = wanted.std(0) / np.maximum(seen.std(0), _LEAST_SPREAD)
    matched[mask] = (seen - seen.mean(0)) * spread + wanted.mean(0)
    return [
        photograph,
        matched.round().clip(0, 255).astype(np.uint8),
        _pasted(elsewhere, photograph, cv2.dilate(mask.astype(np.uint8), _RIM) > 0),
        _pasted(elsewhere, photograph, mask),
        _pasted(photograph, scene.image, mask & scene.mask),
        scene.image,
    ]


def _pasted(image: np.ndarray, other: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return an image with a part of another one."""
    opacity = cv2.GaussianBlur(mask.astype(np.float32), (5, 5), _SOFTNESS)[..., None]
    return (image + opacity * (other.astype(np.float32) - image)).round().astype(np.uint8)


def _lines(evaluation: Evaluation, min_visible: float, records: dict[str, list[dict]]) -> list[str]:
    """Return the table of one model."""
    photographs = np.array([r["gain_per_level"][-1] for r in records[RUNGS[0]]])
    rows = []
    for rung, each in records.items():
        gains = np.array([r["gain_per_level"] for r in each])
        errors = np.array([r["rotation_error"] for r in each])
        rows.append(
            [
                rung,
                ", ".join(f"{gain:.2f}" for gain in gains.mean(0)),
                "" if rung == RUNGS[0] else markdown.mean(gains[:, -1] - photographs, "+"),
                f"{100 * (errors < 10).mean():.0f} %",
                f"{100 * (errors > 30).mean():.0f} %",
                f"{np.median(errors):.1f}",
            ]
        )
    columns = ["image", "LL per level", "above the photograph", "Acc@10", "> 30°", "median error °"]
    title = (
        f"{provenance.command()}: {len(photographs)} photographs of {evaluation.split}, visible "
        f"fraction >= {min_visible:g}. Nats above the uniform distribution, ± standard error."
    )
    return [title, "", *markdown.table(columns, rows)]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(appearance_gap)
