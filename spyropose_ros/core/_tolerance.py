"""Sets of object poses at which a tool that goes to a fixed place is where it should be.

The tool is at w = R_p g + t_p in the camera's frame, planned for an object at (R_p, t_p), g being
its place in the object's frame. With the object at (R, t) it is off by R^T (w - t) - g, in the
object's axes, and turned by E = R^T R_p. The translation must be within an ellipsoid along the
object's axes, and so must the rotation vector of E. With one axis free, E is split into a turn
about that axis and the remaining swing (E = swing * turn), and only the swing counts.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core import so3, so3_grid
from spyropose_ros.core._cubature import sequence

_NONE, _ALL = -1, 3  # of the axes is free


@dataclass(frozen=True)
class ToleranceSets:
    """N sets of object poses in the camera's frame.

    Attributes:
        rotations: of the object that the tool is right for, [N, 3, 3].
        tools: position of the tool, metres, [N, 3].
        offsets: the same in the object's frame, where it should be, metres, [N, 3].
        inverse_lengths: 1 / semi-axes of the translation ellipsoid, 0 for any, [N, 3].
        inverse_angles: 1 / semi-axes of the rotation ellipsoid, 0 for any, [N, 3].
    """

    rotations: Tensor
    tools: Tensor
    offsets: Tensor
    inverse_lengths: Tensor
    inverse_angles: Tensor

    def __len__(self) -> int:
        return len(self.tools)

    def contains(self, i: int, rotations: Tensor, translations: Tensor) -> Tensor:
        """Return whether object poses [K, 3, 3], [K, 3] are in set i, bool [K]."""
        error = self.translation_error(i, rotations, translations)
        inside = (error * self.inverse_lengths[i]).square().sum(1) <= 1
        near = inside.nonzero().squeeze(1)
        inside[near] = self._rotation_inside(i, rotations[near].mT @ self.rotations[i])
        return inside

    def translation_error(self, i: int, rotations: Tensor, translations: Tensor) -> Tensor:
        """Return how far the tool of set i is off at object poses, metres, object axes, [K, 3]."""
        return ((self.tools[i] - translations).unsqueeze(1) @ rotations).squeeze(1) - self.offsets[
            i
        ]

    def angle(self, i: int, rotations: Tensor) -> Tensor:
        """Return the angle between set i's rotation and others, less a free turn, [K]."""
        return self._angle(i, rotations.mT @ self.rotations[i])

    def angle_limits(self, i: int) -> tuple[float, float]:
        """Return the angle up to which all rotations are in set i, and the one up to which any."""
        bounded = self.inverse_angles[i][self.inverse_angles[i] > 0]
        if len(bounded) == 0:
            return math.inf, math.inf
        return 1 / float(bounded.max()), 1 / float(bounded.min())

    def _free(self, i: int) -> int:
        """Return which axis is free in set i, or `_NONE` or `_ALL` of them."""
        free = (self.inverse_angles[i] == 0).nonzero().squeeze(1).tolist()
        return {0: _NONE, 1: free[0] if free else 0, 3: _ALL}[len(free)]

    def _angle(self, i: int, errors: Tensor) -> Tensor:
        """Return the angle of E [K, 3, 3], less a free turn, [K]."""
        free = self._free(i)
        if free == _ALL:
            return errors.new_zeros(len(errors))
        if free == _NONE:
            return so3.geodesic_angle(errors, torch.eye(3).to(errors))
        axis = torch.eye(3).to(errors)[free]
        direction = errors[:, :, free]
        return 2 * torch.atan2((direction - axis).norm(dim=1), (direction + axis).norm(dim=1))

    def _rotation_inside(self, i: int, errors: Tensor) -> Tensor:
        """Return whether E [K, 3, 3] is in set i's ellipsoid, bool [K]."""
        angle = self._angle(i, errors)
        least, most = self.angle_limits(i)
        inside = angle <= least
        between = (~inside & (angle <= most)).nonzero().squeeze(1)
        if len(between):
            vector = self._rotation_vector(i, errors[between], angle[between])
            inside[between] = (vector * self.inverse_angles[i]).square().sum(1) <= 1
        return inside

    def _rotation_vector(self, i: int, errors: Tensor, angle: Tensor) -> Tensor:
        """Return the rotation vector of E [K, 3, 3], less a free turn, [K, 3]."""
        free = self._free(i)
        if free == _NONE:
            return so3.log(errors).to(errors)
        axis = torch.eye(3).to(errors)[free].expand(len(errors), 3)
        swing = torch.linalg.cross(axis, errors[:, :, free])
        return swing * (angle / swing.norm(dim=1).clamp_min(1e-12)).unsqueeze(1)

    # --- volume and points of the sets ---

    def volume(self, i: int, axes: int) -> float:
        """Bound the volume of set i from above, closely where its angles are small.

        In (pi^2-convention rotation volume) x m^axes; infinite where a length is free. With 0
        axes, of the rotations alone.
        """
        radii = 1 / self.inverse_angles[i][self.inverse_angles[i] > 0].double()
        size = float(radii.prod())
        # Of true rad^3 an eighth: 4/3 pi abc, or all turns (2 pi) times directions (pi ab).
        rotations = {3: math.pi / 6, 2: math.pi**2 / 4, 0: so3_grid.TOTAL_VOLUME}[len(radii)] * size
        lengths = 1 / self.inverse_lengths[i].double()
        return rotations * (4 / 3 * math.pi * float(lengths.prod()) if axes else 1.0)

    def fill(self, i: int, n: int, axes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Spread points evenly over set i, whose volume must be finite.

        Args:
            i: which set.
            n: number of points.
            axes: 3, or 0 for points of the rotations alone.

        Returns:
            Object rotations [n, 3, 3], translations in metres [n, 3] (without meaning for 0 axes),
            and the volume that each stands for, as in `volume`, float64 [n].
        """
        at = sequence(n, 6, self.tools.device)
        errors, elements = self._fill_rotations(i, at[:, :3])
        offset = _ball(at[:, 3:]) / self.inverse_lengths[i].double() if axes else 0 * at[:, 3:]
        rotations = self.rotations[i] @ errors.mT.to(self.rotations)
        arm = (offset.to(self.offsets) + self.offsets[i]).unsqueeze(2)
        translations = self.tools[i] - (rotations @ arm).squeeze(2)
        return rotations, translations, elements * (self.volume(i, axes) / n)

    def _fill_rotations(self, i: int, at: Tensor) -> tuple[Tensor, Tensor]:
        """Map the unit cube [n, 3] to the set's E [n, 3, 3] and their volume elements [n]."""
        free, radii = self._free(i), 1 / self.inverse_angles[i].double()
        if free == _NONE:
            vector = _ball(at) * radii
            # Of rotation vectors: (2 sin(a / 2) / a)^2.
            return so3.exp(vector), torch.sinc(vector.norm(dim=1) / (2 * math.pi)).square()
        axis = 0 if free == _ALL else free
        across = [(axis + 1) % 3, (axis + 2) % 3]
        turn, swing = torch.zeros_like(at), torch.zeros_like(at)
        turn[:, axis] = 2 * math.pi * at[:, 0]
        phase = 2 * math.pi * at[:, 1]
        circle = torch.stack((phase.cos(), phase.sin()), 1)
        if free == _ALL:
            swing[:, across] = circle * 2 * at[:, 2:].sqrt().asin()  # uniform over the sphere
            elements = at.new_ones(len(at))
        else:
            swing[:, across] = circle * at[:, 2:].sqrt() * radii[across]
            elements = torch.sinc(swing.norm(dim=1) / math.pi)  # of directions: sin(a) / a
        return so3.exp(swing) @ so3.exp(turn), elements


def _ball(at: Tensor) -> Tensor:
    """Map the unit cube [n, 3] to the unit ball, volumes alike."""
    z, phase = 2 * at[:, 0] - 1, 2 * math.pi * at[:, 1]
    across = (1 - z.square()).sqrt()
    direction = torch.stack((across * phase.cos(), across * phase.sin(), z), 1)
    return direction * at[:, 2:] ** (1 / 3)
