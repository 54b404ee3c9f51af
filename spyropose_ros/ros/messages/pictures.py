"""Pictures of a result for people: the poses over the images, and the maps of the rotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spyropose_ros.ros.pipeline.camera_frame import Result

if TYPE_CHECKING:
    import torch

    from spyropose_ros.core.distribution import PoseDistribution

MAP_SIZE = (480, 320)


def overlay(result: Result, sizes: Sequence[float]) -> np.ndarray:
    """Draws the poses over the images of all cameras.

    Args:
        result: at least one view.
        sizes: diameters of the objects in metres, one per target.

    Returns:
        The views one below the other, RGB uint8 [sum of H, largest W, 3].
    """
    from spyropose_ros.core import plots  # with torch: only the worker thread waits for it

    labels = [target.class_id for target in result.targets]
    pictures = []
    for view in result.views:
        seen = list(result.distributions)
        if view.camera_from_frame is not None:
            seen = [_SeenFromCamera(d, view.camera_from_frame) for d in seen]
        pictures.append(plots.overlay(view.image, view.K, seen, list(sizes), labels=labels))
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate(
        [np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0))) for picture in pictures]
    )


def rotation_maps(result: Result) -> np.ndarray:
    """Draws the rotations of all objects, one below the other, RGB uint8 [n * H, W, 3].

    Args:
        result: at least one distribution.
    """
    from spyropose_ros.core.plots import rotation_plot

    return np.concatenate([rotation_plot(d, size=MAP_SIZE) for d in result.distributions])


class _SeenFromCamera:
    """A distribution in the frame of a camera, as far as `core.plots` needs it.

    Args:
        distribution: object frame -> the frame of the result.
        camera_from_frame: the frame of the result -> the camera, [4, 4].
    """

    def __init__(self, distribution: PoseDistribution, camera_from_frame: np.ndarray) -> None:
        self._distribution = distribution
        self._camera_from_frame = camera_from_frame
        self.probabilities = distribution.probabilities

    def mode(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._move(*self._distribution.mode())

    def sample(
        self, n: int, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._move(*self._distribution.sample(n, generator))

    def _move(self, rotation: torch.Tensor, translation: torch.Tensor):
        move = rotation.new_tensor(self._camera_from_frame)
        return move[:3, :3] @ rotation, translation @ move[:3, :3].mT + move[:3, 3]
