"""Occluders in front of the objects of a batch."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from spyropose_ros.scenes.appearance import Appearance
from spyropose_ros.scenes.chance import Chance
from spyropose_ros.scenes.sprites import SpriteBank
from spyropose_ros.scenes.warp import similarity, warp

_OPAQUE = 0.5  # what is more opaque hides what is behind it
_LARGEST = 0.75  # side of a sprite, in sides of the crop


Acceptable = Callable[[Tensor, Tensor], Tensor]
"""Of masks [n, S, S] and the numbers of their objects in the batch [n]: bool [n]."""


class SpriteTensors(NamedTuple):
    """Sprites on a device.

    Attributes:
        images: [N, 4, s, s] float, RGB (times the opacity) and opacity in [0, 1].
        pixel_sizes: [N], metres per pixel.
    """

    images: Tensor
    pixel_sizes: Tensor

    @classmethod
    def of(cls, bank: SpriteBank, resolution: int) -> "SpriteTensors":
        """Return all sprites of a bank, as large as crops of a resolution need them."""
        images = torch.stack([torch.from_numpy(sprite.image) for sprite in bank.sprites])
        images = images.permute(0, 3, 1, 2).float().div(255).contiguous()
        sizes = torch.tensor([sprite.pixel_size for sprite in bank.sprites], dtype=torch.float32)
        while images.shape[-1] > _LARGEST * resolution:
            images, sizes = F.avg_pool2d(images, 2), 2 * sizes
        return cls(images, sizes)


class Things(NamedTuple):
    """Sprites placed in images, N of them for every image.

    Attributes:
        counts: so many of them are there, [B].
        sprite: which, [B, N].
        matrix: pixels of the image to pixels of the sprite, [B, N, 2, 3].
        gain: brightness, [B, N].
    """

    counts: Tensor
    sprite: Tensor
    matrix: Tensor
    gain: Tensor


def place(
    sprites: SpriteTensors,
    centers: Tensor,
    focal_over_z: Tensor,
    count: Tensor,
    gain: tuple[float, float],
    chance: Chance,
) -> Things:
    """Place random sprites, turned at random.

    Args:
        sprites: to choose from.
        centers: where, pixels, [B, N, 2].
        focal_over_z: pixels per metre, [B, N].
        count: so many are there, [B].
        gain: range of their brightness.
        chance: random numbers.

    Returns:
        The things.
    """
    shape = tuple(centers.shape[1:2])
    sprite = chance.integers(0, len(sprites.images) - 1, shape)
    scale = 1 / (sprites.pixel_sizes[sprite] * focal_over_z)
    middle = torch.full_like(centers, (sprites.images.shape[-1] - 1) / 2)
    matrix = similarity(scale, chance.uniform(0, 2 * math.pi, shape), centers, middle)
    return Things(count, sprite, matrix, chance.uniform(*gain, shape))


def occlude(
    sprites: SpriteTensors,
    mask: Tensor,
    least: Tensor,
    focal_over_z: Tensor,
    probability: float,
    appearance: Appearance,
    acceptable: Acceptable,
    chance: Chance,
) -> tuple[Things, Tensor]:
    """Put things in front of some objects.

    Args:
        sprites: to choose from.
        mask: the pixels of the object that are seen, bool [B, S, S].
        least: number of them that must stay visible, [B].
        focal_over_z: pixels per metre at the object's distance, [B].
        probability: share of objects with something in front.
        appearance: ranges.
        acceptable: which of the masks that are left of objects may be.
        chance: random numbers.

    Returns:
        The things and what stays visible, bool [B, S, S].
    """
    size, device = mask.shape[-1], mask.device
    wanted = chance.integers(1, appearance.occluders) * chance.happens(probability)
    total = mask.flatten(1).sum(1)
    tries = (appearance.occluder_tries,)
    # The middles lie about random pixels of the object.
    rank = (chance.uniform(shape=tries) * total.unsqueeze(1)).long() + 1
    pixel = torch.searchsorted(mask.flatten(1).cumsum(1), rank)
    pixel = torch.stack((pixel % size, pixel.div(size, rounding_mode="floor")), -1)
    spread = appearance.occluder_spread * total.sqrt().view(-1, 1, 1)
    centers = pixel + spread * chance.normal((*tries, 2))
    density = focal_over_z.unsqueeze(1) * chance.uniform(*appearance.occluder_nearness, tries)
    tried = place(sprites, centers, density, wanted, appearance.sprite_gain, chance)

    visible = mask.clone()
    placed = torch.zeros_like(wanted)
    chosen = torch.zeros((len(mask), appearance.occluders), dtype=torch.long, device=device)
    for attempt in range(appearance.occluder_tries):
        index = (placed < wanted).nonzero()[:, 0]
        if not len(index):
            break
        opacity = sprites.images[:, 3:].index_select(0, tried.sprite[index, attempt])
        hidden = warp(opacity, tried.matrix[index, attempt], size)[:, 0] >= _OPAQUE
        left = visible[index] & ~hidden
        good = (left.flatten(1).sum(1) >= least[index].clamp(min=1)) & acceptable(left, index)
        index = index[good]
        visible[index] = left[good]
        chosen[index, placed[index]] = attempt
        placed[index] += 1
    row = torch.arange(len(mask), device=device).unsqueeze(1)
    return Things(placed, *(value[row, chosen] for value in tried[1:])), visible
