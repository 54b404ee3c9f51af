"""Where a feature of the object is: a handle's end, a hole and its axis.

The position R p + t of a point p, and the direction R d, have a distribution whenever the pose
has one. It is often much narrower than the pose's: the middle of a mug is known where its turn is
not.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spyropose_ros.core import _resampling
from spyropose_ros.core._checks import as_motion, as_vector
from spyropose_ros.core._cubature import Points, choose
from spyropose_ros.core.errors import InputError

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution

_ROUNDING = 1e-9  # of sums of weights
_SEEDS = 2048  # equally probable positions among which the modes' middles are sought


@dataclass(frozen=True)
class Ellipsoid:
    """A region of positions.

    Attributes:
        center: metres, [3].
        axes: unit vectors in columns, the longest axis first, a rotation matrix, [3, 3].
        semi_axes: metres, [3].
        mass: probability of the region.
    """

    center: Tensor
    axes: Tensor
    semi_axes: Tensor
    mass: float

    @classmethod
    def holding(
        cls, mass: float, positions: Tensor, weights: Tensor, thinnest: float = 1e-9
    ) -> "Ellipsoid":
        """Find the ellipsoid in the shape of the positions' covariance that holds a mass of them.

        Args:
            mass: to hold, in (0, 1].
            positions: metres, [P, 3].
            weights: of the positions, 1 in all, float64 [P].
            thinnest: shortest semi-axis, metres.

        Returns:
            The region around the mean.
        """
        mean = weights @ positions.double()
        variances, axes = torch.linalg.eigh(_covariance(positions, weights).double())
        deviations = variances.flip(0).clamp_min(thinnest**2).sqrt()
        axes = axes.flip(1)
        axes[:, 2] *= torch.linalg.det(axes).sign()
        distance, order = ((positions - mean) @ axes / deviations).norm(dim=1).sort()
        held = weights[order].cumsum(0)
        last = int(torch.searchsorted(held, mass - _ROUNDING).clamp(max=len(held) - 1))
        semi_axes = (deviations * distance[last]).clamp_min(thinnest)
        return cls(mean.float(), axes.float(), semi_axes.float(), float(held[last]))


@dataclass(frozen=True)
class FeatureMode:
    """A cluster of a feature's positions and directions.

    Attributes:
        mean: position, metres, [3].
        covariance: m^2, [3, 3].
        mass: probability of the cluster.
        direction: mean unit vector, [3]; None for a feature without.
    """

    mean: Tensor
    covariance: Tensor
    mass: float
    direction: Tensor | None


class Marginal:
    """Distribution of a feature's position, and of its direction if it has one.

    Args:
        distribution: of the object's pose.
        point: of the feature, in the object's frame, metres, [3].
        direction: of the feature, in the object's frame, any length but 0, [3]; or None.
        frame_from_camera: rigid motion from the camera's frame to the one of all results, metres,
            [4, 4]; the camera's by default.
        poses: number of equally probable ones that stand for the distribution, for speed; by
            default its `points`, which leave out no leaf.

    Raises:
        InputError: no three finite numbers, a direction of no length, or a motion that is none.
    """

    def __init__(
        self,
        distribution: "PoseDistribution",
        point: Tensor,
        direction: Tensor | None = None,
        frame_from_camera: Tensor | None = None,
        poses: int | None = None,
    ):
        self._distribution, self._count = distribution, poses
        like = distribution.box.center
        self._point = as_vector(point, "the point of a feature").to(like)
        self._direction = None
        if direction is not None:
            vector = as_vector(direction, "the direction of a feature")
            if float(vector.norm()) == 0:
                raise InputError("the direction of a feature must have a length, got 0 0 0")
            self._direction = (vector / vector.norm()).to(like)
        if frame_from_camera is None:
            frame_from_camera = torch.eye(4)
        self._frame = as_motion(frame_from_camera, "frame_from_camera").to(like)

    @cached_property
    def mean(self) -> Tensor:
        """Mean position, metres, [3]."""
        return (self._weights @ self._positions.double()).float()

    @cached_property
    def covariance(self) -> Tensor:
        """Covariance of the position, m^2, [3, 3]."""
        return _covariance(self._positions, self._weights)

    @cached_property
    def direction(self) -> Tensor | None:
        """Mean direction, a unit vector, [3]; None for a feature without."""
        return None if self._directions is None else _middle(self._directions, self._weights)

    @cached_property
    def direction_spread(self) -> float:
        """Expected angle between the direction and its mean, radians; NaN without a direction."""
        if self._directions is None or self.direction is None:
            return math.nan
        return float(self._weights @ _angles(self._directions, self.direction).double())

    def sample(
        self, n: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Draw n positions, metres, [n, 3], and directions, [n, 3] or None."""
        return self._of(*self._distribution.sample(n, generator))

    def ellipsoid(self, mass: float) -> Ellipsoid:
        """Return the ellipsoid in the shape of the covariance that holds a probability.

        Its size is that of the distribution's own tails, not of a Gaussian's.

        Args:
            mass: probability that the ellipsoid holds, in (0, 1).

        Returns:
            The region around the mean.

        Raises:
            InputError: if mass is not in (0, 1).
        """
        if not 0 < mass < 1:
            raise InputError(f"the mass of an ellipsoid must be in (0, 1), got {mass}")
        return Ellipsoid.holding(mass, self._positions, self._weights)

    def modes(
        self,
        radius: float | None = None,
        angle: float = 0.35,
        max_modes: int = 8,
        min_mass: float = 0.02,
    ) -> list[FeatureMode]:
        """Find clusters of positions (and directions), densest first.

        Greedy, like `PoseDistribution.modes`: the place with most probability around it gathers
        all that is within the radius; repeat.

        Args:
            radius: metres; by default a quarter of the object's diameter (unlimited without one).
            angle: radians between directions of one cluster.
            max_modes: most clusters returned.
            min_mass: clusters below this mass are dropped.

        Returns:
            The clusters, by descending mass.
        """
        if radius is None:
            diameter = self._distribution.diameter
            radius = math.inf if diameter is None else diameter / 4
        chosen = _resampling.systematic(self._weights, _SEEDS)
        seeds = self._positions[chosen]
        close = torch.cdist(seeds, seeds) <= radius / 2
        facing = None if self._directions is None else self._directions[chosen]
        if facing is not None:
            close &= facing @ facing.mT >= math.cos(angle / 2)
        density = close.sum(1)
        left = torch.ones_like(self._weights, dtype=torch.bool)
        found: list[FeatureMode] = []
        for _ in range(4 * max_modes):
            if len(found) == max_modes or not bool(left[chosen].any()):
                break
            seed = chosen[int(density.masked_fill(~left[chosen], -1).argmax())]
            near = (self._positions - self._positions[seed]).norm(dim=1) <= radius
            if self._directions is not None:
                near &= self._directions @ self._directions[seed] >= math.cos(min(angle, math.pi))
            near[seed] = True  # rounding may say otherwise
            members = (near & left).nonzero().squeeze(1)
            left &= ~near
            if float(self._weights[members].sum()) >= min_mass:
                found.append(self._mode(members))
        return sorted(found, key=lambda mode: -mode.mass)

    def _mode(self, members: Tensor) -> FeatureMode:
        """Sum up a cluster."""
        weights, positions = self._weights[members], self._positions[members]
        mass = float(weights.sum())
        directions = None if self._directions is None else self._directions[members]
        return FeatureMode(
            (weights / mass @ positions.double()).float(),
            _covariance(positions, weights / mass),
            mass,
            None if directions is None else _middle(directions, weights),
        )

    @cached_property
    def _points(self) -> Points:
        if self._count is None:
            return self._distribution.points
        return choose(self._distribution, self._count)

    @cached_property
    def _weights(self) -> Tensor:
        weights = self._points.weights
        return weights / weights.sum()

    @cached_property
    def _features(self) -> tuple[Tensor, Tensor | None]:
        return self._of(self._points.rotations, self._points.translations)

    @property
    def _positions(self) -> Tensor:
        return self._features[0]

    @property
    def _directions(self) -> Tensor | None:
        return self._features[1]

    def _of(self, rotations: Tensor, translations: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return position and direction of the feature at object poses in the camera's frame."""
        turn, shift = self._frame[:3, :3], self._frame[:3, 3]
        positions = (rotations @ self._point + translations) @ turn.mT + shift
        if self._direction is None:
            return positions, None
        return positions, rotations @ self._direction @ turn.mT


def _covariance(positions: Tensor, weights: Tensor) -> Tensor:
    """Compute the covariance of positions [P, 3] whose weights sum to 1, [3, 3]."""
    offset = positions.double()
    offset = offset - weights @ offset
    return ((offset * weights.unsqueeze(1)).mT @ offset).float()


def _middle(directions: Tensor, weights: Tensor) -> Tensor:
    """Return the mean direction of unit vectors [P, 3], a unit vector, [3]."""
    total = (weights @ directions.double()).float()
    return total / total.norm().clamp_min(1e-12)


def _angles(directions: Tensor, reference: Tensor) -> Tensor:
    """Return the angles between unit vectors [P, 3] and one [3], radians, [P]."""
    return 2 * torch.atan2(
        (directions - reference).norm(dim=1), (directions + reference).norm(dim=1)
    )
