"""Effects of lens, sensor and compression on a batch of crops; twin of `camera_effects`."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spyropose_ros.scenes.appearance import Appearance
from spyropose_ros.scenes.camera_effects import CameraEffects
from spyropose_ros.scenes.chance import Chance
from spyropose_ros.scenes.warp import filter_each, gaussian, power_, similarity, warp

_RADIUS = 4  # of the lens's kernel, pixels
_NOISE = 512  # side of the image of noise
_LUMA = (0.299, 0.587, 0.114)  # brightness of red, green and blue
_STEP, _STEP_GROWTH = 10.0, 6.0  # of a frequency at quality 50, grey levels
_SHARPENING = 0.8  # standard deviation of the blur that sharpening subtracts, pixels


class BatchEffects(nn.Module):
    """Changes crops as a camera does, with the strengths of `CameraEffects`."""

    noise: Tensor
    dct: Tensor

    def __init__(self, effects: CameraEffects, appearance: Appearance):
        """Draw the noise.

        Args:
            effects: strengths.
            appearance: ranges.
        """
        super().__init__()
        self.effects = effects
        self.appearance = appearance
        noise = torch.randn((1, 3, _NOISE, _NOISE), generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", noise, persistent=False)
        self.register_buffer("dct", _dct(), persistent=False)

    def forward(self, crops: Tensor, magnification: Tensor, chance: Chance) -> Tensor:
        """Change crops.

        Args:
            crops: [B, 3, R, R] in [0, 1].
            magnification: crop pixels per camera pixel, [B].
            chance: random numbers.

        Returns:
            [B, 3, R, R] in [0, 1].
        """
        crops = filter_each(crops, self._lens(magnification, chance))
        crops = self._recolour(crops, chance)
        crops = self._add_noise(crops, magnification, chance).clamp_(0, 1)
        return self._compress(crops, chance)

    def _lens(self, magnification: Tensor, chance: Chance) -> Tensor:
        """Return one kernel for lost resolution, blur, motion and sharpening, [B, k, k]."""
        look, effects = self.appearance, self.effects
        factor = chance.uniform(*look.downscale)
        variance = 0.25 / factor**2 * chance.happens(effects.downscale)  # of a box and a triangle
        most = max(effects.blur, look.blur_least)
        blur = chance.uniform(look.blur_least, most) * chance.happens(look.blur_share)
        longest = max(effects.motion, look.motion_least)
        length = chance.uniform(look.motion_least, longest) * chance.happens(look.motion_share)
        angle = chance.uniform(0, math.pi)
        direction = torch.stack((angle.cos(), angle.sin()), 1)
        line = length**2 / 12 * (effects.motion >= look.motion_least)
        eye = torch.eye(2, device=variance.device)
        along = direction.unsqueeze(2) * direction.unsqueeze(1)
        covariance = (variance + blur**2).view(-1, 1, 1) * eye + line.view(-1, 1, 1) * along
        scale = (magnification**2).view(-1, 1, 1)
        covariance = covariance * scale + 0.04 * eye  # so narrow that it changes nothing
        amount = chance.uniform(*look.sharpen) * chance.happens(effects.sharpen)
        amount = amount.view(-1, 1, 1)
        wide = gaussian(covariance + _SHARPENING**2 * scale * eye, _RADIUS)
        return (1 + amount) * gaussian(covariance, _RADIUS) - amount * wide

    def _recolour(self, crops: Tensor, chance: Chance) -> Tensor:
        """Change gain, white balance, saturation, hue and gamma."""
        effects = self.effects
        spread = effects.colour
        gain = torch.exp((chance.normal() + effects.exposure) * spread)
        balance = torch.exp(chance.normal((3,)) * spread * 0.3)
        saturation = torch.exp(chance.normal() * spread * 1.2)
        hue = chance.uniform(-effects.hue, effects.hue)
        gamma = torch.exp(chance.normal() * spread)
        matrix = (gain.unsqueeze(1) * balance).unsqueeze(2) * _hue_saturation(hue, saturation)
        changed = torch.bmm(matrix, crops.flatten(2)).view_as(crops)
        return power_(changed.clamp_(0, 1), gamma.view(-1, 1, 1, 1))

    def _add_noise(self, crops: Tensor, magnification: Tensor, chance: Chance) -> Tensor:
        """Add Gaussian noise of the camera's pixels, larger or finer than those of the crop."""
        size = crops.shape[-1]
        sigma = self.effects.noise / 255 * chance.uniform() ** 2 * magnification.clamp(max=1)
        grain = magnification.clamp(min=1)
        middle = torch.full((2,), (size - 1) / 2, device=crops.device)
        position = chance.uniform(0, _NOISE - 1, (2,))
        angle = chance.integers(0, 3) * (math.pi / 2)
        matrix = similarity(1 / grain, angle, middle, position)
        # One image for all: nothing is copied for a crop.
        image = self.noise.expand(len(crops), -1, -1, -1)
        noise = warp(image, matrix, size, padding="reflection")
        return torch.addcmul(crops, noise, sigma.view(-1, 1, 1, 1))

    def _compress(self, crops: Tensor, chance: Chance) -> Tensor:
        """Round the frequencies of some crops' brightness in blocks of 8 x 8 pixels, in place."""
        quality = chance.uniform(*self.appearance.jpeg_quality)
        chosen = chance.happens(self.effects.jpeg).nonzero()[:, 0]
        if not len(chosen):
            return crops
        quality = quality[chosen]
        coarseness = torch.where(quality < 50, 50 / quality, 2 - quality / 50) / 255
        images = crops[chosen]
        size, luma = crops.shape[-1], torch.tensor(_LUMA, device=crops.device)
        brightness = torch.einsum("c,nchw->nhw", luma, images).unsqueeze(1)
        rest = -size % 8
        padded = F.pad(brightness, (0, rest, 0, rest), mode="replicate")[:, 0]
        blocks = padded.unflatten(2, (-1, 8)).unflatten(1, (-1, 8))  # [n, rows, 8, columns, 8]
        frequencies = torch.einsum("ij,nyjxk,lk->nyixl", self.dct, blocks, self.dct)
        order = torch.arange(8, device=crops.device)
        order = order.unsqueeze(1) + order  # of a frequency, in both directions
        steps = coarseness.view(-1, 1, 1) * (_STEP + _STEP_GROWTH * order)
        steps = steps[:, None, :, None]  # [n, 1, 8, 1, 8]
        rounded = torch.round(frequencies / steps) * steps
        blocks = torch.einsum("ij,nyixl,lk->nyjxk", self.dct, rounded, self.dct)
        change = blocks.flatten(3).flatten(1, 2)[:, None, :size, :size] - brightness
        return crops.index_copy_(0, chosen, images.add_(change).clamp_(0, 1))


def _hue_saturation(hue: Tensor, saturation: Tensor) -> Tensor:
    """Draw colour matrices [B, 3, 3]: rotation about the grey axis and distance from it."""
    device = hue.device
    grey = torch.full((3, 3), 1 / 3, device=device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=device) / math.sqrt(3)
    cos, sin, distance = (v.view(-1, 1, 1) for v in (hue.cos(), hue.sin(), saturation))
    return grey + distance * (cos * (torch.eye(3, device=device) - grey) + sin * cross)


def _dct() -> Tensor:
    """Return the orthonormal cosines of 8 samples, [frequency, sample]."""
    k = torch.arange(8.0)
    cosines = torch.cos(math.pi / 8 * k.unsqueeze(1) * (k + 0.5)) / 2
    cosines[0] /= math.sqrt(2)
    return cosines
