"""Collects the frames of several cameras that were taken at one time. Independent of ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from spyropose_ros.ros.pipeline.drops import Drop, Reason
from spyropose_ros.ros.pipeline.stamps import went_back

Frame = TypeVar("Frame")

SILENCE = 1.0  # seconds after which a missed camera is not waited for
_MAX_PENDING = 8  # frame sets that wait at once: cameras whose stamps never meet must not pile up


@dataclass
class _Pending(Generic[Frame]):
    """A frame set that waits for more cameras.

    Attributes:
        stamp: of its first frame, nanoseconds.
        started: when that arrived, monotonic time, seconds.
        frames: by camera.
    """

    stamp: int
    started: float
    frames: dict[str, Frame]


class ViewGroup(Generic[Frame]):
    """Groups frames by stamp. A set is complete with a frame of every live camera, or after a wait.

    A camera is live if it delivered within SILENCE or had a frame in the last set: slow cameras are
    waited for, and one that dies costs a single wait. A complete set takes the older ones with it,
    so frames come out in the order of their stamps. Not thread-safe.

    Args:
        cameras: names.
        slop: largest difference of the stamps in a frame set, nanoseconds.
        wait: longest wait after the first frame of a set, seconds.
        drop: called for frames that arrive after their set was handed out.
    """

    def __init__(self, cameras: Sequence[str], slop: int, wait: float, drop: Drop) -> None:
        self._cameras = cameras
        self._slop = slop
        self._wait = wait
        self._pending: list[_Pending[Frame]] = []
        self._seen: dict[str, float] = {}
        self._drop = drop
        self._ended: int | None = None  # stamp of the last set that was handed out
        self._missed: set[str] = set()  # cameras not in the last set, and silent since

    def add(self, camera: str, stamp: int, frame: Frame, now: float) -> list[list[Frame]]:
        """Store a frame.

        Args:
            camera: where it comes from.
            stamp: of its image, nanoseconds.
            frame: the frame.
            now: monotonic time, seconds.

        Returns:
            The frame sets that it completes, oldest first, each in the order of the cameras.
        """
        self._seen[camera] = now
        self._missed.discard(camera)
        pending = self._nearest(camera, stamp)
        if pending is None and self._is_late(stamp):
            self._drop(
                Reason.LATE_VIEW,
                f"a frame of camera {camera} arrived after the other views were estimated: raise "
                "views.wait",
            )
            return self.flush(now)
        if pending is None:
            pending = _Pending(stamp, now, {})
            self._pending.append(pending)
            self._pending.sort(key=lambda other: other.stamp)
        pending.frames[camera] = frame
        return self.flush(now)

    def flush(self, now: float) -> list[list[Frame]]:
        """Hand out the frame sets that expect no more frames; call it periodically.

        Args:
            now: monotonic time, seconds.

        Returns:
            As `add`.
        """
        live = {
            camera
            for camera in self._cameras
            if camera not in self._missed or now - self._seen.get(camera, -SILENCE) < SILENCE
        }
        complete = [
            index
            for index, pending in enumerate(self._pending)
            if live <= pending.frames.keys() or now - pending.started >= self._wait
        ]
        count = max([complete[-1] + 1 if complete else 0, len(self._pending) - _MAX_PENDING])
        ended, self._pending = self._pending[:count], self._pending[count:]
        if ended:
            self._missed = set(self._cameras) - ended[-1].frames.keys()
            self._ended = ended[-1].stamp
        return [self._in_order(pending) for pending in ended]

    def reset(self) -> int:
        """Clear all pending frames.

        Returns:
            Their number.
        """
        count = sum(len(pending.frames) for pending in self._pending)
        self._pending.clear()
        self._ended = None
        return count

    def restart(self, stamp: int) -> list[list[Frame]]:
        """Continue after time was set back.

        Args:
            stamp: the present time, nanoseconds.

        Returns:
            The pending frame sets from before, as `add`.
        """
        old = [pending for pending in self._pending if went_back(stamp, pending.stamp)]
        self._pending = [p for p in self._pending if not went_back(stamp, p.stamp)]
        self._ended = None
        return [self._in_order(pending) for pending in old]

    def _in_order(self, pending: _Pending[Frame]) -> list[Frame]:
        return [pending.frames[camera] for camera in self._cameras if camera in pending.frames]

    def _is_late(self, stamp: int) -> bool:
        """Tell whether a newer set was handed out; not where the clocks of cameras disagree."""
        return (
            self._ended is not None and stamp <= self._ended and not went_back(stamp, self._ended)
        )

    def _nearest(self, camera: str, stamp: int) -> _Pending[Frame] | None:
        """Return the pending set nearest in time that lacks the camera."""
        near = [
            pending
            for pending in self._pending
            if abs(pending.stamp - stamp) <= self._slop and camera not in pending.frames
        ]
        return min(near, key=lambda pending: abs(pending.stamp - stamp), default=None)
