"""RViz markers of pose distributions: weighted triads, the leading mode, the mesh at the modes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spyropose_ros.ros.interfaces import (
    ColorRGBA,
    Header,
    Marker,
    MarkerArray,
    Point,
    Pose,
    PoseDistribution,
)
from spyropose_ros.ros.messages.conversions import pose_arrays
from spyropose_ros.ros.pipeline import rotations
from spyropose_ros.ros.pipeline.appearance import Appearance

MAX_TRIADS = 300  # keeps RViz smooth
MIN_LENGTH = 0.3  # of the faintest triad, as a share of the longest
MIN_ALPHA = 0.08
MAX_ALPHA = 0.9  # a list whose last vertex has alpha 1 is drawn opaque as a whole
MESH_ALPHA = 0.5
LEADING_LENGTH = 0.7  # of the leading mode's axes, over the diameter
AXIS_COLORS = ((0.90, 0.18, 0.20), (0.16, 0.75, 0.29), (0.18, 0.41, 0.96))  # x, y, z


def marker_array(
    header: Header,
    distributions: Sequence[PoseDistribution],
    appearances: Sequence[Appearance],
    show_mesh: bool,
    min_mass: float,
) -> MarkerArray:
    """Draw distributions.

    Args:
        header: of the image.
        distributions: what to draw.
        appearances: one per distribution.
        show_mesh: whether the mesh is shown at the modes, more opaque with more mass.
        min_mass: the mass that a leading mode must exceed to get axes of its own.

    Returns:
        A marker that deletes the previous ones, one line list with three axes per pose whose
        length and alpha grow with its weight, one with thick axes per leading mode, and a mesh per
        mode.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    sizes = [appearance.size for appearance in appearances]
    if any(len(distribution.poses) for distribution in distributions):
        markers.append(_weighted_poses(header, distributions, sizes))
    leading = [
        (distribution.modes[0].pose, size)
        for distribution, size in zip(distributions, sizes, strict=True)
        if distribution.modes and distribution.modes[0].mass > min_mass
    ]
    if leading:
        markers.append(_leading_modes(header, *zip(*leading, strict=True)))
    if show_mesh:
        for distribution, appearance in zip(distributions, appearances, strict=True):
            if appearance.mesh is not None:
                markers += _meshes(header, distribution, appearance.mesh, first_id=len(markers))
    return MarkerArray(markers=markers)


def _weighted_poses(
    header: Header, distributions: Sequence[PoseDistribution], sizes: Sequence[float]
) -> Marker:
    share = np.concatenate([np.asarray(d.weights) / d.weights[0] for d in distributions if d.poses])
    size = np.repeat(sizes, [len(d.poses) for d in distributions])
    pose = [pose for d in distributions for pose in d.poses]
    # Faintest last: the last vertex decides whether RViz blends the whole list
    order = np.argsort(-share, kind="stable")[:MAX_TRIADS]
    share, size, pose = share[order], size[order], [pose[index] for index in order]
    length = 0.5 * size * (MIN_LENGTH + (1 - MIN_LENGTH) * share)  # [N]
    alphas = MIN_ALPHA + (MAX_ALPHA - MIN_ALPHA) * share
    return _triads(header, "poses", pose, length, alphas, 0.01 * max(sizes))


def _leading_modes(header: Header, poses: Sequence[Pose], sizes: Sequence[float]) -> Marker:
    length = LEADING_LENGTH * np.array(sizes)
    return _triads(header, "leading", poses, length, np.ones(len(poses)), 0.04 * max(sizes))


def _triads(
    header: Header,
    namespace: str,
    poses: Sequence[Pose],
    length: np.ndarray,
    alphas: np.ndarray,
    width: float,
) -> Marker:
    """Draw three axes per pose, of a length [N] and width in metres and with an alpha [N]."""
    origin, quaternion = pose_arrays(poses)  # [N, 3], [N, 4]
    rotation = rotations.matrices(quaternion)  # [N, 3, 3]
    tips = origin[:, None] + length[:, None, None] * rotation.transpose(0, 2, 1)  # [N, axis, 3]
    points: list[Point] = []  # an object may be listed more than once
    colors: list[ColorRGBA] = []
    for start, ends, alpha in zip(origin.tolist(), tips.tolist(), alphas.tolist(), strict=True):
        root = _point(start)
        for end, (red, green, blue) in zip(ends, AXIS_COLORS, strict=True):
            points += root, _point(end)
            colors += 2 * [ColorRGBA(r=red, g=green, b=blue, a=alpha)]

    marker = Marker(header=header, ns=namespace, id=0, type=Marker.LINE_LIST, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = float(width)
    marker.points, marker.colors = points, colors
    return marker


def _point(position: Sequence[float]) -> Point:
    point = Point()
    point.x, point.y, point.z = position
    return point


def _meshes(
    header: Header, distribution: PoseDistribution, resource: str, first_id: int
) -> list[Marker]:
    markers = []
    for index, mode in enumerate(distribution.modes):
        marker = Marker(header=header, ns="modes", id=first_id + index)
        marker.type, marker.action = Marker.MESH_RESOURCE, Marker.ADD
        marker.pose = mode.pose
        marker.scale.x = marker.scale.y = marker.scale.z = 1.0
        marker.color = ColorRGBA(r=0.8, g=0.8, b=0.8, a=MESH_ALPHA * mode.mass)
        marker.mesh_resource = resource
        markers.append(marker)
    return markers
