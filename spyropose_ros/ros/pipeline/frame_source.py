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
        self._capacity = parameters.sync.buffer_size
        self._matcher: FrameMatcher[Any, Detection2DArray] = FrameMatcher(
            self._slop, self._capacity, drop
        )
        self._camera_info: CameraInfo | None = None
        self._depths: OrderedDict[int, Image] = OrderedDict()

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
            self._depths[stamp] = message
            if len(self._depths) > self._capacity:
                self._depths.popitem(last=False)
            return []
        matcher = self._matcher
        add = matcher.add_image if role is Role.IMAGE else matcher.add_detections
        return [self._frame(match) for match in add(stamp, message)]

    def _frame(self, match: Match[Any, Detection2DArray]) -> Frame:
        depth = self._depth(match.image)
        return Frame(self._camera, match.image, match.detections, self._camera_info, depth)

    def _depth(self, image: Any) -> Image | None:
        """Return the depth image nearest in time, within the slop."""
        stamp = nanoseconds(image.header.stamp)
        nearest = min(self._depths, key=lambda other: abs(other - stamp), default=None)
        if nearest is None or abs(nearest - stamp) > self._slop:
            return None
        return self._depths[nearest]
