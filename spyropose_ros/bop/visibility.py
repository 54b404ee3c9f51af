"""Visibility of every annotated object, computed by rendering all of them together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spyropose_ros.bop.models import load_mesh
from spyropose_ros.bop.placement import check_place
from spyropose_ros.bop.scene import BopFrame, BopScene, camera_suffix, entries_by_image
from spyropose_ros.core.files import write_text

if TYPE_CHECKING:
    from spyropose_ros.scenes.renderer import Renderer


def visibility_path(scene_directory: str | Path, camera: str | None = None) -> Path:
    """Return the file with the visibility of a scene's, or one of its cameras', objects."""
    directory = Path(scene_directory)
    return directory / f"scene_gt_info{camera_suffix(directory, camera)}.json"


def lacks_visibility(scene_directory: str | Path, camera: str | None = None) -> bool:
    """Tell whether a scene's visibility file, or an entry of it, is missing."""
    frames = BopScene(scene_directory, camera).frames
    return any(i.visibility is None for frame in frames for i in frame.instances)


def annotate_visibility(
    scene_directory: str | Path,
    root: str | Path,
    camera: str | None = None,
    progress: Callable[[list[BopFrame]], Iterable[BopFrame]] = iter,
) -> None:
    """Compute what is visible of every annotated object, where scene_gt_info.json does not say it.

    All annotated objects are rendered together. What is not annotated is not known to hide
    anything, so the visible fractions are upper bounds.

    Args:
        scene_directory: the scene.
        root: folder of the data set with the meshes.
        camera: of a scene with several cameras.
        progress: passes the frames on, and may show how far they are.

    Raises:
        MissingFileError: a file is missing.
        DataError: a file is damaged, or a pose cannot be true.
    """
    from spyropose_ros.scenes.renderer import Renderer, bounding_sphere

    path = visibility_path(scene_directory, camera)
    info = entries_by_image(path) if path.exists() else {}
    frames = [f for f in BopScene(scene_directory, camera).frames if f.frame_id not in info]
    numbers = sorted({i.object_id for frame in frames for i in frame.instances})
    meshes = {number: load_mesh(root, number) for number in numbers}
    spheres = {number: bounding_sphere(mesh) for number, mesh in meshes.items()}
    for frame in frames:
        for instance in frame.instances:
            center, radius = spheres[instance.object_id]
            check_place(frame, instance, center, 2 * radius)
    renderers = {number: Renderer(mesh) for number, mesh in meshes.items()}
    for frame in progress(frames):
        info[frame.frame_id] = frame_visibility(frame, renderers)
    write_text(path, json.dumps(dict(sorted(info.items()))))


def frame_visibility(frame: BopFrame, renderers: Mapping[int, Renderer]) -> list[dict]:
    """Compute what is visible of every annotated object of a frame; see `annotate_visibility`.

    Args:
        frame: with the poses of all of them.
        renderers: by the number of the object.

    Returns:
        BOP visibility entries, in the order of the frame's instances.

    Raises:
        MissingFileError: the image is missing.
        DataError: the image is damaged.
    """
    height, width = frame.image().shape[:2]
    border = max(width, height)  # so that what reaches out of the image is counted
    K = frame.K.copy()
    K[:2, 2] += border
    inside = (slice(border, border + height), slice(border, border + width))
    silhouettes, depths = [], []
    for depth in _depths(frame, renderers, K, width + 2 * border, height + 2 * border):
        silhouettes.append(_pixels(np.isfinite(depth)) - border)
        depths.append(depth[inside])
    return [
        _visibility_entry(silhouette, np.isfinite(depth), visible)
        for silhouette, depth, visible in zip(silhouettes, depths, _visible(depths), strict=True)
    ]


def visible_masks(
    frame: BopFrame, renderers: Mapping[int, Renderer], width: int, height: int
) -> list[np.ndarray]:
    """Compute which pixels show each annotated object, where the others do not hide it.

    Args:
        frame: with the poses of all of them.
        renderers: by the number of the object.
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        Masks [H, W] bool, in the order of the frame's instances.
    """
    return _visible(list(_depths(frame, renderers, frame.K, width, height)))


def _depths(
    frame: BopFrame, renderers: Mapping[int, Renderer], K: np.ndarray, width: int, height: int
) -> Iterator[np.ndarray]:
    """Yield the depth [H, W] of each instance alone, inf where it is not."""
    for instance in frame.instances:
        pose = instance.rotation, instance.translation
        depth = renderers[instance.object_id].render(*pose, K, width, height).depth
        yield np.where(depth > 0, depth, np.inf)


def _visible(depths: list[np.ndarray]) -> list[np.ndarray]:
    """Return where each of the objects with such depths [H, W] is the nearest."""
    nearest = np.minimum.reduce(depths) if depths else None
    return [(depth <= nearest) & np.isfinite(depth) for depth in depths]


def _visibility_entry(silhouette: np.ndarray, valid: np.ndarray, visible: np.ndarray) -> dict:
    """Make one entry from the silhouette's pixels [P, 2] and the masks [H, W] within the image."""
    count = int(np.count_nonzero(visible))
    return {
        "bbox_obj": _bop_box(silhouette),
        "bbox_visib": _bop_box(_pixels(visible)),
        "px_count_all": len(silhouette),
        "px_count_valid": int(np.count_nonzero(valid)),
        "px_count_visib": count,
        "visib_fract": count / len(silhouette) if len(silhouette) else 0.0,
    }


def _pixels(mask: np.ndarray) -> np.ndarray:
    """Return the xy [P, 2] of the true pixels."""
    return np.argwhere(mask)[:, ::-1]


def _bop_box(pixels: np.ndarray) -> list[int]:
    """Return first pixel and last minus first, as the BOP files have it; -1 if there are none."""
    if len(pixels) == 0:
        return [-1, -1, -1, -1]
    low, high = pixels.min(0), pixels.max(0)
    return [*map(int, low), *map(int, high - low)]
