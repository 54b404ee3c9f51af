"""Find the detections of several cameras that show the same object.

Greedy agglomerative clustering: the two groups whose positions agree best are merged until no two
groups are left that may be one object. A group has one object name and at most one detection per
camera. Positions agree by their squared Mahalanobis distance, which is also the growth of the
squared residuals when two groups are fused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spyropose_ros.core import triangulation
from spyropose_ros.ros.pipeline.detections import Target

_GATE = 16.27  # 99.9 % quantile of chi-square with 3 degrees of freedom


class ObjectSize(Protocol):
    """The size of an object, see `spyropose_ros.core.bundle.ObjectInfo`."""

    @property
    def diameter(self) -> float:
        """Of the bounding sphere, metres."""

    @property
    def size_ratio(self) -> float:
        """Apparent size over that of the bounding sphere."""


@dataclass(frozen=True)
class CameraTargets:
    """The detections of one camera.

    Attributes:
        targets: the detections.
        K: intrinsics of the rectified image, [3, 3].
        world_from_camera: pose of the camera's optical frame, [4, 4], metres.
    """

    targets: Sequence[Target]
    K: np.ndarray
    world_from_camera: np.ndarray


@dataclass(frozen=True)
class Group:
    """One object as several cameras see it.

    Attributes:
        object_name: of its model.
        members: index of the target by index of the view, in the order of the views.
        center: triangulated bounding-sphere centre in the world, metres, [3].
        covariance: of the centre, [3, 3].
    """

    object_name: str
    members: dict[int, int]
    center: np.ndarray
    covariance: np.ndarray


def associate(views: Sequence[CameraTargets], objects: Mapping[str, ObjectSize]) -> list[Group]:
    """Group the detections that show the same object.

    Args:
        views: the cameras' detections.
        objects: sizes by object name.

    Returns:
        The groups, every detection in exactly one: those seen by most cameras first, then in the
        order of the detections.
    """
    groups = [
        _single(view, v, i, objects)
        for v, view in enumerate(views)
        for i in range(len(view.targets))
    ]
    cost = np.full((len(groups),) * 2, np.inf)
    for i in range(len(groups)):
        cost[i, :i] = _costs(groups[i], groups[:i])
    while len(groups) > 1 and cost.min() <= _GATE:
        i, j = map(int, np.unravel_index(cost.argmin(), cost.shape))  # j < i
        groups[j] = _merged(groups[j], groups.pop(i))
        cost = np.delete(np.delete(cost, i, 0), i, 1)
        cost[j, :j] = _costs(groups[j], groups[:j])
        cost[j + 1 :, j] = _costs(groups[j], groups[j + 1 :])
    return sorted(groups, key=lambda group: -len(group.members))


def _single(view: CameraTargets, v: int, i: int, objects: Mapping[str, ObjectSize]) -> Group:
    """Make the group of a single detection."""
    target = view.targets[i]
    size = objects[target.object_name]
    positions, covariances = triangulation.locate(
        np.array([target.box]),
        view.K[None],
        view.world_from_camera[None],
        size.diameter,
        size.size_ratio,
    )
    return Group(target.object_name, {v: i}, positions[0], covariances[0])


def _merged(a: Group, b: Group) -> Group:
    center, covariance = triangulation.fuse(
        np.stack([a.center, b.center]), np.stack([a.covariance, b.covariance])
    )
    members = dict(sorted((a.members | b.members).items()))
    return Group(a.object_name, members, center, covariance)


def _costs(group: Group, others: Sequence[Group]) -> np.ndarray:
    """Return squared Mahalanobis distances, infinite if not the same object, [len(others)]."""
    if not others:
        return np.empty(0)
    offset = group.center - np.stack([other.center for other in others])  # [N, 3]
    covariance = group.covariance + np.stack([other.covariance for other in others])
    cost = np.einsum("ni,ni->n", offset, np.linalg.solve(covariance, offset[..., None])[..., 0])
    possible = [
        other.object_name == group.object_name and not other.members.keys() & group.members.keys()
        for other in others
    ]
    return np.where(possible, cost, np.inf)
