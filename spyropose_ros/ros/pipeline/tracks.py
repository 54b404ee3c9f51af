"""The last distribution of every object: priors for the temporal filter.

An object is recognised by its name and its position, not by the detector's ids: these change when a
detection is missed, and some detectors give none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.pose_prior import PosePrior

_REACH = 0.5  # of the diameter: identical objects may stand this close to each other
_DEPTH_REACH = 0.2  # of the distance, which boxes determine no better
_MAX_TRACKS = 64  # a distribution takes megabytes
_LEAVES = 2000  # enough for the mean position


@dataclass(frozen=True)
class TemporalSettings:
    """How the pose is expected to change; everything is per time, whatever the frame rate.

    Attributes:
        rotation_noise: standard deviation of the random walk about each axis, rad / sqrt(s).
        translation_noise: the same along each axis, m / sqrt(s).
        outlier: share of the certainty that is given up within a second.
        max_gap: objects unseen for longer are forgotten, seconds.

    Raises:
        ValueError: a number out of range.
    """

    rotation_noise: float = math.radians(10.0)
    translation_noise: float = 0.01
    outlier: float = 0.2
    max_gap: float = 2.0

    def __post_init__(self):
        numbers = self.rotation_noise, self.translation_noise, self.max_gap
        if not all(math.isfinite(n) and n >= 0 for n in numbers) or not 0 <= self.outlier <= 1:
            raise ValueError(f"needs numbers >= 0 and an outlier share of at most 1, got {self}")


@dataclass(frozen=True)
class _Track:
    """The last distribution of one object.

    Attributes:
        name: of the object's model.
        distribution: in the frame of its image.
        position: mean of the bounding-sphere centre in that frame, metres, [3].
        stamp: seconds.
        fixed_from_frame: [4, 4].
    """

    name: str
    distribution: PoseDistribution
    position: np.ndarray
    stamp: float
    fixed_from_frame: np.ndarray


class Tracks:
    """Priors for the objects of the next frame.

    For every frame call `priors`, then `update` with what was found. Not thread-safe.

    Args:
        settings: how the pose is expected to change.
    """

    def __init__(self, settings: TemporalSettings = TemporalSettings()):
        self.settings = settings
        self.reset()

    def __len__(self) -> int:
        return len(self._tracks)

    def reset(self) -> None:
        """Clear everything."""
        self._tracks: list[_Track] = []
        self._stamp = -math.inf
        self._late = False  # whether the last frame was out of order
        self._frame = np.eye(4)
        self._names: list[str] = []
        self._matches: dict[int, int] = {}  # target -> track

    def priors(
        self,
        names: Sequence[str],
        positions: np.ndarray,
        stamp: float,
        fixed_from_frame: np.ndarray | None = None,
    ) -> list[PosePrior | None]:
        """Return what is known of the objects before the frame is processed.

        Frames that are out of order, or repeat a stamp, neither use nor change what is known.

        Args:
            names: of the targets' models, N.
            positions: estimates of their bounding-sphere centres, metres, [N, 3], in the frame of
                the distributions: one camera's optical frame, or what several cameras share.
            stamp: of the frame, seconds.
            fixed_from_frame: pose of that frame in one in which the objects are at rest, [4, 4];
                None if it is at rest as well.

        Returns:
            For each target a prior in the frame of the distributions, None for a new object.
        """
        self._late = stamp < self._stamp
        if self._late:
            self._names, self._matches = list(names), {}
            return [None] * len(names)
        self._stamp, self._names = stamp, list(names)
        self._frame = np.eye(4) if fixed_from_frame is None else np.asarray(fixed_from_frame)
        self._tracks = [t for t in self._tracks if stamp - t.stamp <= self.settings.max_gap]
        self._matches = self._match(np.asarray(positions, dtype=float).reshape(-1, 3))
        return [
            self._prior(self._tracks[self._matches[i]]) if self._is_older(i) else None
            for i in range(len(names))
        ]

    def update(self, distributions: Sequence[PoseDistribution | None]) -> None:
        """Store what was found in the frame of the last call of `priors`.

        Args:
            distributions: of its targets, in order; None where none was found.

        Raises:
            ValueError: another number of targets.
        """
        if len(distributions) != len(self._names):
            raise ValueError(f"{len(distributions)} distributions for {len(self._names)} targets")
        if self._late:
            return
        found = {i: d for i, d in enumerate(distributions) if d is not None}
        replaced = {self._matches[i] for i in found if i in self._matches}
        kept = [track for k, track in enumerate(self._tracks) if k not in replaced]
        new = [
            _Track(self._names[i], found[i], mean_position(found[i]), self._stamp, self._frame)
            for i in found
        ]
        tracks = (kept + new)[-max(_MAX_TRACKS, len(new)) :]
        self._tracks, self._matches, self._names = tracks, {}, []

    def _is_older(self, target: int) -> bool:
        """Tell whether a target has a track of an earlier image: its own must not count twice."""
        track = self._matches.get(target)
        return track is not None and self._tracks[track].stamp < self._stamp

    def _match(self, positions: np.ndarray) -> dict[int, int]:
        """Match targets to tracks: the nearest pairs of the same name within reach."""
        cost = np.full((len(positions), len(self._tracks)), np.inf)
        for k, track in enumerate(self._tracks):
            motion = self._motion(track)
            predicted = motion[:3, :3] @ track.position + motion[:3, 3]
            for i, position in enumerate(positions):
                if self._names[i] == track.name:
                    offset = motion[:3, :3].T @ (position - predicted)
                    cost[i, k] = self._distance(track, offset)
        allowed = cost <= 1
        from scipy.optimize import linear_sum_assignment  # slow to import, not always needed

        pairs = linear_sum_assignment(np.where(allowed, cost, 1e3))
        return {int(i): int(k) for i, k in zip(*pairs, strict=True) if allowed[i, k]}

    def _distance(self, track: _Track, offset: np.ndarray) -> float:
        """Return the distance relative to the reach; the offset is in the track's frame."""
        walk = 3 * self.settings.translation_noise * math.sqrt(self._stamp - track.stamp)
        diameter = track.distribution.diameter
        assert diameter is not None  # the estimator always gives it
        reach = _REACH * diameter + walk
        box = track.distribution.box
        if box.axes == 0:
            return float(np.linalg.norm(offset)) / reach
        # The shape of the box tells depth from lateral: as deep as the distance, or a cube.
        edges = box.basis[0].double().cpu().numpy()
        lengths = np.linalg.norm(edges, axis=0)
        reaches = reach + _DEPTH_REACH * (lengths - lengths.min())
        return float(np.linalg.norm(np.linalg.solve(edges / lengths * reaches, offset)))

    def _motion(self, track: _Track) -> np.ndarray:
        """Return this frame from the track's, [4, 4]."""
        return np.linalg.solve(self._frame, track.fixed_from_frame)

    def _prior(self, track: _Track) -> PosePrior:
        settings, gap = self.settings, self._stamp - track.stamp
        return PosePrior(
            track.distribution,
            torch.from_numpy(self._motion(track)),
            settings.rotation_noise * math.sqrt(gap),
            settings.translation_noise * math.sqrt(gap),
            1 - (1 - settings.outlier) ** gap,
        )


def mean_position(distribution: PoseDistribution) -> np.ndarray:
    """Return the mean of a distribution's bounding-sphere centre, metres, [3]."""
    top = distribution.top(_LEAVES)
    center = top.translations + top.rotations @ distribution.center
    weights = top.probabilities / top.probabilities.sum()
    return (weights @ center).double().cpu().numpy()
