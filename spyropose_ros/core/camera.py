"""Pinhole camera: boxes to translation estimates, crop intrinsics, crops, projection.

Pixel centres lie at integers: the image spans [-0.5, width - 0.5]. Intrinsics are general 3x3
matrices (a rolled crop is not upper triangular), so always divide by the third row.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spyropose_ros.core.errors import InputError

CROP_PADDING = 1.5
"""Side of the crop over the apparent diameter of the object."""


def project(K: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Project points in the camera frame.

    Args:
        K: intrinsics [..., 3, 3].
        points: metres, [..., N, 3].

    Returns:
        Pixels [..., N, 2] and depths [..., N]; pixels of points with depth <= 0 are meaningless.
    """
    homogeneous = points @ K.mT
    return homogeneous[..., :2] / homogeneous[..., 2:], points[..., 2]


def translation_from_boxes(boxes: Tensor, K: Tensor, diameter: float, size_ratio: float) -> Tensor:
    """Estimate the translation of the object's bounding-sphere centre from tight 2D boxes.

    The centre lies on the ray through the middle of the box; its depth follows from the box's
    diagonal, which on average over views measures `size_ratio` times the projected diameter. (The
    diagonal of a box varies less under in-plane rotation than either side.) Away from the optical
    axis the projection stretches the object: along the ray (u, v, 1), a sphere's sides are
    sqrt(1 + u^2) and sqrt(1 + v^2) times as long.

    Args:
        boxes: x0, y0, x1, y1 in pixels, [N, 4].
        K: intrinsics of the image, [3, 3].
        diameter: of the bounding sphere, metres.
        size_ratio: mean over views of (box diagonal x depth) / (focal length x diameter).

    Returns:
        Estimates in the camera frame, metres, [N, 3].

    Raises:
        InputError: if a box is empty or not finite.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes must be [N, 4] (x0, y0, x1, y1), got {tuple(boxes.shape)}")
    size = boxes[:, 2:] - boxes[:, :2]
    if not bool(torch.isfinite(boxes).all()) or not bool((size > 0).all()):
        raise InputError(
            "every box needs finite x0 < x1 and y0 < y1; drop empty detections before estimating"
        )
    focal = torch.stack((K[0, 0], K[1, 1]))
    centre = F.pad((boxes[:, :2] + boxes[:, 2:]) / 2, (0, 1), value=1.0)  # [N, 3]
    ray = torch.linalg.solve(K, centre.mT).mT
    stretch = (1 + ray[:, :2].square().sum(-1) / 2).sqrt()
    depth = diameter * size_ratio * stretch / (size / focal).norm(dim=-1)  # [N]
    return ray * depth.unsqueeze(-1)


def boxes_from_translation(
    translation: Tensor, K: Tensor, diameter: float, size_ratio: float
) -> Tensor:
    """Return boxes from which `translation_from_boxes` estimates these translations.

    Args:
        translation: of the bounding-sphere centres, metres, [N, 3], depths > 0.
        K: intrinsics of the image, [3, 3].
        diameter: of the bounding sphere, metres.
        size_ratio: as for `translation_from_boxes`.

    Returns:
        x0, y0, x1, y1 in pixels, [N, 4].
    """
    centre, depth = project(K, translation)
    ray = translation[:, :2] / depth.unsqueeze(-1)
    stretch = (1 + ray.square().sum(-1) / 2).sqrt()
    diagonal = diameter * size_ratio * stretch / depth  # over the focal length
    half = diagonal.unsqueeze(-1) * torch.stack((K[0, 0], K[1, 1])) / 8**0.5
    return torch.cat((centre - half, centre + half), dim=-1)


def crop_intrinsics(
    translation: Tensor,
    diameter: float,
    K: Tensor,
    resolution: int,
    padding: float | Tensor = CROP_PADDING,
    roll: Tensor | None = None,
) -> Tensor:
    """Compute intrinsics of square crops, centred on the estimates and scaled to show them alike.

    Args:
        translation: estimates of the bounding-sphere centre, metres, [N, 3].
        diameter: of the bounding sphere, metres.
        K: intrinsics of the image, [3, 3].
        resolution: side of the crop in pixels.
        padding: side of the crop over the projected diameter, one for all or [N].
        roll: in-plane rotation of the crop about its centre, radians, [N].

    Returns:
        [N, 3, 3]: a similarity of the image plane times K.
    """
    centre, depth = project(K, translation)  # [N, 2], [N]
    scale = resolution / (diameter * padding) * depth / K[0, 0]
    if roll is None:
        roll = torch.zeros_like(scale)
    cos, sin = scale * roll.cos(), scale * roll.sin()
    linear = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)
    middle = (resolution - 1) / 2
    offset = middle - (linear @ centre.unsqueeze(-1))  # [N, 2, 1]
    similarity = F.pad(torch.cat((linear, offset), -1), (0, 0, 0, 1))
    similarity[:, 2, 2] = 1
    return similarity @ K


def crop_image(image: Tensor, K: Tensor, K_crop: Tensor, resolution: int) -> Tensor:
    """Resample crops from an image; what lies outside the image is black.

    Every crop pixel averages 2 x 2 bilinear samples, so that near objects do not alias.

    Args:
        image: uint8 [3, H, W].
        K: its intrinsics, [3, 3].
        K_crop: intrinsics of the crops, [N, 3, 3], as from `crop_intrinsics`.
        resolution: side of the crops in pixels.

    Returns:
        Crops in [0, 1], float32 [N, 3, resolution, resolution].
    """
    fine = 2 * resolution
    back = (K.double() @ torch.linalg.inv_ex(K_crop.double())[0])[:, :2]  # crop -> image, affine
    image, corner = _region(image, back, resolution)
    height, width = image.shape[-2:]
    pixel = (torch.arange(fine, device=image.device) + 0.5) / 2 - 0.5  # crop pixel coordinates
    offset = to_grid_sample(back[..., 2] - corner, width, height).float()  # [N, 2]
    size = torch.tensor((width, height), device=image.device)
    linear = (2 * back[..., :2] / size.unsqueeze(1)).float()  # [N, 2, 2]
    columns = linear[:, None, :, 0] * pixel[:, None] + offset[:, None]  # [N, fine, 2]
    rows = linear[:, None, :, 1] * pixel[:, None]
    grid = rows.unsqueeze(2) + columns.unsqueeze(1)  # [N, fine, fine, 2]
    # One grid with all crops below each other: the image is not copied for each
    samples = F.grid_sample(
        image.float().div(255).unsqueeze(0),
        grid.view(1, -1, fine, 2),
        padding_mode="zeros",
        align_corners=False,
    )
    return F.avg_pool2d(samples, 2)[0].unflatten(1, (-1, resolution)).transpose(0, 1).contiguous()


def _region(image: Tensor, back: Tensor, resolution: int) -> tuple[Tensor, Tensor | float]:
    """Return the part of an image that crops show, and its first pixel, x and y.

    Args:
        image: [3, H, W].
        back: pixels of the crops -> pixels of the image, float64 [N, 2, 3].
        resolution: side of the crops in pixels.
    """
    if image.device.type != "cpu":  # reading the bounds back would take longer
        return image, 0.0
    ends = torch.tensor([-0.5, resolution - 0.5], dtype=back.dtype)
    corners = F.pad(torch.cartesian_prod(ends, ends), (0, 1), value=1.0) @ back.mT  # [N, 4, 2]
    limits = torch.tensor((image.shape[2], image.shape[1]))
    low, high = (f(corners.flatten(0, 1), 0)[0].nan_to_num() for f in (torch.min, torch.max))
    begin = torch.minimum(low.floor().clamp(0, 1e9).long(), limits - 1)
    end = torch.minimum(high.floor().clamp(0, 1e9).long() + 2, limits)
    (left, top), (right, bottom) = begin.tolist(), end.tolist()
    return image[:, top:bottom, left:right], begin


def to_grid_sample(pixels: Tensor, width: int, height: int) -> Tensor:
    """Convert pixels [..., 2] to grid_sample coordinates ([-1, 1] spans the image's edges)."""
    size = torch.tensor((width, height), dtype=pixels.dtype, device=pixels.device)
    return (2 * pixels + 1) / size - 1


def resized_intrinsics(K: Tensor, scale: float) -> Tensor:
    """Return the intrinsics of an image resized by a factor, pixel centres at integers.

    Args:
        K: third row (0, 0, 1), [B, 3, 3].
        scale: new size over old size.

    Returns:
        [B, 3, 3].
    """
    shift = (scale - 1) / 2
    return torch.cat((scale * K[:, :2] + shift * K[:, 2:], K[:, 2:]), 1)


def apparent_size_ratio(
    vertices: np.ndarray, diameter: float, n_views: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Measure how large an object's box looks, compared with its bounding sphere.

    The ratio of a view is hypot(w / fx, h / fy) * z / diameter for the tight box (w, h) of the
    whole object at depth z. Its mean converts a detector's box to a depth estimate.

    Args:
        vertices: [V, 3], relative to the centre of the bounding sphere, metres.
        diameter: Of the bounding sphere, metres.
        n_views: Number of views, uniform over SO(3).
        seed: Of the views.

    Returns:
        Mean and standard deviation of the ratio over the views.
    """
    from scipy.spatial import ConvexHull  # needed only when a model is made
    from scipy.spatial.transform import Rotation

    vertices = np.asarray(vertices, np.float64)
    vertices = vertices[ConvexHull(vertices).vertices]  # the others never bound a projection
    rotations = Rotation.random(n_views, random_state=np.random.default_rng(seed)).as_matrix()
    distance = 6 * diameter
    ratios = np.empty(n_views)
    for index, rotation in enumerate(rotations):
        points = vertices @ rotation.T
        rays = points[:, :2] / (points[:, 2:] + distance)
        ratios[index] = np.hypot(*np.ptp(rays, axis=0)) * distance / diameter
    return float(ratios.mean()), float(ratios.std())
