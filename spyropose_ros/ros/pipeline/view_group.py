"""Collects the frames of several cameras that show the same moment. Knows no ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from spyropose_ros.ros.pipeline.drops import Drop, Reason
from spyropose_ros.ros.pipeline.frame_matcher import JUMP_NS

Frame = TypeVar("Frame")

SILENCE = 1.0  # seconds after which a camera that was missed is not waited for
_MAX_PENDING = 8  # moments that wait at once: cameras whose stamps never meet must not pile up


@dataclass
class _Moment(Generic[Frame]):
    stamp: int
    begun: float
    frames: dict[str, Frame]


class ViewGroup(Generic[Frame]):
    """Groups by stamp. A moment is complete when every living camera has its frame, or waited long.

    Living is a camera that delivered within SILENCE or was there at the last moment: slow cameras
    are waited for, and one that dies costs a single wait. A complete moment takes the older ones
    with it: frames come out in the order of their stamps. Not thread-safe.

    Args:
        cameras: names.
        slop: largest difference of the stamps of a moment, nanoseconds.
        wait: longest wait after the first frame of a moment, seconds.
        drop: called for frames that come after their moment has ended.
    """

    def __init__(self, cameras: Sequence[str], slop: int, wait: float, drop: Drop) -> None:
        self._cameras = cameras
        self._slop = slop
        self._wait = wait
        self._moments: list[_Moment[Frame]] = []
        self._seen: dict[str, float] = {}
        self._drop = drop
        self._ended: int | None = None  # stamp of the last moment that ended
        self._missed: set[str] = (
            set()
        )  # cameras that the last moment went without, and that are silent since

    def add(self, camera: str, stamp: int, frame: Frame, now: float) -> list[list[Frame]]:
        """Stores a frame.

        Args:
            camera: where it comes from.
            stamp: of its image, nanoseconds.
            frame: the frame.
            now: monotonic time, seconds.

        Returns:
            The moments that it completes, oldest first, each in the order of the cameras.
        """
        self._seen[camera] = now
        self._missed.discard(camera)
        moment = self._moment(camera, stamp)
        if moment is None and self._is_late(stamp):
            self._drop(
                Reason.LATE_VIEW,
                f"a frame of camera {camera} came after its moment was estimated: raise views.wait",
            )
            return self.flush(now)
        if moment is None:
            moment = _Moment(stamp, now, {})
            self._moments.append(moment)
            self._moments.sort(key=lambda other: other.stamp)
        moment.frames[camera] = frame
        return self.flush(now)

    def flush(self, now: float) -> list[list[Frame]]:
        """Ends the moments that nothing more is expected for; call it every now and then.

        Args:
            now: monotonic time, seconds.

        Returns:
            As `add`.
        """
        living = {
            camera
            for camera in self._cameras
            if camera not in self._missed or now - self._seen.get(camera, -SILENCE) < SILENCE
        }
        complete = [
            index
            for index, moment in enumerate(self._moments)
            if living <= moment.frames.keys() or now - moment.begun >= self._wait
        ]
        count = max([complete[-1] + 1 if complete else 0, len(self._moments) - _MAX_PENDING])
        ended, self._moments = self._moments[:count], self._moments[count:]
        if ended:
            self._missed = set(self._cameras) - ended[-1].frames.keys()
            self._ended = ended[-1].stamp
        return [[m.frames[c] for c in self._cameras if c in m.frames] for m in ended]

    def reset(self) -> int:
        """Forgets what waits.

        Returns:
            How many frames that were.
        """
        count = sum(len(moment.frames) for moment in self._moments)
        self._moments.clear()
        self._ended = None
        return count

    def _is_late(self, stamp: int) -> bool:
        """Whether a newer moment has ended; not where time went back altogether."""
        return self._ended is not None and 0 <= self._ended - stamp < JUMP_NS

    def _moment(self, camera: str, stamp: int) -> _Moment[Frame] | None:
        """The pending moment nearest in time that lacks the camera."""
        near = [
            moment
            for moment in self._moments
            if abs(moment.stamp - stamp) <= self._slop and camera not in moment.frames
        ]
        return min(near, key=lambda moment: abs(moment.stamp - stamp), default=None)
