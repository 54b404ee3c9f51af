"""Find the rotations that leave an object's shape as it is.

The surface is compared with itself over a grid of all rotations; what fits roughly is refined by
ICP and judged. Colours and textures do not count.
"""

import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from spyropose_ros.core import so3_grid
from training.symmetry.group import angles, axis_orders, generated, snapped
from training.symmetry.surface import Motion, Surface
from training.symmetry.symmetry import Symmetry, rotation_about

TOLERANCE = 0.04
"""Of the diameter: 99 % of the turned surface must be this near to the surface."""

ROUND_TOLERANCE = 0.02
"""The same for what may be turned by any angle; prisms of twelve sides and more are round."""

_ROUND = 0.15  # of the distance from the axis: the same for what is long and thin
_LEVEL = 3  # of the grid of rotations: steps of 7.5 degrees
_ROUGH = 0.04  # mean distance, diameters, of what is worth refining
_APART = np.radians(10)  # between rotations that are refined
_MOST = 120  # rotations that are refined
_IDENTITY = np.radians(9)  # what is nearer to the identity is no symmetry of its own
_SLACK = 0.01  # diameters: what sampling alone makes
_PROBES = 8  # angles that judge an axis
_TRIED = 3  # axes of revolution
_TURNS = np.arange(1, 33) * (np.pi * (3 - 5**0.5))  # angles that repeat nothing
_STRAIGHT = np.radians(2)  # axes nearer than this to those of the CAD file are meant to be them


def find_symmetry(mesh: trimesh.Trimesh) -> Symmetry:
    """Find the rotational symmetry of a shape.

    Args:
        mesh: the object, metres, object frame.

    Returns:
        Its symmetry, up to `TOLERANCE`; axes within 2 degrees of those of the frame are these.
    """
    surface = Surface(mesh)
    radii = np.linalg.norm(surface.points, axis=1)
    if np.quantile(abs(radii - radii.mean()), 0.99) <= ROUND_TOLERANCE:
        return Symmetry(surface.centroid, np.eye(3)[None], np.eye(3))
    grid = so3_grid.rotations(torch.arange(so3_grid.cell_count(_LEVEL)), _LEVEL).double().numpy()
    return _revolution(surface, grid) or _finite(surface, grid)


def _revolution(surface: Surface, grid: np.ndarray) -> Symmetry | None:
    """Return the symmetry of a surface of revolution, None of any other surface."""
    axes = np.unique(np.round(grid[:, :, 2], 6), axis=0)
    axes = axes[axes @ [1e-3, 1e-2, 1] > 0]
    turns = Rotation.from_rotvec((axes[:, None] * _TURNS[:_PROBES, None]).reshape(-1, 3))
    rough = surface.coarse(turns.as_matrix()).reshape(len(axes), -1).max(1)
    for best in np.argsort(rough)[:_TRIED]:
        if rough[best] > _ROUGH:
            return None
        # The rotation that fits, near one about the axis: its axis is the surface's.
        motion = surface.refined(rotation_about(axes[best], 2.0))
        axis = _straightened(_axis(motion.rotation))
        center = _fixed_point([motion])
        spun = [_about(center, rotation_about(axis, turn)) for turn in _TURNS]
        radii = np.linalg.norm(np.cross(surface.points - center, axis), axis=1)
        allowed = min(ROUND_TOLERANCE, _ROUND * np.quantile(radii, 0.99))
        if max(map(surface.deviation, spun)) > allowed:
            continue
        flip = _flip(surface, axis)
        if flip is not None:
            center = _fixed_point([motion, flip])
        rotations = np.eye(3)[None] if flip is None else np.stack([np.eye(3), flip.rotation])
        point = surface.centroid + surface.diameter * center
        return Symmetry(point, rotations, axis[None])
    return None


def _flip(surface: Surface, axis: np.ndarray) -> Motion | None:
    """Return half a turn across an axis of revolution, None where it does not fit."""
    helper = np.eye(3)[abs(axis).argmin()]
    across = np.cross(axis, helper)
    rotation = rotation_about(across / np.linalg.norm(across), np.pi)
    motion = Motion(rotation, surface.refined(rotation).translation)
    return motion if surface.deviation(motion) <= TOLERANCE else None


def _finite(surface: Surface, grid: np.ndarray) -> Symmetry:
    """Return the largest group that fits, built from the best fitting rotations first."""
    group, motions = np.eye(3)[None], list[Motion]()
    allowed = TOLERANCE
    fitting = _fitting(surface, grid)
    turns = np.array([snapped(motion.rotation) for motion in fitting])
    for motion, turn in zip(fitting, turns, strict=True):
        if angles(group, turn).min() < _APART / 2:
            continue
        larger = generated([*group[1:], turn], turns)
        if larger is None:
            continue
        center = _fixed_point([*motions, motion])
        worst = max(surface.deviation(_about(center, rotation)) for rotation in larger[1:])
        if worst <= allowed:
            group, motions = larger, [*motions, motion]
            # What fits much worse is no symmetry beside these: an octagon is not round.
            allowed = min(allowed, 2 * worst + _SLACK)
    center = surface.centroid + surface.diameter * _fixed_point(motions)
    return Symmetry(center, _aligned(group), np.zeros((0, 3)))


def _fitting(surface: Surface, grid: np.ndarray) -> list[Motion]:
    """Return motions that leave the surface as it is, the best first; the identity is left out."""
    grid = grid[angles(grid, np.eye(3)) > _IDENTITY]
    rough = surface.coarse(grid)
    order = np.argsort(rough)
    found: list[tuple[float, Motion]] = []
    starts = grid[:0]
    for rotation in grid[order[rough[order] <= _ROUGH]]:
        if len(starts) == _MOST:
            break
        if len(starts) and angles(starts, rotation).min() < _APART:
            continue
        starts = np.concatenate([starts, rotation[None]])
        motion = surface.refined(rotation, few=True)
        if surface.deviation(motion, few=True) > 2 * TOLERANCE:
            continue
        motion = surface.refined(motion.rotation)
        deviation = surface.deviation(motion)
        if deviation <= TOLERANCE and angles(motion.rotation[None], np.eye(3))[0] > _IDENTITY:
            found.append((deviation, motion))
    return [motion for _, motion in sorted(found, key=lambda pair: pair[0])]


def _fixed_point(motions: list[Motion]) -> np.ndarray:
    """Return the point, nearest to the centroid, that motions leave in place, [3]."""
    if not motions:
        return np.zeros(3)
    system = np.concatenate([np.eye(3) - motion.rotation for motion in motions])
    shift = np.concatenate([motion.translation for motion in motions])
    return np.linalg.lstsq(system, shift, rcond=0.05)[0]


def _about(center: np.ndarray, rotation: np.ndarray) -> Motion:
    return Motion(rotation, center - rotation @ center)


def _axis(rotation: np.ndarray) -> np.ndarray:
    vector = Rotation.from_matrix(rotation).as_rotvec()
    return vector / np.linalg.norm(vector)


def _straightened(axis: np.ndarray) -> np.ndarray:
    """Return an axis of the frame where one is meant, in its positive direction."""
    nearest = int(abs(axis).argmax())
    axis = axis * np.sign(axis[nearest])
    return np.eye(3)[nearest] if axis[nearest] > np.cos(_STRAIGHT) else axis


def _aligned(group: np.ndarray) -> np.ndarray:
    """Return a group turned a little, so that the axes that are meant to be the frame's are so."""
    axes = [axis for axis, _ in axis_orders(group)]
    pairs = [(axis, _straightened(axis)) for axis in axes]
    pairs = [(axis, straight) for axis, straight in pairs if straight.max() == 1]
    if not pairs:
        return group
    measured, meant = (np.array(vectors) for vectors in zip(*pairs, strict=True))
    turn = Rotation.align_vectors(meant, measured)[0].as_matrix()
    return turn @ group @ turn.T
