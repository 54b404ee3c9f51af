"""The leaves of a distribution: cells with their masses, sorted, and their poses.

Nothing is computed before it is asked for, and what only concerns the most probable leaves sorts
no others.
"""

import math
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from spyropose_ros.core import _resampling, se3_grid, so3_grid
from spyropose_ros.core._cubature import Points, spread
from spyropose_ros.core._moments import LeafPoses
from spyropose_ros.core._ordering import descending
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox

_HEAD_LEAVES = 20_000  # the most that modes are made of
_KEY_BITS = 40  # more than a rotation cell's index has

Self = TypeVar("Self", bound="Leaves")


class Leaves:
    """What `PoseDistribution` is made of; see there for the arguments.

    Leaves are sorted by descending probability.
    """

    def __init__(
        self,
        box: TranslationBox,
        levels: Tensor,
        rotation_index: Tensor,
        position_index: Tensor,
        log_probabilities: Tensor,
        depth: int,
        unexpanded_mass: float,
        center: Tensor | None = None,
        diameter: float | None = None,
        presence: float = math.nan,
    ):
        self.box = box
        self._levels = levels  # these four in the order of the cells
        self._rotation_index = rotation_index
        self._position_index = position_index
        self._log_p = log_probabilities
        self.depth = depth
        self.unexpanded_mass = unexpanded_mass
        self.center = torch.zeros(3) if center is None else center
        self.center = self.center.to(box.center)
        self.diameter = diameter
        self.presence = presence

    def __len__(self) -> int:
        return self._count

    def to(self: Self, device: torch.device | str) -> Self:
        """Return the same distribution on another device."""
        if self.box.center.device == torch.device(device):
            return self
        return type(self)(
            self.box.to(device),
            self._levels.to(device),
            self._rotation_index.to(device),
            self._position_index.to(device),
            self._log_p.to(device),
            self.depth,
            self.unexpanded_mass,
            self.center.to(device),
            self.diameter,
            self.presence,
        )

    @cached_property
    def levels(self) -> Tensor:
        """Pyramid level of each leaf, int64 [N]."""
        return self._levels.index_select(0, self._order)

    @cached_property
    def log_probabilities(self) -> Tensor:
        """Log mass of each leaf, [N]."""
        return self._log_p.index_select(0, self._order)

    @property
    def probabilities(self) -> Tensor:
        """Mass of each leaf, [N]; sums to 1."""
        return self.log_probabilities.exp()

    @cached_property
    def log_densities(self) -> Tensor:
        """Log density of each leaf, float64 [N]."""
        return self._densities_of(self._order)

    @cached_property
    def rotations(self) -> Tensor:
        """Rotation at each leaf's centre, [N, 3, 3]."""
        return self.poses(slice(None))[0]

    @cached_property
    def translations(self) -> Tensor:
        """Translation at each leaf's centre, metres, [N, 3]."""
        return self.poses(slice(None))[1]

    def poses(self, leaves: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Return object poses at the centres of leaves: rotations [n, 3, 3], metres [n, 3]."""
        if isinstance(leaves, slice) and 0 <= (leaves.stop or -1) <= _HEAD_LEAVES:
            return self._head_poses.of(leaves)
        return self._poses_of(self._order[leaves]).of(slice(None))

    def poses_within(self, leaves: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Return an object pose within each of some leaves.

        Args:
            leaves: ranks in the order of the leaves, int64 [n].
            at: where in the leaf, in [0, 1]; uniform coordinates are uniform in the leaf. Three of
                the rotation, then one per axis of the box, float64 [n, 3 + axes].

        Returns:
            rotations [n, 3, 3] and translations in metres, [n, 3].
        """
        cells = self._order[leaves]
        levels = self._levels[cells]
        rotation = so3_grid.rotations(
            self._rotation_index[cells], levels, torch.float64, at[:, :3]
        ).float()
        coordinates = (self._position_index[cells] + at[:, 3:]) / 2 ** (levels + 1).unsqueeze(1)
        return rotation, self._to_object(rotation, self.box.from_coordinates(coordinates[None])[0])

    def spread_poses(self, n: int) -> tuple[Tensor, Tensor]:
        """Choose n equally probable leaves, spread over all: rotations [n, 3, 3], metres [n, 3].

        Like `resample`, but over the cells as the search left them, which are neighbours there:
        sorting all of them takes longer.
        """
        return self._poses_of(_resampling.systematic(self._masses, n)).of(slice(None))

    @cached_property
    def leaf_poses(self) -> LeafPoses:
        """Poses at the centres of all leaves, each rotation once."""
        return self._poses_of(self._order)

    @cached_property
    def points(self) -> Points:
        """Weighted poses within all leaves: sums over them are integrals of the distribution."""
        return spread(self)

    @property
    def rotation_resolution(self) -> float:
        """Half the tilt step of the finest level in radians."""
        return so3_grid.cell_radius(self.depth - 1)

    @property
    def translation_resolution(self) -> float:
        """Half the mean edge of the finest translation cell in metres (cube of equal volume).

        0 where the translation is known.
        """
        if self.box.axes == 0:
            return 0.0
        return float(self.box.volume[0]) ** (1 / 3) / 2 ** (self.depth + 1)

    def leaf_of(self, rotation: Tensor, translation: Tensor) -> Tensor:
        """Find the leaf that holds each object pose.

        Args:
            rotation: [M, 3, 3].
            translation: metres, [M, 3].

        Returns:
            Ranks in the order of the leaves, int64 [M]; -1 outside the box.
        """
        rotation = rotation.to(self.box.center).unsqueeze(0)
        position = translation.to(self.box.center).unsqueeze(0) + rotation @ self.center
        inside = self.box.contains(position)[0]
        out = torch.full(inside.shape, -1, device=inside.device)
        for level in self.levels.unique().tolist():
            leaf = (self.levels == level).nonzero().squeeze(1)
            keys, order = self._cells(level, leaf).keys()[0].sort()
            query = se3_grid.containing(rotation, position, self.box, level).keys()[0]
            slot = torch.searchsorted(keys, query).clamp(max=len(keys) - 1)
            hit = (keys[slot] == query) & inside
            out[hit] = leaf[order[slot[hit]]]
        return out

    # --- internals: indices are of the cells as they were given ---

    @cached_property
    def _count(self) -> int:
        """Number of leaves."""
        return int((self._log_p != -torch.inf).sum())

    @cached_property
    def _order(self) -> Tensor:
        """All leaves, sorted, [N]."""
        return descending(self._log_p, self._count)

    @cached_property
    def _head(self) -> Tensor:
        """The leaves that modes are made of, sorted."""
        return descending(self._log_p, min(_HEAD_LEAVES, self._count))

    @cached_property
    def _head_poses(self) -> LeafPoses:
        return self._poses_of(self._head)

    @cached_property
    def _masses(self) -> Tensor:
        """Mass of each cell, float64 [M]; 0 for those that are no leaves."""
        return self._log_p.exp().double()

    @cached_property
    def _log_volumes(self) -> Tensor:
        """Log volume of a cell of each level, float64 [depth]."""
        splits = torch.arange(self.depth, dtype=torch.float64, device=self.box.center.device)
        return se3_grid.log_volume(self.box, 0) - splits * math.log(8 * 2**self.box.axes)

    def _first(self, n: int) -> Tensor:
        """Return the n most probable leaves, sorted."""
        return self._head[:n] if n <= _HEAD_LEAVES else self._order[:n]

    def _densities_of(self, cells: Tensor) -> Tensor:
        """Return the log densities of cells, float64 [n]."""
        levels = self._levels.index_select(0, cells)
        return self._log_p.index_select(0, cells).double() - self._log_volumes[levels]

    def _poses_of(self, cells: Tensor) -> LeafPoses:
        """Compute the poses at the centres of cells; every rotation is computed once."""
        levels = self._levels.index_select(0, cells)
        keys = levels << _KEY_BITS | self._rotation_index.index_select(0, cells)
        keys, slot = keys.unique(return_inverse=True)
        rotation_levels = keys >> _KEY_BITS
        rotations = so3_grid.rotations(keys & ((1 << _KEY_BITS) - 1), rotation_levels)
        # Components first: the long axis last makes these small products several times faster.
        axes = [axis.index_select(0, cells) for axis in self._position_index.unbind(1)]
        corner = torch.stack(axes) if axes else cells.new_zeros((0, len(cells)))  # [axes, n]
        coordinates = (corner + 0.5) / 2 ** (levels + 1)
        arm = (rotations @ self.center).mT.contiguous()  # [3, U]
        offset = self.box.basis[0] @ (coordinates - 0.5).to(arm.dtype) - arm.index_select(1, slot)
        return LeafPoses(rotations, rotation_levels, slot, offset + self.box.center[0, :, None])

    def _cells(self, level: int, leaf: Tensor) -> Cells:
        """Return leaves of one level, by their rank in the order, as a batch of one."""
        cells = self._order[leaf]
        return Cells(
            level,
            self._rotation_index[cells].unsqueeze(0),
            self._position_index[cells].unsqueeze(0),
        )

    def _to_object(self, rotation: Tensor, position: Tensor) -> Tensor:
        """Convert centres in the camera frame to translations of the object frame, [n, 3]."""
        return position - rotation @ self.center
