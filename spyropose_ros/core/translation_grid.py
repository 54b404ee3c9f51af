"""Dyadic grid over a parallelepiped of translations around an estimate.

Unit-cube coordinates g in [0, 1]^3 map to center + basis (g - 0.5). Level k has 2^k cells per axis;
a cell is an int64 triple, child = 2 * parent + {0, 1} per axis. A box without axes is a translation
that is known: one cell at every level, of volume 1, so that a search is over SO(3) alone.

Source: Haugaard et al., ICCVW 2023 (frustum-aligned grid with a random orientation).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spyropose_ros.core.errors import InputError

_NEARER = 0.2  # of the distance


@dataclass(frozen=True)
class TranslationBox:
    """A batch of parallelepipeds in the camera frame.

    Attributes:
        center: middle of each box in metres, [B, 3].
        basis: columns are the edges in metres, [B, 3, 3]; [B, 3, 0] where the translation is known.
    """

    center: Tensor
    basis: Tensor

    def __post_init__(self) -> None:
        batch, shapes = self.center.shape[0], ((3, 3), (3, 0))
        if self.center.shape != (batch, 3) or self.basis.shape not in [(batch, *s) for s in shapes]:
            raise InputError(
                f"TranslationBox needs center [B, 3] and basis [B, 3, 3] or [B, 3, 0], "
                f"got {tuple(self.center.shape)} and {tuple(self.basis.shape)}"
            )

    @classmethod
    def from_view(
        cls, center: Tensor, diameter: Tensor | float, orientation: Tensor | None = None
    ) -> "TranslationBox":
        """Make boxes aligned with the viewing frustum: a step in any axis changes the image alike.

        A cube of side `diameter` (rotated by `orientation`), stretched by z / diameter in depth and
        sheared along the viewing ray; it spans the diameter sideways, 0.5 z to 1.5 z in depth.
        |det basis| = diameter^2 z.

        Args:
            center: translation estimates in front of the camera, [B, 3] metres.
            diameter: of the object's bounding sphere in metres, scalar or [B].
            orientation: rotations of the cube before the stretch, [B, 3, 3]; identity by default.

        Returns:
            One box per estimate, [B].

        Raises:
            InputError: if an estimate is not finite or not in front of the camera.
        """
        check_estimates(center)
        cube = cls.cubic(center, diameter, orientation).basis
        depth_row = cube[:, 2] * (center[:, 2] / _as_batch(diameter, center)).unsqueeze(-1)
        slope = center[:, :2] / center[:, 2:]  # x/z and y/z of the viewing ray
        lateral_rows = cube[:, :2] + slope.unsqueeze(-1) * depth_row.unsqueeze(1)
        return cls(center, torch.cat((lateral_rows, depth_row.unsqueeze(1)), 1))

    @classmethod
    def from_detection(cls, estimate: Tensor, diameter: Tensor | float) -> "TranslationBox":
        """Make the boxes to search where a detector's boxes say how far away objects are.

        Those of `from_view`, moved towards the camera along the ray: whatever hides a part of an
        object makes its box smaller, so that it seems farther away than it is. They span 0.3 z to
        1.3 z.

        Args:
            estimate: in front of the camera, [B, 3] metres.
            diameter: of the object's bounding sphere in metres, scalar or [B].

        Returns:
            One box per estimate, [B].

        Raises:
            InputError: if an estimate is not finite or not in front of the camera.
        """
        return cls((1 - _NEARER) * estimate, cls.from_view(estimate, diameter).basis)

    @classmethod
    def cubic(
        cls, center: Tensor, side: Tensor | float, orientation: Tensor | None = None
    ) -> "TranslationBox":
        """Make cubes of the given side in metres, for several views. |det basis| = side^3."""
        if orientation is None:
            orientation = torch.eye(3, dtype=center.dtype, device=center.device)
        orientation = orientation.to(center).expand(len(center), 3, 3)
        return cls(center, orientation * _as_batch(side, center)[:, None, None])

    @classmethod
    def known(cls, center: Tensor) -> "TranslationBox":
        """Make boxes of translations that are known exactly, [B, 3] metres, and not searched."""
        return cls(center, center.new_empty((len(center), 3, 0)))

    def moved(self, rotation: Tensor, translation: Tensor) -> "TranslationBox":
        """Return the same boxes in another frame: rotation [3, 3] and translation [3] into it."""
        return TranslationBox(self.center @ rotation.mT + translation, rotation @ self.basis)

    def __len__(self) -> int:
        return len(self.center)

    def __getitem__(self, b: int) -> "TranslationBox":
        """Return box b as a batch of one."""
        return TranslationBox(self.center[b : b + 1], self.basis[b : b + 1])

    def to(self, device: torch.device | str) -> "TranslationBox":
        """Return the same boxes on another device."""
        return TranslationBox(self.center.to(device), self.basis.to(device))

    @property
    def axes(self) -> int:
        """Number of searched axes: 3, or 0 where the translation is known."""
        return self.basis.shape[2]

    @property
    def volume(self) -> Tensor:
        """Volumes in m^3, [B]; 1 where the translation is known."""
        if self.axes == 0:
            return self.center.new_ones(len(self))
        return torch.linalg.det(self.basis).abs()

    def shifted(self, u: Tensor) -> "TranslationBox":
        """Move boxes by -basis u (u in box units, [B, axes]): the training's grid offset."""
        return TranslationBox(self.center - (self.basis @ u.unsqueeze(-1)).squeeze(-1), self.basis)

    def coordinates(self, position: Tensor) -> Tensor:
        """Convert positions [B, N, 3] in metres to unit-cube coordinates [B, N, axes]."""
        if self.axes == 0:
            return position.new_empty((*position.shape[:2], 0), dtype=torch.float64)
        offset = (position - self.center.unsqueeze(1)).double()
        return torch.linalg.solve(self.basis.double(), offset.mT).mT + 0.5

    def from_coordinates(self, coordinates: Tensor) -> Tensor:
        """Convert unit-cube coordinates [B, N, axes] to positions in metres, [B, N, 3]."""
        offset = (coordinates - 0.5).to(self.basis.dtype) @ self.basis.mT
        return offset + self.center.unsqueeze(1)

    def positions(self, index: Tensor, level: int) -> Tensor:
        """Return the centres of cells in metres, int64 [B, N, axes] -> [B, N, 3]."""
        return self.from_coordinates((index.to(self.basis.dtype) + 0.5) / 2**level)

    def index(self, position: Tensor, level: int) -> Tensor:
        """Find the cells of positions [B, N, 3], int64 [B, N, axes], also beyond [0, 2^level)."""
        return (self.coordinates(position) * 2**level).floor().long()

    def contains(self, position: Tensor) -> Tensor:
        """Return whether positions [B, N, 3] lie inside, bool [B, N]; always, where known."""
        g = self.coordinates(position)
        return ((g >= 0) & (g < 1)).all(-1)

    def sample_in_cells(
        self, index: Tensor, level: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw one position per cell, uniform within it, int64 [B, N, axes] -> metres [B, N, 3]."""
        u = torch.rand(index.shape, generator=generator, device=index.device, dtype=torch.float64)
        return self.from_coordinates((index + u) / 2**level)


def check_estimates(center: Tensor) -> None:
    """Raise InputError if a translation [B, 3] is not finite or not in front of the camera."""
    if not bool((center.isfinite().all(-1) & (center[:, 2] > 0)).all()):
        raise InputError("translation estimates must be finite and in front of the camera (z > 0)")


def _as_batch(value: Tensor | float, like: Tensor) -> Tensor:
    """Expand a scalar or [B] to [B] on the device and in the dtype of `like` [B, 3]."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).expand(len(like))
