"""Objects and cameras drawn into a scene of viser.

Nodes are made once and then only moved: a change of an object costs a message of 20 kB, and what
did not change costs nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spyropose_ros.core.errors import InputError, SpyroposeError
from spyropose_ros.core.plots.pose_cloud import MAX_POSES, Mesh, PoseCloud

if TYPE_CHECKING:
    import viser

OBJECT_COLOURS = ((0, 160, 255), (255, 70, 160), (255, 150, 30), (150, 90, 230))
"""Of the meshes, by the objects' order."""
_FEATURE_COLOUR = (255, 190, 0)
_GHOSTS = 24  # meshes of one object
_OPACITIES = 0.1, 0.9  # of meshes of no mass and of all of it; between, by its square root
_SHORTEST = 0.3  # triad, as a share of the longest
_BEHIND = 0.75  # diameters from the farthest object to the image
_FRAME_COLOUR = (90, 96, 106)


def import_viser() -> None:
    """Import viser.

    Raises:
        SpyroposeError: it is not installed.
    """
    try:
        import viser  # noqa: F401
    except ImportError as error:
        raise SpyroposeError(
            f"the viewer needs viser ({error}): install it with pip install 'viser>=1.1,<2', or "
            "pip install '.[view]' in the source tree"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what a server says at its start and end from the terminal or the notebook."""
    import rich  # which prints it, and comes with viser

    console = rich.get_console()
    was, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = was


@dataclass(frozen=True)
class CameraView:
    """A camera and what it sees.

    Attributes:
        K: intrinsics [3, 3].
        pose: camera's optical frame -> frame of the picture, [4, 4], metres.
        image: rectified, RGB uint8 [H, W, 3].
    """

    K: np.ndarray
    pose: np.ndarray
    image: np.ndarray

    def __post_init__(self) -> None:
        """Check the intrinsics, which calibrations may lack."""
        usable = np.isfinite(self.K).all() and self.K[0, 0] > 0 and self.K[1, 1] > 0
        if np.shape(self.K) != (3, 3) or not usable:
            raise InputError("K must be [3, 3] with focal lengths; is the camera calibrated?")


class ObjectNodes:
    """The nodes of one object: meshes, triads, features and the ellipsoid of its centre.

    Args:
        scene: gets the nodes.
        path: of the nodes, which begins with /.
        index: of the object, for its colour.
        cloud: of the object, whose mesh and features are drawn from now on.
        name: written above it.

    Attributes:
        mesh: that is drawn.
        features: that are drawn, by name.
        root: their parent, which hides them all.
    """

    mesh: Mesh | None
    features: Mapping[str, Sequence[float]]
    root: viser.FrameHandle

    def __init__(
        self, scene: viser.SceneApi, path: str, index: int, cloud: PoseCloud, name: str
    ) -> None:
        self.mesh, self.features = cloud.mesh, cloud.features
        colour, size = OBJECT_COLOURS[index % len(OBJECT_COLOURS)], cloud.diameter
        self.root = scene.add_frame(path, show_axes=False)
        self._meshes = None
        if cloud.mesh is not None:
            self._meshes = scene.add_batched_meshes_simple(
                f"{path}/meshes",
                cloud.mesh.vertices,
                cloud.mesh.faces,
                *_identities(_GHOSTS),
                batched_scales=np.zeros(_GHOSTS, np.float32),
                batched_colors=np.array([colour] * _GHOSTS, np.uint8),
                batched_opacities=np.zeros(_GHOSTS, np.float32),
                side="double",
                cast_shadow=False,
                receive_shadow=False,
            )
        self._triads = scene.add_batched_axes(
            f"{path}/triads",
            *_identities(MAX_POSES),
            batched_scales=np.zeros(MAX_POSES, np.float32),
            axes_length=0.5 * size,
            axes_radius=0.002 * size,
        )
        self._leading = scene.add_frame(
            f"{path}/leading mode", axes_length=0.75 * size, axes_radius=0.02 * size
        )
        self._ellipsoid = scene.add_icosphere(
            f"{path}/ellipsoid of the centre",
            color=(120, 80, 220),
            opacity=0.3,
            cast_shadow=False,
            receive_shadow=False,
        )
        self._label = scene.add_label(f"{path}/name", name, anchor="bottom-center")
        self._places = {
            feature: scene.add_point_cloud(
                f"{path}/features/{feature}",
                np.zeros((1, 3), np.float32),
                _FEATURE_COLOUR,
                point_size=0.03 * size,
                point_shape="circle",
            )
            for feature in cloud.features
        }
        self._names = {
            feature: scene.add_label(f"{path}/features/{feature}/name", feature)
            for feature in cloud.features
        }

    def draw(self, cloud: PoseCloud, mass: float, up: np.ndarray) -> None:
        """Show the most probable poses.

        Args:
            cloud: of the object, at least one pose.
            mass: how much of the probability is shown.
            up: unit vector, [3].
        """
        part = cloud.holding(mass)
        shares = part.weights[:MAX_POSES] / part.weights[0]
        quaternions, positions, scales = _instances(
            part.rotations, part.translations, _SHORTEST + (1 - _SHORTEST) * shares, MAX_POSES
        )
        self._triads.batched_wxyzs, self._triads.batched_positions = quaternions, positions
        self._triads.batched_scales = scales
        if self._meshes is not None:
            rotations, translations, masses = part.ghosts(_GHOSTS)
            quaternions, positions, scales = _instances(
                rotations, translations, np.ones(len(masses)), _GHOSTS
            )
            low, high = _OPACITIES
            opacities = np.zeros(_GHOSTS, np.float32)
            opacities[: len(masses)] = low + (high - low) * np.sqrt(masses)
            self._meshes.batched_wxyzs, self._meshes.batched_positions = quaternions, positions
            self._meshes.batched_scales, self._meshes.batched_opacities = scales, opacities
        self._leading.visible = bool(cloud.clusters)
        if cloud.clusters:
            rotation, translation, _ = cloud.clusters[0]
            self._leading.wxyz, self._leading.position = _wxyz(rotation), translation
        for feature, points in self._places.items():
            places = part.places(feature)
            points.points = places.astype(np.float32)
            self._names[feature].position = places[0]
        ellipsoid = cloud.ellipsoid(mass)
        centre, axes = ellipsoid.center.numpy(), ellipsoid.axes.double().numpy()
        self._ellipsoid.wxyz, self._ellipsoid.position = _wxyz(axes), centre
        self._ellipsoid.scale = tuple(ellipsoid.semi_axes.tolist())
        self._label.position = centre + 0.6 * cloud.diameter * up
        self.root.visible = True


class CameraNodes:
    """The nodes of a camera: its frustum, closed by the image.

    Args:
        scene: gets the nodes.
        path: of the nodes, which begins with /.
        view: of the camera.

    Attributes:
        root: their parent, which hides them all.
    """

    root: viser.FrameHandle

    def __init__(self, scene: viser.SceneApi, path: str, view: CameraView) -> None:
        self.root = scene.add_frame(path, show_axes=False)
        self._edges = scene.add_line_segments(
            f"{path}/frustum", np.zeros((8, 2, 3), np.float32), _FRAME_COLOUR, thickness=2.0,
            thickness_units="screen",
        )  # fmt: skip
        self._image = scene.add_image(
            f"{path}/image", view.image, 1.0, 1.0, cast_shadow=False, receive_shadow=False
        )

    def draw(self, view: CameraView, depth: float) -> None:
        """Show a view.

        Args:
            view: of the camera.
            depth: of the image, metres along the optical axis.
        """
        height, width = view.image.shape[:2]
        pixels = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
        rays = np.column_stack((pixels, np.ones(4))) @ np.linalg.inv(view.K).T
        corners = np.float32(depth * rays)  # [4, 3], clockwise from the upper left
        apex = np.zeros_like(corners)
        self._edges.points = np.concatenate(
            (np.stack((apex, corners), 1), np.stack((corners, np.roll(corners, -1, 0)), 1))
        )
        self._image.image = view.image
        self._image.render_width = float(corners[1, 0] - corners[0, 0])
        self._image.render_height = float(corners[3, 1] - corners[0, 1])
        self._image.position = corners.mean(0)
        self.root.wxyz, self.root.position = _wxyz(view.pose[:3, :3]), view.pose[:3, 3]
        self.root.visible = True


def image_depth(view: CameraView, clouds: list[PoseCloud]) -> float:
    """Return the depth at which an image is behind all objects, metres along the optical axis."""
    into = np.linalg.inv(view.pose)[2]
    depths = [
        float((cloud.centres @ into[:3] + into[3]).max()) + _BEHIND * cloud.diameter
        for cloud in clouds
    ]
    return max([depth for depth in depths if depth > 0], default=1.0)


def up(pose: np.ndarray) -> np.ndarray:
    """Return what is up in the image of a camera with a pose [4, 4], unit vector [3]."""
    return -pose[:3, 1]


def look(server: viser.ViserServer, pose: np.ndarray, clouds: list[PoseCloud]) -> None:
    """Look at the objects from beside a camera: all that connect, and those that are connected.

    Args:
        server: of the scene.
        pose: of the camera's optical frame, [4, 4].
        clouds: the objects, at least one.
    """
    target = np.mean([cloud.centres.mean(0) for cloud in clouds], axis=0)
    distance = 2.5 * max(cloud.diameter for cloud in clouds)
    back = pose[:3, 3] - target
    beside = back / np.linalg.norm(back) + 0.4 * pose[:3, 0] + 0.5 * up(pose)
    eye = target + distance * beside / np.linalg.norm(beside)
    server.scene.set_up_direction(up(pose))
    server.initial_camera.position, server.initial_camera.look_at = eye, target
    for client in server.get_clients().values():
        client.camera.position, client.camera.look_at = eye, target


def _wxyz(rotations: np.ndarray) -> np.ndarray:
    """Convert rotations [..., 3, 3] to viser's quaternions [..., 4]."""
    from viser.transforms import SO3

    return SO3.from_matrix(rotations).wxyz


def _identities(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return quaternions and positions of instances that are not shown yet."""
    return np.array([(1, 0, 0, 0)] * count, np.float32), np.zeros((count, 3), np.float32)


def _instances(
    rotations: np.ndarray, translations: np.ndarray, scales: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return quaternions, positions and scales of so many instances; a scale of 0 hides one."""
    quaternions, positions = _identities(count)
    sizes = np.zeros(count, np.float32)
    n = min(len(scales), count)
    quaternions[:n], positions[:n] = _wxyz(rotations[:n]), translations[:n]
    sizes[:n] = scales[:n]
    return quaternions, positions, sizes
