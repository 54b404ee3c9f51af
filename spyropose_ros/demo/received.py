"""A pose distribution as a subscriber receives it: weighted poses, and poses drawn from it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from spyropose_ros.core import so3, so3_grid
from spyropose_ros.ros.interfaces import PoseArray, PoseDistribution
from spyropose_ros.ros.messages.conversions import pose_arrays
from spyropose_ros.ros.pipeline.rotations import matrices

_AXIS_SAMPLES = 4096
_CENTRAL_SAMPLES = 512


class ReceivedMode(NamedTuple):
    """What `core.plots` draws of a mode.

    Attributes:
        rotation: [3, 3].
        mass: Probability of the cluster.
    """

    rotation: torch.Tensor
    mass: float


class ReceivedDistribution:
    """One object's message of ~/distributions with the poses drawn from it on ~/poses.

    The weighted poses are exact but may leave out the tail; the drawn poses show all of it.
    `core.plots` can draw it like the distribution it came from.

    Attributes:
        message: The weighted poses.
        probabilities: [N] float64, of the drawn poses: all equal.
    """

    message: PoseDistribution
    probabilities: torch.Tensor

    def __init__(self, message: PoseDistribution, drawn: PoseArray):
        """Read the messages of a frame.

        Args:
            message: The weighted poses, at least one, with log densities.
            drawn: The drawn poses of the frame, which has no other object.

        Raises:
            ValueError: There are no poses, or no log densities.
        """
        if not drawn.poses or not 0 < len(message.poses) == len(message.log_densities):
            raise ValueError("the distribution has no poses, or no log densities")
        self.message = message
        densest = message.poses[int(np.argmax(message.log_densities))]
        self._mode = _tensors([message.modes[0].pose if message.modes else densest])
        self._rotations, self._translations = _tensors(drawn.poses)
        self.probabilities = torch.full((len(drawn.poses),), 1 / len(drawn.poses)).double()

    def mode(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the leading mode: rotation [3, 3], translation [3]; the densest pose without."""
        rotations, translations = self._mode
        return rotations[0], translations[0]

    def modes(self) -> list[ReceivedMode]:
        """Return the modes, by descending mass."""
        rotations, _ = _tensors([mode.pose for mode in self.message.modes])
        masses = [mode.mass for mode in self.message.modes]
        return [ReceivedMode(*mode) for mode in zip(rotations, masses, strict=True)]

    def sample(
        self, n: int, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take n of the drawn poses, with rotations anywhere within their finest grid cell.

        Args:
            n: Number of poses.
            generator: Source of randomness.

        Returns:
            Rotations [n, 3, 3] and translations [n, 3] in metres.
        """
        passes = math.ceil(n / len(self.probabilities))
        order = [
            torch.randperm(len(self.probabilities), generator=generator) for _ in range(passes)
        ]
        chosen = torch.cat(order)[:n]
        level = self.message.recursion_depth - 1
        cells = so3_grid.index(self._rotations[chosen], level)
        rotations = so3_grid.sample_in_cells(cells, level, generator)
        return rotations, self._translations[chosen]

    def rotation_spread(self) -> float:
        """Return the mean angle in radians between the drawn poses and the leading mode."""
        return float(so3.geodesic_angle(self._rotations, self.mode()[0]).mean())

    def entropy_about_axis(self, axis: tuple[float, float, float]) -> float:
        """Compute the entropy of the rotation angle about an axis of the object.

        As in `core.distribution.PoseDistribution.entropy_about_axis`, ln(2 pi) = 1.84 means a fully
        unknown angle.

        Args:
            axis: Unit vector in object coordinates.

        Returns:
            The entropy in nats.
        """
        rotations, _ = self.sample(_AXIS_SAMPLES, torch.Generator().manual_seed(0))
        return so3.twist_entropy(rotations, self.mode()[0], torch.tensor(axis))

    def centrality(self, rotation: np.ndarray) -> float:
        """Return how far out a rotation lies among the drawn ones.

        The rotations are ordered by their mean angle to the others. If a true rotation is just
        one more draw from the distribution, every rank in that order is equally probable.

        Args:
            rotation: [3, 3].

        Returns:
            Share of the drawn rotations that are more central, 0 to 1.
        """
        truth = torch.as_tensor(rotation, dtype=torch.float32)
        drawn, distances = self._central
        own = so3.geodesic_angle(drawn, truth).mean()
        return float((distances < own).double().mean())

    @cached_property
    def _central(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The drawn rotations [N, 3, 3] and the mean angle [N] of each to the others."""
        generator = torch.Generator().manual_seed(0)
        drawn, _ = self.sample(min(_CENTRAL_SAMPLES, len(self.probabilities)), generator)
        angles = so3.geodesic_angle(drawn[:, None], drawn)  # [N, N]
        return drawn, angles.sum(1) / (len(drawn) - 1)


def _tensors(poses) -> tuple[torch.Tensor, torch.Tensor]:
    """Read rotations [N, 3, 3] and translations [N, 3] of pose messages, float32."""
    positions, quaternions = pose_arrays(poses)
    return torch.from_numpy(matrices(quaternions)).float(), torch.from_numpy(positions).float()
