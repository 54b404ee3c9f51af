"""The rotational symmetry of an object, in the BOP format and in words."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from spyropose_ros.bop import MM
from training.symmetry.group import axis_orders

_NAMES = "xyz"
_ALONG = 1e-3  # cosine short of 1 within which an axis counts as a coordinate axis


@dataclass(frozen=True)
class Symmetry:
    """Rotations about a point that leave a shape as it is.

    Attributes:
        center: the point, object frame, metres, [3].
        rotations: those of finite number, a group where there are no axes, the identity first,
            [G, 3, 3].
        axes: unit vectors that the object may be turned about by any angle, [A, 3]; three of a
            sphere, otherwise one at most.
    """

    center: np.ndarray
    rotations: np.ndarray
    axes: np.ndarray

    def entry(self) -> dict[str, list]:
        """Return the entries of models_info.json.

        Returns:
            'symmetries_discrete' (the group without the identity, 4 x 4 row by row) and
            'symmetries_continuous', millimetres; a key only where there is something to say.
        """
        entry = {}
        if len(self.rotations) > 1:
            transforms = [_about(self.center, rotation) for rotation in self.rotations[1:]]
            entry["symmetries_discrete"] = [t.ravel().tolist() for t in transforms]
        if len(self.axes):
            offset = (self.center / MM).tolist()
            entry["symmetries_continuous"] = [
                {"axis": axis.tolist(), "offset": offset} for axis in self.axes
            ]
        return entry

    def words(self) -> str:
        """Return what leaves the shape as it is, as a part of a sentence."""
        if len(self.axes) > 1:
            return "any rotation"
        if len(self.axes):
            across = ", and half a turn across it" if len(self.rotations) > 1 else ""
            return f"any rotation about {named_axis(self.axes[0])}{across}"
        orders = axis_orders(self.rotations)
        if not orders:
            return "no rotation"
        if len(orders) == 1:
            axis, order = orders[0]
            return f"{360 / order:g} degrees about {named_axis(axis)}"
        counts = Counter(order for _, order in orders)
        parts = [
            f"{count} {'axis' if count == 1 else 'axes'} of {360 / order:g} degrees"
            for order, count in sorted(counts.items(), reverse=True)
        ]
        return ", ".join(parts)


def _about(center: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return the turn about a point [3] in metres as a [4, 4] transformation in millimetres."""
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = (center - rotation @ center) / MM
    return transform


def named_axis(axis: np.ndarray) -> str:
    """Return an axis by its name or its direction.

    Args:
        axis: unit vector, [3].

    Returns:
        "z", or "the axis (0.00, 0.60, 0.80)".
    """
    nearest = int(abs(axis).argmax())
    if abs(axis[nearest]) > 1 - _ALONG:
        return _NAMES[nearest]
    return "the axis ({:.2f}, {:.2f}, {:.2f})".format(*axis)


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return the rotation [3, 3] about a unit vector [3] by an angle in radians."""
    return Rotation.from_rotvec(angle * np.asarray(axis)).as_matrix()
