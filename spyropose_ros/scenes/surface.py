"""Random surfaces: what paint, print, wear and material add to the colours that a mesh has."""

import math

import torch
from torch import Tensor

from spyropose_ros.scenes.appearance import Surface
from spyropose_ros.scenes.chance import Chance
from spyropose_ros.scenes.colours import random_colours

_BLACK = 0.01  # so dark that powers and quotients of it are still finite


def vary_surface(
    albedo: Tensor, points: Tensor, solid: Tensor, surface: Surface, chance: Chance
) -> Tensor:
    """Give some objects a surface that a camera has never seen.

    Colours are stretched and moved as a whole; rings, stripes, spots and stains are fixed to the
    object, with edges from soft to sharp; brightness drifts smoothly over it.

    Args:
        albedo: [B, 3, H, W] RGB in [0, 1].
        points: [B, 3, H, W], where the surface is in the object frame, in units of the diameter,
            about the centre.
        solid: [B, 1, H, W] bool, where the object is.
        surface: ranges.
        chance: random numbers.

    Returns:
        [B, 3, H, W] RGB in [0, 1]; what is not solid has no meaning.
    """
    varied = _stretched(albedo, solid, surface, chance)
    for _ in range(surface.patterns):
        varied = _patterned(varied, points, surface, chance)
    varied = varied * _drift(points, surface, chance)
    chosen = chance.happens(surface.share).view(-1, 1, 1, 1)
    return torch.where(chosen, varied, albedo).clamp_(0, 1)


def object_points(depth: Tensor, K: Tensor, rotation: Tensor, centre: Tensor) -> Tensor:
    """Return where the surface is that a camera sees.

    Args:
        depth: [B, H, W], z in metres.
        K: intrinsics, [B, 3, 3], without skew.
        rotation: object to camera, [B, 3, 3].
        centre: of the object in the camera frame, metres, [B, 3].

    Returns:
        [B, 3, H, W], metres in the object's axes, about the centre.
    """
    rows, columns = (torch.arange(n, device=depth.device) for n in depth.shape[1:])
    x = (columns - K[:, 0, 2, None]) / K[:, 0, 0, None]  # [B, W]
    y = (rows - K[:, 1, 2, None]) / K[:, 1, 1, None]  # [B, H]
    x, y = x.unsqueeze(1) * depth, y.unsqueeze(2) * depth
    seen = torch.stack((x, y, depth), 1) - centre[..., None, None]
    return torch.einsum("bji,bjhw->bihw", rotation, seen)


def _stretched(albedo: Tensor, solid: Tensor, surface: Surface, chance: Chance) -> Tensor:
    """Change contrast, gain, gamma and saturation of an object's own colours."""
    count = solid.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (albedo * solid).sum((2, 3), keepdim=True) / count
    contrast = _log_uniform(surface.contrast, chance)
    gain = _log_uniform(surface.gain, chance) * torch.exp(surface.tint * chance.normal((3, 1, 1)))
    varied = (mean + (albedo - mean) * contrast) * gain
    grey = varied.mean(1, keepdim=True)
    varied = grey + (varied - grey) * _column(chance.uniform(*surface.saturation))
    varied = torch.where(_column(chance.happens(surface.inversion)), 1 - varied, varied)
    return varied.clamp_(_BLACK, 1).pow_(torch.exp(surface.gamma * _column(chance.normal())))


def _patterned(albedo: Tensor, points: Tensor, surface: Surface, chance: Chance) -> Tensor:
    """Paint one set of rings, stripes or spots over some objects."""
    centre = chance.uniform(-0.4, 0.4, (3, 1, 1))
    across = _direction(chance)
    aligned = torch.nn.functional.one_hot(chance.integers(0, 2), 3).to(across).view(-1, 3, 1, 1)
    across = torch.where(_column(chance.happens(surface.aligned)), aligned, across)
    from_centre = points - centre
    along = (from_centre * across).sum(1, keepdim=True)
    shell = from_centre.square().sum(1, keepdim=True).sqrt()
    distance = torch.where(_column(chance.happens(surface.spots)), shell, along)
    bend = (points * _direction(chance)).sum(1, keepdim=True)
    bend = torch.sin(bend * _log_uniform(surface.frequency, chance) * math.tau)
    distance = distance + bend * _column(
        chance.uniform(*surface.bend) * chance.happens(surface.bent)
    )
    phase = _column(chance.uniform(0, math.tau))
    wave = torch.cos(distance * (_log_uniform(surface.frequency, chance) * math.tau) + phase)
    level = _column(chance.uniform(*surface.level))
    painted = torch.sigmoid((wave - level) * _log_uniform(surface.sharpness, chance))
    opacity = chance.uniform(*surface.opacity) * chance.happens(surface.pattern_share)
    painted = painted * _column(opacity)
    colour = random_colours(chance)[..., None, None]
    lit = (albedo * _log_uniform(surface.gain, chance)).clamp_(max=1)
    paint = torch.where(_column(chance.happens(surface.plain_paint)), colour, lit)
    return torch.lerp(albedo, paint, painted)


def _drift(points: Tensor, surface: Surface, chance: Chance) -> Tensor:
    """Return a smooth factor over the surface, [B, 1, H, W]."""
    total = torch.zeros_like(points[:, :1])
    for _ in range(2):
        slope = (points * _direction(chance)).sum(1, keepdim=True)
        speed = _column(chance.uniform(*surface.drift_frequency)) * math.tau
        total += torch.cos(slope * speed + _column(chance.uniform(0, math.tau)))
    return torch.exp(total * _column(chance.uniform(*surface.drift)))


def _direction(chance: Chance) -> Tensor:
    """Draw unit vectors, [B, 3, 1, 1]."""
    return torch.nn.functional.normalize(chance.normal((3,)), dim=1)[..., None, None]


def _log_uniform(bounds: tuple[float, float], chance: Chance) -> Tensor:
    """Draw factors, [B, 1, 1, 1]."""
    low, high = map(math.log, bounds)
    return _column(chance.uniform(low, high).exp())


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
