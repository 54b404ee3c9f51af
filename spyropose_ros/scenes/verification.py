"""Modes of a distribution, weighed by how the object looks when it is rendered at them."""

import numpy as np
import torch
import trimesh
from torch import Tensor

from spyropose_ros.core import camera
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.estimator import Estimator
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
    """

    def __init__(self, estimator: Estimator, mesh: trimesh.Trimesh):
        self._estimator = estimator
        self._renderer = Renderer(mesh)

    @torch.inference_mode()
    def __call__(
        self, image: np.ndarray, K: np.ndarray, box: np.ndarray, distribution: PoseDistribution
    ) -> PoseDistribution:
        """Weigh the modes of one detection.

        Args:
            image: RGB uint8 [H, W, 3].
            K: intrinsics, [3, 3].
            box: x0, y0, x1, y1 as the estimator got it, pixels, [4].
            distribution: what the estimator made of it.

        Returns:
            The distribution with other masses; the same one if it has fewer than two modes.
        """
        modes = distribution.modes()
        if len(modes) < 2:
            return distribution
        likeness = self._likeness(image, K, box, [(m.rotation, m.translation) for m in modes])
        evidence = NATS * likeness
        masses = torch.tensor([mode.mass for mode in modes])
        # What belongs to no mode is neither supported nor opposed.
        neutral = (masses.log() + evidence).logsumexp(0) - masses.sum().log()
        centres = torch.stack([mode.rotation for mode in modes]).flatten(1)
        traces = distribution.rotations.flatten(1) @ centres.mT  # [N, modes]
        nearest, mode = traces.max(1)
        own = nearest >= 1 + 2 * np.cos(0.35)  # radians: the radius of modes
        factors = torch.where(own, evidence.to(nearest)[mode], neutral.to(nearest))
        return distribution.reweighted(factors)

    def _likeness(
        self, image: np.ndarray, K: np.ndarray, box: np.ndarray, poses: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Correlate the features of an image with those of renderings at poses, [N]."""
        estimator, info = self._estimator, self._estimator.bundle.object
        boxes = torch.from_numpy(np.asarray(box, np.float32))[None].to(estimator.device)
        intrinsics = torch.from_numpy(np.asarray(K, np.float32)).to(estimator.device)
        centre = camera.translation_from_boxes(boxes, intrinsics, info.diameter, info.size_ratio)
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
        return torch.stack(
            [
                _correlation(features[0][:, share > 0.5], rendered[:, share > 0.5])
                for rendered, share in zip(features[1:], shares, strict=True)
            ]
        )


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean over channels of the correlation of features [C, P]; 0 for no pixel."""
    if a.shape[1] == 0:
        return a.new_zeros(())
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + _EPS)).mean()
