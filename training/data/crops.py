"""Training items from images: the simulated detector, the crop and the surface map."""

import math

import numpy as np
import torch
from torch import Tensor

from spyropose_ros.core import camera
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.scenes.detector import noisy_box
from training.data.source import CropSettings

PAPER_SIGMA, PAPER_LIMIT = 0.1, 0.5
"""The paper's simulated detector: normal offsets in box units, cut at the inscribed ball."""

# Truths must lie in every turn of the box: inside the ball inscribed in the unit cube.
_BALL = 0.5
_TRIES = 20


def training_item(
    image: np.ndarray,
    K: np.ndarray,
    rotation: np.ndarray,
    translation: np.ndarray,
    center: np.ndarray,
    diameter: float,
    size_ratio: float,
    visible_box: np.ndarray,
    crop: CropSettings,
    rng: np.random.Generator,
    depth: np.ndarray | None = None,
) -> dict[str, Tensor] | None:
    """Cut one item out of an image, with the simulated detector in the loop.

    Args:
        image: RGB uint8 [H, W, 3].
        K: intrinsics, [3, 3].
        rotation: object frame to camera, [3, 3].
        translation: of the object frame, metres, [3].
        center: bounding-sphere centre in the object frame, metres, [3].
        diameter: of the bounding sphere, metres.
        size_ratio: apparent-size ratio of the object.
        visible_box: x0, y0, x1, y1 around the visible pixels.
        crop: settings.
        rng: the only source of randomness.
        depth: z of the object's visible surface, metres, 0 elsewhere, float32 [H, W]; for the
            surface map.

    Returns:
        The item, see `training.data.source.Items`; None where the detector's estimate misses the
        truth by more than the box, as rarely happens.
    """
    truth = torch.from_numpy(rotation @ center + translation).float()
    intrinsics = torch.from_numpy(np.asarray(K)).float()
    found = _estimate(truth, diameter, size_ratio, visible_box, intrinsics, crop, rng)
    if found is None:
        return None
    estimate, box = found
    angle = rng.uniform(-1, 1) * math.radians(crop.max_roll)
    K_crop = camera.crop_intrinsics(
        estimate,
        diameter,
        intrinsics,
        crop.resolution,
        crop.padding,
        torch.tensor([angle], dtype=torch.float32),
    )
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    cut = camera.crop_image(pixels, intrinsics, K_crop, crop.resolution)
    item = {
        "crop": cut[0].mul(255).round().byte(),
        "K_crop": K_crop[0],
        "estimate": estimate[0],
        "rotation": torch.from_numpy(rotation).float(),
        "translation": truth,
        "box": box_in_crop(box, intrinsics, K_crop[0]),
    }
    if crop.surface and depth is not None:
        item["surface"] = surface_map(
            torch.from_numpy(depth)[None],
            intrinsics[None],
            item["rotation"][None],
            truth[None],
            diameter,
            K_crop,
            crop,
        )[0]
    return item


def _estimate(
    truth: Tensor,
    diameter: float,
    size_ratio: float,
    visible_box: np.ndarray,
    K: Tensor,
    crop: CropSettings,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor] | None:
    """Simulate the detector until it is near enough to the truth.

    Returns:
        Its estimate, metres, [1, 3], and the box that led to it, [4], nan where none did; None if
        it misses every time.
    """
    box = torch.full((4,), torch.nan)
    for _ in range(_TRIES):
        if crop.box_noise is None:
            estimate = paper_estimate(truth, diameter, rng)
        else:
            box = torch.from_numpy(noisy_box(visible_box, rng, crop.box_noise)).float()
            estimate = camera.translation_from_boxes(box[None], K, diameter, size_ratio)
        if within_ball(truth[None], estimate, diameter):
            return estimate, box
    return None


def box_in_crop(box: Tensor, K: Tensor, K_crop: Tensor) -> Tensor:
    """Find a box of the image in its crop, which may be turned.

    Args:
        box: x0, y0, x1, y1 in pixels of the image, [4].
        K: intrinsics of the image, [3, 3].
        K_crop: intrinsics of the crop, [3, 3].

    Returns:
        Corners in pixels of the crop, in order, [4, 2].
    """
    x0, y0, x1, y1 = box
    corners = torch.stack((x0, y0, x1, y0, x1, y1, x0, y1)).view(4, 2)
    to_crop = K_crop @ torch.linalg.inv(K)
    return corners @ to_crop[:2, :2].mT + to_crop[:2, 2]


def paper_estimate(truth: Tensor, diameter: float, rng: np.random.Generator) -> Tensor:
    """Simulate the paper's detector: a truncated Gaussian offset around the truth.

    Sigma is 0.1 of the box built at the truth: 0.1 d sideways, 0.1 z in depth.

    Args:
        truth: bounding-sphere centre, metres, [3].
        diameter: of the bounding sphere, metres.
        rng: random generator.

    Returns:
        [1, 3].
    """
    basis = TranslationBox.from_view(truth[None], diameter).basis[0]
    return (truth + basis @ torch.from_numpy(truncated_offset(rng)).float())[None]


def truncated_offset(rng: np.random.Generator) -> np.ndarray:
    """Draw the offset of the paper's estimate, in box units, [3]."""
    offset = rng.normal(size=3) * PAPER_SIGMA
    while np.linalg.norm(offset) >= PAPER_LIMIT:
        offset = rng.normal(size=3) * PAPER_SIGMA
    return offset


def within_ball(truth: Tensor, estimate: Tensor, diameter: float) -> Tensor:
    """Tell whether truths lie in the balls inscribed in the boxes around the estimates.

    Args:
        truth: metres, [N, 3].
        estimate: metres, in front of the camera, [N, 3].
        diameter: of the bounding sphere, metres.

    Returns:
        bool [N].
    """
    box = TranslationBox.from_view(estimate, diameter)
    offset = box.coordinates(truth.unsqueeze(1)).squeeze(1) - 0.5
    return offset.norm(dim=1) < _BALL


def miscalibrated(K_crop: Tensor, side: int, errors: Tensor) -> Tensor:
    """Make the intrinsics of crops a little wrong.

    Such errors stand for those of camera, lens and mesh: whatever puts the outline of the true pose
    beside the one in the image.

    Args:
        K_crop: [B, 3, 3].
        side: of the crops, pixels.
        errors: of the scale, as a logarithm, and of the position in x and y, crop sides, [B, 3].

    Returns:
        [B, 3, 3].
    """
    scale, shift = errors[:, :1].exp(), errors[:, 1:] * side
    middle = (side - 1) / 2
    wrong = K_crop.clone()
    wrong[:, :2, :2] *= scale.unsqueeze(2)
    wrong[:, :2, 2] = middle + (K_crop[:, :2, 2] - middle) * scale + shift
    return wrong


def surface_map(
    depth: Tensor,
    K: Tensor,
    rotation: Tensor,
    center: Tensor,
    diameter: float,
    K_crop: Tensor,
    crop: CropSettings,
) -> Tensor:
    """Map the visible surface in crops to object coordinates.

    Args:
        depth: z of the visible surface in the images, metres, 0 elsewhere, float32 [B, H, W].
        K: intrinsics of the images, [B, 3, 3].
        rotation: object to camera, [B, 3, 3].
        center: bounding-sphere centre in the camera frame, metres, [B, 3].
        diameter: of the bounding sphere, metres.
        K_crop: intrinsics of the crops, [B, 3, 3].
        crop: for the resolution and the size of the map.

    Returns:
        float32 [B, 4, size, size]: 1 where the object is visible, then the point relative to the
        centre in units of the radius (in [-1, 1]^3; 0 where not visible).
    """
    size = crop.map_size
    step = crop.resolution / size
    pixel = (torch.arange(size, device=depth.device) + 0.5) * step - 0.5
    v, u = torch.meshgrid(pixel, pixel, indexing="ij")
    ray = torch.stack((u, v, torch.ones_like(u)), -1).view(-1, 3) @ torch.linalg.inv(K_crop).mT
    ray = ray / ray[..., 2:]  # K_crop may be turned; depth is along z
    x, y = (ray @ K.mT)[..., :2].round().long().unbind(-1)  # [B, size^2]
    height, width = depth.shape[1:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    z = (depth.flatten(1).gather(1, index) * inside).unsqueeze(2)
    coordinates = (ray * z - center.unsqueeze(1)) @ rotation / (diameter / 2)
    visible = z > 0
    return torch.cat((visible.float(), coordinates * visible), 2).mT.unflatten(2, (size, size))
