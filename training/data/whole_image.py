"""Data whose image is the crop: one camera, one known translation, unknown rotation.

Source: Haugaard et al., ICCVW 2023: 224 px images, an object of diameter 1 m at 1.5 m, which the
image shows with a margin of 1.3.
"""

import numpy as np
import torch
from torch import Tensor

RESOLUTION = 224
"""Side of the images, pixels."""

PADDING = 1.3
"""Side of the image over the apparent diameter of the object."""

DIAMETER = 1.0
"""Of the object's bounding sphere, metres."""

TRANSLATION = np.array([0.0, 0.0, 1.5])
"""Of the object in the camera frame, metres."""

CENTER = np.zeros(3)
"""Of the object's bounding sphere, object frame."""


def pinhole(resolution: int) -> np.ndarray:
    """Return the intrinsics [3, 3] of an image with the given side in pixels."""
    focal = resolution * TRANSLATION[2] / (DIAMETER * PADDING)
    middle = (resolution - 1) / 2
    return np.array([[focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]])


def whole_image_item(image: np.ndarray, rotation: np.ndarray) -> dict[str, Tensor]:
    """Make a training item of an image that is the crop.

    Args:
        image: RGB uint8, [S, S, 3].
        rotation: true, object to camera, [3, 3].

    Returns:
        crop uint8 [3, S, S], K_crop [3, 3], estimate [3] and translation [3] (both the known one,
        metres) and rotation [3, 3].
    """
    translation = torch.from_numpy(TRANSLATION).float()
    return {
        "crop": torch.from_numpy(image).permute(2, 0, 1).contiguous(),
        "K_crop": torch.from_numpy(pinhole(len(image))).float(),
        "estimate": translation,
        "rotation": torch.from_numpy(rotation).float(),
        "translation": translation.clone(),
    }
