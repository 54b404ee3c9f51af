"""What a picture in 3D needs to know of one object: its weighted poses, modes and mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spyropose_ros.core import _resampling
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.errors import DataError, InputError
from spyropose_ros.core.marginal import Ellipsoid

MAX_POSES = 512
"""More would not be told apart."""
_FAN_POSES = 128  # among which those with a mesh are chosen
_NEAR = 0.2  # radians; also diameters: poses as near as that are one mesh
_LEAST = 0.01  # of the mass, around a pose that gets a mesh
_THINNEST = 1e-4  # metres: half axis of an ellipsoid where the position is known
_ROUNDING = 1e-9  # of sums of weights


@dataclass(frozen=True)
class Mesh:
    """Triangles.

    Attributes:
        vertices: object coordinates in metres, float32 [V, 3].
        faces: uint32 [F, 3].
    """

    vertices: np.ndarray
    faces: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Mesh:
        """Read the mesh of a bundle.

        Args:
            path: of the file, in metres.

        Returns:
            The mesh.

        Raises:
            DataError: the file cannot be read as a mesh.
        """
        import trimesh  # takes a third of a second

        try:
            mesh = trimesh.load_mesh(path)
            return cls(np.float32(mesh.vertices), np.uint32(mesh.faces))
        except Exception as error:  # of damaged files: whatever the readers of trimesh raise
            raise DataError(
                f"{path} cannot be read as a mesh ({type(error).__name__}: {error}): replace it, "
                "or remove it"
            ) from error


class CloudMode(NamedTuple):
    """A mode without its place.

    Attributes:
        rotation: [3, 3].
        mass: probability of the cluster.
    """

    rotation: Tensor
    mass: float


@dataclass(frozen=True)
class PoseCloud:
    """Weighted poses of one object.

    Attributes:
        rotations: object to the frame of the picture, float64 [N, 3, 3], by descending weight.
        translations: metres, float64 [N, 3].
        weights: probabilities, float64 [N]; less than 1 in all where poses were left out.
        clusters: rotation [3, 3], translation [3] and mass of each mode, by descending mass.
        diameter: of the object's bounding sphere, metres.
        center: of the object's bounding sphere, object coordinates, metres, [3].
        mesh: of the object, if it is known.
        features: points of the object that have a name, object coordinates, metres, [3] each.
    """

    rotations: np.ndarray
    translations: np.ndarray
    weights: np.ndarray
    clusters: list[tuple[np.ndarray, np.ndarray, float]]
    diameter: float
    center: np.ndarray
    mesh: Mesh | None
    features: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        distribution: PoseDistribution,
        mesh: Mesh | None = None,
        features: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> PoseCloud:
        """Choose MAX_POSES poses, each leaf as often as its mass says, so that all of it is seen.

        Args:
            distribution: with a diameter.
            mesh: of the object.
            features: points of the object, by name.

        Returns:
            The poses that were chosen, each once, with the share of the choices as its weight.

        Raises:
            InputError: the distribution has no diameter.
        """
        if distribution.diameter is None:
            raise InputError("the distribution has no diameter to scale the picture by: set it")
        diameter = distribution.diameter
        distribution = distribution.to("cpu")
        leaves, counts = distribution.resample(MAX_POSES).unique(return_counts=True)
        order = counts.argsort(descending=True, stable=True)
        rotations, translations = distribution.poses(leaves[order])
        return cls(
            rotations.double().numpy(),
            translations.double().numpy(),
            (counts[order] / MAX_POSES).double().numpy(),
            [
                (mode.rotation.double().numpy(), mode.translation.double().numpy(), mode.mass)
                for mode in distribution.modes()
            ],
            float(diameter),
            distribution.center.double().numpy(),
            mesh,
            features,
        )

    def __len__(self) -> int:
        return len(self.weights)

    def holding(self, mass: float) -> PoseCloud:
        """Keep the most probable poses that hold a mass, or all that there are.

        Args:
            mass: probability, in (0, 1].

        Returns:
            The cloud of these poses; modes and object are the same.
        """
        count = int(np.searchsorted(self.weights.cumsum(), mass - _ROUNDING)) + 1
        return replace(
            self,
            rotations=self.rotations[:count],
            translations=self.translations[:count],
            weights=self.weights[:count],
        )

    @property
    def centres(self) -> np.ndarray:
        """Centres of the bounding sphere in all poses, metres, [N, 3]."""
        return self.rotations @ self.center + self.translations

    def places(self, feature: str) -> np.ndarray:
        """Return where a feature is in each pose, metres, [N, 3]."""
        return self.rotations @ np.array(self.features[feature]) + self.translations

    def fan(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose poses that stand for all: the modes, then where most of the rest lies.

        Args:
            count: most poses chosen.

        Returns:
            Rotations [n, 3, 3], translations [n, 3] and masses [n]: the weight of all poses to
            which each is the nearest.
        """
        ranks = _resampling.systematic(self.probabilities, _FAN_POSES).numpy()
        return self._few(ranks)._fan(count)

    def _few(self, ranks: np.ndarray) -> PoseCloud:
        """Keep some poses, with the share of the ranks that name each as its weight."""
        chosen, counts = np.unique(ranks, return_counts=True)
        weights = counts / len(ranks) * self.weights.sum()
        return replace(
            self,
            rotations=self.rotations[chosen],
            translations=self.translations[chosen],
            weights=weights,
        )

    def _fan(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = self._distances(self.rotations, self.translations)  # [N, N]
        near, left = own <= _NEAR, self.weights.copy()
        modes = self.clusters[:count]
        rotations = [rotation for rotation, _, _ in modes]
        translations = [translation for _, translation, _ in modes]
        away = [self._distances(*pose)[0] for pose in zip(rotations, translations, strict=True)]
        for distances in away:
            left[distances <= _NEAR] = 0
        while len(away) < count:
            around = near @ left
            best = int(around.argmax())
            if around[best] < _LEAST:
                break
            left[near[best]] = 0
            rotations.append(self.rotations[best])
            translations.append(self.translations[best])
            away.append(own[best])
        if not away:  # too diffuse for a mode, and nowhere more than elsewhere
            return self.rotations[:1], self.translations[:1], self.weights[:1]
        masses = np.bincount(np.argmin(away, axis=0), self.weights, len(away))
        return np.stack(rotations), np.stack(translations), masses

    def _distances(self, rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
        """Compute the largest of angle and distance of the centres over the diameter, [M, N]."""
        trace = rotations.reshape(-1, 9) @ self.rotations.reshape(-1, 9).T
        centres = rotations.reshape(-1, 3, 3) @ self.center + translations.reshape(-1, 3)
        away = np.linalg.norm(centres[:, None] - self.centres, axis=-1) / self.diameter
        return np.maximum(np.arccos(np.clip((trace - 1) / 2, -1, 1)), away)

    def ellipsoid(self, mass: float) -> Ellipsoid:
        """Find the ellipsoid in the shape of the centres' covariance that holds a mass of them.

        Args:
            mass: share of the poses that are listed, in (0, 1].

        Returns:
            The ellipsoid about their mean.
        """
        weights = self.probabilities
        return Ellipsoid.holding(mass, torch.from_numpy(self.centres), weights, _THINNEST)

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Choose n poses by their weights; `rotation_plot` needs it, `modes` and `probabilities`.

        Args:
            n: number of poses.
            generator: not used: the choice is as even as it can be.

        Returns:
            rotations [n, 3, 3] and translations [n, 3] in metres.
        """
        ranks = _resampling.systematic(self.probabilities, n)
        return torch.from_numpy(self.rotations)[ranks], torch.from_numpy(self.translations)[ranks]

    def modes(self) -> list[CloudMode]:
        """Return the modes for `rotation_plot`."""
        return [CloudMode(torch.from_numpy(turn), mass) for turn, _, mass in self.clusters]

    @property
    def probabilities(self) -> Tensor:
        """The weights, as if no pose had been left out, [N]."""
        return torch.from_numpy(self.weights / self.weights.sum())
