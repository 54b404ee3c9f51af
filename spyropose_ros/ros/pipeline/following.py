"""Boxes of frames in which nothing is detected: objects are followed from the last result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spyropose_ros.core import camera
from spyropose_ros.core.bundle_files import ObjectInfo
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.ros.pipeline.camera_frame import View
from spyropose_ros.ros.pipeline.detections import Target
from spyropose_ros.ros.pipeline.drops import BadInputError, Reason
from spyropose_ros.ros.pipeline.parameters import Parameters
from spyropose_ros.ros.pipeline.tracks import mean_position


@dataclass(frozen=True)
class _Known:
    """An object of the last result.

    Attributes:
        target: its detection.
        distribution: of its pose.
        cameras: names of those that saw it.
    """

    target: Target
    distribution: PoseDistribution
    cameras: frozenset[str]


class RateLimit:
    """Keeps a rate on average, whatever the jitter of the stamps. Not thread-safe."""

    def __init__(self) -> None:
        self._begun = -math.inf  # when the last that was counted was due
        self._next = -math.inf  # the same for the one that was asked for
        self._last = -math.inf

    def allows(self, stamp: float, rate: float) -> bool:
        """Tell whether something may happen; call `count` if it does.

        Args:
            stamp: seconds; where it goes back by more than a second, time was set back.
            rate: highest, Hz; 0 allows everything.

        Returns:
            Whether it may.
        """
        if stamp < self._last - 1:
            self._begun = -math.inf
        self._last = stamp
        period = 1 / rate if rate else 0.0
        due = self._begun + period
        # On a grid where possible: else stamps that jitter would make it happen too seldom
        self._next = due if due + period > stamp else stamp
        return not rate or stamp >= due

    def count(self) -> None:
        """Count what was allowed last."""
        self._begun = self._next


class Follower:
    """Decides which frames are detected in, and where objects are expected in the others.

    Only objects of the last result are followed, so that one that the detector misses is gone. Not
    thread-safe.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Clear everything; the next frame is detected in."""
        self._limit = RateLimit()
        self._known: list[_Known] = []
        self._stamp = -math.inf  # of the last result
        self._rest_from_frame = np.eye(4)  # of its distributions

    def begin(self, stamp: float, parameters: Parameters) -> bool:
        """Decide about a frame set; call it once for each, in their order.

        Args:
            stamp: seconds.
            parameters: present settings.

        Returns:
            Whether its objects are to be detected; else they are to be followed.

        Raises:
            BadInputError: if neither is possible.
        """
        rate, temporal = parameters.detector.rate, parameters.temporal
        if self._limit.allows(stamp, rate):
            return True
        if not temporal.enabled:
            raise BadInputError(
                Reason.NO_DETECTIONS,
                f"detector.rate = {rate:g} Hz is less than the camera's, and without "
                "temporal.enabled no object is followed in between",
            )
        if not self._known or stamp - self._stamp > temporal.max_gap:
            raise BadInputError(
                Reason.NO_DETECTIONS,
                f"nothing to follow until the next detection, see detector.rate = {rate:g} Hz",
            )
        return False

    def count_detection(self) -> None:
        """Count towards the rate that the frame set is detected in, once or more often."""
        self._limit.count()

    def targets(
        self, view: View, camera_from_rest: np.ndarray, objects: Mapping[str, ObjectInfo]
    ) -> list[Target]:
        """Expect the objects of the last result in an image, if its camera saw them then.

        Args:
            view: the image.
            camera_from_rest: where objects rest -> the camera's optical frame, [4, 4].
            objects: by name.

        Returns:
            The detections of those whose centres are in it, with the boxes that their spheres have
            now.
        """
        intrinsics = torch.tensor(view.K, dtype=torch.float64)
        motion = camera_from_rest @ self._rest_from_frame
        targets = []
        for known in self._known:
            if view.camera not in known.cameras:
                continue
            position = motion[:3, :3] @ mean_position(known.distribution) + motion[:3, 3]
            if not _is_within(position, view):
                continue
            info = objects[known.target.object_name]
            (box,) = camera.boxes_from_translation(
                torch.tensor(position)[None], intrinsics, info.diameter, info.size_ratio
            ).tolist()
            targets.append(dataclasses.replace(known.target, box=tuple(box)))
        return targets

    def update(
        self,
        stamp: float,
        targets: Sequence[Target],
        distributions: Sequence[PoseDistribution],
        cameras: Sequence[frozenset[str]],
        rest_from_frame: np.ndarray | None,
    ) -> None:
        """Store a result.

        Args:
            stamp: seconds.
            targets: its detections.
            distributions: one for each.
            cameras: names of those that saw each.
            rest_from_frame: the frame of the distributions -> where objects rest, [4, 4]; None if
                it is unknown.
        """
        self._stamp, self._known = stamp, []
        if rest_from_frame is not None:
            self._rest_from_frame = rest_from_frame
            self._known = [
                _Known(*each) for each in zip(targets, distributions, cameras, strict=True)
            ]


def _is_within(position: np.ndarray, view: View) -> bool:
    """Tell whether a position [3] in the camera's frame, metres, is in the image."""
    if position[2] <= 0:
        return False
    x, y = (view.K @ position)[:2] / position[2]
    height, width = view.image.shape[:2]
    return -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5
