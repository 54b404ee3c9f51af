"""The pyramid that a search grows: the cells of every level with their masses.

Every expanded cell's mass belongs to its children; the other cells are leaves. The leaves' masses
sum to 1.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spyropose_ros.core import se3_grid
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox


@dataclass(frozen=True)
class Level:
    """One level of a pyramid.

    Attributes:
        cells: evaluated cells, [B, N].
        log_probability: log mass, -inf where padded, [B, N].
        expanded: cells whose mass moved to the next level, bool [B, N].
    """

    cells: Cells
    log_probability: Tensor
    expanded: Tensor


@dataclass(frozen=True)
class PosePyramid:
    """Result of a search over a batch of boxes.

    Attributes:
        box: the boxes, [B].
        levels: coarse to fine; a single one after `search_exhaustively`.
        presence: probability that the object is there at all, [B]; None where nobody knows.
    """

    box: TranslationBox
    levels: list[Level]
    presence: Tensor | None = None

    @property
    def evaluations(self) -> Tensor:
        """Scored poses per batch element, int64 [B]."""
        return torch.stack([level.log_probability.isfinite().sum(1) for level in self.levels]).sum(
            0
        )

    @property
    def unexpanded_mass(self) -> Tensor:
        """Mass left above the finest level, [B]."""
        left = [_masked_mass(level, ~level.expanded) for level in self.levels[:-1]]
        return torch.stack(left).sum(0) if left else self.box.center.new_zeros(len(self.box))

    def log_density_per_level(self, rotation: Tensor, translation: Tensor) -> Tensor:
        """Return the log density of poses as the pyramid grows level by level.

        At each level the density of the cell that contains the pose, if it was evaluated; otherwise
        the value of the last level where it was. -inf outside the box.

        Args:
            rotation: [B, M, 3, 3].
            translation: of the bounding-sphere centre, metres, [B, M, 3].

        Returns:
            [B, M, levels], per pi^2-convention rotation volume and m^3.
        """
        rotation, translation = rotation.to(self.box.center), translation.to(self.box.center)
        inside = self.box.contains(translation)
        value = torch.full(inside.shape, -torch.inf, dtype=torch.float64, device=inside.device)
        values = []
        for level in self.levels:
            r = level.cells.level
            query = se3_grid.containing(rotation, translation, self.box, r).keys()
            order = level.cells.keys().argsort(1)
            keys = level.cells.keys().gather(1, order)
            slot = torch.searchsorted(keys, query).clamp(max=keys.shape[1] - 1)
            log_p = level.log_probability.gather(1, order.gather(1, slot))
            hit = (keys.gather(1, slot) == query) & inside & log_p.isfinite()
            density = log_p.double() - se3_grid.log_volume(self.box, r).unsqueeze(1)
            value = torch.where(hit, density, value)
            values.append(value)
        return torch.stack(values, -1)

    def distribution(
        self, b: int, center: Tensor | None = None, diameter: float | None = None
    ) -> PoseDistribution:
        """Make a distribution of the leaves of one batch element.

        Args:
            b: batch element.
            center: bounding-sphere centre in object coordinates, metres, [3]; zero by default.
            diameter: of the bounding sphere, metres; sets the modes' default radius.

        Returns:
            The distribution, on the CPU.
        """
        levels, *batches = self._cells_on_cpu
        # A clone, as one element must not keep the whole batch alive.
        rotation, position, log_p = (x[b].clone() if len(x) > 1 else x[b] for x in batches)
        return PoseDistribution(
            self.box[b].to("cpu"),
            levels,
            rotation,
            position,
            log_p,
            depth=self.levels[-1].cells.level + 1,
            unexpanded_mass=self._unexpanded_masses[b],
            center=center,
            diameter=diameter,
            presence=self._presences[b],
        )

    @cached_property
    def _unexpanded_masses(self) -> list[float]:
        return self.unexpanded_mass.tolist()

    @cached_property
    def _presences(self) -> list[float]:
        if self.presence is None:
            return [math.nan] * len(self.box)
        return self.presence.tolist()

    @cached_property
    def _cells_on_cpu(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All cells of the batch, read back at once.

        Returns:
            level [M], rotation index [B, M], position index [B, M, axes], and log mass [B, M], -inf
            for those that are no leaves.
        """
        counts = torch.tensor([level.log_probability.shape[1] for level in self.levels])
        numbers = torch.tensor([level.cells.level for level in self.levels])
        log_p = [
            level.log_probability.masked_fill(level.expanded, -torch.inf) for level in self.levels
        ]
        return (
            numbers.repeat_interleave(counts),
            torch.cat([level.cells.rotation_index for level in self.levels], 1).cpu(),
            torch.cat([level.cells.position_index for level in self.levels], 1).cpu(),
            torch.cat(log_p, 1).cpu(),
        )


def _masked_mass(level: Level, mask: Tensor) -> Tensor:
    """Sum the mass of the masked cells, [B]."""
    return level.log_probability.exp().masked_fill(~mask, 0).sum(1)
