"""Photographs of objects at rest by a camera whose motion is known, without labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spyropose_ros.bop.annotation import camera_from_world, entry_of, intrinsics
from spyropose_ros.bop.files import read_image
from spyropose_ros.bop.scene import entries_by_image, image_files


@dataclass(frozen=True)
class Photograph:
    """An image and its camera.

    Attributes:
        number: of the image.
        path: of the image.
        K: intrinsics, [3, 3].
        world_from_camera: [4, 4], metres.
    """

    number: int
    path: Path
    K: np.ndarray
    world_from_camera: np.ndarray

    def image(self) -> np.ndarray:
        """Read the image, RGB uint8 [H, W, 3]; raises as `read_image`."""
        return read_image(self.path)


def read_photographs(directory: str | Path) -> list[Photograph]:
    """Read a scene folder of the BOP format that need not have poses of objects.

    Args:
        directory: with rgb/ or gray/ and scene_camera.json, whose entries have cam_K, cam_R_w2c
            and cam_t_w2c.

    Returns:
        The photographs by ascending number; images are read when asked for.

    Raises:
        MissingFileError: images or scene_camera.json are missing.
        DataError: scene_camera.json is damaged or says of an image not where the camera was.
    """
    directory = Path(directory)
    path = directory / "scene_camera.json"
    cameras = entries_by_image(path)
    images, extension = image_files(directory)
    photographs = []
    for number in sorted(cameras):
        with entry_of(path, number):
            K, (rotation, translation) = (
                intrinsics(cameras[number]),
                camera_from_world(cameras[number]),
            )
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ translation
        photographs.append(Photograph(number, images / f"{number:06d}{extension}", K, pose))
    return photographs
