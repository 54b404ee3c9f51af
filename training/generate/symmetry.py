"""The symmetry that a user states for an object, or that its mesh has."""

import re

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from spyropose_ros.bop import MM
from spyropose_ros.core.errors import InputError
from spyropose_ros.scenes.renderer import bounding_sphere
from training.symmetry import Symmetry, find_symmetry
from training.symmetry.group import LARGEST
from training.symmetry.symmetry import rotation_about

AUTO = "auto"

_AXES = {"x": [1.0, 0, 0], "y": [0, 1.0, 0], "z": [0, 0, 1.0]}
_SURFACE_POINTS = 4000
_TOLERANCE = 0.02  # of the diameter, mean deviation
_PROBE = 1.0  # radians: what a surface of revolution must survive


def symmetry_of(text: str, mesh: trimesh.Trimesh) -> Symmetry:
    """Return what the command line says about an object's symmetry, or find it.

    Stated axes run through the centre of the bounding sphere, which every symmetry keeps in place.

    Args:
        text: 'auto' to find it, 'none', or a comma-separated list of <axis><n> (looks the same
            after 1/n of a turn, as in 'z4') and continuous_<axis> (a surface of revolution).
        mesh: the object, metres, object frame.

    Returns:
        The symmetry, with the whole group.

    Raises:
        InputError: the text is not understood or the mesh does not have the symmetry.
    """
    if text == AUTO:
        return find_symmetry(mesh)
    center, radius = bounding_sphere(mesh)
    rotations, axes = _parse(text)
    for name, rotation in [
        *rotations.items(),
        *((f"continuous_{axis}", _rotation(axis, _PROBE)) for axis in axes),
    ]:
        _check(name, rotation, mesh, center, 2 * radius)
    group = np.stack(_closure(list(rotations.values())))
    return Symmetry(center, group, np.array([_AXES[axis] for axis in axes]).reshape(-1, 3))


def _parse(text: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the smallest rotations by name and the axes of revolution."""
    rotations, axes = {}, []
    for word in [] if text == "none" else text.split(","):
        cyclic = re.fullmatch(r"([xyz])([1-9]\d*)", word)
        revolution = re.fullmatch(r"continuous_([xyz])", word)
        if cyclic and 2 <= int(cyclic[2]) <= LARGEST:
            rotations[word] = _rotation(cyclic[1], 2 * np.pi / int(cyclic[2]))
        elif revolution:
            axes.append(revolution[1])
        else:
            raise InputError(
                f"symmetry '{word}' is not understood: give 'auto', 'none' or a list such as "
                "'z4', 'z2,x2', 'continuous_z' or 'continuous_z,x2'"
            )
    return rotations, axes


def _rotation(axis: str, angle: float) -> np.ndarray:
    return rotation_about(np.array(_AXES[axis]), angle)


def _closure(generators: list[np.ndarray]) -> list[np.ndarray]:
    """Return the group that some rotations generate, the identity first."""
    group = [np.eye(3)]
    for element in group:  # grows while it is walked
        for generator in generators:
            product = generator @ element
            if not any(np.allclose(product, known, atol=1e-6) for known in group):
                group.append(product)
        if len(group) > LARGEST:
            raise InputError("the symmetries do not form a small group: see whether they fit")
    return group


def _check(
    name: str, rotation: np.ndarray, mesh: trimesh.Trimesh, center: np.ndarray, diameter: float
) -> None:
    """Refuse a symmetry that moves the surface visibly."""
    points = trimesh.sample.sample_surface(mesh, 2 * _SURFACE_POINTS, seed=0)[0] - center
    tree = cKDTree(points[::2])
    spacing = tree.query(points[1::2])[0].mean()  # what sampling alone gives
    deviation = tree.query(points[1::2] @ rotation.T)[0].mean() - spacing
    if deviation > _TOLERANCE * diameter:
        raise InputError(
            f"the mesh does not have the symmetry '{name}': turned, its surface is "
            f"{deviation / MM:.1f} mm away on average; check the axis, or leave --symmetry out"
        )
