"""A distribution of poses on SE(3), piecewise constant on the leaves of a pyramid.

Densities are per (pi^2-convention rotation volume) x m^3. Poses are of the object frame in the
camera's optical frame; the grid's own frame (the bounding-sphere centre) stays inside this module.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spyropose_ros.core import _resampling, se3_grid, so3, so3_grid
from spyropose_ros.core._modes import Mode, modes
from spyropose_ros.core._moments import LeafPoses, Moments, moments
from spyropose_ros.core._ordering import descending
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox

_HEAD_LEAVES = 20_000  # the most that modes are made of
_KEY_BITS = 40  # more than a rotation cell's index has
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


class PoseDistribution:
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

    def __repr__(self) -> str:
        top = self.top(1)
        position = ", ".join(f"{value:.3f}" for value in top.translations[0].tolist())
        return (
            f"PoseDistribution({len(self)} leaves, {self.depth} levels, entropy "
            f"{self.entropy():.2f}, most probable leaf {float(top.probabilities[0]):.2g} at "
            f"[{position}] m)"
        )

    def to(self, device: torch.device | str) -> "PoseDistribution":
        """Return the same distribution on another device."""
        if self.box.center.device == torch.device(device):
            return self
        return PoseDistribution(
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

    # --- leaves ---

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

    # --- density and samples ---

    def log_density(self, rotation: Tensor, translation: Tensor) -> Tensor:
        """Compute the log density of object poses.

        Args:
            rotation: [M, 3, 3].
            translation: metres, [M, 3].

        Returns:
            Float64 [M]; -inf outside the box.
        """
        rotation = rotation.to(self.box.center).unsqueeze(0)
        position = translation.to(self.box.center).unsqueeze(0) + rotation @ self.center
        inside = self.box.contains(position)[0]
        out = torch.full(inside.shape, -torch.inf, dtype=torch.float64, device=inside.device)
        for level in self.levels.unique().tolist():
            leaf = (self.levels == level).nonzero().squeeze(1)
            keys, order = self._cells(level, leaf).keys()[0].sort()
            query = se3_grid.containing(rotation, position, self.box, level).keys()[0]
            slot = torch.searchsorted(keys, query).clamp(max=len(keys) - 1)
            hit = (keys[slot] == query) & inside
            out[hit] = self.log_densities[leaf[order[slot[hit]]]]
        return out

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
        rotation_radius: float = 0.35,
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

    # --- internals: indices are of the cells as they were given ---

    @cached_property
    def _clusters(self) -> dict[tuple[float | None, ...], list[Mode]]:
        """What `modes` has found, by its limits."""
        return {}

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
    def _moments(self) -> Moments:
        """Of all leaves as one group."""
        return moments(
            self._poses_of(self._order),
            self.probabilities.double(),
            [torch.arange(len(self), device=self._order.device)],
            self.box,
            self.center,
        )

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
