"""Pictures of an object alone; `core.next_view` compares them with poses."""

import cv2
import numpy as np
import trimesh

from spyropose_ros.scenes.renderer import Light, Renderer, shade

_BACKGROUND = 0.5
_OVERSAMPLING = 2  # rays along each side of a pixel
_LIGHT = Light(
    ambient=np.full(3, 0.5),
    directions=np.array([[-0.4, -0.7, -0.6], [0.7, -0.3, -0.65]]),
    colours=np.array([[0.5] * 3, [0.12] * 3]),
    specular=0.2,
    shininess=40.0,
)


class Portrait:
    """Draws one object before grey; a `core.next_view.Render`.

    Args:
        mesh: triangles in metres; grey if it has no colours.
    """

    def __init__(self, mesh: trimesh.Trimesh):
        self._renderer = Renderer(mesh)

    def __call__(
        self, rotation: np.ndarray, translation: np.ndarray, K: np.ndarray, size: int
    ) -> np.ndarray:
        """Draw a square picture; see `core.next_view.Render`."""
        fine = np.array(K, np.float64)
        fine[:2] *= _OVERSAMPLING
        fine[:2, 2] += (_OVERSAMPLING - 1) / 2  # pixel centres lie at integers
        side = _OVERSAMPLING * size
        buffer = self._renderer.render(rotation, translation, fine, side, side)
        image = np.full((side, side, 3), _BACKGROUND, np.float32)
        shaded = shade(buffer.albedo[buffer.mask], buffer.normals[buffer.mask], _LIGHT)
        image[buffer.mask] = shaded.clip(0, 1)
        small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        return (255 * small).round().astype(np.uint8)
