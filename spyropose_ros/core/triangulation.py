"""Where an object is, from its boxes in several calibrated cameras.

Every box gives an estimate of the bounding-sphere centre that is good across its viewing ray and
poor along it. Taken as Gaussian and independent, the estimates are fused by weighted least squares
(the best linear unbiased estimate, which is also the most likely position).
"""

import numpy as np
import torch

from spyropose_ros.core import camera
from spyropose_ros.core.errors import InputError

LATERAL_STD = 0.08
"""Standard deviation across the ray, over the diameter: the box is not centred on the sphere."""

DEPTH_STD = 0.15
"""Standard deviation along the ray, over the distance: size varies with the view and occlusion."""


def locate(
    boxes: np.ndarray,
    Ks: np.ndarray,
    world_from_cameras: np.ndarray,
    diameter: float,
    size_ratio: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the bounding-sphere centre from each box alone.

    Args:
        boxes: x0, y0, x1, y1 in pixels, [V, 4].
        Ks: intrinsics of their cameras, [V, 3, 3].
        world_from_cameras: camera to world, [V, 4, 4].
        diameter: of the bounding sphere, metres.
        size_ratio: see `camera.translation_from_boxes`.

    Returns:
        Positions in the world, metres, [V, 3], and their covariances, [V, 3, 3].

    Raises:
        InputError: no box, unequal counts, or an empty box.
    """
    boxes, Ks = np.asarray(boxes, dtype=float), np.asarray(Ks, dtype=float)
    poses = np.asarray(world_from_cameras, dtype=float)
    if not len(boxes) == len(Ks) == len(poses) > 0:
        raise InputError(
            "need as many boxes, Ks and camera poses, at least one; "
            f"got {len(boxes)}, {len(Ks)}, {len(poses)}"
        )
    seen = [
        camera.translation_from_boxes(
            torch.from_numpy(box[None]), torch.from_numpy(K), diameter, size_ratio
        )
        for box, K in zip(boxes, Ks, strict=True)
    ]
    offset = (poses[:, :3, :3] @ torch.cat(seen).numpy()[..., None])[..., 0]  # [V, 3]
    along = offset[:, :, None] * offset[:, None, :]  # distance^2 times the ray's projector
    distance = (offset**2).sum(1)[:, None, None]
    lateral = (LATERAL_STD * diameter) ** 2
    covariances = lateral * (np.eye(3) - along / distance) + DEPTH_STD**2 * along
    return offset + poses[:, :3, 3], covariances


def fuse(positions: np.ndarray, covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fuse independent Gaussian estimates of a position, [V, 3], [V, 3, 3] -> [3], [3, 3]."""
    information = np.linalg.inv(covariances)
    covariance = np.linalg.inv(information.sum(0))
    return covariance @ np.einsum("vij,vj->i", information, positions), covariance


def triangulate(
    boxes: np.ndarray,
    Ks: np.ndarray,
    world_from_cameras: np.ndarray,
    diameter: float,
    size_ratio: float,
) -> np.ndarray:
    """Estimate the centre in the world, metres, [3]; arguments and errors as for `locate`.

    A single view gives what `camera.translation_from_boxes` gives.
    """
    return fuse(*locate(boxes, Ks, world_from_cameras, diameter, size_ratio))[0]
