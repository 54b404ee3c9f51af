"""Effects of lens, sensor and compression on an image."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

_NOISE_SIZE = 2**20  # enough for windows; larger images get a bank of their own


@dataclass(frozen=True)
class CameraEffects:
    """Strengths of the random changes to an image.

    Attributes:
        colour: spread of gain, white balance, saturation and gamma (0 leaves them alone).
        exposure: mean of the logarithm of the gain, in units of `colour`.
        hue: largest hue rotation, radians.
        blur: largest standard deviation of the Gaussian blur, pixels.
        motion: largest length of the motion blur, pixels.
        sharpen: share of images that the camera sharpens.
        noise: largest standard deviation of the sensor noise, grey levels of 255.
        jpeg: share of images that are compressed.
        downscale: share of images that lose resolution.
    """

    colour: float = 0.2
    exposure: float = 0.5
    hue: float = 0.05
    blur: float = 1.0
    motion: float = 5.0
    sharpen: float = 0.2
    noise: float = 8.0
    jpeg: float = 0.2
    downscale: float = 0.1

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change an image.

        Args:
            image: [H, W, 3] uint8 RGB.
            rng: source of randomness.

        Returns:
            [H, W, 3] uint8 RGB of the same size, without geometric change.
        """
        height, width = image.shape[:2]
        if rng.random() < self.downscale:
            factor = rng.uniform(0.45, 0.9)
            size = (max(8, round(width * factor)), max(8, round(height * factor)))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        if rng.random() < 0.6:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, max(self.blur, 0.31)))
        if rng.random() < 0.15 and self.motion >= 3:
            image = cv2.filter2D(image, -1, _motion_kernel(rng, self.motion))
        if rng.random() < self.sharpen:
            amount = rng.uniform(0.3, 1.2)
            image = cv2.addWeighted(
                image, 1 + amount, cv2.GaussianBlur(image, (3, 3), 0), -amount, 0
            )
        image = self._recolour(image, rng)
        image = self._add_noise(image, rng)
        if rng.random() < self.jpeg:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
            decoded = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
            assert decoded is not None
            image = decoded
        return image

    def _recolour(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change gain, white balance, saturation, hue and gamma."""
        if self.colour <= 0:
            return image
        gain = np.exp((rng.normal() + self.exposure) * self.colour)
        balance = np.exp(rng.normal(size=3) * self.colour * 0.3)
        saturation = np.exp(rng.normal() * self.colour * 1.2)
        hue = rng.uniform(-1, 1) * self.hue
        matrix = gain * np.diag(balance) @ _hue_saturation(hue, saturation)
        image = cv2.transform(image, matrix.astype(np.float32))
        gamma = np.exp(rng.normal() * self.colour)
        table = (np.linspace(0, 1, 256) ** gamma * 255).astype(np.uint8)
        return cv2.LUT(image, table)

    def _add_noise(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Add Gaussian noise, stronger or weaker from image to image."""
        sigma = self.noise * rng.random() ** 2
        bank = _noise(2 * max(image.size, _NOISE_SIZE))
        start = rng.integers(len(bank) - image.size)
        noise = bank[start : start + image.size].reshape(image.shape)
        return cv2.addWeighted(image, 1.0, noise, sigma, 0.0, dtype=cv2.CV_8U)


@cache
def _noise(size: int) -> np.ndarray:
    """Make Gaussian noise to take pieces of: drawing it again costs more than all other effects."""
    return np.random.default_rng(0).standard_normal(size, np.float32)


def _hue_saturation(hue: float, saturation: float) -> np.ndarray:
    """Return a colour matrix [3, 3]: rotation about the grey axis and distance from it."""
    axis = np.ones(3) / np.sqrt(3)
    grey = np.outer(axis, axis)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return grey + saturation * (np.cos(hue) * (np.eye(3) - grey) + np.sin(hue) * cross)


def _motion_kernel(rng: np.random.Generator, longest: float) -> np.ndarray:
    """Return a short straight line, normalised."""
    length = int(rng.integers(3, int(longest) + 1))
    kernel = np.zeros((length, length), np.uint8)
    angle = rng.uniform(0, np.pi)
    middle = (length - 1) / 2
    offset = middle * np.array([np.cos(angle), np.sin(angle)])
    ends = np.rint([middle - offset, middle + offset]).astype(int).tolist()
    cv2.line(kernel, ends[0], ends[1], 1)
    return kernel.astype(np.float32) / kernel.sum()
