"""Size and appearance of an object, for everything that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

if TYPE_CHECKING:
    from spyropose_ros.core.bundle import ObjectInfo

_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    **{"char": "i1", "short": "i2", "int": "i4", "uchar": "u1", "ushort": "u2", "uint": "u4"},
    **{"int8": "i1", "int16": "i2", "int32": "i4", "uint8": "u1", "uint16": "u2", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}


@dataclass(frozen=True)
class Appearance:
    """Size and mesh of an object.

    Attributes:
        size: diameter of the object in metres.
        mesh: resource of its mesh for RViz, package://... or file:///..., or None.
        center: of its bounding box, object coordinates in metres.
        extents: edges of its bounding box along the object's axes in metres.
    """

    size: float
    mesh: str | None
    center: tuple[float, float, float]
    extents: tuple[float, float, float]


def appearance_of(info: ObjectInfo, mesh: Path | None) -> Appearance:
    """Measure an object: the box around its mesh, or the cube around its bounding sphere.

    Args:
        info: the object of a model bundle.
        mesh: its mesh in metres, or None.

    Returns:
        Size, mesh and box of the object.

    Raises:
        BundleError: if the mesh cannot be read.
    """
    size = float(info.diameter)
    if mesh is None:
        x, y, z = map(float, info.center)
        return Appearance(size, None, (x, y, z), (size, size, size))
    from spyropose_ros.core.bundle import BundleError

    try:
        points = _vertices(mesh.read_bytes())
        low, high = points.min(0), points.max(0)
    except (LookupError, OSError, TypeError, ValueError) as error:
        raise BundleError(
            f"{mesh} cannot be read as a mesh ({type(error).__name__}: {error}): "
            "replace it, or remove it"
        ) from error
    center, extents = tuple(((low + high) / 2).tolist()), tuple((high - low).tolist())
    return Appearance(size, _resource(mesh.absolute()), center, extents)


def _resource(mesh: Path) -> str:
    """Return the address of a mesh for RViz, independent of this machine if a package has it."""
    for folder in mesh.parents:
        try:
            if folder == Path(get_package_share_directory(folder.name)):
                return f"package://{folder.name}/{quote(str(mesh.relative_to(folder)))}"
        except (PackageNotFoundError, ValueError):
            continue
    return mesh.as_uri()


def _vertices(ply: bytes) -> np.ndarray:
    """Read the vertices of a PLY file; importing trimesh for it takes a tenth of the start.

    Args:
        ply: content of the file, with the vertices as its first element, as is usual.

    Returns:
        Float64 [N, 3].

    Raises:
        ValueError: if it is something else, or too short.
        LookupError: if the header is incomplete or names unknown types.
    """
    header, _, body = ply.partition(b"end_header")
    lines = [line.split() for line in header.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and line[0] not in ("comment", "obj_info")]
    if lines[0] != ["ply"] or lines[2][:2] != ["element", "vertex"]:
        raise ValueError("no vertices at the beginning of a PLY file")
    layout, count = lines[1][1], int(lines[2][2])
    columns = []
    for word, *words in lines[3:]:
        if word != "property":
            break
        columns.append((words[1], _TYPES[words[0]]))
    body = body[body.index(b"\n") + 1 :]
    values: Any  # indexed by column
    if layout == "ascii":
        table = np.array(body.split()[: count * len(columns)], dtype=float)
        names = (name for name, _ in columns)
        values = dict(zip(names, table.reshape(count, len(columns)).T, strict=True))
    else:
        dtype = np.dtype([(name, _ORDERS[layout] + kind) for name, kind in columns])
        values = np.frombuffer(body, dtype, count)
    return np.stack([np.asarray(values[axis], dtype=float) for axis in "xyz"], axis=1)
