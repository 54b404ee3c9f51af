"""A distribution in 3D, in a notebook or as a page of HTML."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.plots.pose_cloud import Mesh, PoseCloud
from spyropose_ros.core.plots.scene import (
    CameraNodes,
    CameraView,
    ObjectNodes,
    image_depth,
    import_viser,
    look,
    quiet,
    up,
)


def show(
    distribution: PoseDistribution,
    mesh: str | Path | None = None,
    image: np.ndarray | None = None,
    K: np.ndarray | None = None,
    mass: float = 0.9,
    path: str | Path | None = None,
) -> None:
    """Show a distribution in 3D: in the notebook, else in the browser.

    Args:
        distribution: object to camera, with a diameter.
        mesh: file with the object's mesh, metres: `mesh.ply` of its bundle.
        image: that it was estimated from, rectified, RGB uint8 [H, W, 3].
        K: intrinsics of the image, [3, 3].
        mass: probability that the poses that are shown hold.
        path: write a page of HTML, which needs no network, instead of showing it.

    Raises:
        SpyroposeError: viser is not installed.
        InputError: the distribution has no diameter, or K is unusable.
        DataError: the mesh cannot be read.
    """
    import_viser()
    import viser

    cloud = PoseCloud.of(distribution, None if mesh is None else Mesh.read(Path(mesh)))
    with quiet():
        server = viser.ViserServer("127.0.0.1", 0, verbose=False)
    try:
        pose = np.eye(4)
        ObjectNodes(server.scene, "/object", 0, cloud, "object").draw(cloud, mass, up(pose))
        if image is not None and K is not None:
            view = CameraView(np.asarray(K, dtype=float), pose, image)
            CameraNodes(server.scene, "/camera", view).draw(view, image_depth(view, [cloud]))
        look(server, pose, [cloud])
        if path is None:
            server.scene.show(500)
        else:
            Path(path).write_text(server.scene.as_html())
    finally:
        with quiet():
            server.stop()
