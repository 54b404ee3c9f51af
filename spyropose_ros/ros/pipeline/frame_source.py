"""From the messages of one camera to complete frames."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum, auto
from typing import Any

from spyropose_ros.ros.interfaces import CameraInfo, Detection2DArray, Image
from spyropose_ros.ros.pipeline.camera_frame import Frame, nanoseconds
from spyropose_ros.ros.pipeline.drops import Drop, Reason
from spyropose_ros.ros.pipeline.frame_matcher import FrameMatcher, Match
from spyropose_ros.ros.pipeline.parameters import Parameters


class Role(Enum):
    """What a message contributes to a frame."""

    IMAGE = auto()
    CAMERA_INFO = auto()
    DETECTIONS = auto()
    DEPTH = auto()


class DepthImages:
    """The newest depth images of a camera.

    Args:
        capacity: how many are kept.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._images: OrderedDict[int, Image] = OrderedDict()

    def add(self, stamp: int, image: Image) -> None:
        """Store an image by its stamp in nanoseconds."""
        self._images[stamp] = image
        if len(self._images) > self._capacity:
            self._images.popitem(last=False)

    def nearest(self, stamp: int, slop: int) -> Image | None:
        """Return the image nearest to a stamp, at most the slop away; both in nanoseconds."""
        nearest = min(self._images, key=lambda other: abs(other - stamp), default=None)
        if nearest is None or abs(nearest - stamp) > slop:
            return None
        return self._images[nearest]

    def clear(self) -> None:
        """Remove all."""
        self._images.clear()


class FrameSource:
    """Joins the messages of one camera to frames.

    Args:
        camera: its name; empty where there is only one.
        parameters: how to match.
        drop: called for every message that becomes no frame.
    """

    def __init__(self, camera: str, parameters: Parameters, drop: Drop) -> None:
        self._camera = camera
        self._drop = drop
        self._slop = round(parameters.sync.slop * 1e9)
        capacity = parameters.sync.buffer_size
        self._matcher: FrameMatcher[Any, Detection2DArray] = FrameMatcher(
            self._slop, capacity, drop
        )
        self._camera_info: CameraInfo | None = None
        self._depths = DepthImages(capacity)

    @property
    def newest(self) -> int | None:
        """Newest stamp of the buffered images in nanoseconds; None without any."""
        return self._matcher.newest

    def apply(self, parameters: Parameters) -> None:
        """Apply the parameters that may change at run time."""
        self._slop = self._matcher.slop = round(parameters.sync.slop * 1e9)

    def reset(self, cause: str) -> None:
        """Drop all pending messages; the calibration stays.

        Args:
            cause: of the reset, for the log.
        """
        if waiting := self._matcher.reset():
            self._drop(Reason.UNMATCHED, f"{cause} before the image of detections arrived", waiting)
        self._depths.clear()

    def add(self, role: Role, message: Any) -> list[Frame]:
        """Store a message.

        Args:
            role: of the topic that the message arrived on.
            message: of that topic.

        Returns:
            The frames that it completes.
        """
        if role is Role.CAMERA_INFO:
            self._camera_info = message
            return []
        stamp = nanoseconds(message.header.stamp)
        if role is Role.DEPTH:
            self._depths.add(stamp, message)
            return []
        matcher = self._matcher
        add = matcher.add_image if role is Role.IMAGE else matcher.add_detections
        return [self._frame(match) for match in add(stamp, message)]

    def flush(self) -> list[Frame]:
        """Return the frames that wait for nothing they need: none."""
        return []

    def _frame(self, match: Match[Any, Detection2DArray]) -> Frame:
        depth = self._depths.nearest(nanoseconds(match.image.header.stamp), self._slop)
        return Frame(self._camera, match.image, match.detections, self._camera_info, depth)
