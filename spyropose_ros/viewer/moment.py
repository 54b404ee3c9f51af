"""What is shown at a time, and what was shown before."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from spyropose_ros.core.camera import resized_intrinsics
from spyropose_ros.core.plots.pose_cloud import PoseCloud
from spyropose_ros.core.plots.scene import CameraView

KEPT = 300
"""Moments that can be stepped through: half a minute at 10 Hz, 155 MB of images."""
_WIDEST = 480  # pixels of an image that is kept


@dataclass(frozen=True)
class ObjectState:
    """What is known of one object.

    Attributes:
        name: class, with a number where there are several of it.
        cloud: its poses in the frame of the moment.
        entropy: nats, as in msg/PoseDistribution.msg.
        presence: probability that it is there at all; NaN where unknown.
    """

    name: str
    cloud: PoseCloud
    entropy: float
    presence: float = math.nan


@dataclass(frozen=True)
class Moment:
    """All that is known from the images of one time.

    Attributes:
        time: seconds, of the images.
        objects: in the order of their detections.
        cameras: views by the name of their camera.
        inference: seconds that the estimate took; NaN where unknown.
        latency: seconds from the image to the arrival of the distributions; NaN where unknown.
    """

    time: float
    objects: list[ObjectState]
    cameras: dict[str, CameraView] = field(default_factory=dict)
    inference: float = math.nan
    latency: float = math.nan


class Moments:
    """The last moments, by serial numbers that go on counting. Thread-safe."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque(maxlen=KEPT)
        self._end = 0
        self._lock = threading.Lock()

    def add(self, moment: Moment) -> None:
        """Keep a moment as the newest."""
        with self._lock:
            self._moments.append(moment)
            self._end += 1

    def span(self) -> tuple[int, int]:
        """Return the numbers of the oldest and the newest moment; (0, -1) without any."""
        with self._lock:
            return self._end - len(self._moments), self._end - 1

    def get(self, number: int) -> Moment | None:
        """Return a moment, or the nearest to it that is kept; None without any."""
        with self._lock:
            if not self._moments:
                return None
            first = self._end - len(self._moments)
            return self._moments[min(max(number - first, 0), len(self._moments) - 1)]

    def all(self) -> list[Moment]:
        """Return the moments, oldest first."""
        with self._lock:
            return list(self._moments)


def small_view(image: np.ndarray, K: np.ndarray, pose: np.ndarray) -> CameraView:
    """Make a view whose image is small enough to be kept and sent many times a second.

    Args:
        image: rectified, RGB uint8 [H, W, 3].
        K: its intrinsics [3, 3].
        pose: camera's optical frame -> frame of the moment, [4, 4].

    Returns:
        The view.
    """
    scale = _WIDEST / image.shape[1]
    if scale < 1:
        size = _WIDEST, max(1, round(scale * image.shape[0]))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        K = resized_intrinsics(torch.as_tensor(K, dtype=torch.float64)[None], scale)[0].numpy()
    return CameraView(K, pose, image)


def named(classes: list[str]) -> list[str]:
    """Return the classes with a number from the second object of the same class on."""
    return [
        name if name not in classes[:index] else f"{name} {classes[:index].count(name) + 1}"
        for index, name in enumerate(classes)
    ]
