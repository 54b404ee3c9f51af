"""Views: one object, ray-cast without light, colour, background or occluders."""

from typing import NamedTuple

import numpy as np

from spyropose_ros.scenes.renderer import GREY, Renderer
from spyropose_ros.scenes.sampler import ObjectModel, SceneSettings, random_pose

NORMAL_SCALE = 32767
"""Of normals as int16."""

_MARGIN = 1.1  # a box seen from the side of the lens is larger than the sphere's diameter


class View(NamedTuple):
    """What a window of the camera image shows of the object alone, and where it lies.

    Attributes:
        rotation: [3, 3], object frame to camera frame.
        translation: [3], object frame to camera frame, metres.
        K: [3, 3] intrinsics of the window; the camera's, scaled and moved.
        depth: [S, S] float32, z of the surface in metres; 0 where it is not.
        normals: [3, S, S] int16, camera frame, towards the camera, of length `NORMAL_SCALE`; 0
            elsewhere.
        albedo: [3, S, S] uint8 RGB.
        part: [S, S] bool, the part that breaks the symmetry (the mug's handle).
        inside: [S, S] bool, the pixels that lie in the camera image.
    """

    rotation: np.ndarray
    translation: np.ndarray
    K: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    albedo: np.ndarray
    part: np.ndarray
    inside: np.ndarray


class ViewCaster:
    """Casts views at random poses. Can be pickled; forked workers can share one."""

    def __init__(self, model: ObjectModel, settings: SceneSettings, diameter: float):
        """Prepare the renderer.

        Args:
            model: the object.
            settings: camera, poses, and how much of the object the camera image must show.
            diameter: of the bounding sphere in a window, pixels; it is smaller where the camera
                itself sees it smaller.
        """
        self.model = model
        self.settings = settings
        self.diameter = diameter
        self.size = int(np.ceil(_MARGIN * diameter)) + 2
        self._renderer = Renderer(model.mesh)
        self._colours = self._renderer.colours
        if self._colours is None:
            self._colours = np.full_like(self._renderer.normals, GREY)
        self._handle = np.zeros(len(self._renderer.faces), bool)
        if model.handle_faces is not None:
            self._handle = model.handle_faces

    def sample(self, rng: np.random.Generator) -> View:
        """Cast one view.

        Args:
            rng: the only source of randomness: the same state gives the same view.

        Returns:
            The view; the camera image holds at least `min_visible_fraction` of the object.
        """
        while True:
            view = self.cast(*random_pose(self.model, self.settings, rng))
            if view is None:
                continue
            seen = view.depth > 0
            least = self.settings.min_visible_fraction * np.count_nonzero(seen)
            if np.count_nonzero(seen & view.inside) >= max(least, 1):
                return view

    def cast(self, rotation: np.ndarray, translation: np.ndarray) -> View | None:
        """Cast the view at a pose.

        Args:
            rotation: [3, 3], object to camera.
            translation: [3], object to camera, metres.

        Returns:
            The view with the whole object in its window; None when it reaches behind the camera.
        """
        settings, size = self.settings, self.size
        bounds = self._renderer.bounds(rotation, translation, settings.K)
        if not np.isfinite(bounds).all():
            return None
        z = (rotation @ self.model.center + translation)[2]
        scale = min(
            1.0,
            self.diameter * z / (self.model.diameter * settings.fx),
            (size - 2) / (bounds[2:] - bounds[:2]).max(),
        )
        # Pixel centres lie at integers.
        middle = (bounds[:2] + bounds[2:] + 1) / 2 * scale - 0.5
        corner = np.rint(middle - (size - 1) / 2)
        K = settings.K
        K[:2] *= scale
        K[:2, 2] += 0.5 * scale - 0.5 - corner
        depth = np.zeros((size, size), np.float32)
        normals = np.zeros((3, size, size), np.int16)
        albedo = np.zeros((3, size, size), np.uint8)
        part = np.zeros((size, size), bool)
        # The object's own rectangle.
        left, top = np.floor((bounds[:2] + 0.5) * scale - 0.5 - corner).astype(int)
        right, bottom = np.ceil((bounds[2:] + 0.5) * scale - 0.5 - corner).astype(int) + 1
        x = (np.arange(left, right) - K[0, 2]) / K[0, 0]
        y = (np.arange(top, bottom) - K[1, 2]) / K[1, 1]
        hits, rays = self._renderer.trace(rotation, translation, x, y)
        rows, columns = slice(top, bottom), slice(left, right)
        from spyropose_ros.scenes.view_kernel import fill  # importing Numba takes half a second

        fill(
            *(hits[key] for key in ("primID", "u", "v", "tfar")),
            rays,
            rotation.astype(np.float32),
            self._renderer.faces,
            self._renderer.normals,
            self._colours,
            self._handle,
            np.float32(NORMAL_SCALE),
            *(buffer[..., rows, columns] for buffer in (depth, normals, albedo, part)),
        )
        x, y = (np.arange(size) + 0.5 + corner[:, None]) / scale - 0.5
        in_columns = (x >= -0.5) & (x <= settings.width - 0.5)
        in_rows = (y >= -0.5) & (y <= settings.height - 0.5)
        return View(
            rotation=rotation,
            translation=translation,
            K=K,
            depth=depth,
            normals=normals,
            albedo=albedo,
            part=part,
            inside=in_rows[:, None] & in_columns,
        )
