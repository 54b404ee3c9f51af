"""A scene of a BOP data set: images of one place with their annotation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spyropose_ros.bop.files import MM, hint, read_image, read_json, read_mask
from spyropose_ros.core.errors import DataError, MissingFileError

_EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_NOT_CAMERAS = ("info", "coco")  # scene_gt_info.json and scene_gt_coco.json are no annotations


@dataclass(frozen=True)
class Visibility:
    """How much of an object is visible in a frame.

    Attributes:
        box: [4] xyxy around the visible pixels (pixel centres at integers); None when hidden.
        fraction: visible pixels over the pixels of the whole silhouette.
        pixels: number of visible pixels.
    """

    box: np.ndarray | None
    fraction: float
    pixels: int


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
    """

    scene_id: int
    frame_id: int
    image_path: Path
    mask_directory: Path
    K: np.ndarray
    instances: list[BopInstance]

    def image(self) -> np.ndarray:
        """Read the image.

        Returns:
            [H, W, 3] uint8 RGB.

        Raises:
            MissingFileError: the file is missing.
            DataError: the file is damaged.
        """
        return read_image(self.image_path)

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
        return read_mask(self.mask_directory / f"{self.frame_id:06d}_{instance.index:06d}.png")


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
        suffix = _suffix(directory, camera)
        truth = read_json(directory / f"scene_gt{suffix}.json")
        cameras = read_json(directory / f"scene_camera{suffix}.json")
        info_path = directory / f"scene_gt_info{suffix}.json"
        info = read_json(info_path) if info_path.exists() else {}
        images, extension = _images(directory, suffix)
        self.frames = []
        try:
            self.scene_id = int(directory.name)
            for key in sorted(truth, key=int):
                instances = _instances(truth[key], info.get(key), object_id)
                if instances or object_id is None:
                    frame = BopFrame(
                        self.scene_id,
                        int(key),
                        images / f"{int(key):06d}{extension}",
                        directory / f"mask_visib{suffix}",
                        np.reshape(np.array(cameras[key]["cam_K"], np.float64), (3, 3)),
                        instances,
                    )
                    self.frames.append(frame)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{directory} has a damaged annotation ({error!r}): {hint(directory)}"
            ) from error


def is_annotated(directory: Path) -> bool:
    """Tell whether a scene has poses; those of many test sets are not public."""
    return (directory / "scene_gt.json").is_file() or bool(_cameras(directory))


def _suffix(directory: Path, camera: str | None) -> str:
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


def _images(directory: Path, suffix: str) -> tuple[Path, str]:
    """Return the folder of the images and their extension."""
    candidates = [f"rgb{suffix}", f"gray{suffix}"]
    if suffix:
        candidates.append(suffix[1:])  # HOT3D's cameras are themselves called rgb, gray1, gray2
    for name in candidates:
        images = [p for p in (directory / name).glob("*") if p.suffix.lower() in _EXTENSIONS]
        if images:
            return directory / name, min(images).suffix
    raise MissingFileError(
        f"{directory} has no folder {' or '.join(candidates)} with png, jpg or tif images: "
        f"{hint(directory)}"
    )


def _instances(
    truths: list[dict], infos: list[dict] | None, object_id: int | None
) -> list[BopInstance]:
    """Return the instances of one frame; of one object unless its number is None."""
    if infos is not None and len(infos) != len(truths):
        raise DataError("scene_gt_info.json does not match scene_gt.json")
    return [
        BopInstance(
            index,
            int(truth["obj_id"]),
            np.reshape(np.array(truth["cam_R_m2c"], np.float64), (3, 3)),
            np.array(truth["cam_t_m2c"], np.float64).reshape(3) * MM,
            None if infos is None else _visibility(infos[index]),
        )
        for index, truth in enumerate(truths)
        if object_id is None or int(truth["obj_id"]) == object_id
    ]


def _visibility(info: dict) -> Visibility:
    """Read a BOP entry."""
    x, y, w, h = info["bbox_visib"]
    pixels = int(info["px_count_visib"])
    box = np.array([x - 0.5, y - 0.5, x + w + 0.5, y + h + 0.5]) if pixels else None
    return Visibility(box, float(info["visib_fract"]), pixels)
