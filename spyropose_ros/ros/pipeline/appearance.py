"""How large an object is and how it looks, for everything that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spyropose_ros.core.bundle import ObjectInfo


@dataclass(frozen=True)
class Appearance:
    """How an object looks.

    Args:
        size: diameter of the object in metres.
        mesh: resource of its mesh such as file:///..., or None.
        center: of its bounding box, object coordinates in metres.
        extents: edges of its bounding box along the object's axes in metres.
    """

    size: float
    mesh: str | None
    center: tuple[float, float, float]
    extents: tuple[float, float, float]


def appearance_of(info: ObjectInfo, mesh: Path | None) -> Appearance:
    """Measures an object: the box around its mesh, or the cube around its bounding sphere.

    Args:
        info: the object of a model bundle.
        mesh: its mesh in metres, or None.

    Raises:
        BundleError: if the mesh cannot be read.
    """
    size = float(info.diameter)
    if mesh is None:
        return Appearance(size, None, tuple(map(float, info.center)), (size, size, size))
    import trimesh  # slow to import: only the thread that loads models waits for it

    from spyropose_ros.core.bundle import BundleError

    try:
        low, high = trimesh.load(mesh, force="mesh", process=False).bounds.astype(float)
    except Exception as error:  # whatever the file makes its reader raise
        raise BundleError(
            f"{mesh} cannot be read as a mesh ({type(error).__name__}: {error}): "
            "replace it, or remove it"
        ) from error
    center, extents = tuple(((low + high) / 2).tolist()), tuple((high - low).tolist())
    return Appearance(size, mesh.absolute().as_uri(), center, extents)
