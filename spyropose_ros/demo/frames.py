"""What the demo's camera shows: rendered frames of a mug or part, or the LM-O photographs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union, cast

import numpy as np
import trimesh

from spyropose_ros.bop import LMO_OBJECTS, BopInstance, BopScene
from spyropose_ros.demo import stage
from spyropose_ros.demo.plan import Model
from spyropose_ros.demo.trajectory import mug_pose
from spyropose_ros.scenes.mug import make_mug
from spyropose_ros.scenes.renderer import bounding_sphere
from spyropose_ros.scenes.sampler import mask_box

RENDERED_FRAMES = 60
MIN_VISIBLE = 0.1  # photographs that show less of the object are no targets of BOP


@dataclass(frozen=True)
class Frame:
    """A camera image and what is known about it.

    Attributes:
        name: Number of the frame, or of the photograph.
        image: RGB uint8 [H, W, 3].
        K: Intrinsics, [3, 3].
        rotation: True, object to camera, [3, 3].
        translation: True, object to camera, metres, [3].
        box: xyxy, tight around the visible pixels (pixel centres at integers), [4].
        visible_fraction: Visible pixels over all pixels of the object's silhouette.
        handle_fraction: Visible pixels of the handle over visible pixels; None without a handle.
    """

    name: str
    image: np.ndarray
    K: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    box: np.ndarray
    visible_fraction: float
    handle_fraction: float | None


Frames = Union["RenderedFrames", "PhotographFrames"]


def open_frames(object_name: str, count: int = 0, data_root: str | Path = "data") -> Frames:
    """Return the frames of a demo, each made on demand.

    Args:
        object_name: 'mug', 'lmo/<object>', or the folder of the bundle of another object.
        count: Number of frames; 0 takes all photographs, or 60 renderings.
        data_root: Folder of the downloaded data sets.

    Returns:
        A sequence of Frame, with the class_id of the object.

    Raises:
        ValueError: The object is unknown, or the number is negative.
        FileNotFoundError: The photographs are missing.
    """
    if count < 0:
        raise ValueError(f"the number of frames is {count}: give 1 or more, or 0 for all")
    if object_name == "mug":
        return _mug_frames(count or RENDERED_FRAMES)
    if (Path(object_name) / "config.json").is_file():
        return _part_frames(Model.read(object_name), count or RENDERED_FRAMES)
    family, _, part = object_name.partition("/")
    if family != "lmo" or part not in LMO_OBJECTS:
        known = ", ".join(["mug", *(f"lmo/{name}" for name in LMO_OBJECTS)])
        raise ValueError(f"there is no demo of '{object_name}': choose from {known}")
    return PhotographFrames(part, count, Path(data_root) / "lmo" / "test" / "000002")


class RenderedFrames(Sequence):
    """Renderings of an object on the mug's path.

    Args:
        class_id: Name of the object.
        scene: Renders it.
        count: Number of frames along the path.
        scale: Of the scene; poses are those of the object in its own size.
        shift: Of the object, in its frame and the scene's size, metres, [3].
        handle_faces: Which faces of the mesh are the handle's, bool [F]; None without a handle.
    """

    def __init__(
        self,
        class_id: str,
        scene: stage.Stage,
        count: int,
        scale: float = 1.0,
        shift: np.ndarray | None = None,
        handle_faces: np.ndarray | None = None,
    ):
        self.class_id = class_id
        self._stage = scene
        self._count = count
        self._scale = scale
        self._shift = np.zeros(3) if shift is None else shift
        self._handle_faces = handle_faces

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Frame:  # type: ignore[override]  # no slices
        if not 0 <= index < self._count:
            raise IndexError(index)
        rotation, translation = mug_pose(index / self._count)
        translation = translation + rotation @ self._shift
        image, seen, whole = self._stage.render(rotation, translation, np.random.default_rng(index))
        visible, handle = seen >= 0, self._handle_faces
        return Frame(
            name=str(index),
            image=image,
            K=stage.K,
            rotation=rotation,
            translation=translation / self._scale,
            box=mask_box(visible),
            visible_fraction=np.count_nonzero(visible) / whole,
            handle_fraction=None if handle is None else float(handle[seen[visible]].mean()),
        )


def _mug_frames(count: int) -> RenderedFrames:
    mesh, handle_faces = make_mug()
    return RenderedFrames("mug", stage.Stage(mesh), count, handle_faces=handle_faces)


def _part_frames(model: Model, count: int) -> RenderedFrames:
    """Return renderings of a part of one's own in the place of the mug.

    The scene is as much larger or smaller as the part is than the mug, so the images show the part
    in the size of the mug.
    """
    center, radius = bounding_sphere(make_mug().mesh)
    scale = 2 * radius / model.diameter
    mesh = cast(trimesh.Trimesh, trimesh.load(model.mesh, force="mesh"))
    mesh.apply_scale(scale)
    shift = center - scale * np.array(model.center)
    return RenderedFrames(model.class_id, stage.Stage(mesh, [mesh]), count, scale, shift)


class PhotographFrames(Sequence):
    """The photographs that show an object, in order."""

    def __init__(self, class_id: str, count: int, directory: Path):
        """Read the annotation.

        Args:
            class_id: Name of the object.
            count: Number of photographs, evenly spread; 0 takes all.
            directory: The scene.
        """
        self.class_id, object_id = class_id, LMO_OBJECTS[class_id]
        entries = [
            (frame, instance)
            for frame in BopScene(directory).frames
            for instance in frame.instances
            if instance.object_id == object_id and _is_target(instance)
        ]
        if 0 < count < len(entries):
            entries = [
                entries[i] for i in np.linspace(0, len(entries) - 1, count).round().astype(int)
            ]
        if not entries:
            raise ValueError(f"{directory} has no photograph that shows object {object_id}")
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Frame:  # type: ignore[override]  # no slices
        frame, instance = self._entries[index]
        visible = instance.visibility
        assert visible is not None and visible.box is not None  # see _is_target
        return Frame(
            name=str(frame.frame_id),
            image=frame.image(),
            K=frame.K,
            rotation=instance.rotation,
            translation=instance.translation,
            box=visible.box,
            visible_fraction=visible.fraction,
            handle_fraction=None,
        )


def _is_target(instance: BopInstance) -> bool:
    visibility = instance.visibility
    return (
        visibility is not None and visibility.box is not None and visibility.fraction >= MIN_VISIBLE
    )
