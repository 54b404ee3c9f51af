"""Meshes of a BOP data set and their entries in models_info.json."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spyropose_ros.bop.annotation import check_rotation
from spyropose_ros.bop.files import MM, completion, damaged, hint, read_json, require
from spyropose_ros.core.errors import DataError, MissingFileError
from spyropose_ros.core.files import write_text

if TYPE_CHECKING:
    import trimesh

log = logging.getLogger(__name__)

LMO_OBJECTS = {
    "ape": 1,
    "can": 5,
    "cat": 6,
    "driller": 8,
    "duck": 9,
    "eggbox": 10,
    "glue": 11,
    "holepuncher": 12,
}
"""Names of the LM-O objects and their numbers."""

HALF_TURN_OBJECTS = frozenset({10, 11})
"""LM-O objects that look the same after half a turn about z: eggbox and glue."""

CONTINUOUS_STEPS = math.ceil(math.pi / 0.01)
"""Rotations that stand for a continuous symmetry, as in the BOP toolkit: 315."""

_INFO = "models_info.json"
_MODELS = ("models_cad", "models", "models_eval")  # T-LESS has no plain one
_EVALUATION = ("models_eval", *_MODELS)


@dataclass(frozen=True)
class ModelInfo:
    """Facts about an object.

    Attributes:
        diameter: largest distance between two vertices, metres (the diameter of the BOP metrics,
            not that of the bounding sphere).
        symmetries: [S, 4, 4] transformations of the object frame (metres) that leave the object
            unchanged; the first is the identity. A continuous symmetry is there as
            `CONTINUOUS_STEPS` rotations, after every discrete one.
        name: the entry "name", which the format does not ask for; None without it.
    """

    diameter: float
    symmetries: np.ndarray
    name: str | None = None


def models_directory(root: str | Path, evaluation: bool = False) -> Path:
    """Return the folder in which a data set keeps the meshes.

    Args:
        root: folder of the data set, such as data/lmo.
        evaluation: the resampled meshes of the metrics, if there are any.

    Returns:
        models_cad, models or models_eval.

    Raises:
        MissingFileError: there is none.
    """
    root = Path(root)
    for name in _EVALUATION if evaluation else _MODELS:
        if (root / name).is_dir():
            return root / name
    raise MissingFileError(f"{root} has no folder {' or '.join(_MODELS)}: {hint(root)}")


def load_mesh(root: str | Path, object_id: int, evaluation: bool = False) -> trimesh.Trimesh:
    """Read an object's mesh.

    Args:
        root: folder of the data set, such as data/lmo.
        object_id: the object's number.
        evaluation: as for `models_directory`.

    Returns:
        The mesh in metres with colours at its vertices; those of a texture are taken there. What
        is lost of them is logged.

    Raises:
        MissingFileError: the file is missing.
        DataError: the file is damaged.
    """
    from trimesh.visual import TextureVisuals

    from spyropose_ros.scenes.meshes import read_mesh_file

    path = models_directory(root, evaluation) / f"obj_{object_id:06d}.ply"
    require(path)
    try:
        parts, lost = read_mesh_file(path)
    except DataError as error:
        raise DataError(f"{path} is not a readable mesh ({error}): {hint(path)}") from error
    if not parts or not np.isfinite(parts[0].vertices).all():
        raise DataError(f"{path} holds no usable mesh: {hint(path)}")
    for text in lost:
        log.warning("WARNING: %s: %s", path, text)
    mesh = parts[0]
    if isinstance(mesh.visual, TextureVisuals):
        mesh.visual = mesh.visual.to_color()
    mesh.apply_scale(MM)
    return mesh


def load_models_info(root: str | Path, evaluation: bool = False) -> dict[int, ModelInfo]:
    """Read diameters and symmetries.

    Args:
        root: folder of the data set.
        evaluation: as for `models_directory`.

    Returns:
        Facts by object number.

    Raises:
        MissingFileError: the file is missing.
        DataError: the file is damaged.
    """
    path = models_directory(root, evaluation) / _INFO
    if not path.is_file():
        raise MissingFileError(f"{path} is missing: {completion(root)}")
    infos = {}
    for key, entry in read_json(path).items():
        try:
            infos[int(key)] = _model_info(entry)
        except DataError as error:
            raise DataError(f"{path}, object {key}: {error}") from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise damaged(path, error) from error
    return infos


def complete_models_info(root: str | Path) -> list[Path]:
    """Write the facts about all objects, without symmetries, where the meshes stand alone.

    Args:
        root: folder of the data set.

    Returns:
        The files that were missing.

    Raises:
        MissingFileError: the data set has no meshes.
        DataError: a mesh is damaged.
    """
    written = []
    for folder in {models_directory(root), models_directory(root, evaluation=True)}:
        path = folder / _INFO
        if path.is_file():
            continue
        numbers = sorted(int(mesh.stem[-6:]) for mesh in folder.glob("obj_" + 6 * "[0-9]" + ".ply"))
        if not numbers:
            raise MissingFileError(f"{folder} has no meshes obj_000001.ply and so on: {hint(path)}")
        evaluation = folder == models_directory(root, evaluation=True)
        infos = {
            str(number): describe_model(load_mesh(root, number, evaluation), half_turn=False)
            for number in numbers
        }
        write_text(path, json.dumps(infos, indent=1))
        written.append(path)
    return written


def describe_model(mesh: trimesh.Trimesh, half_turn: bool) -> dict:
    """Return the entry of an object in models_info.json.

    Args:
        mesh: metres.
        half_turn: the object is unchanged by half a turn about z.

    Returns:
        Diameter, bounds and symmetries in the BOP format (millimetres).
    """
    from scipy.spatial.distance import pdist

    low, high = mesh.bounds / MM
    entry: dict[str, Any] = {"diameter": float(pdist(mesh.convex_hull.vertices).max() / MM)}
    for axis, start, end in zip("xyz", low, high, strict=True):
        entry |= {f"min_{axis}": float(start), f"size_{axis}": float(end - start)}
    if half_turn:
        entry["symmetries_discrete"] = [np.diag([-1.0, -1.0, 1.0, 1.0]).ravel().tolist()]
    return entry


def _model_info(entry: dict) -> ModelInfo:
    """Read a BOP entry."""
    diameter = float(entry["diameter"])
    if not 0 < diameter < math.inf:
        raise DataError(f"diameter is {diameter}: give the object's in millimetres")
    discrete = [np.eye(4)]
    for values in entry.get("symmetries_discrete", []):
        matrix = np.reshape(np.array(values, np.float64), (4, 4))
        check_rotation(matrix[:3, :3], "a discrete symmetry")
        matrix[:3, 3] *= MM
        discrete.append(matrix)
    symmetries = np.stack(discrete)
    axes = entry.get("symmetries_continuous", [])
    if axes:
        rotations = np.concatenate([_rotations(axis["axis"], axis["offset"]) for axis in axes])
        symmetries = (rotations @ symmetries[:, None]).reshape(-1, 4, 4)
    return ModelInfo(diameter * MM, symmetries, entry.get("name"))


def _rotations(axis: list[float], offset: list[float]) -> np.ndarray:
    """Return rotations [`CONTINUOUS_STEPS`, 4, 4] about an axis through a point (millimetres)."""
    from scipy.spatial.transform import Rotation

    direction = np.array(axis, np.float64)
    length = np.linalg.norm(direction)
    if direction.shape != (3,) or not length > 0:
        raise DataError(f"a continuous symmetry has the axis {direction.tolist()}")
    angles = np.arange(CONTINUOUS_STEPS) * (2 * np.pi / CONTINUOUS_STEPS)
    point = np.array(offset, np.float64).reshape(3) * MM
    rotations = np.tile(np.eye(4), (CONTINUOUS_STEPS, 1, 1))
    rotations[:, :3, :3] = Rotation.from_rotvec(angles[:, None] * direction / length).as_matrix()
    rotations[:, :3, 3] = point - rotations[:, :3, :3] @ point
    return rotations
