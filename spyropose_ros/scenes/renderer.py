"""Ray-cast rendering of one mesh on the CPU, without any graphics context."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import trimesh
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from scipy.spatial.transform import Rotation
from trimesh.visual import ColorVisuals

GREY = 0.7
"""Colour of what has none."""


class GBuffer(NamedTuple):
    """What the camera sees in every pixel.

    Attributes:
        depth: [H, W] float32, z in the camera frame in metres; 0 where there is nothing.
        normals: [H, W, 3] float32, unit, camera frame, turned towards the camera; 0 where nothing.
        albedo: [H, W, 3] float32 RGB in [0, 1].
        face: [H, W] int32, index of the mesh face; -1 where there is nothing.
    """

    depth: np.ndarray
    normals: np.ndarray
    albedo: np.ndarray
    face: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """[H, W] bool, true where the mesh is seen."""
        return self.face >= 0


class Renderer:
    """Renders one mesh.

    The ray-casting structure is built at the first rendering, so that a renderer can be pickled
    and sent to another process.

    Attributes:
        faces: [F, 3] int32, the vertices of every face.
        normals: [V, 3] float32, smooth, object frame.
        colours: [V, 3] float32 RGB in [0, 1], or None.
    """

    faces: np.ndarray
    normals: np.ndarray
    colours: np.ndarray | None

    def __init__(self, mesh: trimesh.Trimesh):
        """Take the geometry, the smooth vertex normals and, if any, the vertex colours.

        Args:
            mesh: triangles in metres.
        """
        self._triangles = np.ascontiguousarray(mesh.triangles, np.float32)  # [F, 3, 3]
        self._corners = _bounding_vertices(mesh)  # [V, 3]
        self.faces = np.asarray(mesh.faces, np.int32)  # [F, 3]
        self.normals = np.asarray(mesh.vertex_normals, np.float32)  # [V, 3]
        self.colours = _vertex_colours(mesh)  # [V, 3] or None
        self._scene: EmbreeScene | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_scene": None}

    def bounds(self, rotation: np.ndarray, translation: np.ndarray, K: np.ndarray) -> np.ndarray:
        """Return the projected bounding box.

        Args:
            rotation: [3, 3], object to camera.
            translation: [3], object to camera, metres.
            K: [3, 3] intrinsics.

        Returns:
            [4] float, xyxy of the outermost projected vertices in pixels; infinite when the mesh
            reaches behind the camera.
        """
        points = self._corners @ (K @ rotation).T.astype(np.float32) + K @ translation
        if points[:, 2].min() <= 1e-6:
            return np.array([-np.inf, -np.inf, np.inf, np.inf])
        pixels = points[:, :2] / points[:, 2:]
        return np.concatenate([pixels.min(0), pixels.max(0)])

    def render(
        self,
        rotation: np.ndarray,
        translation: np.ndarray,
        K: np.ndarray,
        width: int,
        height: int,
    ) -> GBuffer:
        """Cast one ray through every pixel centre near the mesh.

        Args:
            rotation: [3, 3], object to camera.
            translation: [3], object to camera, metres.
            K: [3, 3] intrinsics; pixel centres lie at integers. No skew.
            width: pixels.
            height: pixels.

        Returns:
            The buffers of the whole image.
        """
        depth = np.zeros((height, width), np.float32)
        normals = np.zeros((height, width, 3), np.float32)
        albedo = np.zeros((height, width, 3), np.float32)
        face = np.full((height, width), -1, np.int32)
        buffer = GBuffer(depth, normals, albedo, face)

        left, top, right, bottom = self.bounds(rotation, translation, K)
        x0, x1 = max(0, _pixel(np.floor(left))), min(width, _pixel(np.ceil(right)) + 1)
        y0, y1 = max(0, _pixel(np.floor(top))), min(height, _pixel(np.ceil(bottom)) + 1)
        if x0 >= x1 or y0 >= y1:
            return buffer

        x = (np.arange(x0, x1) - K[0, 2]) / K[0, 0]
        y = (np.arange(y0, y1) - K[1, 2]) / K[1, 1]
        hits, rays = self.trace(rotation, translation, x, y)
        hit = np.flatnonzero(hits["primID"] >= 0)
        index = hits["primID"][hit]
        weights = _barycentric(hits["u"][hit], hits["v"][hit])
        corners = self.faces[index]  # [N, 3]
        normal = _interpolate(self.normals, corners, weights)
        normal = normal @ rotation.T.astype(np.float32)
        length = np.sqrt(np.einsum("nc,nc->n", normal, normal))
        towards = np.where(np.einsum("nc,nc->n", normal, rays[hit]) > 0, np.float32(-1), 1)
        normal *= (towards / np.maximum(length, 1e-9))[:, None]

        rows, columns = np.divmod(hit, x1 - x0)
        flat = (rows + y0) * width + columns + x0
        depth.reshape(-1)[flat] = hits["tfar"][hit]
        normals.reshape(-1, 3)[flat] = normal
        colours = GREY if self.colours is None else _interpolate(self.colours, corners, weights)
        albedo.reshape(-1, 3)[flat] = colours
        face.reshape(-1)[flat] = index
        return buffer

    def trace(
        self, rotation: np.ndarray, translation: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Intersect rays from the camera centre with the mesh, one for every row and column.

        Args:
            rotation: [3, 3], object to camera.
            translation: [3], object to camera, metres.
            x: [w], x / z of the columns' rays.
            y: [h], y / z of the rows' rays.

        Returns:
            For each of the h w rays, line by line: primID, the face or -1; u and v, the weights of
            its second and third corner; tfar, the depth. And the rays [h w, 3], with z = 1.
        """
        if self._scene is None:
            self._scene = EmbreeScene(robust=True)
            TriangleMesh(self._scene, self._triangles)
        grid = np.ones((len(y), len(x), 3), np.float32)  # z = 1, so that t is the depth
        grid[..., 0] = x
        grid[..., 1] = y[:, None]
        rays = grid.reshape(-1, 3)
        # The mesh stays where it is and the rays move into its frame.
        directions = rays @ rotation.astype(np.float32)
        origin = (-rotation.T @ translation).astype(np.float32)
        origins = np.broadcast_to(origin, directions.shape)
        return self._scene.run(origins, directions, query="INTERSECT", output=1), rays


@dataclass(frozen=True)
class Light:
    """Illumination in the camera frame.

    Attributes:
        ambient: [3] RGB of the light from everywhere.
        directions: [L, 3] unit vectors towards the lights.
        colours: [L, 3] RGB of the lights.
        specular: strength of the highlights.
        shininess: Blinn-Phong exponent.
    """

    ambient: np.ndarray
    directions: np.ndarray
    colours: np.ndarray
    specular: float
    shininess: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Light":
        """Draw soft ambient light and one to three lights from the camera's side or above."""
        count = rng.integers(1, 4)
        directions = rng.normal(size=(count, 3)) + [0, -0.7, -0.7]
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        tint = rng.uniform(0.85, 1.0, (count, 3))
        strength = rng.dirichlet(np.ones(count)) * rng.uniform(0.4, 1.3)
        return cls(
            ambient=rng.uniform(0.25, 0.7) * rng.uniform(0.9, 1.0, 3),
            directions=directions,
            colours=strength[:, None] * tint,
            specular=rng.uniform(0, 0.8) if rng.random() < 0.6 else 0.0,
            shininess=np.exp(rng.uniform(np.log(5), np.log(100))),
        )


def shade(
    albedo: np.ndarray,
    normals: np.ndarray,
    light: Light,
    view: Any = (0.0, 0.0, -1.0),
) -> np.ndarray:
    """Apply Lambert and Blinn-Phong shading.

    Args:
        albedo: [..., 3] RGB in [0, 1].
        normals: [..., 3] unit normals in the camera frame, towards the camera.
        light: the illumination.
        view: [3] unit vector from the object towards the camera.

    Returns:
        [..., 3] float32 RGB, not clipped.
    """
    directions = light.directions.astype(np.float32)
    lambert = np.maximum(normals @ directions.T, 0)  # [..., L]
    image = albedo * (lambert @ light.colours.astype(np.float32) + np.float32(light.ambient))
    if light.specular > 0:
        half = directions + np.float32(view)
        half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
        gloss = np.maximum(normals @ half.T, 0) ** np.float32(light.shininess)
        image += gloss @ (light.specular * light.colours).astype(np.float32)
    return image


def bounding_sphere(mesh: trimesh.Trimesh) -> tuple[np.ndarray, float]:
    """Return the smallest sphere around a mesh: centre [3] and radius, in the mesh's unit."""
    center, radius = trimesh.nsphere.minimum_nsphere(mesh)
    return np.asarray(center, np.float64), float(radius)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Return a rotation matrix [3, 3], uniform over SO(3)."""
    return Rotation.from_quat(rng.normal(size=4)).as_matrix()


def upright_rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw an upright object's rotation, seen from above its table: object to camera, [3, 3]."""
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.radians(rng.uniform(0, 90))
    roll = np.radians(rng.normal() * 20)
    # Camera axes for elevation 0: x right, y down (object's -z), z forward.
    upright = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    turn = Rotation.from_euler("z", azimuth).as_matrix()
    tilt = Rotation.from_euler("x", elevation).as_matrix()
    return Rotation.from_euler("z", roll).as_matrix() @ tilt @ upright @ turn


def _pixel(value: float) -> int:
    """Return a pixel index that survives infinite bounds."""
    return int(np.clip(value, -(2**30), 2**30))


def _bounding_vertices(mesh: trimesh.Trimesh) -> np.ndarray:
    """Return the vertices of the convex hull [V, 3]: they bound every projection of the mesh."""
    return np.asarray(mesh.convex_hull.vertices, np.float32)


def _barycentric(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights of a face's corners, each [N, 1], from the ray caster's u and v [N]."""
    return (1 - u - v)[:, None], u[:, None], v[:, None]


def _interpolate(values: np.ndarray, corners: np.ndarray, weights) -> np.ndarray:
    """Interpolate vertex values [V, C] at points in faces with corners [N, 3]: [N, C]."""
    result = values[corners[:, 0]] * weights[0]
    result += values[corners[:, 1]] * weights[1]
    result += values[corners[:, 2]] * weights[2]
    return result


def _vertex_colours(mesh: trimesh.Trimesh) -> np.ndarray | None:
    """Return RGB in [0, 1] of every vertex [V, 3]; None if the mesh has no vertex colours."""
    visual = mesh.visual
    if not isinstance(visual, ColorVisuals) or visual.kind != "vertex":
        return None
    return np.asarray(visual.vertex_colors[:, :3], np.float32) / 255
