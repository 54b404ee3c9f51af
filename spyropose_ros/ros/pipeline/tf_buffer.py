"""A small buffer of transforms between frames over time. Independent of ROS.

tf2_ros does the same but needs a ROS installation; this one needs only the messages.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.ros.pipeline import rotations
from spyropose_ros.ros.pipeline.stamps import went_back

SECOND = 1_000_000_000
MAX_FRAMES = 1000
MAX_SAMPLES = 10_000  # per frame: history x the highest sensible rate
NORM_TOLERANCE = 0.01  # of the squared length of a quaternion; as in tf2


class TransformError(SpyroposeError):
    """A transform cannot be stored or found."""


@dataclass
class _Frame:
    """One edge of the tree: transforms to the parent frame, by ascending stamp.

    Attributes:
        parent: name of the parent frame.
        static: whether it never changes.
        stamps: nanoseconds.
        translations: metres, [3] each.
        quaternions: x, y, z, w, [4] each.
    """

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    translations: list[np.ndarray] = field(default_factory=list)
    quaternions: list[np.ndarray] = field(default_factory=list)

    def insert(self, stamp: int, translation: np.ndarray, quaternion: np.ndarray) -> None:
        index = bisect.bisect_left(self.stamps, stamp)
        same = index < len(self.stamps) and self.stamps[index] == stamp
        position = slice(index, index + same)
        self.stamps[position] = [stamp]
        self.translations[position] = [translation]
        self.quaternions[position] = [quaternion]

    def forget(self, count: int) -> None:
        """Remove the oldest samples."""
        del self.stamps[:count], self.translations[:count], self.quaternions[:count]

    def at(self, stamp: int) -> np.ndarray:
        """Return parent from child [4, 4], interpolated; clamped to the first and last sample."""
        after = bisect.bisect_left(self.stamps, stamp)
        if self.static or after == len(self.stamps):
            return pose_matrix(self.translations[-1], self.quaternions[-1])
        if after == 0:
            return pose_matrix(self.translations[0], self.quaternions[0])
        pair = slice(after - 1, after + 1)
        start, end = self.stamps[pair]
        share = (stamp - start) / (end - start)
        before, after_it = self.translations[pair]
        from scipy.spatial.transform import Rotation, Slerp  # slow to import, not always needed

        rotation = Slerp([0.0, 1.0], Rotation.from_quat(self.quaternions[pair]))
        return pose_matrix(before + share * (after_it - before), rotation(share).as_quat())


class TransformBuffer:
    """A tree of frames with a short history. Thread-safe.

    Between two samples positions are interpolated linearly and rotations along the geodesic.
    Leading slashes of frame names are ignored.

    Args:
        history: how long transforms are kept, in nanoseconds.
        tolerance: how far a stamp may lie outside a frame's samples, in nanoseconds; the nearest
            sample is taken then.
    """

    def __init__(self, history: int = 10 * SECOND, tolerance: int = SECOND // 10) -> None:
        self._history = history
        self._tolerance = tolerance
        self._lock = threading.Lock()
        self._frames: dict[str, _Frame] = {}

    def set_transform(
        self,
        parent: str,
        child: str,
        stamp: int,
        translation: Sequence[float],
        quaternion: Sequence[float],
        static: bool = False,
    ) -> None:
        """Store the pose of a child frame in its parent frame.

        A frame has one parent: another one replaces the frame's history. So does a stamp more than
        a second before the newest, because time was set back. Transforms are not cleared with the
        images: in a bag they are read ahead of them.

        Args:
            parent: name of the parent frame.
            child: name of the child frame.
            stamp: nanoseconds; ignored for static transforms, which hold at any time.
            translation: origin of the child in the parent frame, metres, [3].
            quaternion: rotation from child to parent coordinates, x, y, z, w.
            static: whether it never changes.

        Raises:
            TransformError: if names or numbers are unusable, or the frames would form a loop.
        """
        parent, child = _name(parent), _name(child)
        edge = f"transform from '{child}' to '{parent}'"
        position, rotation = np.array(translation, float), np.array(quaternion, float)
        if not parent or not child or parent == child:
            raise TransformError(f"{edge} needs two different frame names")
        if not np.isfinite(position).all():
            raise TransformError(f"{edge} has a translation that is not finite")
        length = math.hypot(*rotation)
        if not abs(length * length - 1) <= NORM_TOLERANCE:  # true for NaN too
            raise TransformError(
                f"{edge} has a quaternion {rotation.tolist()} of length {length:g}, not 1"
            )
        if stamp == 0 and not static:
            raise TransformError(f"{edge} has a zero stamp: stamp it, or publish it on /tf_static")
        with self._lock:
            if child in self._ancestors(parent):
                raise TransformError(f"{edge} closes a loop: publish a tree of frames")
            frame = self._frames.get(child)
            if frame is None and len(self._frames) >= MAX_FRAMES:
                raise TransformError(f"{edge} is one frame too many: {MAX_FRAMES} are stored")
            kind = parent, static
            if (
                static
                or frame is None
                or (frame.parent, frame.static) != kind
                or went_back(stamp, frame.stamps[-1])
            ):
                frame = self._frames[child] = _Frame(parent, static)
            frame.insert(stamp, position, rotation)
            expired = bisect.bisect_left(frame.stamps, frame.stamps[-1] - self._history)
            frame.forget(max(expired, len(frame.stamps) - MAX_SAMPLES))

    def add_message(self, message: Any, static: bool) -> list[str]:
        """Store the transforms of a message.

        Args:
            message: tf2_msgs/TFMessage.
            static: whether they hold at any time, as those of /tf_static do.

        Returns:
            A line for each transform that was refused.
        """
        refused = []
        for item in message.transforms:
            stamp = item.header.stamp
            position, rotation = item.transform.translation, item.transform.rotation
            try:
                self.set_transform(
                    item.header.frame_id,
                    item.child_frame_id,
                    stamp.sec * SECOND + stamp.nanosec,
                    (position.x, position.y, position.z),
                    (rotation.x, rotation.y, rotation.z, rotation.w),
                    static,
                )
            except TransformError as error:
                refused.append(str(error))
        return refused

    def lookup(self, target: str, source: str, stamp: int) -> np.ndarray:
        """Look up the transform between two frames at a time.

        Args:
            target: frame to transform to.
            source: frame to transform from.
            stamp: nanoseconds.

        Returns:
            Target from source, float64 [4, 4], metres.

        Raises:
            TransformError: if a frame is unknown, the two are not connected, or the stamp lies
                outside what is stored by more than the tolerance.
        """
        target, source = _name(target), _name(source)
        if target == source:
            return np.eye(4)
        with self._lock:
            up, down = self._ancestors(source), self._ancestors(target)
            common = next((name for name in up if name in down), None)
            if common is None:
                raise TransformError(self._explain(target, source, up, down))
            ancestor_from_source = self._climb(up[: up.index(common)], stamp)
            ancestor_from_target = self._climb(down[: down.index(common)], stamp)
        return np.linalg.inv(ancestor_from_target) @ ancestor_from_source

    def clear(self) -> None:
        """Clear moving frames; static transforms stay because they are published only once."""
        with self._lock:
            self._frames = {name: item for name, item in self._frames.items() if item.static}

    def _ancestors(self, name: str) -> list[str]:
        """Return the frame, its parent and so on to the root; it ends because loops are refused."""
        names = [name]
        while (frame := self._frames.get(names[-1])) is not None:
            names.append(frame.parent)
        return names

    def _climb(self, names: Sequence[str], stamp: int) -> np.ndarray:
        """Return the transform [4, 4] from the first frame to the parent of the last."""
        result = np.eye(4)
        for name in names:
            self._check_time(name, stamp)
            result = self._frames[name].at(stamp) @ result
        return result

    def _check_time(self, name: str, stamp: int) -> None:
        frame = self._frames[name]
        if frame.static:
            return
        first, last = frame.stamps[0], frame.stamps[-1]
        late, early = stamp - last, first - stamp
        if max(late, early) <= self._tolerance:
            return
        distance = f"{max(late, early) / SECOND:.3f} s {'newer' if late > early else 'older'}"
        remedy = (
            "does it still publish, and from the same clock?"
            if late > early
            else f"{(last - first) / SECOND:.1f} s are stored"
        )
        raise TransformError(
            f"stamp is {distance} than the transforms from '{name}' to '{frame.parent}': {remedy}"
        )

    def _explain(self, target: str, source: str, up: list[str], down: list[str]) -> str:
        known = set(self._frames) | {frame.parent for frame in self._frames.values()}
        unknown = [f"'{name}'" for name in (target, source) if name not in known]
        if unknown:
            return (
                f"no transform names the frame {' or '.join(unknown)}: publish it on /tf or "
                "/tf_static, or correct the frame_id"
            )
        return (
            f"frames '{target}' and '{source}' are not connected: their trees end at "
            f"'{down[-1]}' and '{up[-1]}'; publish a transform between these"
        )


def _name(frame_id: str) -> str:
    return frame_id.lstrip("/")  # tf2 refuses the slashes that ROS 1 allowed


def pose_matrix(
    translation: np.ndarray | Sequence[float], quaternion: np.ndarray | Sequence[float]
) -> np.ndarray:
    """Make a transform.

    Args:
        translation: metres, [3].
        quaternion: x, y, z, w of any non-zero length.

    Returns:
        Float64 [4, 4].
    """
    result = np.eye(4)
    result[:3, :3] = rotations.matrix(np.asarray(quaternion))
    result[:3, 3] = translation
    return result
