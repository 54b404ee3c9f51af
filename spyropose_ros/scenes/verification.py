"""Modes of a distribution, weighed by how the object looks when it is rendered at them."""

from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor
from trimesh.visual import TextureVisuals

from spyropose_ros.core._modes import ROTATION_RADIUS, Mode
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.errors import BundleError, DataError, InputError, ScorerError
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.scenes.meshes import read_mesh_file
from spyropose_ros.scenes.renderer import Light, Renderer, shade

NATS = 15.0
"""Log odds that a correlation of one is worth against none; chosen on the dev half of LM-O."""

_BACKGROUND = 0.5
_LIGHT = Light(
    ambient=np.full(3, 0.5),
    directions=np.array([[0, -0.5, -0.866], [0.511, -0.307, -0.803]]),
    colours=np.full((2, 3), 0.35),
    specular=0.1,
    shininess=20.0,
)
_EPS = 1e-6


class Verification:
    """Compares the network's features of the image with those of renderings at the modes.

    Where the object would be, features that vary alike over the surface speak for a mode: the
    correlation over the rendered pixels, averaged over the channels. The masses of the leaves
    around a mode are multiplied by the odds that follow from it.

    Args:
        estimator: whose distributions are verified, of a model with an SE(3) pyramid.
        mesh: of the object, metres; with its colours.

    Raises:
        InputError: the model estimates rotations only.
    """

    def __init__(self, estimator: Estimator, mesh: trimesh.Trimesh):
        if estimator.rotation_only:
            raise InputError(
                f"the modes of {estimator.bundle.name} cannot be weighed by renderings, since it "
                "estimates rotations only: leave search.verify, or --verify, out"
            )
        self._estimator = estimator
        self._renderer = Renderer(mesh)

    @classmethod
    def of_bundle(cls, estimator: Estimator) -> "Verification":
        """Verify with the mesh of the estimator's bundle.

        Args:
            estimator: as above.

        Returns:
            What verifies its distributions.

        Raises:
            BundleError: it has none, or one that cannot be used or lacks colours, without which
                it hardly helps.
            InputError: the model estimates rotations only.
        """
        bundle = estimator.bundle
        if bundle.mesh_path is None:
            raise BundleError(
                f"{bundle.name} has no mesh to render the modes of '{bundle.object.name}' with: "
                f"copy it, in metres and with its colours, to {bundle.name}/mesh.ply"
            )
        verification = cls(estimator, _read(bundle.mesh_path))
        if verification._renderer.colours is None:
            raise BundleError(
                f"{bundle.mesh_path} has no colours at its vertices, without which renderings "
                "hardly tell modes apart: replace it by one with the object's colours"
            )
        return verification

    @torch.inference_mode()
    def __call__(
        self,
        image: np.ndarray,
        K: np.ndarray,
        box: np.ndarray,
        distribution: PoseDistribution,
        translation_estimate: np.ndarray | None = None,
    ) -> PoseDistribution:
        """Weigh the modes of one detection.

        Args:
            image: RGB uint8 [H, W, 3].
            K: intrinsics, [3, 3].
            box: x0, y0, x1, y1 as the estimator got it, pixels, [4].
            distribution: what the estimator made of it.
            translation_estimate: as the estimator got it, metres, [3].

        Returns:
            The distribution with other masses; the same one if it has fewer than two modes.

        Raises:
            ScorerError: the network's features are not finite.
        """
        modes = distribution.modes()
        if len(modes) < 2:
            return distribution
        given = None if translation_estimate is None else translation_estimate[None]
        centre = self._estimator.centers(K, np.asarray(box, np.float32)[None], given)
        likeness = self._likeness(image, K, centre, [(m.rotation, m.translation) for m in modes])
        evidence = NATS * likeness
        masses = torch.tensor([mode.mass for mode in modes])
        # What belongs to no mode is neither supported nor opposed.
        neutral = (masses.log() + evidence).logsumexp(0) - masses.sum().log()
        nearest, mode = _angles(distribution, modes).min(1)
        own = nearest <= ROTATION_RADIUS
        factors = torch.where(own, evidence.to(nearest)[mode], neutral.to(nearest))
        return distribution.reweighted(factors)

    def _likeness(
        self, image: np.ndarray, K: np.ndarray, centre: Tensor, poses: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Correlate the features of the crop around a centre with those of renderings, [N]."""
        estimator = self._estimator
        crops, K_crop = estimator.crops(image, K, centre)
        K_first, side = K_crop[0].cpu().double().numpy(), crops.shape[-1]
        images, masks = [crops[0]], []
        for R, t in poses:
            pose = R.cpu().double().numpy(), t.cpu().double().numpy()
            seen = self._renderer.render(*pose, K_first, side, side)
            shown = shade(seen.albedo, seen.normals, _LIGHT).clip(0, 1)
            shown = np.where(seen.mask[..., None], shown, _BACKGROUND)
            images.append(torch.from_numpy(shown).to(crops).permute(2, 0, 1))
            masks.append(torch.from_numpy(seen.mask))
        features = estimator.features(torch.stack(images)).float().cpu()
        height, width = features.shape[-2:]
        shares = torch.nn.functional.adaptive_avg_pool2d(
            torch.stack(masks).float(), (height, width)
        )
        likeness = torch.stack(
            [
                _correlation(features[0][:, share > 0.5], rendered[:, share > 0.5])
                for rendered, share in zip(features[1:], shares, strict=True)
            ]
        )
        if not bool(likeness.isfinite().all()):
            raise ScorerError("the network's features of an image or a rendering are not finite")
        return likeness


def _angles(distribution: PoseDistribution, modes: list[Mode]) -> Tensor:
    """Return how far the leaves are turned from each mode, radians [N, modes].

    Infinite where a leaf is as far from it across the viewing ray as belongs to another mode.
    """
    centres = torch.stack([mode.rotation for mode in modes]).flatten(1)
    traces = distribution.rotations.flatten(1) @ centres.mT
    angles = ((traces - 1) / 2).clamp(-1, 1).acos()
    if distribution.diameter is None:
        return angles
    for column, mode in zip(angles.unbind(1), modes, strict=True):
        offset = distribution.translations - mode.translation
        ray = mode.translation / mode.translation.norm()
        across = offset - (offset @ ray)[:, None] * ray
        column[across.norm(dim=1) > distribution.diameter / 4] = torch.inf
    return angles


def _read(path: Path) -> trimesh.Trimesh:
    """Read a bundle's mesh; colours of a texture are taken at the vertices."""
    try:
        parts, _ = read_mesh_file(path)
        if not parts or not np.isfinite(parts[0].vertices).all():
            raise DataError("it holds no faces, or vertices that are not finite")
    except (DataError, OSError) as error:
        raise BundleError(f"{path} is not a readable mesh ({error}): replace it") from error
    mesh = parts[0]
    if isinstance(mesh.visual, TextureVisuals):
        mesh.visual = mesh.visual.to_color()
    return mesh


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean over channels of the correlation of features [C, P]; 0 for no pixel."""
    if a.shape[1] == 0:
        return a.new_zeros(())
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + _EPS)).mean()
