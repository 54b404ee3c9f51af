"""Product grid on SE(3): rotation level r pairs with translation level r + 1.

The base level has 72 * 2^3 = 576 cells per box; every cell splits into 8 * 8 = 64 children.

Source: Haugaard et al., ICCVW 2023, section 3.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core import so3_grid
from spyropose_ros.core.translation_grid import TranslationBox

BRANCHING = 64
MAX_DEPTH = 9
"""Deepest pyramid whose cells still fit one int64 key."""

# The 8 octants of a translation cell, [8, 3].
_OCTANTS = torch.cartesian_prod(*[torch.arange(2)] * 3)


@dataclass(frozen=True)
class Cells:
    """Cells of one level for a batch of boxes.

    Attributes:
        level: pyramid level r.
        rotation_index: SO(3) cells of level r, int64 [B, N].
        position_index: translation cells of level r + 1, int64 [B, N, 3].
    """

    level: int
    rotation_index: Tensor
    position_index: Tensor

    def children(self) -> "Cells":
        """All 64 children of each cell, [B, N] -> [B, 64 N]; rotations outer, octants inner."""
        rotation = so3_grid.children(self.rotation_index)  # [B, N, 8]
        octants = _OCTANTS.to(self.position_index.device)
        position = 2 * self.position_index.unsqueeze(2) + octants  # [B, N, 8, 3]
        batch, n = self.rotation_index.shape
        return Cells(
            self.level + 1,
            rotation.unsqueeze(-1).expand(batch, n, 8, 8).reshape(batch, -1),
            position.unsqueeze(2).expand(batch, n, 8, 8, 3).reshape(batch, -1, 3),
        )

    def take(self, index: Tensor) -> "Cells":
        """Cells at positions index [B, K] of the list."""
        return Cells(
            self.level,
            self.rotation_index.gather(1, index),
            self.position_index.gather(1, index.unsqueeze(-1).expand(-1, -1, 3)),
        )

    def poses(self, box: TranslationBox) -> tuple[Tensor, Tensor]:
        """Poses at the cells' centres: rotations [B, N, 3, 3], translations [B, N, 3]."""
        return (
            so3_grid.rotations(self.rotation_index, self.level),
            box.positions(self.position_index, self.level + 1),
        )

    def sample(
        self, box: TranslationBox, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """One pose per cell, uniform within it: rotations [B, N, 3, 3], translations [B, N, 3]."""
        return (
            so3_grid.sample_in_cells(self.rotation_index, self.level, generator),
            box.sample_in_cells(self.position_index, self.level + 1, generator),
        )

    def keys(self) -> Tensor:
        """One int64 per cell, unique within the level and inside the box, [B, N]."""
        bits = self.level + 1
        x, y, z = self.position_index.unbind(-1)
        return (((self.rotation_index << bits | x) << bits | y) << bits) | z


def base_cells(batch: int, device: torch.device | str, positions_per_axis: int = 2) -> Cells:
    """All cells of level 0, [B, 72 * positions_per_axis^3].

    Training shifts the grid by up to one cell and enlarges it to 3 positions per axis, so that the
    box stays covered.
    """
    axis = torch.arange(positions_per_axis, device=device)
    positions = torch.cartesian_prod(axis, axis, axis)  # [P, 3]
    n_rotations, n_positions = so3_grid.BASE_CELLS, len(positions)
    rotation = torch.arange(n_rotations, device=device).repeat_interleave(n_positions)
    return Cells(
        0,
        rotation.expand(batch, -1),
        positions.repeat(n_rotations, 1).expand(batch, -1, -1),
    )


def containing(rotation: Tensor, position: Tensor, box: TranslationBox, level: int) -> Cells:
    """Cells of poses [B, N, 3, 3], [B, N, 3]; check `box.contains` before relying on them."""
    return Cells(level, so3_grid.index(rotation, level), box.index(position, level + 1))


def log_volume(box: TranslationBox, level: int) -> Tensor:
    """Log of a cell's volume in (pi^2-convention rotation volume) x m^3, [B]."""
    cells = so3_grid.cell_count(level) * 8 ** (level + 1)
    return box.volume.double().log() + math.log(so3_grid.TOTAL_VOLUME) - math.log(cells)


def uniform_log_density(box: TranslationBox) -> Tensor:
    """Log density of the uniform distribution over SO(3) x box, [B]."""
    return -box.volume.double().log() - math.log(so3_grid.TOTAL_VOLUME)
