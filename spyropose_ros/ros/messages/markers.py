"""RViz markers of pose distributions: ghosts of the mesh, axes of the modes, and a caption.

Lines are opaque: RViz sorts what is transparent anew in every frame, and lines between transparent
meshes flicker. The ghosts of an object have one colour, so that their order does not matter.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

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
from spyropose_ros.ros.messages import conversions
from spyropose_ros.ros.pipeline import rotations
from spyropose_ros.ros.pipeline.appearance import Appearance

if TYPE_CHECKING:
    from spyropose_ros.core.plots import Ghosts

MAX_TRIADS = 300  # keeps RViz smooth
MIN_LENGTH = 0.3  # of the faintest triad, as a share of the longest
MIN_SHADE = 0.2  # brightness of the faintest triad
MESH_ALPHA = 0.7  # of what the object covers for certain
MODE_LENGTHS = (0.35, 0.65)  # of a mode's axes with no and with all of the mass, over the diameter
LEADING_LENGTH = 0.7  # of the leading mode's axes, over the diameter
CAPTION_HEIGHT = 0.09  # of a capital letter, over the diameter
AXIS_COLORS = ((0.90, 0.18, 0.20), (0.16, 0.75, 0.29), (0.18, 0.41, 0.96))  # x, y, z
OBJECT_COLORS = (  # bright, and none like an axis
    (0.95, 0.70, 0.25),
    (0.45, 0.80, 0.80),
    (0.85, 0.60, 0.90),
    (0.75, 0.80, 0.45),
    (0.95, 0.60, 0.50),
    (0.65, 0.70, 0.95),
)


def marker_array(
    header: Header,
    distributions: Sequence[PoseDistribution],
    appearances: Sequence[Appearance],
    ghosts: Sequence[Ghosts | None],
    min_mass: float,
    up: Sequence[float],
) -> MarkerArray:
    """Draw distributions.

    Args:
        header: of the image.
        distributions: what to draw.
        appearances: one per distribution.
        ghosts: the poses in which each object's mesh is drawn; None draws triads instead.
        min_mass: the mass that a leading mode must exceed to get axes of its own.
        up: unit vector, the side of an object on which its caption is, [3].

    Returns:
        A marker that deletes the previous ones. Then by namespace: `poses`, a mesh per ghost, more
        opaque with more mass, or one line list with three axes per pose, longer and brighter with
        more weight; `modes`, one line list with three axes per mode, longer with more mass;
        `leading`, one with thick axes per leading mode; `captions`, a text per object.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    sizes = [appearance.size for appearance in appearances]
    colors = _object_colors([distribution.class_id for distribution in distributions])
    bare = [k for k, drawn in enumerate(ghosts) if drawn is None and distributions[k].poses]
    if bare:
        markers.append(
            _weighted_poses(header, [distributions[k] for k in bare], [sizes[k] for k in bare])
        )
    for drawn, appearance, color in zip(ghosts, appearances, colors, strict=True):
        if drawn is not None and appearance.mesh is not None:
            markers += _meshes(header, drawn, appearance.mesh, color, first_id=len(markers))
    modes = [
        (mode.pose, np.interp(mode.mass, (0, 1), MODE_LENGTHS) * size)
        for distribution, size in zip(distributions, sizes, strict=True)
        for mode in distribution.modes
    ]
    if modes:
        places, lengths = zip(*modes, strict=True)
        markers.append(_triads(header, "modes", places, lengths, 0.016 * max(sizes)))
    leading = [
        (distribution.modes[0].pose, LEADING_LENGTH * size)
        for distribution, size in zip(distributions, sizes, strict=True)
        if distribution.modes and distribution.modes[0].mass > min_mass
    ]
    if leading:
        places, lengths = zip(*leading, strict=True)
        markers.append(_triads(header, "leading", places, lengths, 0.04 * max(sizes)))
    for distribution, appearance, color in zip(distributions, appearances, colors, strict=True):
        if distribution.poses:
            number = len(markers)
            markers.append(_caption(header, distribution, appearance, color, up, number))
    return MarkerArray(markers=markers)


def _object_colors(class_ids: Sequence[str]) -> list[tuple[float, float, float]]:
    """Choose a color for each object: that of its class, the same in every frame if it is free."""
    count, chosen = len(OBJECT_COLORS), dict[str, int]()
    for name in sorted(set(class_ids)):
        color = zlib.crc32(name.encode()) % count
        while color in chosen.values() and len(chosen) < count:
            color = (color + 1) % count
        chosen[name] = color
    return [OBJECT_COLORS[chosen[name]] for name in class_ids]


def _weighted_poses(
    header: Header, distributions: Sequence[PoseDistribution], sizes: Sequence[float]
) -> Marker:
    share = np.concatenate([np.asarray(d.weights) / d.weights[0] for d in distributions])
    size = np.repeat(sizes, [len(d.poses) for d in distributions])
    pose = [pose for d in distributions for pose in d.poses]
    order = np.argsort(-share, kind="stable")[:MAX_TRIADS]
    share, size, pose = share[order], size[order], [pose[index] for index in order]
    length = 0.5 * size * (MIN_LENGTH + (1 - MIN_LENGTH) * share)  # [N]
    shades = MIN_SHADE + (1 - MIN_SHADE) * share
    return _triads(header, "poses", pose, length, 0.01 * max(sizes), shades)


def _triads(
    header: Header,
    namespace: str,
    poses: Sequence[Pose],
    length: Sequence[float] | np.ndarray,
    width: float,
    shades: np.ndarray | None = None,
) -> Marker:
    """Draw three axes per pose, of a length [N] and width in metres and with a brightness [N]."""
    origin, quaternion = conversions.pose_arrays(poses)  # [N, 3], [N, 4]
    rotation = rotations.matrices(quaternion)  # [N, 3, 3]
    reach = np.asarray(length)[:, None, None] * rotation.transpose(0, 2, 1)  # [N, axis, 3]
    tips = origin[:, None] + reach
    points: list[Point] = []  # an object may be listed more than once
    colors: list[ColorRGBA] = []
    bright = np.ones(len(poses)) if shades is None else shades
    for start, ends, shade in zip(origin.tolist(), tips.tolist(), bright.tolist(), strict=True):
        root = _point(start)
        for end, (red, green, blue) in zip(ends, AXIS_COLORS, strict=True):
            points += root, _point(end)
            colors += 2 * [ColorRGBA(r=shade * red, g=shade * green, b=shade * blue, a=1.0)]

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
    header: Header,
    ghosts: Ghosts,
    resource: str,
    color: tuple[float, float, float],
    first_id: int,
) -> list[Marker]:
    """Draw an object in several poses: the more of the mass covers a place, the more opaque."""
    markers = []
    poses = conversions.poses(ghosts.rotations, ghosts.translations)
    alphas = 1 - (1 - MESH_ALPHA) ** np.asarray(ghosts.masses, dtype=float)
    red, green, blue = color
    for index, (pose, alpha) in enumerate(zip(poses, alphas.tolist(), strict=True)):
        marker = Marker(header=header, ns="poses", id=first_id + index)
        marker.type, marker.action = Marker.MESH_RESOURCE, Marker.ADD
        marker.pose = pose
        marker.scale.x = marker.scale.y = marker.scale.z = 1.0
        marker.color = ColorRGBA(r=red, g=green, b=blue, a=alpha)
        marker.mesh_resource = resource
        markers.append(marker)
    return markers


def _caption(
    header: Header,
    distribution: PoseDistribution,
    appearance: Appearance,
    color: tuple[float, float, float],
    up: Sequence[float],
    number: int,
) -> Marker:
    """Write the mass of the leading mode and the entropy beside an object."""
    modes = distribution.modes
    best = modes[0].pose if modes else distribution.poses[0]
    rotation, position = conversions.pose_matrix(best)
    marker = Marker(header=header, ns="captions", id=number)
    marker.type, marker.action = Marker.TEXT_VIEW_FACING, Marker.ADD
    place = rotation @ appearance.center + position + 0.75 * appearance.size * np.asarray(up)
    marker.pose.position = _point(place.tolist())
    marker.pose.orientation.w = 1.0
    marker.scale.z = CAPTION_HEIGHT * appearance.size
    red, green, blue = color
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    sure = f"leading mode {modes[0].mass:.0%}" if modes else "no mode"
    marker.text = f"{distribution.class_id}: {sure}\nentropy {distribution.entropy:.1f} nats"
    return marker
