"""A table with objects on it, and an object that flies in front: what the demo's camera sees.

World frame: origin on the table, x right, y away from the camera, z up.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from spyropose_ros.scenes.renderer import Light, Renderer, shade

WIDTH, HEIGHT = 640, 480
K = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])
MUG_COLOUR = np.array([0.42, 0.72, 0.72], np.float32)

_ELEVATION = np.radians(24.0)
_LOOK_AT = np.array([0.0, 0.0, 0.07])  # world point in the middle of the image
_DISTANCE = 0.62  # from the camera to that point, metres
_WALL = 0.38  # y of the wall behind the table, metres
_SUN = np.array([0.35, 0.4, -1.0])  # world direction in which the shadows fall
_LIGHT = Light(
    ambient=np.full(3, 0.5),
    directions=np.array([[-0.45, -0.75, -0.48], [0.7, -0.3, -0.65]]),
    colours=np.array([[0.52, 0.5, 0.47], [0.1, 0.11, 0.13]]),
    specular=0.35,
    shininess=40.0,
)
_NOISE = 2.0  # grey levels

CAMERA_FROM_WORLD = np.array(
    [
        [1.0, 0.0, 0.0],
        [0.0, -np.sin(_ELEVATION), -np.cos(_ELEVATION)],
        [0.0, np.cos(_ELEVATION), -np.sin(_ELEVATION)],
    ]
)
"""[3, 3] rotation from the world to the camera's optical frame."""

CAMERA_OFFSET = np.array([0.0, 0.0, _DISTANCE]) - CAMERA_FROM_WORLD @ _LOOK_AT
"""[3] the world's origin in the camera's optical frame, metres."""


class Stage:
    """The scene around a moving object. Everything except the object is drawn once."""

    def __init__(self, mesh: trimesh.Trimesh, solids: Sequence[trimesh.Trimesh] | None = None):
        """Draw the background.

        Args:
            mesh: The moving object, metres; in the mug's colour if it has none.
            solids: What casts its shadows, the parts of the mesh that hang together by default.
        """
        self._object = Renderer(mesh)
        solids = mesh.split(only_watertight=False) if solids is None else solids
        self._hulls = [solid.convex_hull.vertices for solid in solids]
        self._background = _table_and_wall(np.random.default_rng(3))
        self._depth = np.full((HEIGHT, WIDTH), np.inf, np.float32)
        for mesh, position, yaw, colour in _objects():
            self._put(mesh, position, yaw, np.array(colour, np.float32))

    def render(
        self, rotation: np.ndarray, translation: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """Draw the scene with the object at a pose.

        Args:
            rotation: [3, 3], object to camera.
            translation: [3], object to camera, metres.
            rng: Of the sensor noise.

        Returns:
            RGB image, uint8 [H, W, 3]; index of the object's face seen in every pixel, int32
            [H, W], -1 for none; and the number of pixels that the object would have alone.
        """
        image = self._background.copy()
        for hull in self._hulls:
            points = (hull @ rotation.T + translation - CAMERA_OFFSET) @ CAMERA_FROM_WORLD
            _cast_shadow(image, points, self._depth)
        buffer = self._object.render(rotation, translation, K, WIDTH, HEIGHT)
        seen = buffer.mask & (buffer.depth < self._depth)
        colour = MUG_COLOUR if self._object.colours is None else buffer.albedo[seen]
        image = _composite(image, buffer.normals, seen, colour)
        noise = rng.standard_normal(image.shape, np.float32)
        image = np.clip(image * 255 + _NOISE * noise, 0, 255).round().astype(np.uint8)
        return image, np.where(seen, buffer.face, -1), int(np.count_nonzero(buffer.mask))

    def _put(self, mesh: trimesh.Trimesh, position, yaw: float, colour: np.ndarray) -> None:
        """Put an object at a position (x, y, z of its lowest point), rotated about z."""
        mesh = mesh.smooth_shaded  # round where it is round, with sharp edges kept
        upright = Rotation.from_euler("z", yaw, degrees=True).as_matrix()
        origin = np.array(position) - [0, 0, mesh.bounds[0, 2]]
        _cast_shadow(self._background, mesh.vertices @ upright.T + origin, self._depth)
        rotation = CAMERA_FROM_WORLD @ upright
        translation = CAMERA_FROM_WORLD @ origin + CAMERA_OFFSET
        buffer = Renderer(mesh).render(rotation, translation, K, WIDTH, HEIGHT)
        seen = buffer.mask & (buffer.depth < self._depth)
        self._background = _composite(self._background, buffer.normals, seen, colour)
        self._depth[seen] = buffer.depth[seen]


def _objects() -> list[tuple]:
    """Return the objects on the table: mesh, position (x, y, z), yaw in degrees, colour."""
    box, cylinder = trimesh.creation.box, trimesh.creation.cylinder
    ring = trimesh.creation.torus(0.036, 0.010, 64, 32)
    return [
        (box((0.13, 0.04, 0.18)), (-0.21, 0.27, 0), 16, (0.80, 0.66, 0.38)),
        (box((0.16, 0.11, 0.032)), (0.21, 0.24, 0), -20, (0.38, 0.48, 0.44)),
        (box((0.13, 0.09, 0.026)), (0.20, 0.24, 0.032), -8, (0.66, 0.33, 0.28)),
        (cylinder(0.030, 0.12, sections=64), (0.02, 0.30, 0), 0, (0.72, 0.73, 0.72)),
        (trimesh.creation.icosphere(4, 0.032), (-0.09, 0.24, 0), 0, (0.85, 0.47, 0.24)),
        (ring, (-0.27, 0.06, 0), 0, (0.35, 0.34, 0.40)),
        (trimesh.creation.cone(0.028, 0.07, sections=64), (0.28, 0.06, 0), 0, (0.55, 0.62, 0.30)),
    ]


def _composite(image: np.ndarray, normals: np.ndarray, mask: np.ndarray, colour) -> np.ndarray:
    """Shade a rendered object and blend it over the image [H, W, 3] float32, with soft edges."""
    rendered = np.zeros_like(image)
    shaded = shade(np.broadcast_to(colour, normals[mask].shape), normals[mask], _LIGHT)
    rendered[mask] = np.clip(shaded, 0, 1)
    opacity = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0.6)[..., None]
    colours = cv2.GaussianBlur(rendered, (3, 3), 0.6)
    return image * (1 - opacity) + colours


def _table_and_wall(rng: np.random.Generator) -> np.ndarray:
    """Draw the empty scene, float32 [H, W, 3] in [0, 1]."""
    column, row = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack([column, row, np.ones_like(row)], -1) @ np.linalg.inv(K).T @ CAMERA_FROM_WORLD
    eye = -CAMERA_OFFSET @ CAMERA_FROM_WORLD
    to_table = -eye[2] / np.minimum(rays[..., 2], -1e-6)
    to_wall = (_WALL - eye[1]) / rays[..., 1]
    on_table = to_table < to_wall
    x, y = (eye + rays * to_table[..., None])[..., :2].astype(np.float32).transpose(2, 0, 1)

    coarse = cv2.resize(rng.normal(size=(90, 8)).astype(np.float32), (1200, 900))
    fine = cv2.resize(rng.normal(size=(400, 20)).astype(np.float32), (1200, 900))
    streaks = cv2.remap(
        coarse + 0.5 * fine,
        600 + 600 * x,
        450 + 600 * y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    plank = 1 - 0.25 * (np.abs((x + 0.02) % 0.16 - 0.08) > 0.0785)
    wood = np.array([0.66, 0.50, 0.35]) * ((1 + 0.05 * streaks) * plank)[..., None]
    height = (eye + rays * to_wall[..., None])[..., 2:]
    wall = np.array([0.78, 0.79, 0.77]) * (0.86 + 0.35 * np.clip(height, 0, 0.4))
    skirting = (height > 0) & (height < 0.012)
    wall = np.where(skirting, wall * 0.75, wall)
    vignette = 1 - 0.18 * (((column - 320) / 400) ** 2 + ((row - 240) / 400) ** 2)
    image = np.where(on_table[..., None], wood, wall) * vignette[..., None]
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.7)


def _cast_shadow(image: np.ndarray, points: np.ndarray, depth: np.ndarray) -> None:
    """Darken the table, in place, in the shadow of the hull of world points [N, 3].

    The higher the object, the softer and fainter its shadow.
    """
    ground = points - points[:, 2:] / _SUN[2] * _SUN
    lifted = ground @ CAMERA_FROM_WORLD.T + CAMERA_OFFSET
    pixels = lifted @ K.T
    hull = cv2.convexHull(np.float32(pixels[:, :2] / pixels[:, 2:])).round().astype(np.int32)
    covered = np.zeros(image.shape[:2], np.float32)
    cv2.fillConvexPoly(covered, hull, 1.0)
    height = max(points[:, 2].min(), 0.0)
    shadow = cv2.GaussianBlur(covered, (0, 0), 2.5 + 90 * height)
    shadow[np.isfinite(depth)] = 0
    image *= 1 - np.float32(0.45 / (1 + 6 * height)) * shadow[..., None]
