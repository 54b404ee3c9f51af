"""Images of the demo's mug from cameras at known positions around it."""

from dataclasses import dataclass

import numpy as np

from spyropose_ros.demo import stage
from spyropose_ros.scenes.detector import noisy_box
from spyropose_ros.scenes.mug import make_mug
from spyropose_ros.scenes.renderer import bounding_sphere
from spyropose_ros.scenes.sampler import mask_box


@dataclass(frozen=True)
class View:
    """An image and its ground truth.

    Attributes:
        image: RGB uint8 [H, W, 3].
        box: xyxy as a detector might give it, pixels, [4].
        camera_from_object: [4, 4], metres.
        handle_fraction: visible pixels of the handle over visible pixels.
    """

    image: np.ndarray
    box: np.ndarray
    camera_from_object: np.ndarray
    handle_fraction: float


class MugViews:
    """Renders the mug on the demo's stage: the same light, colour and background everywhere."""

    K = stage.K

    def __init__(self):
        mesh, self._handle_faces = make_mug()
        self.center, _ = bounding_sphere(mesh)
        self._stage = stage.Stage(mesh)

    def view(
        self, azimuth: float, elevation: float, distance: float, rng: np.random.Generator
    ) -> View:
        """Render the mug from a camera that looks at it.

        Args:
            azimuth: of the camera about the mug's axis, radians; 0 is on the side of the handle.
            elevation: of the camera over the table, radians.
            distance: from the mug's centre, metres.
            rng: of the sensor and the detector.

        Returns:
            The image, with a box as a detector might give it.
        """
        pose = camera_from_object(self.center, azimuth, elevation, distance)
        image, seen, _ = self._stage.render(pose[:3, :3], pose[:3, 3], rng)
        box = noisy_box(mask_box(seen >= 0), rng)
        return View(image, box, pose, float(self._handle_faces[seen[seen >= 0]].mean()))


def camera_from_object(
    center: np.ndarray, azimuth: float, elevation: float, distance: float
) -> np.ndarray:
    """Return the pose [4, 4] of an upright camera that looks at an object with z up."""
    up = np.array([0.0, 0.0, 1.0])
    position = np.array([np.cos(azimuth), np.sin(azimuth), np.tan(elevation)]) * np.cos(elevation)
    right = np.cross(up, position)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(-position, right), -position])
    pose[:3, 3] = [0, 0, distance] - pose[:3, :3] @ center
    return pose
