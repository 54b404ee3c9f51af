"""A distribution of poses on SE(3), piecewise constant on the leaves of a pyramid.

Densities are per (pi^2-convention rotation volume) x m^3. Poses are of the object frame in the
camera's optical frame; the grid's own frame (the bounding-sphere centre) stays inside this module.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from spyropose_ros.core import _resampling, so3
from spyropose_ros.core._leaves import Leaves
from spyropose_ros.core._modes import ROTATION_RADIUS, Mode, modes
from spyropose_ros.core._moments import Moments, moments
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.marginal import Marginal
from spyropose_ros.core.mixture import Mixture, mixture
from spyropose_ros.core.questions import Pose, Success, Targets, probability_within, success

_PAIRS_PER_PASS = 4_000_000  # of rotations that are compared at a time: bounds the memory
_LOWEST = -1e4  # finite stand-in for log 0, for products with a mass of 0


@dataclass(frozen=True)
class CredibleRegion:
    """Highest-density region.

    Attributes:
        log_density_threshold: a pose is inside if its log density reaches this.
        mask: leaves inside, bool [N].
        mass: probability of the region, at least what was asked for.
        volume: (pi^2-convention rotation volume) x m^3.
    """

    log_density_threshold: float
    mask: Tensor
    mass: float
    volume: float


@dataclass(frozen=True)
class Top:
    """The most probable leaves, descending.

    Attributes:
        rotations: [n, 3, 3].
        translations: metres, [n, 3].
        probabilities: [n].
        log_densities: [n].
        truncated_mass: probability of all other leaves.
    """

    rotations: Tensor
    translations: Tensor
    probabilities: Tensor
    log_densities: Tensor
    truncated_mass: float


class PoseDistribution(Leaves):
    """Distribution of an object's pose; see the module's docstring for frames and units.

    Leaves are sorted by descending probability. Nothing is computed before it is asked for, and
    what only concerns the most probable leaves sorts no others.

    Args:
        box: region of translations of the bounding-sphere centre, batch of one.
        levels: pyramid level of each cell, int64 [M].
        rotation_index: cells of that level, int64 [M].
        position_index: translation cells of one level more, int64 [M, axes].
        log_probabilities: log mass, [M]; -inf for cells that are no leaves.
        depth: number of levels of the pyramid.
        unexpanded_mass: mass left above the finest level.
        center: bounding-sphere centre in object coordinates, metres, [3]; zero by default.
        diameter: of the bounding sphere, metres, or None.
        presence: probability that the object is there at all; all else here supposes that it is.
            NaN where the model does not tell.
    """

    def __repr__(self) -> str:
        masses = [f"{mode.mass:.0%}" for mode in self.modes()]
        rotation, position = self.mode()
        place = ", ".join(f"{value:.3f}" for value in position.tolist())
        poses, mass = self._head_poses, self._log_p.index_select(0, self._head).exp()
        angles = so3.geodesic_angle(poses.rotations, rotation)[poses.slot]
        spread = math.degrees(float((mass * angles).sum() / mass.sum()))
        return (
            f"PoseDistribution(modes [{', '.join(masses)}], best at [{place}] m, "
            f"rotations spread {spread:.0f} deg, entropy {self.entropy():.1f} nats, "
            f"{len(self)} leaves)"
        )

    def reweighted(self, log_factors: Tensor) -> "PoseDistribution":
        """Multiply the masses of the leaves, for example by another likelihood.

        Args:
            log_factors: of each leaf, [N].

        Returns:
            The distribution of the same leaves, normalised.
        """
        log_p = self.log_probabilities.double() + log_factors
        log_p -= log_p.logsumexp(0)
        coarse = self.levels < self.depth - 1
        masses = torch.full_like(self._log_p, -torch.inf)
        masses[self._order] = log_p.to(masses)
        return PoseDistribution(
            self.box,
            self._levels,
            self._rotation_index,
            self._position_index,
            masses,
            self.depth,
            float(log_p[coarse].exp().sum()),
            self.center,
            self.diameter,
            self.presence,
        )

    def top(self, n: int) -> Top:
        """Return the n most probable leaves and the mass they leave out."""
        cells = self._first(n)
        rotations, translations = self.poses(slice(n))
        probabilities = self._log_p[cells].exp()
        return Top(
            rotations,
            translations,
            probabilities,
            self._densities_of(cells),
            max(0.0, 1.0 - float(probabilities.double().sum())),
        )

    # --- density and samples ---

    def log_density(self, rotation: Tensor, translation: Tensor) -> Tensor:
        """Compute the log density of object poses.

        Args:
            rotation: [M, 3, 3].
            translation: metres, [M, 3].

        Returns:
            Float64 [M]; -inf outside the box.
        """
        leaf = self.leaf_of(rotation, translation)
        density = self.log_densities[leaf.clamp_min(0)]
        return density.masked_fill(leaf < 0, -torch.inf)

    def sample(
        self, n: int, generator: torch.Generator | None = None, systematic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Draw n poses: a leaf by its mass, then uniform within the cell.

        Args:
            n: number of poses.
            generator: random generator.
            systematic: spread the poses over the leaves as evenly as their masses allow (Kitagawa
                1996) instead of drawing them independently: less noise, in order of the leaves.

        Returns:
            rotations [n, 3, 3] and translations [n, 3] in metres.
        """
        p = self.probabilities.double()
        u = torch.rand(n, generator=generator, device=p.device, dtype=torch.float64)
        if systematic:
            leaf = _resampling.systematic(p, n, u[:1])
        else:
            cdf = p.cumsum(0)
            u *= cdf[-1]
            leaf = torch.searchsorted(cdf, u, right=True).clamp(max=len(cdf) - 1)
        rotation = torch.empty((n, 3, 3), device=p.device)
        position = torch.empty((n, 3), device=p.device, dtype=self.box.center.dtype)
        for level in self.levels[leaf].unique().tolist():
            here = (self.levels[leaf] == level).nonzero().squeeze(1)
            r, t = self._cells(level, leaf[here]).sample(self.box, generator)
            rotation[here], position[here] = r[0], t[0]
        return rotation, self._to_object(rotation, position)

    def resample(self, n: int) -> Tensor:
        """Choose n leaves, each floor or ceil of n times its mass; repeatable.

        Args:
            n: number of poses; heavy leaves are chosen more than once.

        Returns:
            Ranks in the order of the leaves, ascending, int64 [n].
        """
        return _resampling.systematic(self.probabilities, n)

    # --- summaries ---

    def mode(self) -> tuple[Tensor, Tensor]:
        """Return the pose of the leading mode: rotation [3, 3], translation [3] in metres.

        That is `modes()[0]`, a mean over many leaves. A distribution too diffuse for a mode still
        gets an answer, that of `densest`.
        """
        leading = next(iter(self.modes()), None)
        if leading is None:
            return self.densest()
        return leading.rotation, leading.translation

    def densest(self) -> tuple[Tensor, Tensor]:
        """Return the centre of the leaf of highest density: rotation [3, 3], translation [3]."""
        density = self._log_p.double() - self._log_volumes[self._levels]
        densest = (density == density.max()).nonzero().squeeze(1)
        best = densest[self._log_p[densest].argmax()][None]
        rotation, translation = self._poses_of(best).of(slice(None))
        return rotation[0], translation[0]

    def mean(self) -> tuple[Tensor, Tensor]:
        """Return the chordal mean rotation [3, 3] and the mean translation [3]."""
        return self._moments.rotations[0], self._moments.translations[0]

    def covariance(self) -> Tensor:
        """Return the covariance about the mean, [6, 6], order x y z rx ry rz.

        Metres and radians; the rotation part is the rotation vector in the camera's fixed axes
        that carries the mean to the pose (REP-103). The poses within a leaf count as well, so that
        a single leaf has its own extent (its rotations taken as isotropic).
        """
        return self._moments.covariances[0]

    def modes(
        self,
        rotation_radius: float = ROTATION_RADIUS,
        translation_radius: float | None = None,
        max_modes: int = 8,
        min_mass: float = 0.02,
    ) -> list[Mode]:
        """Find clusters of probability.

        Greedy: the densest leaf left gathers all leaves within the radii; repeat. A ring of poses
        yields several neighbouring modes.

        Args:
            rotation_radius: radians.
            translation_radius: metres, across the direction in which the box is longest: the
                viewing ray of a single image, none for a cube. By default a quarter of the
                diameter (unlimited without a diameter).
            max_modes: most clusters returned.
            min_mass: clusters below this mass are dropped.

        Returns:
            The clusters, by descending mass; none if the distribution is so diffuse that no
            cluster has the least mass.
        """
        if translation_radius is None and self.diameter is not None:
            translation_radius = self.diameter / 4
        limits = rotation_radius, translation_radius, max_modes, min_mass
        if limits not in self._clusters:
            self._clusters[limits] = modes(
                self._head_poses,
                self._log_p.index_select(0, self._head).exp(),
                self._densities_of(self._head),
                self.box,
                self.center,
                *limits,
            )
        return list(self._clusters[limits])

    def credible_region(self, mass: float) -> CredibleRegion:
        """Find the smallest set of leaves that holds a mass, highest density first.

        Args:
            mass: probability that the set holds at least, in (0, 1].

        Returns:
            The set, its mass and its lowest density.

        Raises:
            InputError: if mass is not in (0, 1].
        """
        if not 0 < mass <= 1:
            raise InputError(f"the mass of a credible region must be in (0, 1], got {mass}")
        order = self.log_densities.argsort(descending=True, stable=True)
        p = self.probabilities.double()[order]
        n = min(int((p.cumsum(0) < mass).sum()) + 1, len(p))
        mask = torch.zeros(len(p), dtype=torch.bool, device=p.device)
        mask[order[:n]] = True
        return CredibleRegion(
            float(self.log_densities[order[n - 1]]),
            mask,
            float(p[:n].sum()),
            float(self._log_volumes[self.levels[mask]].exp().sum()),
        )

    def entropy(self) -> float:
        """Return the differential entropy in nats, -E[log density]."""
        p, log_p = self._masses, self._log_p.double().clamp_min(_LOWEST)
        volumes = torch.bincount(self._levels, p, minlength=self.depth) @ self._log_volumes
        return float(volumes - p @ log_p)

    def effective_sample_size(self) -> float:
        """Return 1 / sum of squared leaf masses."""
        return 1.0 / float(self._masses @ self._masses)

    def rotation_spread(self, reference: Tensor | None = None) -> float:
        """Compute the expected angle to the nearest reference rotation.

        Args:
            reference: [K, 3, 3], for example all equivalent true rotations; the mode by default.

        Returns:
            The angle in radians.
        """
        if reference is None:
            reference = self.mode()[0].unsqueeze(0)
        reference, total = reference.to(self.rotations), 0.0
        step = max(1, _PAIRS_PER_PASS // len(reference))  # there may be hundreds of references
        leaves = zip(self.rotations.split(step), self.probabilities.split(step), strict=True)
        for rotations, mass in leaves:
            nearest = (rotations.flatten(1) @ reference.flatten(1).mT).argmax(1)  # largest trace
            angle = so3.geodesic_angle(rotations, reference[nearest])
            total += float((mass.double() * angle).sum())
        return total

    def entropy_about_axis(
        self, axis: Tensor, bins: int = 72, generator: torch.Generator | None = None
    ) -> float:
        """Compute the differential entropy of the angle about an axis of the object.

        The angle is the twist about the axis relative to the mode; its histogram is made of
        samples, so that coarse leaves are spread over their cells. Uniform gives log(2 pi) = 1.84.

        Args:
            axis: unit vector in object coordinates, [3].
            bins: of the histogram over the full circle.
            generator: random generator; a fixed seed by default.

        Returns:
            The entropy in nats.
        """
        if generator is None:
            generator = torch.Generator(self.box.center.device).manual_seed(0)
        rotation, _ = self.sample(4096, generator)
        reference = self.mode()[0].to(rotation)
        return so3.twist_entropy(rotation, reference, axis.to(rotation), bins)

    # --- questions ---

    def success(self, targets: Targets, planned_for: Pose | None = None) -> Success:
        """Compute how probably each of N targets, such as grasps, is reached.

        Args:
            targets: N poses relative to the object, with tolerances.
            planned_for: pose of the object that the tool's path is planned for: rotation [3, 3]
                and translation [3], or one for each target; the leading mode by default.

        Returns:
            Probabilities [N], the best target, and the probability that none is reached; see
            `questions.success`.
        """
        answer = success([self], targets, planned_for)
        return Success(answer.probabilities[0], answer.best[0], answer.uncovered[0])

    def probability_within(
        self,
        rotation: Tensor,
        translation: Tensor,
        angle: float,
        distance: float,
        symmetries: Tensor | None = None,
    ) -> Tensor:
        """Compute the probability that the object is near a pose, or near an equivalent one.

        Args:
            rotation: of the object, [3, 3] or [M, 3, 3].
            translation: of its origin, metres, [3] or [M, 3].
            angle: largest angle between the rotations, radians; pi or more for any.
            distance: largest distance of the origins, metres; inf for any.
            symmetries: motions of the object that leave it unchanged, with the identity, metres,
                [S, 4, 4]; none but the identity by default.

        Returns:
            Probabilities, float64 [] or [M].
        """
        return probability_within(self, rotation, translation, angle, distance, symmetries)

    def marginal(
        self,
        point: Tensor,
        direction: Tensor | None = None,
        frame_from_camera: Tensor | None = None,
        poses: int | None = None,
    ) -> Marginal:
        """Return the distribution of a feature of the object; see `marginal.Marginal`.

        Args:
            point: in the object's frame, metres, [3].
            direction: in the object's frame, [3]; None for a feature without.
            frame_from_camera: rigid motion to the frame of the results, metres, [4, 4]; the
                camera's by default.
            poses: number of equally probable ones to use, for speed; by default all `points`.

        Returns:
            Mean, covariance, ellipsoids, samples and modes of its position and direction.
        """
        return Marginal(self, point, direction, frame_from_camera, poses)

    def mixture(self, n: int) -> Mixture:
        """Fit at most n Gaussians on SE(3); `core.mixture` has the convention."""
        return mixture(self, n)

    def show(self, **options: Any) -> None:
        """Show the poses in 3D, in a notebook or else in the browser.

        Args:
            **options: mesh, image, K, mass and path of `plots.show`.
        """
        from spyropose_ros.core.plots import show

        show(self, **options)

    # --- internals: indices are of the cells as they were given ---

    @cached_property
    def _clusters(self) -> dict[tuple[float | None, ...], list[Mode]]:
        """What `modes` has found, by its limits."""
        return {}

    @cached_property
    def _moments(self) -> Moments:
        """Of all leaves as one group."""
        return moments(
            self.leaf_poses,
            self.probabilities.double(),
            [torch.arange(len(self), device=self._order.device)],
            self.box,
            self.center,
        )
