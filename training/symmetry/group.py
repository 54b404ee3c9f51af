"""Finite groups of rotations, from some of their elements as they are measured."""

import numpy as np
from scipy.spatial.transform import Rotation

LARGEST = 120
"""Elements of a group; the icosahedron has 60."""

_SAME = np.radians([9, 4])  # two measured rotations nearer than this are one; tried in order
_CLOSED = 1e-6  # radians
_PASSES = 6  # of the averages that make a group exact
_HIGHEST_ORDER = 36
_COST = np.radians(0.05)  # of an axis' order: the simpler of two fitting angles wins


def generated(generators: list[np.ndarray], measured: np.ndarray) -> np.ndarray | None:
    """Return the exact group that measured rotations generate.

    Args:
        generators: rotations, each [3, 3].
        measured: rotations that products are known by, so that errors do not add up, [M, 3, 3].

    Returns:
        The group, the identity first, [G, 3, 3]; None if there is none of at most `LARGEST`
        elements nearby.
    """
    for same in _SAME:
        group = _products(generators, measured, same)
        if group is not None:
            group = _exact(group)
            products = (group[:, None] @ group[None]).reshape(-1, 3, 3)
            if all(angles(group, product).min() < _CLOSED for product in products):
                return group
    return None


def _products(generators: list[np.ndarray], measured: np.ndarray, same: float) -> np.ndarray | None:
    """Return all products of generators; those within an angle (radians) count as one."""
    group = np.eye(3)[None]
    done = 0
    while done < len(group):  # grows while it is walked
        for generator in generators:
            product = generator @ group[done]
            if angles(group, product).min() > same:
                off = angles(measured, product)
                product = measured[off.argmin()] if off.min() < same / 2 else product
                group = np.concatenate([group, product[None]])
        if len(group) > LARGEST:
            return None
        done += 1
    return group


def _exact(group: np.ndarray) -> np.ndarray:
    """Make an approximate group [G, 3, 3] exact.

    Every element g becomes the mean of (g h) h^-1 over all h, again and again (Grove, Karcher and
    Ruh, 1974).
    """
    products = group[:, None] @ group[None]  # [G, G, 3, 3]
    which = np.einsum("abij,cij->abc", products, group).argmax(2)  # what each product should be
    for _ in range(_PASSES):
        means = np.einsum("ghij,hkj->gik", group[which], group) / len(group)
        group = _nearest_rotation(means)
    return group


def snapped(rotation: np.ndarray) -> np.ndarray:
    """Return the rotation about the same axis by the nearest simple fraction of a turn."""
    vector = Rotation.from_matrix(rotation).as_rotvec()
    angle = np.linalg.norm(vector)
    order = np.arange(2, _HIGHEST_ORDER + 1)
    steps = np.rint(angle * order / (2 * np.pi))
    error = abs(2 * np.pi * steps / order - angle) + _COST * order
    best = np.where(steps > 0, error, np.inf).argmin()
    turn = 2 * np.pi * steps[best] / order[best]
    return Rotation.from_rotvec(vector / angle * turn).as_matrix()


def axis_orders(group: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Return the axes of a group and how often each maps the object onto itself in a turn.

    Args:
        group: exact, the identity first, [G, 3, 3].

    Returns:
        Unit vectors [3] with the largest component positive, and orders, the highest first.
    """
    axes: list[np.ndarray] = []
    orders: list[int] = []
    for vector in Rotation.from_matrix(group[1:]).as_rotvec():
        axis = vector / np.linalg.norm(vector)
        axis = axis * np.sign(axis[abs(axis).argmax()])
        known = [i for i, other in enumerate(axes) if abs(axis @ other) > 1 - 1e-6]
        if known:
            orders[known[0]] += 1
        else:
            axes.append(axis)
            orders.append(2)
    return sorted(zip(axes, orders, strict=True), key=lambda pair: -pair[1])


def angles(rotations: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return the angles between rotations [N, 3, 3] and one [3, 3], radians, [N]."""
    chord = np.linalg.norm(rotations - rotation, axis=(1, 2)) / 8**0.5  # sine of half the angle
    return 2 * np.arcsin(np.minimum(chord, 1))


def _nearest_rotation(matrices: np.ndarray) -> np.ndarray:
    """Return the rotations nearest to matrices [N, 3, 3]."""
    u, _, vt = np.linalg.svd(matrices)
    u[..., 2] *= np.linalg.det(u @ vt)[:, None]
    return u @ vt
