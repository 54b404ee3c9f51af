"""A scene of a BOP data set: images of one place with their annotation."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spyropose_ros.bop.annotation import (
    Visibility,
    depth_scale,
    entry_of,
    intrinsics,
    number,
    pose,
    visibility,
)
from spyropose_ros.bop.files import hint, read_depth, read_image, read_json, read_mask
from spyropose_ros.core.errors import DataError, MissingFileError

_EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_NOT_CAMERAS = ("info", "coco")  # scene_gt_info.json and scene_gt_coco.json are no annotations


@dataclass(frozen=True)
class BopInstance:
    """An annotated object in a frame.

    Attributes:
        index: its place in the frame's annotation, which names its masks.
        object_id: its number in the data set.
        rotation: [3, 3], object to camera.
        translation: [3], object to camera, metres.
        visibility: None when the scene has no visibility file.
    """

    index: int
    object_id: int
    rotation: np.ndarray
    translation: np.ndarray
    visibility: Visibility | None


@dataclass(frozen=True)
class BopFrame:
    """An image with its annotation.

    Attributes:
        scene_id: number of the scene.
        frame_id: its number in the scene.
        image_path: of the colour or grey image.
        mask_directory: where the masks of the visible parts are, if the scene has any.
        K: [3, 3] intrinsics.
        instances: the annotated objects, in the order of the annotation.
        depth_path: of the depth image; None when the scene has none.
        depth_scale: millimetres of a unit of the depth image.
    """

    scene_id: int
    frame_id: int
    image_path: Path
    mask_directory: Path
    K: np.ndarray
    instances: list[BopInstance]
    depth_path: Path | None = None
    depth_scale: float = 1.0

    def image(self) -> np.ndarray:
        """Read the image.

        Returns:
            [H, W, 3] uint8 RGB.

        Raises:
            MissingFileError: the file is missing.
            DataError: the file is damaged.
        """
        return read_image(self.image_path)

    def depth(self) -> np.ndarray | None:
        """Read the depth image.

        Returns:
            [H, W] float32, z in the camera frame in metres, 0 where nothing was measured; None when
            the scene has no depth images.

        Raises:
            MissingFileError: the scene has depth images, but not this one.
            DataError: the file is damaged.
        """
        return None if self.depth_path is None else read_depth(self.depth_path, self.depth_scale)

    def visible_mask(self, instance: BopInstance) -> np.ndarray | None:
        """Read the mask of an instance's visible part.

        Args:
            instance: one of `instances`.

        Returns:
            [H, W] bool; None when the scene has no masks.

        Raises:
            MissingFileError: the scene has masks, but not this one.
            DataError: the file is damaged.
        """
        if not self.mask_directory.is_dir():
            return None
        return read_mask(self.mask_path(instance))

    def mask_path(self, instance: BopInstance) -> Path:
        """Return where the mask of an instance's visible part is, if the scene has masks."""
        return self.mask_directory / f"{self.frame_id:06d}_{instance.index:06d}.png"


class BopScene:
    """A scene folder: rgb/ or gray/, scene_gt.json, scene_camera.json, scene_gt_info.json if made.

    Newer data sets have several cameras in a scene; the names of all files and folders then end
    with the camera's name, as in scene_gt_cam1.json and rgb_cam1/.

    Attributes:
        scene_id: number of the scene.
        frames: the frames by ascending number.
    """

    scene_id: int
    frames: list[BopFrame]

    def __init__(
        self, directory: str | Path, camera: str | None = None, object_id: int | None = None
    ):
        """Read the annotation; images are read when asked for.

        Args:
            directory: such as data/lmo/test/000002.
            camera: whose images to take; None where there is only one.
            object_id: keep the instances of this object and the frames that have some; None for
                all.

        Raises:
            MissingFileError: the folder or one of its files is missing.
            DataError: a file is damaged, or there are several cameras and none was chosen.
        """
        directory = Path(directory)
        suffix = camera_suffix(directory, camera)
        truth_path = directory / f"scene_gt{suffix}.json"
        camera_path = directory / f"scene_camera{suffix}.json"
        info_path = directory / f"scene_gt_info{suffix}.json"
        truth, cameras = entries_by_image(truth_path), entries_by_image(camera_path)
        info = entries_by_image(info_path) if info_path.exists() else {}
        images, extension = image_files(directory, suffix)
        depths = _with_images(directory, [f"depth{suffix}"])
        self.scene_id = int(directory.name)
        self.frames = []
        for key in sorted(truth):
            with entry_of(truth_path, key):
                instances = _instances(truth[key], object_id)
            if instances or object_id is None:
                with entry_of(camera_path, key):
                    K, scale = intrinsics(cameras[key]), depth_scale(cameras[key])
                with entry_of(info_path, key):
                    instances = _with_visibility(instances, info.get(key), len(truth[key]))
                frame = BopFrame(
                    self.scene_id,
                    key,
                    images / f"{key:06d}{extension}",
                    directory / f"mask_visib{suffix}",
                    K,
                    instances,
                    None if depths is None else depths[0] / f"{key:06d}{depths[1]}",
                    scale,
                )
                self.frames.append(frame)


def is_annotated(directory: Path) -> bool:
    """Tell whether a scene has poses; those of many test sets are not public."""
    return bool(scene_cameras(directory))


def scene_cameras(directory: Path) -> list[str | None]:
    """Return the cameras of a scene with poses; None is the only camera of the plain format."""
    if (directory / "scene_gt.json").is_file():
        return [None]
    return [*_cameras(directory)]


def camera_suffix(directory: Path, camera: str | None) -> str:
    """Return the suffix of a camera's file names."""
    if (directory / "scene_gt.json").is_file():
        return ""  # such as the training images of a data set whose test images have cameras
    cameras = _cameras(directory)
    if camera in cameras:
        return f"_{camera}"
    if camera is None and len(cameras) == 1:
        return f"_{cameras[0]}"
    if cameras:
        wrong = "" if camera is None else f", but not '{camera}'"
        raise DataError(
            f"{directory} has images of the cameras {', '.join(cameras)}{wrong}: choose one of them"
        )
    if directory.is_dir():
        raise MissingFileError(
            f"{directory / 'scene_gt.json'} is missing: the poses of some test sets are not "
            f"public, then choose another split; otherwise {hint(directory)}"
        )
    raise MissingFileError(f"{directory / 'scene_gt.json'} is missing: {hint(directory)}")


def _cameras(directory: Path) -> list[str]:
    """Return the names of the cameras that have an annotation of their own."""
    names = (path.stem.removeprefix("scene_gt_") for path in directory.glob("scene_gt_*.json"))
    return sorted(name for name in names if name.split("_")[0] not in _NOT_CAMERAS)


def image_files(directory: Path, suffix: str = "") -> tuple[Path, str]:
    """Find the images of a scene.

    Args:
        directory: of the scene.
        suffix: of a camera's file names; see `camera_suffix`.

    Returns:
        Their folder, and their extension with its dot.

    Raises:
        MissingFileError: there are none.
    """
    candidates = [f"rgb{suffix}", f"gray{suffix}"]
    if suffix:
        candidates.append(suffix[1:])  # HOT3D's cameras are themselves called rgb, gray1, gray2
    found = _with_images(directory, candidates)
    if found is None:
        raise MissingFileError(
            f"{directory} has no folder {' or '.join(candidates)} with png, jpg or tif images: "
            f"{hint(directory)}"
        )
    return found


def _with_images(directory: Path, names: Iterable[str]) -> tuple[Path, str] | None:
    """Return the first of the folders that has images, and their extension; None if none has."""
    for name in names:
        images = [p for p in (directory / name).glob("*") if p.suffix.lower() in _EXTENSIONS]
        if images:
            return directory / name, min(images).suffix
    return None


def entries_by_image(path: Path) -> dict[int, Any]:
    """Read a file of a scene.

    Args:
        path: of the file, with an entry for each image.

    Returns:
        The entries by the number of the image.

    Raises:
        MissingFileError: the file is missing.
        DataError: it is damaged, or a key is no number.
    """
    entries = read_json(path)
    for key in entries:
        if not key.isdecimal():
            raise DataError(
                f"{path} has an image '{key}': name images by their number, as their files are"
            )
    return {int(key): entry for key, entry in entries.items()}


def _instances(truths: list[dict], object_id: int | None) -> list[BopInstance]:
    """Return the instances of one frame, without visibility; of one object unless it is None."""
    return [
        BopInstance(index, number(truth["obj_id"], "obj_id"), *pose(truth), None)
        for index, truth in enumerate(truths)
        if object_id is None or number(truth["obj_id"], "obj_id") == object_id
    ]


def _with_visibility(
    instances: list[BopInstance], infos: list[dict] | None, annotated: int
) -> list[BopInstance]:
    """Return the instances with what scene_gt_info.json says of them, if it says anything."""
    if infos is None:
        return instances
    if len(infos) != annotated:
        raise DataError(
            f"it does not match scene_gt.json, which has {annotated} objects instead of "
            f"{len(infos)}: move it away and compute it again"
        )
    return [replace(i, visibility=visibility(infos[i.index])) for i in instances]
