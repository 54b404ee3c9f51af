"""RViz markers of pose distributions: weighted triads and the mesh at the modes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spyropose_ros.ros.interfaces import (
    ColorRGBA,
    Header,
    Marker,
    MarkerArray,
    Point,
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
AXIS_COLORS = ((0.90, 0.18, 0.20), (0.16, 0.75, 0.29), (0.18, 0.41, 0.96))  # x, y, z


def marker_array(
    header: Header,
    distributions: Sequence[PoseDistribution],
    appearances: Sequence[Appearance],
    show_mesh: bool,
) -> MarkerArray:
    """Draw distributions.

    Args:
        header: of the image.
        distributions: what to draw.
        appearances: one per distribution.
        show_mesh: whether the mesh is shown at the modes, more opaque with more mass.

    Returns:
        A marker that deletes the previous ones, one line list with three axes per pose whose
        length and alpha grow with its weight, and a mesh per mode.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    if any(len(distribution.poses) for distribution in distributions):
        markers.append(
            _triads(header, distributions, [appearance.size for appearance in appearances])
        )
    if show_mesh:
        for distribution, appearance in zip(distributions, appearances, strict=True):
            if appearance.mesh is not None:
                markers += _meshes(header, distribution, appearance.mesh, first_id=len(markers))
    return MarkerArray(markers=markers)


def _triads(
    header: Header, distributions: Sequence[PoseDistribution], sizes: Sequence[float]
) -> Marker:
    share = np.concatenate([np.asarray(d.weights) / d.weights[0] for d in distributions if d.poses])
    size = np.repeat(sizes, [len(d.poses) for d in distributions])
    pose = [pose for d in distributions for pose in d.poses]
    # Faintest last: the last vertex decides whether RViz blends the whole list
    order = np.argsort(-share, kind="stable")[:MAX_TRIADS]
    share, size, pose = share[order], size[order], [pose[index] for index in order]

    origin, quaternion = pose_arrays(pose)  # [N, 3], [N, 4]
    rotation = rotations.matrices(quaternion)  # [N, 3, 3]
    length = 0.5 * size * (MIN_LENGTH + (1 - MIN_LENGTH) * share)  # [N]
    tips = origin[:, None] + length[:, None, None] * rotation.transpose(0, 2, 1)  # [N, axis, 3]
    alphas = (MIN_ALPHA + (MAX_ALPHA - MIN_ALPHA) * share).tolist()
    points: list[Point] = []  # an object may be listed more than once
    colors: list[ColorRGBA] = []
    for start, ends, alpha in zip(origin.tolist(), tips.tolist(), alphas, strict=True):
        root = _point(start)
        for end, (red, green, blue) in zip(ends, AXIS_COLORS, strict=True):
            points += root, _point(end)
            colors += 2 * [ColorRGBA(r=red, g=green, b=blue, a=alpha)]

    marker = Marker(header=header, ns="poses", id=0, type=Marker.LINE_LIST, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = 0.01 * float(max(sizes))  # line width in metres
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
