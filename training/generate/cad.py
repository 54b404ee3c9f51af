"""CAD files as meshes that can be rendered."""

from pathlib import Path

import numpy as np
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from training.generate.settings import UNITS

SMALLEST, LARGEST = 5e-3, 5.0
"""Sizes of objects that make sense, metres."""

_SHARP_EDGE = np.radians(30)
_TEXTURE_STEPS = 64  # colours across the object; the renderer knows vertex colours only
_PLACEHOLDER = 2  # pixels: trimesh's texture for files that name none


def load_cad(path: str | Path, units: str) -> trimesh.Trimesh:
    """Read a CAD file.

    Vertices are split at sharp edges, so that the interpolated normals show flat faces as flat.

    Args:
        path: PLY, OBJ or STL; vertex and face colours and textures are kept as vertex colours.
        units: Of the file, a key of `UNITS`.

    Returns:
        The mesh in metres, in the frame of the file.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is damaged, holds no solid, or its size says that the unit is wrong.
    """
    if units not in UNITS:
        raise ValueError(f"units '{units}' are unknown: choose from {', '.join(UNITS)}")
    mesh = _read(Path(path))
    mesh.apply_scale(UNITS[units])
    _check_size(mesh, Path(path), units)
    return _split_sharp_edges(mesh, _corner_colours(mesh))


def has_colours(mesh: trimesh.Trimesh) -> bool:
    """Whether a mesh brings colours of its own."""
    return mesh.visual.kind == "vertex"


def _read(path: Path) -> trimesh.Trimesh:
    """The mesh of a file in the file's unit, textures turned into vertex colours."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the path of a PLY, OBJ or STL file")
    try:
        mesh = trimesh.load(path, process=False, force="mesh")
        faces = len(mesh.faces)
    except Exception as error:  # trimesh raises whatever its parser stumbles over
        raise ValueError(
            f"{path} is not a readable mesh ({error}): export it as PLY, OBJ or STL"
        ) from error
    if faces == 0:
        raise ValueError(f"{path} has no faces: export it as a triangle mesh, not as points")
    if not np.isfinite(mesh.vertices).all():
        raise ValueError(f"{path} has vertices that are not finite: repair or export it again")
    mesh.remove_unreferenced_vertices()  # they would count for the size
    if np.linalg.matrix_rank(mesh.vertices - mesh.vertices[0], tol=1e-6 * mesh.scale) < 3:
        raise ValueError(f"{path} is flat: give a mesh that encloses a volume")
    if mesh.visual.kind == "texture":
        mesh = _with_vertex_colours(mesh)
    return mesh


def _with_vertex_colours(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """A textured mesh with its colours at the vertices, of which there are enough."""
    material = mesh.visual.material
    image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    if image is None or max(image.size) <= _PLACEHOLDER:
        colours = np.tile(material.main_color, (len(mesh.vertices), 1))
    else:
        mesh = mesh.subdivide_to_size(mesh.scale / _TEXTURE_STEPS, max_iter=20)
        colours = material.to_color(mesh.visual.uv)
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False)


def _check_size(mesh: trimesh.Trimesh, path: Path, units: str) -> None:
    size = mesh.scale  # diagonal of the bounding box
    if SMALLEST <= size <= LARGEST:
        return
    raw = size / UNITS[units]
    fitting = [name for name, scale in UNITS.items() if SMALLEST <= raw * scale <= LARGEST]
    remedy = f"give --units {' or '.join(fitting)}" if fitting else "scale the file"
    raise ValueError(
        f"{path} would be {size:.4g} m across with units '{units}', which is not between "
        f"{SMALLEST:g} and {LARGEST:g} m: {remedy}"
    )


def _corner_colours(mesh: trimesh.Trimesh) -> np.ndarray | None:
    """RGBA of every corner of every face, [F, 3, 4] uint8; None when the mesh has no colours."""
    if mesh.visual.kind == "vertex":
        colours = mesh.visual.vertex_colors[mesh.faces]
    elif mesh.visual.kind == "face":
        colours = np.repeat(mesh.visual.face_colors[:, None], 3, axis=1)
    else:
        return None
    # A file with texture coordinates but without a material comes in this grey.
    unset = (colours == trimesh.visual.color.DEFAULT_COLOR).all()
    return None if unset else np.asarray(colours, np.uint8)


def _split_sharp_edges(mesh: trimesh.Trimesh, colours: np.ndarray | None) -> trimesh.Trimesh:
    """The mesh with vertices shared only by faces that meet smoothly and in one colour.

    Args:
        mesh: Triangles.
        colours: [F, 3, 4] of the corners, or None.
    """
    faceted = mesh.visual.kind == "face"
    mesh = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    mesh.merge_vertices()
    pairs = mesh.face_adjacency[mesh.face_adjacency_angles < _SHARP_EDGE]  # [P, 2]
    if faceted and colours is not None:
        pairs = pairs[(colours[pairs[:, 0], 0] == colours[pairs[:, 1], 0]).all(1)]
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
