"""Detector and pose models together, measured as the BOP challenge does.

Source: Hodan et al., BOP challenge 2020 (average recall; every target is one object in one image).
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spyropose_ros.bop.results import BopEstimate
from spyropose_ros.bop.scene import BopFrame, BopInstance
from spyropose_ros.core.errors import DataError
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.detector.detector import Detections, Detector
from spyropose_ros.scenes.detector import noisy_box
from spyropose_ros.scenes.renderer import Renderer
from spyropose_ros.scenes.verification import Verification
from training.data.source import EvaluationObject
from training.evaluation.metrics import MSPD_THRESHOLDS, MSSD_THRESHOLDS
from training.evaluation.pose_errors import mspd, mssd
from training.evaluation.surface_discrepancy import VSD_THRESHOLDS, VSD_TOLERANCES, vsd

MIN_VISIBLE = 0.1
"""Share of an object that must be visible for it to be a target."""

Targets = Set[tuple[int, int, int]]
"""Scene, image and object of what is asked for."""

_LOWEST_SCORE = 0.01
"""Of the boxes whose poses are estimated; the challenge counts what is missed, not false boxes."""

_BOP_WIDTH = 640
"""Of the images that the challenge's thresholds in pixels are for."""


@dataclass(frozen=True)
class Recall:
    """Recalls of the targets of one object, or of several.

    Attributes:
        targets: number of targets.
        found: share with an estimate at all.
        mssd: mean recall over the thresholds of the surface distance.
        mspd: mean recall over the thresholds of the projected distance.
        vsd: mean recall over tolerances and thresholds of the visible surface's discrepancy; None
            without depth images.
    """

    targets: int
    found: float
    mssd: float
    mspd: float
    vsd: float | None = None

    @property
    def average(self) -> float | None:
        """Mean of the three recalls, the challenge's AR; None without depth images."""
        return None if self.vsd is None else (self.vsd + self.mssd + self.mspd) / 3


def visible_targets(frames: Iterable[BopFrame]) -> Targets:
    """Find the objects of which enough is visible, by the annotation of the frames.

    Args:
        frames: with their annotation.

    Returns:
        What is asked for.
    """
    return {
        (frame.scene_id, frame.frame_id, instance.object_id)
        for frame in frames
        for instance in frame.instances
        if instance.visibility is not None and instance.visibility.fraction >= MIN_VISIBLE
    }


def read_targets(path: str | Path) -> Targets:
    """Read a list of targets of the challenge, such as test_targets_bop19.json.

    Args:
        path: of the file.

    Returns:
        What is asked for.

    Raises:
        DataError: the file is no such list.
    """
    try:
        rows = json.loads(Path(path).read_text())
        return {(int(r["scene_id"]), int(r["im_id"]), int(r["obj_id"])) for r in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no list of BOP targets: {error}") from error


def detected(detector: Detector, image: np.ndarray) -> Detections:
    """Find the best box of each class.

    Args:
        detector: to run.
        image: RGB uint8 [H, W, 3].

    Returns:
        At most one box of each class: the challenge's images show every object once at most.
    """
    found = detector.detect(image, _LOWEST_SCORE)
    _, first = np.unique(found.classes, return_index=True)  # they are ordered by their scores
    names = [found.names[i] for i in first]
    return Detections(found.boxes[first], found.scores[first], found.classes[first], names)


def annotated(frame: BopFrame, names: Mapping[int, str], targets: Targets, seed: int) -> Detections:
    """Make detections of the annotation: what is visible of the targets in an image.

    Args:
        frame: with its annotation.
        names: of the objects by their numbers.
        targets: what is asked for.
        seed: of the boxes' noise, which is that of a simulated detector.

    Returns:
        Their boxes, with scores of 1.
    """
    seen = [
        (
            instance.object_id,
            noisy_box(
                instance.visibility.box,
                np.random.default_rng((seed, frame.frame_id, instance.object_id)),
            ),
        )
        for instance in frame.instances
        if (frame.scene_id, frame.frame_id, instance.object_id) in targets
        and instance.visibility is not None
        and instance.visibility.box is not None
    ]
    boxes = np.array([box for _, box in seen], np.float32).reshape(-1, 4)
    numbers = np.array([number for number, _ in seen], np.int64)
    return Detections(boxes, np.ones(len(seen), np.float32), numbers, [names[n] for n in numbers])


def estimates(
    frame: BopFrame,
    image: np.ndarray,
    found: Detections,
    estimators: Mapping[str, Estimator],
    verifications: Mapping[str, Verification],
    numbers: Mapping[str, int],
    started: float,
) -> Iterator[BopEstimate]:
    """Estimate the poses of an image; the leading mode of each distribution counts.

    Args:
        frame: where the image is from.
        image: RGB uint8 [H, W, 3].
        found: boxes; those of objects without an estimator are left out.
        estimators: by the objects' names.
        verifications: weigh the modes by renderings, by the objects' names; empty without.
        numbers: of the objects by their names.
        started: time.perf_counter before the boxes were looked for.

    Yields:
        Poses, with the score of the box times the mass of the mode, and the time of the image.
    """
    poses = []
    for box, score, name in zip(found.boxes, found.scores, found.names, strict=True):
        if name in estimators:
            (distribution,) = estimators[name].estimate(image, frame.K, box[None])
            if name in verifications:
                distribution = verifications[name](image, frame.K, box, distribution)
            R, t = (value.double().numpy() for value in distribution.mode())
            modes = distribution.modes()
            mass = modes[0].mass if modes else 0.0
            poses.append((numbers[name], float(score) * mass, R, t))
    seconds = time.perf_counter() - started
    for number, score, R, t in poses:
        yield BopEstimate(frame.scene_id, frame.frame_id, number, score, R, t, seconds)


def recalls(
    results: Iterable[BopEstimate],
    frames: Iterable[BopFrame],
    targets: Targets,
    objects: Mapping[int, EvaluationObject],
    width: int,
    renderers: Mapping[int, Renderer] | None = None,
) -> dict[int, Recall]:
    """Measure estimates.

    Args:
        results: of any images; of several of one object in one image the best score counts.
        frames: images.
        targets: what is asked for; counted where the frames show it.
        objects: by their numbers.
        width: of the images, pixels.
        renderers: of the objects, by their numbers, for the visible surface; None leaves it out.
            All frames have depth images then.

    Returns:
        Recalls by object, of the objects that are targets.
    """
    best: dict[tuple[int, int, int], BopEstimate] = {}
    for one in results:
        key = one.scene_id, one.image_id, one.object_id
        if key not in best or one.score > best[key].score:
            best[key] = one
    errors: dict[int, list[_Errors]] = {}
    for frame in frames:
        scene = None if renderers is None else frame.depth()
        for instance in frame.instances:
            number = instance.object_id
            key = frame.scene_id, frame.frame_id, number
            if key not in targets:
                continue
            found = _MISSED
            if key in best:
                found = _distances(best[key], instance, frame.K, objects[number], width)
                if renderers is not None and scene is not None:
                    poses = best[key], instance
                    surface = _discrepancy(
                        poses, scene, frame.K, objects[number], renderers[number]
                    )
                    found = replace(found, vsd=surface)
            errors.setdefault(number, []).append(found)
    return {number: _recall(errors[number], renderers is not None) for number in sorted(errors)}


@dataclass(frozen=True)
class _Errors:
    """Of one estimate: MSSD over the diameter, MSPD in pixels, VSD [T] for each tolerance."""

    mssd: float
    mspd: float
    vsd: np.ndarray


_MISSED = _Errors(np.inf, np.inf, np.full(len(VSD_TOLERANCES), np.inf))


def _distances(
    answer: BopEstimate, instance: BopInstance, K: np.ndarray, target: EvaluationObject, width: int
) -> _Errors:
    """Return the errors of an estimate that need no depth image."""
    estimate, truth = (
        (answer.rotation, answer.translation),
        (instance.rotation, instance.translation),
    )
    shape = estimate, truth, target.vertices, target.symmetries
    return replace(
        _MISSED, mssd=mssd(*shape) / target.diameter, mspd=mspd(*shape, K) * _BOP_WIDTH / width
    )


def _discrepancy(
    poses: Iterable[BopEstimate | BopInstance],
    scene: np.ndarray,
    K: np.ndarray,
    target: EvaluationObject,
    renderer: Renderer,
) -> np.ndarray:
    """Return the visible surface's discrepancy between the estimate and the truth, [T]."""
    height, width = scene.shape
    estimate, truth = (
        renderer.render(pose.rotation, pose.translation, K, width, height).depth for pose in poses
    )
    return vsd(estimate, truth, scene, K, target.diameter)


def mean_recall(parts: Iterable[Recall]) -> Recall:
    """Compute the recalls over all targets of several objects.

    Args:
        parts: recalls of the objects.

    Returns:
        Their means, weighted by the numbers of targets.
    """
    parts = list(parts)
    weights = [part.targets for part in parts]

    def mean(values: list[float]) -> float:
        return float(np.average(values, weights=weights))

    surfaces = [part.vsd for part in parts if part.vsd is not None]
    return Recall(
        sum(weights),
        mean([part.found for part in parts]),
        mean([part.mssd for part in parts]),
        mean([part.mspd for part in parts]),
        mean(surfaces) if surfaces else None,
    )


def _recall(errors: list[_Errors], with_depth: bool) -> Recall:
    """Return the recalls of targets with such errors."""
    surface, projected = (np.array([getattr(e, name) for e in errors]) for name in ("mssd", "mspd"))
    visible = np.array([e.vsd for e in errors])[..., None]  # [N, T, 1]
    return Recall(
        len(errors),
        float(np.isfinite(surface).mean()),
        float((surface[:, None] < MSSD_THRESHOLDS).mean()),
        float((projected[:, None] < MSPD_THRESHOLDS).mean()),
        float((visible < VSD_THRESHOLDS).mean()) if with_depth else None,
    )
