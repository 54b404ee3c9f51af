"""A distribution as a Gaussian mixture on SE(3), for factor graphs and filters.

A component is a Gaussian in the tangent space at its mean: with xi = (x, y, z, rx, ry, rz) drawn
from N(0, covariance), the pose is R = exp(rx, ry, rz) R_mean, t = t_mean + (x, y, z). Order and
axes are those of every covariance of this package (REP-103): metres along, and a rotation vector
about, the camera's fixed axes. docs/using_distributions.md has the change to the body's axes.

Source: Dempster et al., 1977 (EM); Barfoot and Furgale, 2014 (Gaussians on SE(3)).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spyropose_ros.core import _resampling, so3
from spyropose_ros.core.errors import InputError

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution

_STEPS = 30
_POINTS = 2048  # equally probable poses that the components are fitted to
_FINAL_POINTS = 16_384  # for the last step
_LEAST_POSES = 7  # of a component, or its covariance is singular
_CANDIDATES = 256  # for their first means
_POSITION_FLOOR = 1e-6  # metres: least standard deviation where the translation is known


@dataclass(frozen=True)
class Mixture:
    """K Gaussians; see the module's docstring for the convention.

    Attributes:
        weights: descending, sum 1, float64 [K].
        rotations: means, [K, 3, 3].
        translations: means, metres, [K, 3].
        covariances: order x y z rx ry rz, metres and radians, camera's axes, float64 [K, 6, 6].
    """

    weights: Tensor
    rotations: Tensor
    translations: Tensor
    covariances: Tensor

    def __len__(self) -> int:
        return len(self.weights)

    def tangents(self, rotation: Tensor, translation: Tensor) -> Tensor:
        """Return the tangent vectors xi of poses at each mean.

        Args:
            rotation: [M, 3, 3].
            translation: metres, [M, 3].

        Returns:
            Order x y z rx ry rz, float64 [K, M, 6].
        """
        shift = (translation - self.translations.unsqueeze(1)).double()
        return torch.cat((shift, so3.log(rotation @ self.rotations.mT.unsqueeze(1))), -1)

    def log_density(self, rotation: Tensor, translation: Tensor) -> Tensor:
        """Compute the log density of poses, in the measure of `PoseDistribution.log_density`.

        Args:
            rotation: [M, 3, 3].
            translation: metres, [M, 3].

        Returns:
            Float64 [M].
        """
        tangents = self.tangents(rotation, translation)
        # Of rotation vectors the true volume is (2 sin(a / 2) / a)^2, and pi^2's an eighth of it.
        angle = tangents[..., 3:].norm(dim=-1)
        volume = torch.sinc(angle / (2 * math.pi)).square().log() - math.log(8)
        return (self._log_joint(tangents) - volume).logsumexp(0)

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw n poses: rotations [n, 3, 3] and translations [n, 3] in metres."""
        of = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn((n, 6, 1), generator=generator, dtype=torch.float64, device=of.device)
        xi = (torch.linalg.cholesky(self.covariances)[of] @ noise).squeeze(2).float()
        return so3.exp(xi[:, 3:]) @ self.rotations[of], self.translations[of] + xi[:, :3]

    def _log_joint(self, tangents: Tensor) -> Tensor:
        """Return log (weight x Gaussian density) of tangents [K, M, 6], [K, M]."""
        root = torch.linalg.cholesky(self.covariances)
        scaled = torch.linalg.solve_triangular(root, tangents.mT, upper=False)
        norm = root.diagonal(dim1=1, dim2=2).log().sum(1) + 3 * math.log(2 * math.pi)
        log_weight = self.weights.log() - norm
        return log_weight.unsqueeze(1) - scaled.square().sum(1) / 2


def mixture(distribution: "PoseDistribution", n: int) -> Mixture:
    """Fit a mixture of at most n Gaussians to a distribution, by EM; repeatable.

    Args:
        distribution: of the object's pose; its cells' extent counts.
        n: number of components. One for each mode, or a few for an arc; components that explain
            nothing are dropped.

    Returns:
        The mixture, in the frame of the distribution.

    Raises:
        InputError: if n is not a positive number.
    """
    if n != int(n) or n < 1:
        raise InputError(f"a mixture needs at least one component, got n = {n}")
    floor = _floor(distribution)
    R, t = _poses(distribution, _POINTS)
    fitted = _start(R, t, int(n), distribution.diameter)
    for _ in range(_STEPS):
        fitted = _step(fitted, R, t, floor)
    fitted = _step(fitted, *_poses(distribution, _FINAL_POINTS), floor)
    order = fitted.weights.argsort(descending=True)
    return Mixture(
        fitted.weights[order],
        fitted.rotations[order],
        fitted.translations[order],
        fitted.covariances[order],
    )


def _poses(distribution: "PoseDistribution", n: int) -> tuple[Tensor, Tensor]:
    """Return n equally probable poses."""
    points = distribution.points
    chosen = _resampling.systematic(points.weights, n)
    return points.rotations[chosen], points.translations[chosen]


def _floor(distribution: "PoseDistribution") -> Tensor:
    """Return what is added to variances so that they stay positive, float64 [6].

    A hundredth of those of a finest cell: the poses are spread over their cells already.
    """
    position = max(distribution.translation_resolution / math.sqrt(300), _POSITION_FLOOR)
    rotation = distribution.rotation_resolution / math.sqrt(300)
    floor = [position**2] * 3 + [rotation**2] * 3
    return torch.tensor(floor, dtype=torch.float64, device=distribution.box.center.device)


def _start(R: Tensor, t: Tensor, n: int, diameter: float | None) -> Mixture:
    """Choose n poses as means, each where it brings all poses nearest to a mean (k-means++)."""
    rotation, position = 0.35, (diameter or float(t.std(0).norm()) or 1.0) / 4  # as for modes
    few = slice(None, None, max(1, len(R) // max(_CANDIDATES, n)))
    trace = R[few].flatten(1) @ R.flatten(1).mT
    angle = ((trace - 1) / 2).clamp(-1, 1).acos()
    squares = (angle / rotation).square() + (torch.cdist(t[few], t) / position).square()
    chosen: list[int] = []
    nearest = squares.amax(0)
    for _ in range(n):
        chosen.append(int(torch.minimum(nearest, squares).sum(1).argmin()))
        nearest = torch.minimum(nearest, squares[chosen[-1]])
    spread = [position**2] * 3 + [rotation**2] * 3
    variances = torch.tensor(spread, dtype=torch.float64, device=R.device)
    return Mixture(
        variances.new_full((n,), 1 / n),
        R[few][chosen],
        t[few][chosen],
        torch.diag(variances).repeat(n, 1, 1),
    )


def _step(last: Mixture, R: Tensor, t: Tensor, floor: Tensor) -> Mixture:
    """Do a step of EM on equally probable poses."""
    tangents = last.tangents(R, t)
    share = last._log_joint(tangents).softmax(0)  # [K, M]
    mass = share.sum(1)
    kept = mass >= min(_LEAST_POSES, len(R) / len(last))
    tangents, share, mass = tangents[kept], share[kept], mass[kept]
    mean = (share.unsqueeze(1) @ tangents).squeeze(1) / mass.unsqueeze(1)  # [K, 6]
    offset = tangents - mean.unsqueeze(1)
    covariances = (offset * share.unsqueeze(2)).mT @ offset / mass[:, None, None]
    return Mixture(
        mass / mass.sum(),
        so3.exp(mean[:, 3:]).to(last.rotations) @ last.rotations[kept],
        last.translations[kept] + mean[:, :3].to(last.translations),
        covariances + torch.diag(floor),
    )
