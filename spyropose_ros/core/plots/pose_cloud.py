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
from spyropose_ros.core.plots._ghosts import Ghosts, gather

MAX_POSES = 512
"""More would not be told apart."""
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

    def ghosts(self, most: int) -> Ghosts:
        """Choose poses that stand for all.

        Args:
            most: largest number of poses.

        Returns:
            The poses, and the weight around each.
        """
        modes = Ghosts(
            np.array([rotation for rotation, _, _ in self.clusters]).reshape(-1, 3, 3),
            np.array([translation for _, translation, _ in self.clusters]).reshape(-1, 3),
            np.array([mass for _, _, mass in self.clusters]),
        )
        found = gather(modes, self.sample, most)
        return found._replace(masses=found.masses * self.weights.sum())

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
        """Choose n poses by their weights; for `gather`, and with `modes` for `rotation_plot`.

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
