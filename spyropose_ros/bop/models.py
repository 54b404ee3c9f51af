"""Meshes of a BOP data set and what models_info.json tells about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spyropose_ros.bop.files import MM, damaged, hint, read_json, require

if TYPE_CHECKING:
    import trimesh

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

_MODELS = ("models_cad", "models", "models_eval")  # T-LESS has no plain one
_EVALUATION = ("models_eval", *_MODELS)


@dataclass(frozen=True)
class ModelInfo:
    """Facts about an object.

    Attributes:
        diameter: Largest distance between two vertices, metres (the diameter of the BOP metrics,
            not that of the bounding sphere).
        symmetries: [S, 4, 4] transformations of the object frame (metres) that leave the object
            unchanged; the first is the identity. A continuous symmetry is there as
            `CONTINUOUS_STEPS` rotations, after every discrete one.
        name: The entry "name", which the format does not ask for; None without it.
    """

    diameter: float
    symmetries: np.ndarray
    name: str | None = None


def models_directory(root: str | Path, evaluation: bool = False) -> Path:
    """Where a data set keeps the meshes.

    Args:
        root: Folder of the data set, such as data/lmo.
        evaluation: The resampled meshes of the metrics, if there are any.

    Returns:
        models_cad, models or models_eval.

    Raises:
        FileNotFoundError: There is none.
    """
    root = Path(root)
    for name in _EVALUATION if evaluation else _MODELS:
        if (root / name).is_dir():
            return root / name
    raise FileNotFoundError(f"{root} has no folder {' or '.join(_MODELS)}: {hint(root)}")


def load_mesh(root: str | Path, object_id: int, evaluation: bool = False) -> trimesh.Trimesh:
    """Read an object's mesh.

    Args:
        root: Folder of the data set, such as data/lmo.
        object_id: The object's number.
        evaluation: As for `models_directory`.

    Returns:
        The mesh in metres with its vertex colours.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is damaged.
    """
    import trimesh

    path = models_directory(root, evaluation) / f"obj_{object_id:06d}.ply"
    require(path)
    try:
        mesh = trimesh.load(path, process=False, force="mesh")
        faces = len(mesh.faces)
    except Exception as error:  # trimesh raises whatever its parser stumbles over
        raise ValueError(f"{path} is not a readable mesh ({error}): {hint(path)}") from error
    if faces == 0 or not np.isfinite(mesh.vertices).all():
        raise ValueError(f"{path} holds no usable mesh: {hint(path)}")
    mesh.apply_scale(MM)
    return mesh


def load_models_info(root: str | Path, evaluation: bool = False) -> dict[int, ModelInfo]:
    """Read diameters and symmetries.

    Args:
        root: Folder of the data set.
        evaluation: As for `models_directory`.

    Returns:
        Facts by object number.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is damaged.
    """
    path = models_directory(root, evaluation) / "models_info.json"
    entries = read_json(path)
    try:
        return {int(key): _model_info(value) for key, value in entries.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


def describe_model(mesh: trimesh.Trimesh, half_turn: bool) -> dict:
    """The entry of an object in models_info.json.

    Args:
        mesh: Metres.
        half_turn: The object is unchanged by half a turn about z.

    Returns:
        Diameter, bounds and symmetries in the BOP format (millimetres).
    """
    from scipy.spatial.distance import pdist

    low, high = mesh.bounds / MM
    entry = {"diameter": float(pdist(mesh.convex_hull.vertices).max() / MM)}
    for axis, start, end in zip("xyz", low, high, strict=True):
        entry |= {f"min_{axis}": float(start), f"size_{axis}": float(end - start)}
    if half_turn:
        entry["symmetries_discrete"] = [np.diag([-1.0, -1.0, 1.0, 1.0]).ravel().tolist()]
    return entry


def _model_info(entry: dict) -> ModelInfo:
    """From a BOP entry."""
    discrete = [np.eye(4)]
    for values in entry.get("symmetries_discrete", []):
        matrix = np.reshape(np.array(values, np.float64), (4, 4))
        matrix[:3, 3] *= MM
        discrete.append(matrix)
    symmetries = np.stack(discrete)
    axes = entry.get("symmetries_continuous", [])
    if axes:
        turns = np.concatenate([_turns(axis["axis"], axis["offset"]) for axis in axes])
        symmetries = (turns @ symmetries[:, None]).reshape(-1, 4, 4)
    return ModelInfo(float(entry["diameter"]) * MM, symmetries, entry.get("name"))


def _turns(axis: list[float], offset: list[float]) -> np.ndarray:
    """The rotations [`CONTINUOUS_STEPS`, 4, 4] about an axis through a point (millimetres)."""
    from scipy.spatial.transform import Rotation

    axis = np.array(axis, np.float64)
    length = np.linalg.norm(axis)
    if axis.shape != (3,) or not length > 0:
        raise ValueError(f"a continuous symmetry has the axis {axis.tolist()}")
    angles = np.arange(CONTINUOUS_STEPS) * (2 * np.pi / CONTINUOUS_STEPS)
    point = np.array(offset, np.float64).reshape(3) * MM
    turns = np.tile(np.eye(4), (CONTINUOUS_STEPS, 1, 1))
    turns[:, :3, :3] = Rotation.from_rotvec(angles[:, None] * axis / length).as_matrix()
    turns[:, :3, 3] = point - turns[:, :3, :3] @ point
    return turns
