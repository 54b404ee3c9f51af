"""Product grid on SE(3): rotation level r pairs with translation level r + 1.

The base level has 72 * 2^3 = 576 cells per box; every cell splits into 8 * 8 = 64 children. Where
the translation is known, 72 cells and 8 children: the grid on SO(3).

Source: Haugaard et al., ICCVW 2023, section 3.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core import so3_grid
from spyropose_ros.core.translation_grid import TranslationBox

MAX_DEPTH = 9
"""Deepest pyramid whose cells still fit one int64 key."""


@dataclass(frozen=True)
class Cells:
    """Cells of one level for a batch of boxes.

    Attributes:
        level: pyramid level r.
        rotation_index: SO(3) cells of level r, int64 [B, N].
        position_index: translation cells of level r + 1, int64 [B, N, axes]; see
            `TranslationBox.axes`.
    """

    level: int
    rotation_index: Tensor
    position_index: Tensor

    @property
    def branching(self) -> int:
        """Children of every cell: 64 on SE(3), 8 where the translation is known."""
        return so3_grid.BRANCHING * 2 ** self.position_index.shape[-1]

    @property
    def count(self) -> int:
        """N, cells per batch element."""
        return self.rotation_index.shape[1]

    def octant(self) -> Tensor:
        """Return which child of its parent each cell is, in the order of `children`, [B, N]."""
        octant = self.rotation_index % so3_grid.BRANCHING
        for index in self.position_index.unbind(-1):
            octant = 2 * octant + index % 2
        return octant

    def ancestors(self, level: int) -> "Cells":
        """Return the cells of a coarser level, or the same, that contain each, [B, N]."""
        up = self.level - level
        return Cells(level, self.rotation_index >> 3 * up, self.position_index >> up)

    def children(self) -> "Cells":
        """Return the C children of each cell, [B, C N]; rotations outer, octants inner."""
        axes = self.position_index.shape[-1]
        octants = _lattice(2, axes, self.position_index.device)  # [2^axes, axes]
        children = torch.arange(so3_grid.BRANCHING, device=octants.device)
        rotation = so3_grid.BRANCHING * self.rotation_index.unsqueeze(2)  # [B, N, 1]
        rotation = rotation + children.repeat_interleave(len(octants))  # [B, N, C]
        position = (2 * self.position_index.unsqueeze(2) + octants).flatten(2)  # [B, N, C axes / 8]
        position = position.unsqueeze(2).expand(-1, -1, so3_grid.BRANCHING, -1)  # copied in runs
        batch, n = self.rotation_index.shape
        return Cells(
            self.level + 1,
            rotation.flatten(1),
            position.reshape(batch, n * self.branching, axes),
        )

    def take(self, index: Tensor) -> "Cells":
        """Select the cells with an index [B, K] in the list."""
        return Cells(
            self.level,
            self.rotation_index.gather(1, index),
            self.position_index.gather(
                1, index.unsqueeze(-1).expand(-1, -1, self.position_index.shape[-1])
            ),
        )

    def poses(self, box: TranslationBox) -> tuple[Tensor, Tensor]:
        """Return poses at the cells' centres: rotations [B, N, 3, 3], translations [B, N, 3]."""
        return (
            so3_grid.rotations(self.rotation_index, self.level),
            box.positions(self.position_index, self.level + 1),
        )

    def family_poses(self, box: TranslationBox) -> tuple[Tensor, Tensor]:
        """Return the children's rotations [B, N, 8, 3, 3] and translations [B, N, 2^axes, 3] apart.

        Every rotation goes with every translation, in the order of `children`.
        """
        octants = _lattice(2, box.axes, self.position_index.device)  # [2^axes, axes]
        positions = 2 * self.position_index.unsqueeze(2) + octants  # [B, N, 2^axes, axes]
        return (
            so3_grid.child_rotations(self.rotation_index, self.level),
            box.positions(positions.flatten(1, 2), self.level + 2).unflatten(
                1, positions.shape[1:3]
            ),
        )

    def sample(
        self, box: TranslationBox, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw one pose per cell, uniform within it: rotations [B, N, 3, 3], metres [B, N, 3]."""
        return (
            so3_grid.sample_in_cells(self.rotation_index, self.level, generator),
            box.sample_in_cells(self.position_index, self.level + 1, generator),
        )

    def keys(self) -> Tensor:
        """Return an int64 for each cell, unique within the level and inside the box, [B, N]."""
        key = self.rotation_index
        for index in self.position_index.unbind(-1):
            key = key << (self.level + 1) | index
        return key


def all_cells(box: TranslationBox, level: int = 0, positions_per_axis: int | None = None) -> Cells:
    """Make all cells of a level.

    Args:
        box: [B].
        level: pyramid level.
        positions_per_axis: 2^(level + 1) by default. Training shifts the grid by up to one base
            cell and enlarges it by one half, so that the box stays covered.

    Returns:
        The cells in order, [B, 72 * 8^level * positions_per_axis^axes].
    """
    device = box.center.device
    positions = _lattice(positions_per_axis or 2 ** (level + 1), box.axes, device)  # [P, axes]
    n_rotations = so3_grid.cell_count(level)
    rotation = torch.arange(n_rotations, device=device).repeat_interleave(len(positions))
    return Cells(
        level,
        rotation.expand(len(box), -1),
        positions.repeat(n_rotations, 1).expand(len(box), -1, -1),
    )


def all_poses(box: TranslationBox, level: int) -> tuple[Tensor, Tensor]:
    """Return all rotations [B, R, 3, 3] and translations [B, T, 3] of a level apart.

    Every rotation goes with every translation, in the order of `all_cells`.
    """
    device = box.center.device
    positions = _lattice(2 ** (level + 1), box.axes, device).expand(len(box), -1, -1)
    rotations = so3_grid.rotations(torch.arange(so3_grid.cell_count(level), device=device), level)
    return rotations.expand(len(box), -1, -1, -1), box.positions(positions, level + 1)


def containing(rotation: Tensor, position: Tensor, box: TranslationBox, level: int) -> Cells:
    """Find the cells of poses [B, N, 3, 3], [B, N, 3]; check `box.contains` before using them."""
    return Cells(level, so3_grid.index(rotation, level), box.index(position, level + 1))


def log_volume(box: TranslationBox, level: int) -> Tensor:
    """Return the log volume of a cell in (pi^2-convention rotation volume) x m^3, [B].

    Per rotation volume alone where the translation is known.
    """
    cells = so3_grid.cell_count(level) * 2 ** (box.axes * (level + 1))
    return box.volume.double().log() + math.log(so3_grid.TOTAL_VOLUME) - math.log(cells)


def uniform_log_density(box: TranslationBox) -> Tensor:
    """Return the log density of the uniform distribution over SO(3) x box, [B]."""
    return -box.volume.double().log() - math.log(so3_grid.TOTAL_VOLUME)


def _lattice(n: int, axes: int, device: torch.device) -> Tensor:
    """List the integer points of [0, n)^axes, the last axis fastest, int64 [n^axes, axes]."""
    steps = n ** torch.arange(axes - 1, -1, -1, device=device)
    return torch.arange(n**axes, device=device).unsqueeze(1) // steps % n
