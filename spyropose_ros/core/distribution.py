"""A distribution of poses on SE(3), piecewise constant on the leaves of a pyramid.

Densities are per (pi^2-convention rotation volume) x m^3. Poses are of the object frame in the
camera's optical frame; the grid's own frame (the bounding-sphere centre) stays inside this module.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spyropose_ros.core import se3_grid, so3_grid
from spyropose_ros.core.se3_grid import Cells
from spyropose_ros.core.translation_grid import TranslationBox

_CLUSTERED_MASS = 0.999  # leaves beyond this mass cannot lead a mode
_CLUSTERED_LEAVES = 20_000
_LONG = 1.5  # a box's longest direction over the next one, from which on it is depth


@dataclass(frozen=True)
class Mode:
    """A cluster of probability.

    Attributes:
        rotation: mean of the cluster, [3, 3].
        translation: mean of the cluster in metres, [3].
        mass: probability of the cluster.
        covariance: [6, 6], order x y z rx ry rz as in `PoseDistribution.covariance`.
    """

    rotation: Tensor
    translation: Tensor
    mass: float
    covariance: Tensor


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

    Leaves are sorted by descending probability. Their poses are computed when asked for.

    Attributes:
        box: region of translations of the bounding-sphere centre, batch of one.
        levels: pyramid level of each leaf, int64 [N].
        log_probabilities: log mass, [N].
        depth: number of levels of the pyramid.
        unexpanded_mass: mass left above the finest level.
        center: bounding-sphere centre in object coordinates, metres, [3].
        diameter: of the bounding sphere, metres, or None.
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
    ):
        order = log_probabilities.argsort(descending=True, stable=True)
        self.box = box
        self.levels = levels[order]
        self._rotation_index = rotation_index[order]
        self._position_index = position_index[order]
        self.log_probabilities = log_probabilities[order]
        self.depth = depth
        self.unexpanded_mass = unexpanded_mass
        self.center = torch.zeros(3) if center is None else center
        self.center = self.center.to(box.center)
        self.diameter = diameter

    def __len__(self) -> int:
        return len(self.levels)

    def to(self, device: torch.device | str) -> "PoseDistribution":
        """The same distribution on another device."""
        if self.box.center.device == torch.device(device):
            return self
        return PoseDistribution(
            self.box.to(device),
            self.levels.to(device),
            self._rotation_index.to(device),
            self._position_index.to(device),
            self.log_probabilities.to(device),
            self.depth,
            self.unexpanded_mass,
            self.center.to(device),
            self.diameter,
        )

    # --- leaves ---

    @property
    def probabilities(self) -> Tensor:
        """Mass of each leaf, [N]; sums to 1."""
        return self.log_probabilities.exp()

    @cached_property
    def log_densities(self) -> Tensor:
        """Log density of each leaf, float64 [N]."""
        return self.log_probabilities.double() - self._log_volumes

    @cached_property
    def rotations(self) -> Tensor:
        """Rotation at each leaf's centre, [N, 3, 3]."""
        return self.poses(slice(None))[0]

    @cached_property
    def translations(self) -> Tensor:
        """Translation at each leaf's centre, metres, [N, 3]."""
        return self.poses(slice(None))[1]

    def poses(self, leaves: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Object poses at the centres of some leaves: rotations [n, 3, 3], metres [n, 3]."""
        index = torch.arange(len(self), device=self.levels.device)[leaves]
        rotation = torch.empty((len(index), 3, 3), device=index.device)
        position = torch.empty((len(index), 3), device=index.device, dtype=self.box.center.dtype)
        for level in range(self.depth):
            here = (self.levels[index] == level).nonzero().squeeze(1)
            if len(here):
                r, t = self._cells(level, index[here]).poses(self.box)
                rotation[here], position[here] = r[0], t[0]
        return rotation, self._to_object(rotation, position)

    def top(self, n: int) -> Top:
        """The n most probable leaves and the mass they leave out."""
        rotations, translations = self.poses(slice(n))
        probabilities = self.probabilities[:n]
        return Top(
            rotations,
            translations,
            probabilities,
            self.log_densities[:n],
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
        """Log density of object poses.

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
        """N poses: a leaf by its mass, then uniform within the cell.

        Args:
            n: number of poses.
            generator: random generator.
            systematic: spread the poses over the leaves as evenly as their masses allow (Kitagawa
                1996) instead of drawing them independently: less noise, in order of the leaves.

        Returns:
            rotations [n, 3, 3] and translations [n, 3] in metres.
        """
        cdf = self.probabilities.double().cumsum(0)
        u = torch.rand(n, generator=generator, device=cdf.device, dtype=torch.float64)
        if systematic:
            u = (torch.arange(n, device=cdf.device) + u[:1]) / n
        u *= cdf[-1]
        leaf = torch.searchsorted(cdf, u, right=True).clamp(max=len(cdf) - 1)
        rotation = torch.empty((n, 3, 3), device=cdf.device)
        position = torch.empty((n, 3), device=cdf.device, dtype=self.box.center.dtype)
        for level in self.levels[leaf].unique().tolist():
            here = (self.levels[leaf] == level).nonzero().squeeze(1)
            r, t = self._cells(level, leaf[here]).sample(self.box, generator)
            rotation[here], position[here] = r[0], t[0]
        return rotation, self._to_object(rotation, position)

    # --- summaries ---

    def mode(self) -> tuple[Tensor, Tensor]:
        """Centre of the leaf of highest density: rotation [3, 3], translation [3]."""
        best = self.log_densities.argmax()
        rotation, translation = self.poses(best.unsqueeze(0))
        return rotation[0], translation[0]

    def mean(self) -> tuple[Tensor, Tensor]:
        """Chordal mean rotation [3, 3] and mean translation [3]."""
        return _mean(self.rotations, self.translations, self.probabilities)

    def covariance(self) -> Tensor:
        """Covariance about the mean, [6, 6], order x y z rx ry rz.

        Metres and radians; the rotation part is the rotation vector in the camera's fixed axes
        that carries the mean to the pose (REP-103). The poses within a leaf count as well, so that
        a single leaf has its own extent (its rotations taken as isotropic).
        """
        return self._covariance(slice(None), self.probabilities, *self.mean())

    def modes(
        self,
        rotation_radius: float = 0.35,
        translation_radius: float | None = None,
        max_modes: int = 8,
        min_mass: float = 0.02,
    ) -> list[Mode]:
        """Clusters of probability, by descending mass.

        Greedy: the densest leaf left gathers all leaves within the radii; repeat. A ring of poses
        yields several neighbouring modes.

        Args:
            rotation_radius: radians.
            translation_radius: metres, across the direction in which the box is longest: the
                viewing ray of a single image, none for a cube. By default a quarter of the
                diameter (unlimited without a diameter).
            max_modes: most clusters returned.
            min_mass: clusters below this mass are dropped.
        """
        p = self.probabilities
        n = int((p.double().cumsum(0) < _CLUSTERED_MASS).sum()) + 1
        n = min(n, _CLUSTERED_LEAVES, len(p))
        rotations, translations = self.poses(slice(n))
        if translation_radius is None and self.diameter is not None:
            translation_radius = self.diameter / 4
        across = self._across_depth(translations)
        nearest = 1 + 2 * math.cos(min(rotation_radius, math.pi))  # trace at that angle
        flat = rotations.flatten(1)
        free = p[:n].clone()
        density = self.log_densities[:n]
        modes = []
        for _ in range(4 * max_modes):
            if float(free.sum()) < min_mass or len(modes) == max_modes:
                break
            seed = int(density.masked_fill(free == 0, -torch.inf).argmax())
            near = flat @ flat[seed] >= nearest  # the trace of R_seed^T R
            if translation_radius is not None:
                near &= (across - across[seed]).norm(dim=-1) <= translation_radius
            members = (near & (free > 0)).nonzero().squeeze(1)
            weights = free[members]
            if float(weights.sum()) >= min_mass:
                share = weights / weights.sum()
                mean = _mean(rotations[members], translations[members], share)
                spread = self._covariance(members, share, *mean)
                modes.append(Mode(*mean, float(weights.sum()), spread))
            free[members] = 0
        return sorted(modes, key=lambda mode: -mode.mass)

    def credible_region(self, mass: float) -> CredibleRegion:
        """Smallest set of leaves that holds at least the given mass (highest density first).

        Raises:
            ValueError: if mass is not in (0, 1].
        """
        if not 0 < mass <= 1:
            raise ValueError(f"the mass of a credible region must be in (0, 1], got {mass}")
        order = self.log_densities.argsort(descending=True, stable=True)
        p = self.probabilities.double()[order]
        n = min(int((p.cumsum(0) < mass).sum()) + 1, len(p))
        mask = torch.zeros(len(p), dtype=torch.bool, device=p.device)
        mask[order[:n]] = True
        return CredibleRegion(
            float(self.log_densities[order[n - 1]]),
            mask,
            float(p[:n].sum()),
            float(self._log_volumes[mask].exp().sum()),
        )

    def entropy(self) -> float:
        """Differential entropy in nats, -E[log density]."""
        p = self.probabilities.double()
        return -float((p * self.log_densities)[p > 0].sum())

    def effective_sample_size(self) -> float:
        """1 / sum of squared leaf masses."""
        return 1.0 / float(self.probabilities.double().square().sum())

    def rotation_spread(self, reference: Tensor | None = None) -> float:
        """Expected angle to the nearest reference rotation in radians.

        Args:
            reference: [K, 3, 3], for example all equivalent true rotations; the mode by default.
        """
        if reference is None:
            reference = self.mode()[0].unsqueeze(0)
        p = self.probabilities
        angle = torch.full_like(p, torch.inf)
        for rotation in reference.to(self.rotations):  # K may be hundreds: keep memory at N
            angle = torch.minimum(angle, so3_grid.geodesic_angle(self.rotations, rotation))
        return float((p * angle).sum())

    def entropy_about_axis(
        self, axis: Tensor, bins: int = 72, generator: torch.Generator | None = None
    ) -> float:
        """Differential entropy of the rotation angle about an axis of the object, in nats.

        The angle is the twist about the axis relative to the mode; its histogram is made of
        samples, so that coarse leaves are spread over their cells. Uniform gives log(2 pi) = 1.84.

        Args:
            axis: unit vector in object coordinates, [3].
            bins: of the histogram over the full circle.
            generator: random generator; a fixed seed by default.
        """
        if generator is None:
            generator = torch.Generator(self.box.center.device).manual_seed(0)
        rotation, _ = self.sample(4096, generator)
        relative = self.mode()[0].to(rotation).mT @ rotation  # twist about the object's axis
        axis = axis.to(relative)
        skew = torch.stack(
            (
                relative[:, 2, 1] - relative[:, 1, 2],
                relative[:, 0, 2] - relative[:, 2, 0],
                relative[:, 1, 0] - relative[:, 0, 1],
            ),
            -1,
        )
        # Swing-twist: twist = 2 atan2(q_v . axis, q_w), with q_v = skew / (4 q_w).
        trace = relative.diagonal(dim1=-2, dim2=-1).sum(-1)
        twist = 2 * torch.atan2(skew @ axis, 1 + trace)
        index = (twist / (2 * math.pi) % 1.0 * bins).long().clamp(max=bins - 1)
        p = torch.bincount(index, minlength=bins).double() / len(index)
        p = p[p > 0]
        return -float((p * (p * bins / (2 * math.pi)).log()).sum())

    # --- internals ---

    @cached_property
    def _log_volumes(self) -> Tensor:
        """Log volume of each leaf, float64 [N]."""
        table = torch.cat([se3_grid.log_volume(self.box, r) for r in range(self.depth)])
        return table[self.levels]

    def _cells(self, level: int, leaf: Tensor) -> Cells:
        """Leaves of one level as a batch of one."""
        return Cells(
            level, self._rotation_index[leaf].unsqueeze(0), self._position_index[leaf].unsqueeze(0)
        )

    def _across_depth(self, translations: Tensor) -> Tensor:
        """Translations without their part along the box's long direction, if it has one, [n, 3]."""
        if self.box.axes == 0:
            return translations
        directions, lengths, _ = torch.linalg.svd(self.box.basis[0])
        if float(lengths[0]) < _LONG * float(lengths[1]):
            return translations
        depth = directions[:, 0]
        return translations - (translations @ depth).unsqueeze(1) * depth

    def _to_object(self, rotation: Tensor, position: Tensor) -> Tensor:
        """Bounding-sphere centres in the camera frame -> translations of the object frame."""
        return position - rotation @ self.center

    def _covariance(
        self, leaves: slice | Tensor, weights: Tensor, rotation: Tensor, translation: Tensor
    ) -> Tensor:
        """Second moment of leaves about a pose, [6, 6]; see `covariance`.

        Args:
            leaves: which leaves.
            weights: of these leaves, sum 1, [n].
            rotation: [3, 3].
            translation: [3].
        """
        rotations, translations = self.poses(leaves)
        offset = translations - translation
        delta = torch.cat((offset, _log_so3(rotations @ rotation.mT)), -1).double()  # [n, 6]
        weights, levels = weights.double(), self.levels[leaves].double()
        between = torch.einsum("n,ni,nj->ij", weights, delta, delta)

        # Uniform within the cells: edge^2 / 12 per axis, about isotropic in the rotation.
        edges = self.box.basis[0].double()  # [3, axes]
        within_position = (weights * 4 ** -(levels + 1)).sum() / 12 * (edges @ edges.mT)
        turn = weights * (2 * so3_grid.cell_radius(0) / 2**levels).square() / 12  # [n]
        # A small turn d moves the object frame by d x (-arm): its origin is not the centre.
        arm = (rotations @ self.center).double()  # [n, 3]
        identity = torch.eye(3, dtype=turn.dtype, device=turn.device)
        lever = torch.linalg.cross(arm.unsqueeze(1), identity.expand(len(arm), 3, 3)).mT  # [a]x
        cross = torch.einsum("n,nij->ij", turn, lever)
        moved = torch.einsum("n,nij,nkj->ik", turn, lever, lever)
        within = torch.cat(
            (
                torch.cat((within_position + moved, cross), 1),
                torch.cat((cross.mT, turn.sum() * identity), 1),
            )
        )
        return (between + within).float()


def _mean(rotations: Tensor, translations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Chordal L2 mean (Markley et al. 2007; Hartley et al. 2013) and the mean translation."""
    moment = torch.einsum("n,nij->ij", weights.double(), rotations.double())
    u, _, vt = torch.linalg.svd(moment)
    flip = torch.ones(3, dtype=u.dtype, device=u.device)
    flip[2] = torch.linalg.det(u @ vt).sign()
    mean = (weights.to(translations).unsqueeze(-1) * translations).sum(0)
    return ((u * flip) @ vt).float(), mean


def _log_so3(rotation: Tensor) -> Tensor:
    """Rotation vectors of matrices, [N, 3, 3] -> [N, 3], stable at 0 and pi."""
    m = rotation.double()
    trace = m.diagonal(dim1=-2, dim2=-1).sum(-1)
    skew = torch.stack(
        (m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]), -1
    )
    # Of the four quaternion formulas take the best conditioned one per matrix (Shepperd 1978).
    diagonal = m.diagonal(dim1=-2, dim2=-1)  # [N, 3]
    candidates = []
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        q = torch.empty((len(m), 4), dtype=m.dtype, device=m.device)  # w x y z, times 4 q_i
        q[:, 0] = skew[:, i]
        q[:, 1 + i] = 1 + 2 * diagonal[:, i] - trace
        q[:, 1 + j] = m[:, i, j] + m[:, j, i]
        q[:, 1 + k] = m[:, i, k] + m[:, k, i]
        candidates.append(q)
    candidates.insert(0, torch.cat(((1 + trace).unsqueeze(-1), skew), -1))
    best = torch.cat((trace.unsqueeze(-1), diagonal), -1).argmax(-1)
    q = torch.stack(candidates, 1)[torch.arange(len(m), device=m.device), best]
    q = q / q.norm(dim=-1, keepdim=True)
    q = torch.where(q[:, :1] < 0, -q, q)
    vector = q[:, 1:]
    sin = vector.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sin, q[:, :1])
    return torch.where(sin > 1e-12, vector / sin.clamp_min(1e-12) * angle, 2 * vector)
