"""CAD files as meshes that can be rendered."""

from pathlib import Path
from typing import cast

import numpy as np
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from trimesh.visual import ColorVisuals, TextureVisuals

from spyropose_ros.core.errors import DataError, InputError, MissingFileError
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
        units: of the file, a key of `UNITS`.

    Returns:
        The mesh in metres, in the frame of the file.

    Raises:
        MissingFileError: the file is missing.
        DataError: the file is damaged, holds no solid, or its size says that the unit is wrong.
    """
    if units not in UNITS:
        raise InputError(f"units '{units}' are unknown: choose from {', '.join(UNITS)}")
    mesh = _read(Path(path))
    mesh.apply_scale(UNITS[units])
    _check_size(mesh, Path(path), units)
    return _split_sharp_edges(mesh, _corner_colours(mesh))


def has_colours(mesh: trimesh.Trimesh) -> bool:
    """Tell whether a mesh brings colours of its own."""
    return getattr(mesh.visual, "kind", None) == "vertex"


def _read(path: Path) -> trimesh.Trimesh:
    """Return the mesh of a file in the file's unit, textures turned into vertex colours."""
    if not path.is_file():
        raise MissingFileError(f"{path} is missing: give the path of a PLY, OBJ or STL file")
    try:
        mesh = cast(trimesh.Trimesh, trimesh.load(path, process=False, force="mesh"))
        faces = len(mesh.faces)
    except Exception as error:  # trimesh raises whatever its parser stumbles over
        raise DataError(
            f"{path} is not a readable mesh ({error}): export it as PLY, OBJ or STL"
        ) from error
    if faces == 0:
        raise DataError(f"{path} has no faces: export it as a triangle mesh, not as points")
    if not np.isfinite(mesh.vertices).all():
        raise DataError(f"{path} has vertices that are not finite: repair or export it again")
    mesh.remove_unreferenced_vertices()  # they would count for the size
    if np.linalg.matrix_rank(mesh.vertices - mesh.vertices[0], tol=1e-6 * mesh.scale) < 3:
        raise DataError(f"{path} is flat: give a mesh that encloses a volume")
    if isinstance(mesh.visual, TextureVisuals):
        mesh = _with_vertex_colours(mesh, mesh.visual)
    return mesh


def _with_vertex_colours(mesh: trimesh.Trimesh, visual: TextureVisuals) -> trimesh.Trimesh:
    """Return a textured mesh with its colours at the vertices, of which there are enough."""
    material = visual.material
    image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    if image is None or max(image.size) <= _PLACEHOLDER:
        colours = np.tile(material.main_color, (len(mesh.vertices), 1))
    else:
        finer = mesh.subdivide_to_size(mesh.scale / _TEXTURE_STEPS, max_iter=20)
        mesh = cast(trimesh.Trimesh, finer)  # a tuple only where asked for
        colours = material.to_color(cast(TextureVisuals, mesh.visual).uv)
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False)


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


def _corner_colours(mesh: trimesh.Trimesh) -> np.ndarray | None:
    """Return RGBA of every face's corners, [F, 3, 4] uint8; None if the mesh has no colours."""
    visual = mesh.visual
    if not isinstance(visual, ColorVisuals) or visual.kind not in ("vertex", "face"):
        return None
    if visual.kind == "vertex":
        colours = visual.vertex_colors[mesh.faces]
    else:
        colours = np.repeat(visual.face_colors[:, None], 3, axis=1)
    # A file with texture coordinates but without a material comes in this grey.
    unset = (colours == trimesh.visual.color.DEFAULT_COLOR).all()
    return None if unset else np.asarray(colours, np.uint8)


def _split_sharp_edges(mesh: trimesh.Trimesh, colours: np.ndarray | None) -> trimesh.Trimesh:
    """Return the mesh with vertices shared only by faces that meet smoothly and in one colour.

    Args:
        mesh: triangles.
        colours: [F, 3, 4] of the corners, or None.
    """
    faceted = getattr(mesh.visual, "kind", None) == "face"
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
