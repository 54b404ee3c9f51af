"""From the messages of one camera to complete frames."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spyropose_ros.ros.interfaces import CameraInfo, CompressedImage, Detection2DArray, Image
from spyropose_ros.ros.pipeline.camera_frame import Frame, nanoseconds
from spyropose_ros.ros.pipeline.drops import Drop, Reason
from spyropose_ros.ros.pipeline.frame_matcher import FrameMatcher, Match
from spyropose_ros.ros.pipeline.parameters import Parameters


@dataclass(frozen=True)
class Input:
    """A topic that frames are made from.

    Args:
        name: relative.
        kind: message class.
        store: takes a message; returns the frames that it completes.
    """

    name: str
    kind: type
    store: Callable[[Any], list[Frame]]


class FrameSource:
    """Joins the messages of one camera to frames. Knows no node: bags use it as well.

    Args:
        camera: its name, put before the topics; empty where there is only one.
        parameters: which topics, and how to match.
        drop: called for every message that becomes no frame.
    """

    def __init__(self, camera: str, parameters: Parameters, drop: Drop) -> None:
        self.camera = camera
        self._drop = drop
        self._slop = round(parameters.sync.slop * 1e9)
        self._capacity = parameters.sync.buffer_size
        self._matcher: FrameMatcher[Any, Detection2DArray] = FrameMatcher(
            self._slop, self._capacity, drop
        )
        self._camera_info: CameraInfo | None = None
        self._depths: OrderedDict[int, Image] = OrderedDict()
        if parameters.image_transport == "compressed":
            image = ("image_rect/compressed", CompressedImage)
        else:
            image = ("image_rect", Image)
        inputs = [
            (*image, self.add_image),
            ("camera_info", CameraInfo, self.add_camera_info),
            ("detections", Detection2DArray, self.add_detections),
        ]
        if parameters.depth_image:
            inputs.append(("depth", Image, self.add_depth))
        prefix = f"{camera}/" if camera else ""
        self.inputs = [Input(prefix + name, kind, store) for name, kind, store in inputs]

    def apply(self, parameters: Parameters) -> None:
        """Takes over what may change at run time."""
        self._slop = self._matcher.slop = round(parameters.sync.slop * 1e9)

    def reset(self) -> None:
        """Forgets what waits; the calibration stays."""
        if waiting := self._matcher.reset():
            self._drop(Reason.UNMATCHED, "forgotten by a reset before their image came", waiting)
        self._depths.clear()

    def add_image(self, message: Any) -> list[Frame]:
        """Stores an image; returns the frames that it completes."""
        return self._frames(self._matcher.add_image(nanoseconds(message.header.stamp), message))

    def add_detections(self, message: Detection2DArray) -> list[Frame]:
        """Stores detections; returns the frame that they complete, if any."""
        stamp = nanoseconds(message.header.stamp)
        return self._frames(self._matcher.add_detections(stamp, message))

    def add_camera_info(self, message: CameraInfo) -> list[Frame]:
        """Stores the calibration, of this and of later images; completes nothing."""
        self._camera_info = message
        return []

    def add_depth(self, message: Image) -> list[Frame]:
        """Stores a depth image; completes nothing."""
        self._depths[nanoseconds(message.header.stamp)] = message
        if len(self._depths) > self._capacity:
            self._depths.popitem(last=False)
        return []

    def _frames(self, matches: list[Match[Any, Detection2DArray]]) -> list[Frame]:
        return [
            Frame(self.camera, m.image, m.detections, self._camera_info, self._depth(m.image))
            for m in matches
        ]

    def _depth(self, image: Any) -> Image | None:
        """The depth image nearest in time, within the slop."""
        stamp = nanoseconds(image.header.stamp)
        nearest = min(self._depths, key=lambda other: abs(other - stamp), default=None)
        if nearest is None or abs(nearest - stamp) > self._slop:
            return None
        return self._depths[nearest]
