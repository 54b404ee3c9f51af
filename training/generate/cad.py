"""CAD files as meshes that can be rendered."""

import logging
from pathlib import Path

import numpy as np
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from spyropose_ros.core.errors import DataError, InputError, MissingFileError
from spyropose_ros.scenes.meshes import MeshFile, read_mesh_file
from training.generate.settings import UNITS
from training.generate.surface import Surface, join

log = logging.getLogger(__name__)

SMALLEST, LARGEST = 5e-3, 5.0
"""Sizes of objects that make sense, metres."""

_SHARP_EDGE = np.radians(30)
_FARTHEST_ORIGIN = 1000.0  # sizes of the object: 32-bit numbers then resolve 0.1 permille of it
_LOST = "lost_colours"


def load_cad(path: str | Path, units: str) -> trimesh.Trimesh:
    """Read a CAD file.

    Vertices are split at sharp edges, so that the interpolated normals show flat faces as flat.

    Args:
        path: PLY, OBJ, STL or another kind that `read_mesh_file` knows; vertex and face colours and
            textures are kept as vertex colours. What is lost of them is logged.
        units: of the file, a key of `UNITS`.

    Returns:
        The mesh in metres, in the frame of the file; `lost_colours` tells what it lacks.

    Raises:
        MissingFileError: the file is missing.
        DataError: the file is damaged, holds no solid, or its size says that the unit is wrong.
    """
    if units not in UNITS:
        raise InputError(f"units '{units}' are unknown: choose from {', '.join(UNITS)}")
    parts, lost = read_parts(Path(path))
    surface = join(parts)
    surface.mesh.apply_scale(UNITS[units])
    _check_size(surface.mesh, Path(path), units)
    for text in lost:
        log.warning("WARNING: %s: %s", path, text)
    mesh = _split_sharp_edges(surface)
    mesh.metadata[_LOST] = lost
    return mesh


def has_colours(mesh: trimesh.Trimesh) -> bool:
    """Tell whether a mesh brings colours of its own."""
    return getattr(mesh.visual, "kind", None) == "vertex"


def lost_colours(mesh: trimesh.Trimesh) -> list[str]:
    """Return what of a CAD file's colours could not be read, as sentences."""
    return mesh.metadata.get(_LOST, [])


def read_parts(path: Path) -> MeshFile:
    """Read a CAD file as it is.

    Args:
        path: of the file.

    Returns:
        Its content, in its unit.

    Raises:
        MissingFileError: the file is missing.
        DataError: the file is damaged, or holds no solid.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} is missing: give the path of a PLY, OBJ or STL file")
    try:
        parts, lost = read_mesh_file(path)
    except DataError as error:
        raise DataError(
            f"{path} is not a readable mesh ({error}): export it as PLY, OBJ or STL"
        ) from error
    if not parts:
        raise DataError(f"{path} has no faces: export it as a triangle mesh, not as points")
    if not all(np.isfinite(part.vertices).all() for part in parts):
        raise DataError(f"{path} has vertices that are not finite: repair or export it again")
    for part in parts:
        part.remove_unreferenced_vertices()  # they would count for the size
    _check_shape(path, np.concatenate([part.vertices for part in parts]))
    return MeshFile(parts, lost)


def _check_shape(path: Path, vertices: np.ndarray) -> None:
    """Refuse what is flat, and what is too far from its origin for 32-bit numbers."""
    size = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    if np.linalg.matrix_rank(vertices - vertices[0], tol=1e-6 * size) < 3:
        raise DataError(f"{path} is flat: give a mesh that encloses a volume")
    offset = float(abs(vertices).max())
    if offset > _FARTHEST_ORIGIN * size:
        raise DataError(
            f"{path} lies {offset:.4g} units from its origin and measures {size:.4g}: its poses "
            "would be too coarse; move the origin to the part and export it again"
        )


def _check_size(mesh: trimesh.Trimesh, path: Path, units: str) -> None:
    size = mesh.scale  # diagonal of the bounding box
    if SMALLEST <= size <= LARGEST:
        return
    raw = size / UNITS[units]
    fitting = [name for name, scale in UNITS.items() if SMALLEST <= raw * scale <= LARGEST]
    remedy = f"give --units {' or '.join(fitting)}" if fitting else "scale the file"
    raise DataError(
        f"{path} would be {size:.4g} m across with units '{units}', which is not between "
        f"{SMALLEST:g} and {LARGEST:g} m: {remedy}"
    )


def _split_sharp_edges(surface: Surface) -> trimesh.Trimesh:
    """Return a mesh with vertices shared only by faces that meet smoothly and in one colour."""
    mesh, colours, label = surface
    mesh.merge_vertices()
    pairs = mesh.face_adjacency[mesh.face_adjacency_angles < _SHARP_EDGE]  # [P, 2]
    if colours is not None:
        pairs = pairs[label[pairs[:, 0]] == label[pairs[:, 1]]]
    count = len(mesh.faces)
    graph = coo_matrix((np.ones(len(pairs), bool), tuple(pairs.T)), (count, count))
    groups, group = connected_components(graph, directed=False)  # [F]
    corners = mesh.faces * groups + group[:, None]
    _, first, faces = np.unique(corners, return_index=True, return_inverse=True)
    return trimesh.Trimesh(
        mesh.vertices[mesh.faces.ravel()[first]],
        faces.reshape(-1, 3),
        vertex_colors=None if colours is None else colours.reshape(-1, 4)[first],
        process=False,
    )
