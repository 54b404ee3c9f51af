"""What is found in a CAD file before anything is trained."""

from pathlib import Path

import numpy as np
import trimesh

from spyropose_ros.core.errors import InputError
from spyropose_ros.scenes.renderer import bounding_sphere
from training.generate.cad import LARGEST, SMALLEST, has_colours, lost_colours, read_parts
from training.generate.settings import UNITS
from training.symmetry import Symmetry

_STEP = (".step", ".stp")
_METRES = (".glb", ".gltf", *_STEP)  # by definition, or as they are read
_MANY_FACES = 200_000
_LARGE = 1.0  # metres; what is larger is rarely meant


def unit_of(path: Path, given: str | None) -> str:
    """Return the unit of a CAD file.

    Args:
        path: of the file.
        given: what the user says; None if nothing.

    Returns:
        A key of `UNITS`.

    Raises:
        InputError: the file does not say and the user has not; the message asks, with the sizes.
        MissingFileError: the file is missing.
        DataError: it is damaged.
    """
    kind = path.suffix.lower()
    if kind in _METRES:
        if given not in (None, "m") and kind in _STEP:
            raise InputError(f"{path} says its unit itself: leave --units out")
        return given or "m"
    if given is not None:
        return given
    extents = np.ptp(np.concatenate([part.bounds for part in read_parts(path).parts]), axis=0)
    sizes = {
        unit: extents * scale
        for unit, scale in UNITS.items()
        if SMALLEST <= np.linalg.norm(extents) * scale <= LARGEST
    }
    if not sizes:
        raise InputError(
            f"{path} measures {extents.max():.4g} units: in no known unit is that a part between "
            f"{SMALLEST:g} and {LARGEST:g} m; scale it"
        )
    likely = sorted(sizes, key=lambda unit: (np.linalg.norm(sizes[unit]) > _LARGE, unit != "mm"))
    options = "; ".join(f"--units {unit} if it is {_size(sizes[unit])}" for unit in likely)
    raise InputError(f"{path} does not say its unit. How large is the part? Give {options}")


def mesh_facts(path: Path, units: str, mesh: trimesh.Trimesh, symmetry: Symmetry) -> dict:
    """Describe a mesh.

    Args:
        path: of the CAD file.
        units: of the file.
        mesh: in metres, as `load_cad` gives it.
        symmetry: that was found or stated.

    Returns:
        Plain values: "file", "units", "size" (text), "diameter" (of the bounding sphere, metres),
        "faces", "watertight", "colours" (text), "symmetry" (text) and "warnings" (texts).
    """
    faces, watertight = len(mesh.faces), _is_closed(mesh)
    lost = lost_colours(mesh)
    warnings = list(lost)
    if not watertight:
        warnings.append(
            "the surface has holes: whatever lies behind them is rendered; close them if the real "
            "part is closed"
        )
    if faces > _MANY_FACES:
        warnings.append(
            f"{faces} faces are more than the images show: a simpler mesh renders faster"
        )
    if np.linalg.norm(mesh.extents) > _LARGE:
        warnings.append(f"it is {_size(mesh.extents)}: is '{units}' its unit?")
    coloured = has_colours(mesh)
    if coloured and symmetry.words() != "no rotation":
        warnings.append(
            "the symmetry is that of the shape alone: if colours tell its sides apart, give "
            "--symmetry none"
        )
    return {
        "file": path.name,
        "units": units,
        "size": _size(mesh.extents),
        "diameter": 2 * float(bounding_sphere(mesh)[1]),
        "faces": faces,
        "watertight": watertight,
        "colours": "its own" if coloured else "none: it is painted differently in every image",
        "symmetry": symmetry.words(),
        "warnings": warnings,
    }


def _is_closed(mesh: trimesh.Trimesh) -> bool:
    """Tell whether every edge has faces on both sides; bodies may touch and overlap."""
    welded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)
    counts = np.unique(welded.edges_sorted, axis=0, return_counts=True)[1]
    return bool((counts % 2 == 0).all())


def fact_lines(facts: dict) -> list[tuple[str, str]]:
    """Return the facts as titles and texts."""
    return [
        ("file", f"{facts['file']}, in {facts['units']}"),
        ("size", f"{facts['size']}; bounding sphere {1e3 * facts['diameter']:.1f} mm"),
        ("surface", f"{facts['faces']} faces, {'' if facts['watertight'] else 'not '}watertight"),
        ("colours", facts["colours"]),
        ("unchanged by", facts["symmetry"]),
    ]


def _size(extents: np.ndarray) -> str:
    """Return the sides of a box in metres as a text."""
    large = max(extents) >= _LARGE
    values = " x ".join(f"{side if large else 1e3 * side:.3g}" for side in extents)
    return f"{values} {'m' if large else 'mm'}"
