"""Evaluate on several views: `python -m training.evaluate_multiview RUN_ID_OR_BUNDLE --views 4`.

The images of every scene are shuffled once (RandomState(0)) and taken in consecutive groups. An
object is searched in the camera frame of the first image of its group that shows it, in a cubic box
at that image's noisy estimate; the logits of all images of the group that show it are fused. Every
image is also searched alone in the same kind of box.

How the camera moved between two images follows from the object's own annotations, which is exact
and also right where objects are moved between images (as in LM-O). It tells the search nothing of
the object's pose in the first camera, but takes the annotation error between the views out.

Source: Haugaard et al., ICCVW 2023 (multi-view evaluation); groups as in Labbe et al., ECCV 2020.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from spyropose_ros.bop import BopFrame
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.search_settings import SearchSettings
from training import cli, runs
from training.evaluation.records import RecordFile

if TYPE_CHECKING:
    from spyropose_ros.core.search import PosePyramid
    from spyropose_ros.core.translation_grid import TranslationBox
    from training.data.source import Sample, Source
    from training.evaluation.run import Evaluation

Track = tuple[int, int]
"""Object number, and which of the frame's annotations of that object."""


@dataclass(frozen=True)
class View:
    """An object in one image of a group.

    Attributes:
        sample: the image and the object.
        world_from_camera: pose of the camera in that of the group's first view, [4, 4].
    """

    sample: Sample
    world_from_camera: np.ndarray


def evaluate_multiview(
    run_or_bundle: str,
    views: int = 4,
    fusion: float | str = "sum",
    split: str | None = None,
    dataset: str | None = None,
    limit: int | None = None,
    seed: int = 1,
    beam: int = 512,
    mass_tolerance: float | None = None,
    depth: int | None = None,
    device: str | None = None,
    data_root: str = "data",
    output: str | None = None,
    paper_protocol: bool = False,
) -> dict:
    """Evaluate a bundle on groups of views and write the report.

    Args:
        run_or_bundle: run id, folder of a bundle, or hub id.
        views: most images of a group.
        fusion: "sum" of the views' logits (independent views), "mean" (the paper), or a number to
            divide the sum by.
        split: of the data set; its first evaluation split by default.
        dataset: another data set that shows the object, in BOP format; that of the training by
            default.
        limit: most objects in groups.
        seed: of the noise.
        beam: most cells expanded per level.
        mass_tolerance: mass that may stay at coarse levels; 0.05 by default, 0 in the paper's
            protocol.
        depth: levels; None for all.
        device: where to run.
        data_root: where data sets lie.
        output: folder of the report; next to the bundle by default.
        paper_protocol: mass_tolerance and temperatures as published.

    Returns:
        The report: the groups' metrics, every group counted once for each of its views, and those
        of the same views alone.

    Raises:
        InputError: if the split does not exist, has no scenes, or shows no object.
    """
    runs.require_bundle(run_or_bundle)

    from training.data.crops import PAPER_SIGMA
    from training.evaluation.protocol import Protocol
    from training.evaluation.run import Evaluation

    protocol = Protocol(paper_protocol)
    settings = SearchSettings(beam, protocol.mass_tolerance(mass_tolerance), depth)
    evaluation = Evaluation.open(
        run_or_bundle, split, seed, settings, protocol, device, data_root, output, dataset
    )
    source, split = evaluation.source, evaluation.split
    head = evaluation.head(
        f"groups of {views} images, logits fused by {fusion}; cubic box, unturned, at the truth "
        f"with an offset of sigma {PAPER_SIGMA} of the diameter; camera motion from the object's "
        f"annotations; {protocol.temperatures(evaluation.estimator.bundle)}"
    )
    stem = f"report_{split}_{views}views_{fusion}{protocol.suffix}"
    file = RecordFile(evaluation.directory / f"{stem}.records.jsonl", head)
    _measure(evaluation, view_groups(source, split, seed, views), fusion, limit, file)
    records = file.records[:limit]
    if not records:
        raise InputError(f"{source.name} has no group of views in its split '{split}'")
    head["groups"] = len(records)
    parts = {
        f"{views} views": [
            r["fused"] | {"group": group} for group, r in enumerate(records) for _ in r["single"]
        ],
        "single views": [
            alone | {"group": group} for group, r in enumerate(records) for alone in r["single"]
        ],
    }
    seconds = (record["seconds"] for record in records)
    return evaluation.write(stem, head, parts, seconds)


def view_groups(source: Source, split: str, seed: int, views: int) -> Iterator[list[View]]:
    """Group the images of each scene.

    Args:
        source: the object.
        split: whose images to group.
        seed: of the samples.
        views: most images of a group.

    Yields:
        Views of one object in one group, at least one; the first one's camera is the world.
    """
    frames = source.frames(split)
    for scene_id, samples in groupby(source.samples(split, seed), lambda s: s.scene_id):
        scene = {frame.frame_id: frame for frame in frames if frame.scene_id == scene_id}
        seen: dict[tuple[int, Track], Sample] = {}
        for sample in samples:
            track = tracks(scene[sample.image_id])[sample.instance]
            # Its image is read again when its turn comes: a scene's images fill the memory.
            seen[sample.image_id, track] = replace(sample, image=np.empty((0, 0, 3), np.uint8))
        order = np.random.RandomState(0).permutation(sorted(scene))
        for start in range(0, len(order), views):
            group = [int(image) for image in order[start : start + views]]
            for track in sorted({track for image, track in seen if image in group}):
                shown = [image for image in group if (image, track) in seen]
                yield _views(
                    [replace(seen[image, track], image=scene[image].image()) for image in shown]
                )


def tracks(frame: BopFrame) -> dict[int, Track]:
    """Return what is the same in all frames of a scene, by the index of the annotation.

    The place among the annotations of the same object: that follows the index where all frames
    annotate everything, and holds where another object is sometimes left out.
    """
    found: dict[int, Track] = {}
    for instance in frame.instances:
        number = sum(object_id == instance.object_id for object_id, _ in found.values())
        found[instance.index] = instance.object_id, number
    return found


def _views(samples: list[Sample]) -> list[View]:
    """Return views with the motion of the camera around the object."""
    poses = [_pose(sample) for sample in samples]
    return [
        View(sample, poses[0] @ np.linalg.inv(pose))
        for sample, pose in zip(samples, poses, strict=True)
    ]


def _pose(sample: Sample) -> np.ndarray:
    """Return the true pose of the object, [4, 4]."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = sample.rotation, sample.translation
    return pose


def _measure(
    evaluation: Evaluation,
    groups: Iterator[list[View]],
    fusion: float | str,
    limit: int | None,
    file: RecordFile,
) -> None:
    """Search every group that has no record yet, fused and view by view."""
    done = len(file.records)
    rest = islice(groups, done, None if limit is None else max(done, limit))
    for group in tqdm(rest, initial=done, total=limit, unit="group"):
        samples = [view.sample for view in group]
        estimates = [_noisy_position(evaluation, sample) for sample in samples]
        started = time.perf_counter()
        fused = evaluation.estimator.search_multiview(
            [sample.image for sample in samples],
            [sample.K for sample in samples],
            np.stack([view.world_from_camera for view in group]),
            estimates[0],
            fusion,
            box=_cube(evaluation, estimates[0]),
        )
        seconds = time.perf_counter() - started
        single = [
            evaluation.metrics(_search_alone(evaluation, sample, estimate), sample)
            for sample, estimate in zip(samples, estimates, strict=True)
        ]
        record = {
            "fused": evaluation.metrics(fused, samples[0]),
            "single": single,
            "seconds": seconds,
        }
        file.append(record)


def _search_alone(evaluation: Evaluation, sample: Sample, estimate: np.ndarray) -> PosePyramid:
    """Return one view in its own cubic box."""
    from training.evaluation.protocol import search_box

    return search_box(evaluation.estimator, sample, _cube(evaluation, estimate))


def _cube(evaluation: Evaluation, estimate: np.ndarray) -> TranslationBox:
    """Return the paper's region of translations for several views."""
    import torch

    from spyropose_ros.core.translation_grid import TranslationBox

    middle = torch.from_numpy(estimate).float()[None].to(evaluation.estimator.device)
    return TranslationBox.cubic(middle, evaluation.source.diameter)


def _noisy_position(evaluation: Evaluation, sample: Sample) -> np.ndarray:
    """Return the paper's estimate for the cubic box, metres, [3]; the sample decides the noise."""
    from training.data.crops import truncated_offset
    from training.evaluation.protocol import sample_generator

    center = np.array(evaluation.estimator.bundle.object.center)
    offset = truncated_offset(sample_generator(sample, evaluation.seed))
    return sample.rotation @ center + sample.translation + evaluation.source.diameter * offset


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(evaluate_multiview, kept="what is done is kept: the same command goes on")
