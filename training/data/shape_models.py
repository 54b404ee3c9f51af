"""The shapes: meshes of bounding-sphere diameter 1 m around the origin, symmetries and marks.

Five solids as the paper renders them, and three with a mark in the manner of SYMSOL II that breaks
the symmetry where it is seen.

Source: Haugaard et al., ICCVW 2023 (geometry); Murphy et al., ICML 2021 (the idea of the marks).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from spyropose_ros.core.errors import InputError

Mark = Callable[[np.ndarray], np.ndarray]
"""Surface points in the object frame [N, 3], metres -> bool [N], true where painted."""

STEPS = 360
"""Segments of a round outline, and rotations that stand for a continuous symmetry."""

_SPHERE_SUBDIVISIONS = 4  # of the sphere's mesh, which images do not show


@dataclass(frozen=True)
class Shape:
    """A solid.

    Attributes:
        mesh: bounding sphere of diameter 1 m around the origin.
        symmetries: proper rotations that leave the solid, mark included, unchanged; the identity
            first, [S, 3, 3].
        round: an exact sphere, which the mesh only approximates.
        mark: where it is painted; None where it is not.
        unmarked_symmetries: of a marked solid without its mark, the identity first, [U, 3, 3];
            None for a sphere, where every rotation is one.
    """

    mesh: trimesh.Trimesh
    symmetries: np.ndarray
    round: bool = False
    mark: Mark | None = None
    unmarked_symmetries: np.ndarray | None = None


def make_shape(name: str) -> Shape:
    """Build a shape.

    Args:
        name: one of `SHAPES`.

    Returns:
        The shape; always the same one.

    Raises:
        InputError: if there is no such shape.
    """
    if name not in SHAPES:
        raise InputError(f"there is no shape '{name}': choose from {', '.join(SHAPES)}")
    return SHAPES[name]()


def _cone() -> Shape:
    """Make a cone of radius 1 and height 2.5 before scaling, the apex towards +z."""
    mesh = trimesh.creation.cone(radius=1.0, height=2.5, sections=STEPS)
    return Shape(_normalised(mesh, np.array([0.0, 0.0, 1.05]), 1.45), _steps_about_z(STEPS))


def _cylinder() -> Shape:
    """Make a cylinder of radius 1 and height 2 before scaling, the axis along z."""
    mesh = trimesh.creation.cylinder(radius=1.0, height=2.0, sections=STEPS)
    flip = np.diag([1.0, -1.0, -1.0])
    steps = _steps_about_z(STEPS)
    return Shape(_normalised(mesh, np.zeros(3), np.sqrt(2)), np.concatenate((steps, flip @ steps)))


def _tetrahedron() -> Shape:
    """Return one corner towards +z, one of the others towards +y."""
    angle = np.pi / 2 + np.arange(3) * 2 * np.pi / 3
    ring = np.sqrt(8) / 3 * np.stack((np.cos(angle), np.sin(angle)), 1)
    corners = np.vstack((np.column_stack((ring, np.full(3, -1 / 3))), [0.0, 0.0, 1.0]))
    faces = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]
    return _platonic(trimesh.Trimesh(corners, faces))


def _cube() -> Shape:
    """Make a cube with its edges along the axes."""
    return _platonic(trimesh.creation.box())


def _icosahedron() -> Shape:
    """Make an icosahedron with twofold axes along x, y and z."""
    return _platonic(trimesh.creation.icosahedron())


def _marked_sphere() -> Shape:
    """Return a sphere with an X of two equal strokes around +z."""
    mesh = trimesh.creation.icosphere(subdivisions=_SPHERE_SUBDIVISIONS, radius=0.5)
    return Shape(mesh, _steps_about_z(4), round=True, mark=_is_on_x)


def _marked_cylinder() -> Shape:
    """Return the cylinder with an O on its side, towards +x and above the middle."""
    plain = _cylinder()
    return Shape(plain.mesh, np.eye(3)[None], mark=_is_on_o, unmarked_symmetries=plain.symmetries)


def _marked_tetrahedron() -> Shape:
    """Return the tetrahedron with a painted base."""
    plain = _tetrahedron()
    return Shape(
        plain.mesh, _steps_about_z(3), mark=_is_on_base, unmarked_symmetries=plain.symmetries
    )


SHAPES = {
    "cone": _cone,
    "cyl": _cylinder,
    "tet": _tetrahedron,
    "cube": _cube,
    "ico": _icosahedron,
    "sphX": _marked_sphere,
    "cylO": _marked_cylinder,
    "tetX": _marked_tetrahedron,
}
"""Makers by name: the five plain solids, then the three marked ones."""


def _is_on_x(points: np.ndarray) -> np.ndarray:
    """Tell which points are on strokes 0.4 m long and 0.07 m wide, seen along z."""
    x, y, z = points.T
    stroke = np.minimum(np.abs(x - y), np.abs(x + y)) < 0.035 * np.sqrt(2)
    return (z > 0) & (x * x + y * y < 0.2**2) & stroke


def _is_on_o(points: np.ndarray) -> np.ndarray:
    """Return a ring, 0.08 to 0.15 m from a point on the side 0.12 m above the middle."""
    offset = points - [1 / np.sqrt(8), 0.0, 0.12]
    distance = np.einsum("nc,nc->n", offset, offset)
    return (distance > 0.08**2) & (distance < 0.15**2)


def _is_on_base(points: np.ndarray) -> np.ndarray:
    """Return the face opposite to the corner on +z."""
    return points[:, 2] < -1 / 6 + 1e-5


def _steps_about_z(n: int) -> np.ndarray:
    """Return N equal rotation steps about z, from 0, [N, 3, 3]."""
    angle = np.arange(n) * 2 * np.pi / n
    return Rotation.from_rotvec(angle[:, None] * [0.0, 0.0, 1.0]).as_matrix()


def _platonic(mesh: trimesh.Trimesh) -> Shape:
    """Make a regular solid around the origin: rotations carry any edge to any other, either way.

    So each directed edge stands for one rotation: the one that carries the first edge there.
    """
    mesh = _normalised(mesh, np.zeros(3), float(np.linalg.norm(mesh.vertices[0])))
    corners = np.asarray(mesh.vertices)
    distance = np.linalg.norm(corners[:, None] - corners[None], axis=-1)  # [V, V]
    length = distance[distance > 1e-6].min()
    start, end = np.nonzero(np.abs(distance - length) < 1e-6)
    along = corners[start] + corners[end]  # [E, 3]
    across = corners[end] - corners[start]  # perpendicular to it
    frames = np.stack((along, across, np.cross(along, across)), -1)
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    return Shape(mesh, frames @ frames[0].T)


def _normalised(mesh: trimesh.Trimesh, center: np.ndarray, radius: float) -> trimesh.Trimesh:
    """Return the mesh with its bounding sphere moved to the origin and scaled to diameter 1."""
    return trimesh.Trimesh((mesh.vertices - center) / (2 * radius), mesh.faces)
