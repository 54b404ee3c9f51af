"""Evaluation samples: an image with a detector's box and the true pose."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spyropose_ros.scenes.bop import LMO_OBJECTS, BopScene, load_models_info
from spyropose_ros.scenes.detector import noisy_box
from spyropose_ros.scenes.sampler import SceneSampler, load_object_model, scene_settings
from training.data.rendered import TEST, scene_generator

LMO_SCENE = "test/000002"
MIN_VISIBLE = 0.1  # the official targets' threshold


@dataclass(frozen=True)
class Sample:
    """One evaluation image.

    Attributes:
        id: unique within the set.
        image: RGB uint8 [H, W, 3].
        K: intrinsics, [3, 3].
        box: x0, y0, x1, y1 as the simulated detector gives it, pixels.
        rotation: true, [3, 3].
        translation: true, of the object frame, metres, [3].
        visible_fraction: of the object's silhouette.
        handle_fraction: share of the visible pixels on the feature that breaks a symmetry; nan
            where there is none.
    """

    id: int
    image: np.ndarray
    K: np.ndarray
    box: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    visible_fraction: float
    handle_fraction: float


@dataclass(frozen=True)
class EvaluationObject:
    """What the metrics need to know of the object.

    Attributes:
        vertices: mesh vertices in the object frame, metres, [V, 3].
        diameter: largest distance between vertices, metres (BOP's diameter).
        symmetries: rigid transforms that leave the object unchanged, with identity, [S, 4, 4].
    """

    vertices: np.ndarray
    diameter: float
    symmetries: np.ndarray


def rendered_samples(name: str, n: int, seed: int, data_root: str) -> Iterator[Sample]:
    """Held-out renderings in whole camera images; the training never draws this stream."""
    settings = replace(scene_settings(name), full_frame=True)
    sampler = SceneSampler(load_object_model(name, data_root), settings)
    for i in range(n):
        rng = scene_generator(seed, TEST, i)
        scene = sampler.sample(rng)
        yield Sample(
            i,
            scene.image,
            scene.K,
            noisy_box(scene.box, rng),
            scene.rotation,
            scene.translation,
            scene.visible_fraction,
            scene.handle_fraction,
        )


def photograph_samples(name: str, half: str, seed: int, data_root: str) -> Iterator[Sample]:
    """LM-O photographs, boxes of the annotated visible silhouettes with seeded noise.

    Args:
        name: "lmo/<object>".
        half: "dev" (first half of the sorted frames) or "test".
        seed: of the boxes' noise.
        data_root: where the data set lies.
    """
    object_id = LMO_OBJECTS[name.removeprefix("lmo/")]
    frames = BopScene(Path(data_root) / "lmo" / LMO_SCENE).frames
    middle = len(frames) // 2
    for frame in frames[:middle] if half == "dev" else frames[middle:]:
        for instance in frame.instances:
            seen = instance.visibility
            if instance.object_id != object_id or seen.box is None or seen.fraction < MIN_VISIBLE:
                continue
            rng = np.random.default_rng((seed, frame.frame_id, object_id))
            yield Sample(
                frame.frame_id,
                frame.image(),
                frame.K,
                noisy_box(seen.box, rng),
                instance.rotation,
                instance.translation,
                seen.fraction,
                float("nan"),
            )


def evaluation_object(name: str, data_root: str) -> EvaluationObject:
    """Vertices, diameter and symmetries of an object."""
    model = load_object_model(name, data_root)
    if name.startswith("lmo/"):
        info = load_models_info(Path(data_root) / "lmo")[LMO_OBJECTS[name.removeprefix("lmo/")]]
        return EvaluationObject(model.mesh.vertices, info.diameter, info.symmetries)
    symmetries = np.tile(np.eye(4), (len(model.symmetries), 1, 1))
    symmetries[:, :3, :3] = model.symmetries
    hull = model.mesh.convex_hull.vertices
    diameter = float(np.linalg.norm(hull[:, None] - hull[None], axis=-1).max())
    return EvaluationObject(model.mesh.vertices, diameter, symmetries)
