"""Images with boxes around the object and around what is not the object."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import trimesh

from spyropose_ros.bop import BopFrame
from spyropose_ros.core.errors import InputError
from spyropose_ros.scenes.detector import noisy_box
from spyropose_ros.scenes.groups import GroupSampler, GroupSettings
from spyropose_ros.scenes.renderer import bounding_sphere
from spyropose_ros.scenes.sampler import ObjectModel, SceneSettings
from spyropose_ros.scenes.sprites import simple_meshes
from training.data.bop import BopSource
from training.data.rendered import MIN_VISIBLE, RenderedSource
from training.data.source import Source
from training.data.streams import item_generator
from training.detector.parts import load_parts

BACKGROUND, WITHOUT_HANDLE = "background", "without handle"

_LEAST_VISIBLE = 0.35  # of the objects in renderings: what trainings show
_SMALLEST = 12.0  # shorter side of a box, pixels
_SHARE = 0.4  # of the objects in renderings
_DISTRACTOR_SHARE = 0.5  # of what is not the object, where there are such meshes
_EMPTY = 0.1  # share of renderings of a background
_SIDES = (40.0, 200.0)  # of boxes around a background, pixels
_MOST_COVERED = 0.1  # of such a box or of a thing that it overlaps, whichever is smaller


@dataclass(frozen=True)
class Shown:
    """An image and boxes in it, as a detector that errs gives them.

    Attributes:
        image: RGB uint8 [H, W, 3].
        K: intrinsics, [3, 3].
        boxes: x0, y0, x1, y1 in pixels, [N, 4].
        kinds: what is in each: the name of the object, or what is there instead.
    """

    image: np.ndarray
    K: np.ndarray
    boxes: np.ndarray
    kinds: list[str]


def renderings(
    source: Source, seed: int, stream: int, number: int, things: int = 3
) -> Iterator[Shown]:
    """Render the object and other things in scenes like those of the training.

    Args:
        source: of the object; shapes are of other sizes for every seed.
        seed: of the images.
        stream: of `training.data.streams`, not TRAIN.
        number: of images.
        things: most in an image, where they hide parts of each other.

    Yields:
        Images with the object, its distractors, simple shapes, its body without a handle where it
        has one, and nothing but background in the boxes.

    Raises:
        InputError: an object that is not rendered, or that is its whole image.
    """
    target, scenes = _target(source)
    shapes = [_thing(*shape) for shape in simple_meshes(np.random.default_rng((seed, stream)))]
    others = _repeated([_thing("other object", m, False) for m in target.distractors], shapes)
    others += [*shapes, *_repeated(_without_handle(target), others + shapes, 0.1)]
    models = [*_repeated([target], others, _SHARE), *others]
    names = [model.name for model in models]
    sampler = GroupSampler(models, GroupSettings(scenes, scenes.width, _EMPTY, things))
    for index in range(number):
        rng = item_generator(seed, stream, index)
        group = sampler.sample(rng)
        seen = group.visible >= _LEAST_VISIBLE
        kinds = [names[kind] for kind in group.classes[seen]]
        yield _shown(group.image, sampler.K, group.boxes, group.boxes[seen], kinds, rng)


def photographs(frames: list[BopFrame], names: dict[int, str], seed: int) -> Iterator[Shown]:
    """Show the annotated objects of photographs, and their backgrounds.

    Args:
        frames: the photographs.
        names: of the objects by their numbers.
        seed: of the boxes' noise and of the backgrounds.

    Yields:
        Images with all objects that are visible to 10 %.
    """
    for frame in frames:
        rng = np.random.default_rng((seed, frame.scene_id, frame.frame_id))
        seen = [
            (each.visibility.box, names[each.object_id])
            for each in frame.instances
            if each.visibility is not None
            and each.visibility.box is not None
            and each.visibility.fraction >= MIN_VISIBLE
        ]
        boxes = np.array([box for box, _ in seen], float).reshape(-1, 4)
        yield _shown(frame.image(), frame.K, boxes, boxes, [name for _, name in seen], rng)


def _target(source: Source) -> tuple[ObjectModel, SceneSettings]:
    """Return the object and its scenes."""
    if isinstance(source, RenderedSource):
        return source.model, source.settings
    if isinstance(source, BopSource):
        (model,), scenes = load_parts(source.dataset.root, [str(source.object_id)])
        return replace(model, name=source.object_name), scenes
    raise InputError(f"{source.name} is no object among others: there is no presence to fit")


def _thing(kind: str, mesh: trimesh.Trimesh, recolour: bool = True) -> ObjectModel:
    """Return something that is not the object."""
    center, radius = bounding_sphere(mesh)
    return ObjectModel(kind, mesh, None, center, 2 * radius, [], recolour, np.eye(3)[None])


def _without_handle(target: ObjectModel) -> list[ObjectModel]:
    """Return the object without its handle, if it has one."""
    if target.handle_faces is None:
        return []
    mesh = target.mesh.copy()
    mesh.update_faces(~target.handle_faces)
    mesh.remove_unreferenced_vertices()
    return [replace(target, name=WITHOUT_HANDLE, mesh=mesh, handle_faces=None)]


def _repeated(
    models: list[ObjectModel], others: list[ObjectModel], share: float = _DISTRACTOR_SHARE
) -> list[ObjectModel]:
    """Repeat models until they are about this share of all together with the others."""
    if not models:
        return []
    wanted = share / (1 - share) * len(others)
    return models * max(1, round(wanted / len(models)))


def _shown(
    image: np.ndarray,
    K: np.ndarray,
    all_boxes: np.ndarray,
    boxes: np.ndarray,
    kinds: list[str],
    rng: np.random.Generator,
) -> Shown:
    """Add a detector's noise, and a box of background where there is room."""
    boxes = np.array([noisy_box(box, rng) for box in boxes]).reshape(-1, 4)
    height, width = image.shape[:2]
    background = _random_box(width, height, rng)
    if all(_covered(background, box) <= _MOST_COVERED for box in all_boxes):
        boxes, kinds = np.vstack((boxes, background)), [*kinds, BACKGROUND]
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    inside = ((middle >= 0) & (middle <= [width - 1, height - 1])).all(1)
    usable = inside & (sides.min(1) >= _SMALLEST)
    return Shown(image, K, boxes[usable], [kinds[index] for index in np.flatnonzero(usable)])


def _random_box(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a box of the size and shape of objects, with its middle in the image, [4]."""
    side, shape = np.exp(rng.uniform(*np.log(_SIDES))), np.exp(rng.uniform(-0.5, 0.5))
    half = side / 2 * np.array([shape, 1 / shape])
    middle = rng.uniform([0, 0], [width - 1, height - 1])
    return np.concatenate((middle - half, middle + half))


def _covered(a: np.ndarray, b: np.ndarray) -> float:
    """Return the area that boxes share over that of the smaller one."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod())
    return float(sides.clip(0).prod() / smaller)
