"""From the messages of all cameras to frame sets: the same for the node and for bags."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spyropose_ros.ros.interfaces import CameraInfo, CompressedImage, Detection2DArray, Image
from spyropose_ros.ros.pipeline.camera_frame import Frame, FrameSet, nanoseconds
from spyropose_ros.ros.pipeline.drops import Drop, Reason, WarnOnce
from spyropose_ros.ros.pipeline.frame_source import FrameSource, Role
from spyropose_ros.ros.pipeline.image_source import ImageSource
from spyropose_ros.ros.pipeline.parameters import Parameters
from spyropose_ros.ros.pipeline.stamps import went_back
from spyropose_ros.ros.pipeline.view_group import ViewGroup


@dataclass(frozen=True)
class Input:
    """A topic that frames are made from.

    Attributes:
        camera: whose topic it is; empty where there is only one camera.
        role: what its messages contribute.
        name: relative name.
        topic: full name.
        kind: message class.
    """

    camera: str
    role: Role
    name: str
    topic: str
    kind: type


@dataclass(frozen=True)
class Assembled:
    """What a message completes.

    Attributes:
        matched: number of images that got their detections.
        frame_sets: ready to be estimated, oldest first.
    """

    matched: int
    frame_sets: list[FrameSet]


class Assembler:
    """Joins the messages of all cameras to frame sets. Not thread-safe.

    Images whose stamps go back by more than a second mean that time was set back: pending messages
    are cleared, and frame sets get a new epoch, which tells everything downstream to clear its
    history.

    Args:
        parameters: which topics, and how to match.
        resolve: gives the full name of a topic.
        drop: called for every message and frame that is not used.
        log: logs a warning.
        detects: whether detectors in this process find the boxes, so that no detections are
            waited for.

    Attributes:
        inputs: the topics to feed.
        warn: warns once of what is suspicious but may be intended.
    """

    inputs: list[Input]
    warn: WarnOnce

    def __init__(
        self,
        parameters: Parameters,
        resolve: Callable[[str], str],
        drop: Drop,
        log: Callable[[str], object],
        detects: bool = False,
    ) -> None:
        self.warn = WarnOnce(log)
        self._drop = drop
        self._rectified = parameters.rectified
        cameras = parameters.cameras or ("",)
        source = ImageSource if detects else FrameSource
        self._sources: dict[str, ImageSource | FrameSource] = {
            camera: source(camera, parameters, drop) for camera in cameras
        }
        views = parameters.views
        self._views: ViewGroup[Frame] | None = None
        if parameters.cameras:
            self._views = ViewGroup(cameras, round(views.slop * 1e9), views.wait, drop)
        self.inputs = [
            Input(camera, role, name, resolve(name), kind)
            for camera in cameras
            for role, name, kind in _topics(camera, parameters, detects)
        ]
        self._image_topics = {i.camera: i.topic for i in self.inputs if i.role is Role.IMAGE}
        self._epoch = 0
        self._last: int | None = None  # stamp of the last frame set of the epoch

    def apply(self, parameters: Parameters) -> None:
        """Apply the parameters that may change at run time."""
        for source in self._sources.values():
            source.apply(parameters)

    def add(self, entry: Input, message: Any, now: float) -> Assembled:
        """Store a message.

        Args:
            entry: one of `inputs`, which the message arrived on.
            message: of its class.
            now: monotonic time, seconds.

        Returns:
            What the message completes.
        """
        source = self._sources[entry.camera]
        frame_sets = []
        if entry.role is Role.IMAGE:
            frame_sets += self._check_time(source, nanoseconds(message.header.stamp))
        frames = source.add(entry.role, message)
        frame_sets += self._group(frames, now)
        return Assembled(len(frames), frame_sets)

    def _group(self, frames: Sequence[Frame], now: float) -> list[FrameSet]:
        for frame in frames:
            self._check_distortion(frame)
        if self._views is None:
            return self._label([frame] for frame in frames)
        frame_sets = []
        for frame in frames:
            stamp = nanoseconds(frame.image.header.stamp)
            frame_sets += self._label(self._views.add(frame.camera, stamp, frame, now))
        return frame_sets + self.flush(now)

    def flush(self, now: float) -> list[FrameSet]:
        """Give up waiting for cameras that are late; call it periodically.

        Args:
            now: monotonic time, seconds.

        Returns:
            The frame sets that wait for no other camera any more.
        """
        return [] if self._views is None else self._label(self._views.flush(now))

    def finish(self) -> list[FrameSet]:
        """Return the frame sets of what waits, after the last message."""
        frames = [frame for source in self._sources.values() for frame in source.flush()]
        return self._group(frames, 0.0) + self.flush(math.inf)

    def reset(self) -> None:
        """Drop all pending messages, and begin a new epoch."""
        for source in self._sources.values():
            source.reset("reset")
        if self._views is not None and (pending := self._views.reset()):
            self._drop(Reason.INACTIVE, "reset while waiting for the other cameras", pending)
        self._begin_epoch()

    def _check_time(self, source: FrameSource | ImageSource, stamp: int) -> list[FrameSet]:
        """Begin a new epoch if time was set back; return the pending frame sets of the old one."""
        newest = source.newest
        if stamp == 0 or newest is None or not went_back(stamp, newest):
            return []
        self._drop(
            Reason.TIME_JUMP,
            f"image stamps went back by {(newest - stamp) * 1e-9:.1f} s (bag loop or simulation "
            "restart): pending messages and history cleared",
        )
        source.reset("time went back")
        pending = [] if self._views is None else self._label(self._views.restart(stamp))
        self._begin_epoch()
        return pending

    def _begin_epoch(self) -> None:
        self._epoch += 1
        self._last = None

    def _label(self, groups: Iterable[Sequence[Frame]]) -> list[FrameSet]:
        """Give frame sets their epoch: a new one also where cameras disagree about the time."""
        frame_sets = []
        for frames in groups:
            stamp = max(nanoseconds(frame.image.header.stamp) for frame in frames)
            if went_back(stamp, self._last):
                self._begin_epoch()
            self._last = stamp
            frame_sets.append(FrameSet(tuple(frames), self._epoch))
        return frame_sets

    def _check_distortion(self, frame: Frame) -> None:
        info, topic = frame.camera_info, self._image_topics[frame.camera]
        if self._rectified and info is not None and any(info.d) and "rect" not in topic:
            self.warn(
                f"camera_info has lens distortion and {topic} does not look rectified by its name: "
                "feed a rectified image (image_proc), or set rectified: false"
            )


def _topics(camera: str, parameters: Parameters, detects: bool) -> list[tuple[Role, str, type]]:
    """Return role, relative name and message class of the topics of a camera."""
    prefix = f"{camera}/" if camera else ""
    compressed = parameters.image_transport == "compressed"
    topics: list[tuple[Role, str, type]] = [
        (Role.IMAGE, "image_rect/compressed", CompressedImage)
        if compressed
        else (Role.IMAGE, "image_rect", Image),
        (Role.CAMERA_INFO, "camera_info", CameraInfo),
    ]
    if not detects:
        topics.append((Role.DETECTIONS, "detections", Detection2DArray))
    if parameters.depth_image:
        topics.append((Role.DEPTH, "depth", Image))
    return [(role, prefix + name, kind) for role, name, kind in topics]
