"""What passes between the parts of the node: frames, frame sets and their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spyropose_ros.core.presence import with_score
from spyropose_ros.ros.interfaces import CameraInfo, Detection2DArray, Header, Image
from spyropose_ros.ros.pipeline.detections import Target

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution


@dataclass(frozen=True)
class Frame:
    """The messages of one camera that an estimate needs.

    Attributes:
        camera: its name; empty where there is only one.
        image: sensor_msgs/Image or CompressedImage.
        detections: of that image; None where a detector in this process finds them.
        camera_info: the newest of the camera; None before the first.
        depth: registered to the image; None if none matches.
    """

    camera: str
    image: Any
    detections: Detection2DArray | None
    camera_info: CameraInfo | None
    depth: Image | None = None


@dataclass(frozen=True)
class FrameSet:
    """Frames that are estimated together.

    Attributes:
        frames: one, or at most one of each camera.
        epoch: another number than before means that time was set back, or a reset was asked for:
            what was seen in other epochs says nothing about this one.
    """

    frames: tuple[Frame, ...]
    epoch: int = 0


@dataclass(frozen=True)
class View:
    """The rectified image of one camera.

    Attributes:
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

    @property
    def frame_from_camera(self) -> np.ndarray:
        """Pose of the camera's optical frame in the result's frame, [4, 4]."""
        return (
            np.eye(4) if self.camera_from_frame is None else np.linalg.inv(self.camera_from_frame)
        )


@dataclass(frozen=True)
class Detection:
    """What the detectors of this process did for a frame set.

    Attributes:
        seconds: that they took.
        boxes: that they found.
    """

    seconds: float
    boxes: int


@dataclass(frozen=True)
class Result:
    """The result of a frame set.

    Attributes:
        header: of the outputs: the image's, or with several cameras the stamp of the newest image
            and the common frame.
        targets: the detections that were estimated.
        distributions: one per target, on the CPU, object frame -> the frame of the header.
        inference_time: seconds.
        views: one per camera that took part.
        epoch: see FrameSet.
        detection: None where no detector of this process ran.
    """

    header: Header
    targets: Sequence[Target]
    distributions: Sequence[PoseDistribution]
    inference_time: float
    views: Sequence[View]
    epoch: int = 0
    detection: Detection | None = None

    @property
    def presences(self) -> list[float]:
        """Probabilities that the objects are there, one per target; NaN where unknown."""
        return [
            with_score(distribution.presence, target.score)
            for distribution, target in zip(self.distributions, self.targets, strict=True)
        ]


def nanoseconds(stamp: Any) -> int:
    """Read a builtin_interfaces/Time as one integer."""
    return stamp.sec * 10**9 + stamp.nanosec
