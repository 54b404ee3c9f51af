"""One pose beside the distribution, the README's first picture.

Usage: `python -m spyropose_ros.demo.one_pose docs/one_pose.jpg`, or `./run exec python -m ...`.

Two views of the demo's mug, its handle in sight and hidden, and a cylinder, each rendered three
times with other noise. Drawn as if they were of glass: the handle where a single pose puts it in
each of the three images (the leading mode), and the probability of every place of the handle by the
distribution of the first; of the cylinder, a pin towards its x axis.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
import trimesh
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.plots import close_up, drawing
from spyropose_ros.demo.mug_views import MugViews
from spyropose_ros.demo.plan import share_folder, shipped_model
from spyropose_ros.scenes.mug import make_mug
from spyropose_ros.scenes.renderer import Renderer

VIEWS = (("handle in sight", 90.0), ("handle hidden", 180.0))  # azimuth of the camera, degrees
IMAGES = 3  # of each view
_ELEVATION, _DISTANCE = np.radians(35.0), 0.5  # of the camera; radians, metres
_SAMPLES = 256
_NOISE = 1.0  # of the cylinder's images, grey levels
_SIDE = 580  # of a close-up: two pixels for each on the page
_WIDTH = 9.3  # inches: as wide as a page of GitHub, so that points are points
_COLOURS = ((235, 70, 60), (60, 110, 245), (250, 200, 40))  # of the handle in the three images
_GLOW = (235, 70, 60)
_TITLES = ("camera image", "one pose per image", "the distribution, from one image")
_STYLE: Any = {"font.size": 10, "text.color": "#464a52", "axes.labelcolor": "#464a52"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the picture.

    Args:
        arguments: Of the command line; sys.argv by default.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition(",")[0])
    parser.add_argument("output", help="the picture, a JPEG or PNG")
    args = parser.parse_args(arguments)
    views, estimator = MugViews(), Estimator.from_pretrained(shipped_model("mug"))
    rows = {name: _mug_pictures(views, estimator, azimuth) for name, azimuth in VIEWS}
    rows["symmetric part"] = _cylinder_pictures()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 9.9), layout="constrained")
        axes = figure.subplots(len(rows), len(_TITLES))
        for row, (name, pictures) in zip(axes, rows.items(), strict=True):
            for cell, picture in zip(row, pictures, strict=True):
                cell.imshow(picture)
                cell.set(xticks=[], yticks=[])
            row[0].set_ylabel(name, fontsize=11)
        for cell, title in zip(axes[0], _TITLES, strict=True):
            cell.set_title(title, fontsize=11)
        figure.supxlabel(
            "The mug's handle, and a pin that marks the side of the cylinder, as if both were of "
            "glass. Middle: their poses in three\nimages that differ only in noise (red, blue, "
            "yellow), and the truth (dashed). Right: the redder, the more probable is it\nthat the "
            "handle, or the pin, is there.",
            fontsize=9.5,
        )
        figure.savefig(args.output, dpi=200)


def _mug_pictures(views: MugViews, estimator: Estimator, azimuth: float) -> list[np.ndarray]:
    """Draw the image, the single poses and the distribution of a view, RGB uint8 [S, S, 3] each."""
    shots = [
        views.view(np.radians(azimuth), _ELEVATION, _DISTANCE, np.random.default_rng(seed))
        for seed in range(IMAGES)
    ]
    found = [estimator.estimate(shot.image, views.K, shot.box[None])[0] for shot in shots]
    centre, reach = shots[0].box.reshape(2, 2).mean(0), np.ptp(shots[0].box.reshape(2, 2), 0).max()
    box = np.r_[centre - 0.35 * reach, centre + 0.35 * reach]  # nearer than a close-up is
    image, K = close_up(shots[0].image, views.K, box, _SIDE)
    mug = make_mug()
    handle = trimesh.Trimesh(mug.mesh.vertices, mug.mesh.faces[mug.handle_faces])
    return _draw(image, _Part(handle, K), found, shots[0].camera_from_object)


def _cylinder_pictures() -> list[np.ndarray]:
    """Do the same for the cylinder of the data set shapes, which has no side of its own."""
    estimator = Estimator.from_pretrained(share_folder() / "models" / "shapes_cyl")
    radius = 0.5 / math.sqrt(2)  # of the bounding sphere's diameter, 1 m
    solid = trimesh.creation.cylinder(radius, 2 * radius, sections=360)
    faces = np.arange(3 * len(solid.faces)).reshape(-1, 3)  # with corners of their own: not smooth
    cylinder = Renderer(trimesh.Trimesh(solid.triangles.reshape(-1, 3), faces, process=False))
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xz", [-125, 25], degrees=True).as_matrix()
    pose[2, 3] = 1.5
    side, found = 224, list[PoseDistribution]()
    for seed in range(IMAGES):
        image, K = _shaded(cylinder, pose, side)
        noise = _NOISE * np.random.default_rng(seed).standard_normal(image.shape)
        image = np.clip(image + noise, 0, 255).round().astype(np.uint8)
        found += estimator.estimate(image, K, np.array([[0, 0, side, side]]), pose[None, :3, 3])
    image, K = _shaded(cylinder, pose, _SIDE)
    pin = trimesh.creation.cylinder(0.03, segment=[[radius, 0, 0], [1.5 * radius, 0, 0]])
    return _draw(image, _Part(pin, K), found, pose)


def _shaded(cylinder: Renderer, pose: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Render as docs/data/shapes.md tells; return the image [side, side, 3] and intrinsics."""
    focal, middle = side * 1.5 / 1.3, (side - 1) / 2
    K = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    seen = cylinder.render(pose[:3, :3], pose[:3, 3], K, side, side)
    v, u = np.indices((side, side))
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K).T
    cosine = -(seen.normals * rays).sum(-1) / np.linalg.norm(rays, axis=-1)
    grey = 255 * seen.mask * (0.1 + 0.85 * np.maximum(cosine, 0))
    return np.repeat(grey[..., None], 3, -1).round().astype(np.uint8), K


def _draw(
    image: np.ndarray, part: _Part, found: list[PoseDistribution], pose: np.ndarray
) -> list[np.ndarray]:
    """Draw the poses that are found of three images, and of the first the distribution."""
    single, whole = image.copy(), image.copy()
    for distribution, colour in zip(found, _COLOURS, strict=True):
        rotation, translation = (tensor.numpy() for tensor in distribution.mode())
        mask = part.mask(rotation, translation)
        drawing.blend(single, colour, 0.35 * mask)
        cv2.drawContours(single, _contours(mask), -1, colour, 4, cv2.LINE_AA)
    _draw_dashed(single, _contours(part.mask(pose[:3, :3], pose[:3, 3])))
    probability = part.probability(found[0])
    drawing.blend(whole, _GLOW, 0.85 * np.sqrt(probability / probability.max()))
    return [image, single, whole]


class _Part:
    """Renders a part of an object alone into a picture with intrinsics K [3, 3]."""

    def __init__(self, mesh: trimesh.Trimesh, K: np.ndarray):
        self._renderer = Renderer(mesh)
        self._K = K

    def mask(self, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
        """Return where the part of an object at a pose is, float32 [S, S]."""
        seen = self._renderer.render(rotation, translation, self._K, _SIDE, _SIDE).mask
        return seen.astype(np.float32)

    def probability(self, distribution: PoseDistribution) -> np.ndarray:
        """Return the probability that the part is there, float32 [S, S]."""
        poses = distribution.sample(_SAMPLES, torch.Generator().manual_seed(0))
        masks = (self.mask(*pose) for pose in zip(*(part.numpy() for part in poses), strict=True))
        return cv2.GaussianBlur(np.add.reduce(list(masks)) / _SAMPLES, (0, 0), 2.0)


def _contours(mask: np.ndarray) -> Sequence[np.ndarray]:
    """Return the outlines of a mask [H, W]."""
    return cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]


def _draw_dashed(image: np.ndarray, contours: Sequence[np.ndarray]) -> None:
    """Draw outlines dashed in white."""
    for contour in contours:
        for start in range(0, len(contour), 26):
            piece = contour[start : start + 15, 0].astype(float)
            drawing.curve(image, piece, drawing.INK, 7)
            drawing.curve(image, piece, (255, 255, 255), 4)


if __name__ == "__main__":
    main()
