"""What to generate."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spyropose_ros.core.errors import InputError

UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "inch": 25.4e-3}
"""Metres per unit of a CAD file."""

_NEAREST, _FARTHEST = 3.5, 8.0  # default distances in diameters
_SMALLEST_IMAGE = 20.0  # pixels that the diameter must cover
_SCENES = 40  # the last two, 5 %, serve as validation set


@dataclass(frozen=True)
class ViewSettings:
    """What the camera sees.

    Attributes:
        views: 'uniform' over SO(3), or 'upright': z of the object points up and the camera looks
            from the side or above.
        distance: smallest and largest z of the object's centre, metres; None for 3.5 and 8
            diameters.
        resolution: width and height of the images, pixels.
        fov: horizontal field of view, degrees.
        occlusion: share of images with something in front of the object.
    """

    views: Literal["uniform", "upright"] = "uniform"
    distance: tuple[float, float] | None = None
    resolution: tuple[int, int] = (640, 480)
    fov: float = 56.0
    occlusion: float = 0.5

    @property
    def focal_length(self) -> float:
        """Pixels."""
        return self.resolution[0] / 2 / np.tan(np.radians(self.fov) / 2)

    @property
    def camera(self) -> dict[str, float]:
        """Intrinsics by their name, pixels."""
        width, height = self.resolution
        f = self.focal_length
        return {"fx": f, "fy": f, "cx": (width - 1) / 2, "cy": (height - 1) / 2}


def distance_range(views: ViewSettings, diameter: float) -> tuple[float, float]:
    """Compute how far the object may be from the camera.

    Args:
        views: what the camera sees.
        diameter: of the object's bounding sphere, metres.

    Returns:
        Smallest and largest z of the object's centre, metres.

    Raises:
        InputError: the camera makes no sense, or the object would be too large or too small in
            the image.
    """
    width, height = views.resolution
    if min(width, height) < 2 * _SMALLEST_IMAGE or not 1 <= views.fov <= 150:
        raise InputError(
            f"a camera of {width} x {height} pixels and {views.fov:g} degrees makes no sense: "
            "check --resolution and --fov"
        )
    if not 0 <= views.occlusion <= 1:
        raise InputError(f"--occlusion is a share between 0 and 1, got {views.occlusion:g}")
    near, far = views.distance or (_NEAREST * diameter, _FARTHEST * diameter)
    nearest = views.focal_length * diameter / min(width, height)
    farthest = views.focal_length * diameter / _SMALLEST_IMAGE
    if not nearest <= near <= far <= farthest:
        raise InputError(
            f"the distance {near:.3g} to {far:.3g} m does not suit an object of {diameter:.3g} m: "
            f"give --distance between {nearest:.3g} m (it fills the image) and {farthest:.3g} m "
            f"({_SMALLEST_IMAGE:g} pixels), the smaller one first"
        )
    return near, far


@dataclass(frozen=True)
class GenerationSettings:
    """What to make; two runs with the same settings and files make the same bytes.

    Attributes:
        name: of the object, as in the bundle and in detections.
        units: of the CAD files.
        symmetry: as for `symmetry_of`.
        images: for training, the validation images among them; 0 where the training renders its
            own.
        test_images: for the test split.
        seed: of everything random.
        views: what the camera sees.
    """

    name: str
    units: str = "mm"
    symmetry: str = "none"
    images: int = 2000
    test_images: int = 100
    seed: int = 0
    views: ViewSettings = ViewSettings()

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", self.name):
            raise InputError(
                f"name '{self.name}': use letters, digits, '_', '-' and '.'; give another --name"
            )
        if self.images < 0 or self.images == 1 or self.test_images < 1:
            raise InputError("give at least --images 2, or 0, and --test-images 1")

    def scenes(self) -> dict[tuple[str, int], int]:
        """Return the number of images of every scene, by split and number of the scene."""
        parts = np.array_split(np.arange(self.images), min(_SCENES, self.images) or 1)
        counts = {("train", scene): len(part) for scene, part in enumerate(parts) if len(part)}
        return counts | {("test", 0): self.test_images}
