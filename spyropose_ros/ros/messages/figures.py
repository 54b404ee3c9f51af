"""Figures of a result: the poses drawn over the images, and maps of the rotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spyropose_ros.ros.pipeline.camera_frame import Result

if TYPE_CHECKING:
    import torch

    from spyropose_ros.core.distribution import PoseDistribution

MAP_SIZE = (480, 320)


def overlay(result: Result, sizes: Sequence[float]) -> np.ndarray:
    """Draw the poses over the images of all cameras.

    Args:
        result: at least one view.
        sizes: diameters of the objects in metres, one per target.

    Returns:
        The views one below the other, RGB uint8 [sum of H, largest W, 3].
    """
    from spyropose_ros.core import plots  # imports torch: only the worker thread waits for it

    labels = [target.class_id for target in result.targets]
    drawn = []
    for view in result.views:
        seen: list[Any] = list(result.distributions)
        if view.camera_from_frame is not None:
            seen = [_SeenFromCamera(d, view.camera_from_frame) for d in seen]
        drawn.append(plots.overlay(view.image, view.K, seen, list(sizes), labels=labels))
    width = max(image.shape[1] for image in drawn)
    return np.concatenate(
        [np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0))) for image in drawn]
    )


def rotation_maps(result: Result) -> np.ndarray:
    """Draw the rotations of all objects, one below the other.

    Args:
        result: at least one distribution.

    Returns:
        RGB uint8 [n * H, W, 3].
    """
    from spyropose_ros.core.plots import rotation_plot

    return np.concatenate([rotation_plot(d, size=MAP_SIZE) for d in result.distributions])


class _SeenFromCamera:
    """A distribution in the frame of a camera, with what `core.plots` needs.

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
