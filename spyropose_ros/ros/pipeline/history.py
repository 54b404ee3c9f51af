"""The last results, for questions about them. Independent of ROS."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from spyropose_ros.core.errors import InputError
from spyropose_ros.ros.interfaces import Header
from spyropose_ros.ros.pipeline.camera_frame import Result, nanoseconds
from spyropose_ros.ros.pipeline.detections import Target

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution


class Known(NamedTuple):
    """What is known of one object.

    Attributes:
        header: of the result.
        target: the detection.
        distribution: of the object's pose in the header's frame.
        presence: probability that the object is there; NaN where unknown.
        K: intrinsics of a camera that took part, [3, 3].
    """

    header: Header
    target: Target
    distribution: PoseDistribution
    presence: float
    K: np.ndarray


class History:
    """Keeps the objects of the last results. Thread-safe.

    Args:
        size: number of results.
    """

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._results: deque[list[Known]] = deque(maxlen=size)
        self._epoch = 0  # that the results belong to

    def add(self, result: Result) -> None:
        """Keep a result; forget the oldest, and all of another epoch."""
        K = result.views[0].K
        known = [
            Known(result.header, target, distribution, presence, K)
            for target, distribution, presence in zip(
                result.targets, result.distributions, result.presences, strict=True
            )
        ]
        with self._lock:
            if result.epoch != self._epoch:
                self._results.clear()
                self._epoch = result.epoch
            if known:
                self._results.append(known)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._results.clear()

    def find(self, name: str, stamp: int) -> Known:
        """Find an object.

        Args:
            name: its class, its model's name, or the id of one of its detections; "" for the only
                object of the result.
            stamp: of the image, nanoseconds; 0 for the newest result that shows the object.

        Returns:
            What is known of it; of several detections of one class the most probable.

        Raises:
            InputError: there is none, with what there is.
        """
        with self._lock:
            results = list(self._results)
        if not results:
            raise InputError("there is no distribution yet: wait for the first on ~/distributions")
        if stamp:
            results = _of(results, stamp)
        for known in reversed(results):
            found = [each for each in known if not name or name in _names(each.target)]
            if not name and len({each.target.object_name for each in found}) > 1:
                raise InputError(f"there is more than one object: name one of {_list([known])}")
            if found:
                return max(found, key=_credibility)
        raise InputError(f"there is no distribution of '{name}': name one of {_list(results)}")


def _of(results: list[list[Known]], stamp: int) -> list[list[Known]]:
    """Return the results of a stamp."""
    stamps = [nanoseconds(known[0].header.stamp) for known in results]
    found = [known for known, own in zip(results, stamps, strict=True) if own == stamp]
    if found:
        return found
    age = "it is too old: raise history" if stamp < min(stamps) else "ask for one of theirs, or 0"
    raise InputError(
        f"there is no distribution with the stamp {_seconds(stamp)}; those kept are of "
        f"{_seconds(min(stamps))} to {_seconds(max(stamps))}; {age}"
    )


def _credibility(known: Known) -> tuple[float, float]:
    presence, score = np.nan_to_num([known.presence, known.target.score]).tolist()
    return presence, score


def _names(target: Target) -> set[str]:
    return {target.object_name, target.class_id, target.detection_id}


def _list(results: list[list[Known]]) -> str:
    """Name all objects and their detections."""
    names: set[str] = set()
    for known in results:
        names = names.union(*(_names(each.target) for each in known))
    return ", ".join(sorted(names - {""}))


def _seconds(stamp: int) -> str:
    return f"{stamp // 10**9}.{stamp % 10**9:09d}"
