"""From the messages of one camera to complete frames where no detections are waited for."""

from __future__ import annotations

from typing import Any

from spyropose_ros.ros.interfaces import CameraInfo, Image
from spyropose_ros.ros.pipeline.camera_frame import Frame, nanoseconds
from spyropose_ros.ros.pipeline.drops import Drop, Reason
from spyropose_ros.ros.pipeline.frame_matcher import UNSTAMPED
from spyropose_ros.ros.pipeline.frame_source import DepthImages, Role
from spyropose_ros.ros.pipeline.parameters import Parameters


class ImageSource:
    """Makes a frame of every image of one camera, as FrameSource does for images with detections.

    An image waits for the first calibration, and for its depth image if there are such, but not
    longer than until the next image.

    Args:
        camera: its name; empty where there is only one.
        parameters: what is waited for.
        drop: called for every image that becomes no frame.
    """

    def __init__(self, camera: str, parameters: Parameters, drop: Drop) -> None:
        self._camera = camera
        self._drop = drop
        self._with_depth = parameters.depth_image
        self._slop = round(parameters.sync.slop * 1e9)
        self._depths = DepthImages(parameters.sync.buffer_size)
        self._camera_info: CameraInfo | None = None
        self._waiting: Any = None  # image
        self.newest: int | None = None

    def apply(self, parameters: Parameters) -> None:
        """Apply the parameters that may change at run time."""
        self._slop = round(parameters.sync.slop * 1e9)

    def reset(self, cause: str) -> None:
        """Drop all pending messages; the calibration stays.

        Args:
            cause: of the reset, for the log.
        """
        if self._waiting is not None:
            self._drop(
                Reason.INACTIVE, f"{cause} while an image waited for its calibration or depth image"
            )
        self._waiting = self.newest = None
        self._depths.clear()

    def add(self, role: Role, message: Any) -> list[Frame]:
        """Store a message.

        Args:
            role: of the topic that the message arrived on.
            message: of that topic.

        Returns:
            The frames that it completes.
        """
        frames = []
        if role is Role.CAMERA_INFO:
            self._camera_info = message
        elif role is Role.DEPTH:
            self._depths.add(nanoseconds(message.header.stamp), message)
        else:
            frames += self.flush()
            self._store(message)
        if self._waiting is not None and self._complete():
            frames += self.flush()
        return frames

    def flush(self) -> list[Frame]:
        """Return the frame of the image that waits, with what has arrived."""
        image, self._waiting = self._waiting, None
        return [] if image is None else [self._frame(image)]

    def _store(self, image: Any) -> None:
        stamp = nanoseconds(image.header.stamp)
        if stamp == 0:
            self._drop(Reason.IMAGE_STAMP, UNSTAMPED)
            return
        self._waiting = image
        self.newest = max(stamp, self.newest or 0)

    def _complete(self) -> bool:
        depth = self._with_depth and self._depth(self._waiting) is None
        return self._camera_info is not None and not depth

    def _frame(self, image: Any) -> Frame:
        return Frame(self._camera, image, None, self._camera_info, self._depth(image))

    def _depth(self, image: Any) -> Image | None:
        return self._depths.nearest(nanoseconds(image.header.stamp), self._slop)
