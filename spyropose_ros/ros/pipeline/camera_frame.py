"""What passes between the parts of the node: the messages of a frame, and its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spyropose_ros.ros.interfaces import CameraInfo, Detection2DArray, Header, Image
from spyropose_ros.ros.pipeline.detections import Target

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution


@dataclass(frozen=True)
class Frame:
    """The messages of one camera that an estimate needs.

    Args:
        camera: its name; empty where there is only one.
        image: sensor_msgs/Image or CompressedImage.
        detections: of that image.
        camera_info: the newest of the camera, None if none has come.
        depth: registered to the image, None if none fits.
    """

    camera: str
    image: Any
    detections: Detection2DArray
    camera_info: CameraInfo | None
    depth: Image | None = None


@dataclass(frozen=True)
class View:
    """The picture of one camera.

    Args:
        camera: its name; empty where there is only one.
        header: of its image.
        image: rectified, RGB uint8 [H, W, 3].
        K: intrinsics [3, 3].
        camera_from_frame: the result's frame -> the camera's optical frame, [4, 4]; None where
            they are the same.
    """

    camera: str
    header: Header
    image: np.ndarray
    K: np.ndarray
    camera_from_frame: np.ndarray | None


@dataclass(frozen=True)
class Result:
    """A processed frame.

    Args:
        header: of the outputs: the image's, or with several cameras the stamp of the newest image
            and the common frame.
        targets: the detections that were estimated.
        distributions: one per target, on the CPU, object frame -> the frame of the header.
        inference_time: seconds.
        views: one per camera that took part.
    """

    header: Header
    targets: Sequence[Target]
    distributions: Sequence[PoseDistribution]
    inference_time: float
    views: Sequence[View]


def nanoseconds(stamp: Any) -> int:
    """Reads a builtin_interfaces/Time as one integer."""
    return stamp.sec * 10**9 + stamp.nanosec
