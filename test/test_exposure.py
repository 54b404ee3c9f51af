"""Images that show nothing are said; dark, bright and flat ones that show something are not."""

import numpy as np
import pytest

from spyropose_ros.ros.pipeline.exposure import flaw

HEIGHT, WIDTH = 480, 640


def noise(low, high, seed=0):
    return np.random.default_rng(seed).integers(low, high, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def with_object(image, value, size=80):
    """The image with a square on it, by default a fiftieth of its area."""
    image = image.copy()
    image[200 : 200 + size, 300 : 300 + size] = value
    return image


@pytest.mark.parametrize(
    "image, text",
    [
        (noise(0, 5), "nearly black"),
        (noise(0, 1), "nearly black"),
        (noise(254, 256), "saturated"),
        (noise(255, 256), "saturated"),
        (noise(128, 129), "the same value everywhere"),
        (noise(60, 65), "the same value everywhere"),
    ],
)
def test_images_that_show_nothing_are_named(image, text):
    assert text in flaw(image)
    image[5:8, 5:8] = 128  # a few defective pixels change nothing
    assert text in flaw(image)
    assert text in flaw(image[:3, :3])


@pytest.mark.parametrize(
    "image",
    [
        noise(0, 256),
        noise(0, 30),
        noise(230, 256),
        noise(100, 120),
        with_object(noise(0, 3), 60),
        with_object(noise(255, 256), 100),
        with_object(noise(128, 129), 150),
        with_object(noise(0, 3), 60, size=30),
        with_object(noise(255, 256), 100, size=30),
        with_object(noise(128, 129), 150, size=30),
    ],
)
def test_images_that_show_something_are_not(image):
    assert flaw(image) is None
