"""Contact sheet of crops with the annotated pose drawn on top."""

from dataclasses import dataclass

import cv2
import numpy as np
import trimesh

from spyropose_ros.core.plots import drawing
from spyropose_ros.core.plots.drawing import AXIS_COLOURS

_TILE = 256  # least side of a tile, pixels
_COLUMNS = 4
_GREEN, _YELLOW, _WHITE = (60, 220, 90), (255, 210, 40), (255, 255, 255)


@dataclass(frozen=True)
class View:
    """A crop with the truth and with what the simulated detector says.

    Attributes:
        caption: who it is.
        crop: RGB uint8 [h, w, 3].
        K: intrinsics of the crop, [3, 3].
        rotation: true, object to camera, [3, 3].
        translation: true, of the object frame, metres, [3].
        estimate: the detector's, of the bounding sphere's centre, metres, [3].
        diameter_px: of the bounding sphere in the whole image, or in the crop without one.
        box: corners of the detector's in pixels of the crop, [4, 2]; None if there is none.
        visible_fraction: nan if unknown.
        image_size: width and height of the whole image; None without one.
    """

    caption: str
    crop: np.ndarray
    K: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    estimate: np.ndarray
    diameter_px: float
    box: np.ndarray | None = None
    visible_fraction: float = float("nan")
    image_size: tuple[int, int] | None = None

    def in_camera(self, points: np.ndarray) -> np.ndarray:
        """Return points [N, 3] of the object frame in the camera frame at the true pose, metres."""
        return points @ self.rotation.T + self.translation


def project(K: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Project points.

    Args:
        K: [3, 3].
        points: camera frame, metres, [N, 3].

    Returns:
        Pixels [N, 2]; nan for points behind the camera.
    """
    homogeneous = points @ K.T
    depth = np.where(points[:, 2:] > 0, homogeneous[:, 2:], np.nan)
    return homogeneous[:, :2] / depth


def sphere_pixels(K: np.ndarray, center: np.ndarray, diameter: float) -> float:
    """Return a sphere's (metres, camera frame) apparent diameter, pixels; nan behind the camera."""
    # The determinant is that of the focal lengths also where a crop is turned.
    focal = np.sqrt(abs(np.linalg.det(K)))
    return focal * diameter / center[2] if center[2] > 0 else float("nan")


def draw_sheet(
    views: list[View], mesh: trimesh.Trimesh | None, keypoints: np.ndarray, diameter: float
) -> np.ndarray:
    """Draw all views, four in a row.

    Args:
        views: with crops of one size.
        mesh: metres; None without a CAD model.
        keypoints: object frame, metres, [N, 3].
        diameter: of the bounding sphere, metres.

    Returns:
        RGB uint8.
    """
    tiles = [_tile(view, mesh, keypoints, diameter) for view in views]
    rows = drawing.rows_of(tiles, _COLUMNS)
    return np.concatenate([rows, _legend(rows.shape[1], mesh is not None)])


def _tile(
    view: View, mesh: trimesh.Trimesh | None, keypoints: np.ndarray, diameter: float
) -> np.ndarray:
    """Return the enlarged crop with drawings and two lines of text below."""
    zoom = max(1, round(_TILE / view.crop.shape[1]))
    image = cv2.resize(view.crop, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    enlarge = np.array([[zoom, 0, (zoom - 1) / 2], [0, zoom, (zoom - 1) / 2], [0, 0, 1]])
    K = enlarge @ view.K
    if mesh is not None:
        silhouette = _silhouette(project(K, view.in_camera(mesh.vertices)), mesh.faces, image)
        contours, _ = cv2.findContours(silhouette, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, contours, -1, _GREEN, 1, cv2.LINE_AA)
    if view.box is not None:
        corners = view.box @ enlarge[:2, :2].T + enlarge[:2, 2]
        drawing.curve(image, np.vstack([corners, corners[:1]]), _YELLOW, 1)
    else:
        radius = sphere_pixels(K, view.estimate, diameter) / 2
        _disc(image, project(K, view.estimate[None])[0], radius, _YELLOW, 1)
    for pixel in project(K, view.in_camera(keypoints)):
        _disc(image, pixel, 2, _WHITE, -1)
    origin, *tips = project(K, view.in_camera(np.vstack([np.zeros(3), np.eye(3) * diameter / 2])))
    for tip, colour in zip(tips, AXIS_COLOURS, strict=True):
        drawing.line(image, origin, tip, colour, 2)
    lines = [drawing.caption(words, image.shape[1]) for words in (view.caption, _facts(view))]
    return np.concatenate([image, *lines])


def _legend(width: int, has_mesh: bool) -> np.ndarray:
    """Return a line that explains the drawings."""
    line = drawing.caption("", width)
    x, y = 10.0, drawing.LINE / 2
    entries = (
        *([(_GREEN, "outline of the mesh")] if has_mesh else []),
        *zip(AXIS_COLOURS, ("x", "y", "z"), strict=True),
        (_WHITE, "keypoints"),
        (_YELLOW, "the detector's box (circle: only its estimate is known)"),
    )
    for colour, words in entries:
        drawing.disc(line, (x, y), 5, drawing.INK)
        drawing.disc(line, (x, y), 4, colour)
        drawing.text(line, words, (x + 9, y), 0.42, centred=False)
        x += 34 + 7.5 * len(words)
    return line


def _facts(view: View) -> str:
    """Return the numbers under a tile."""
    facts = f"z {view.translation[2]:.3f} m, d {view.diameter_px:.0f} px"
    if np.isnan(view.visible_fraction):
        return facts
    return f"{facts}, {view.visible_fraction:.0%} visible"


def _silhouette(pixels: np.ndarray, faces: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return the mask [H, W] uint8 of projected triangles; those behind the camera are left out."""
    mask = np.zeros(image.shape[:2], np.uint8)
    triangles = pixels[faces]  # [F, 3, 2]
    near = np.abs(triangles).max((1, 2)) < 1e4  # false for NaN
    for triangle in np.round(triangles[near] * 16).astype(np.int32):
        cv2.fillConvexPoly(mask, triangle, 255, cv2.LINE_8, 4)
    return mask


def _disc(
    image: np.ndarray, pixel: np.ndarray, radius: float, colour: tuple, thickness: int
) -> None:
    """Draw a disc or circle where that can be seen."""
    if np.abs((*pixel, radius)).max() < 1e4:  # false for NaN
        drawing.disc(image, pixel, radius, colour, thickness)
