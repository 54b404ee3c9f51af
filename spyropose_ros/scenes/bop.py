"""Reader of data sets in the BOP format, and the visibility of every annotated object.

The format keeps millimetres; here, and only here, they become metres.

Source: https://github.com/thodan/bop_toolkit/blob/master/docs/bop_datasets_format.md
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import trimesh
from scipy.spatial.distance import pdist

from .renderer import Renderer

LMO_OBJECTS = {
    "ape": 1,
    "can": 5,
    "cat": 6,
    "driller": 8,
    "duck": 9,
    "eggbox": 10,
    "glue": 11,
    "holepuncher": 12,
}
"""Names of the LM-O objects and their numbers."""

HALF_TURN_OBJECTS = frozenset({10, 11})
"""LM-O objects that look the same after half a turn about z: eggbox and glue."""

_HINT = "fetch it again with: python -m training.download lmo"
_MM = 1e-3


@dataclass(frozen=True)
class ModelInfo:
    """Facts about an object.

    Attributes:
        diameter: Largest distance between two vertices, metres (the diameter of the BOP metrics,
            not that of the bounding sphere).
        symmetries: [S, 4, 4] transformations of the object frame (metres) that leave the object
            unchanged; the first is the identity.
    """

    diameter: float
    symmetries: np.ndarray


@dataclass(frozen=True)
class Visibility:
    """How much of an object is seen in a frame.

    Attributes:
        box: [4] xyxy around the visible pixels (pixel centres at integers); None when hidden.
        fraction: Visible pixels over the pixels of the whole silhouette.
    """

    box: np.ndarray | None
    fraction: float


@dataclass(frozen=True)
class BopInstance:
    """An annotated object in a frame.

    Attributes:
        object_id: Its number in the data set.
        rotation: [3, 3], object to camera.
        translation: [3], object to camera, metres.
        visibility: None when the scene has no visibility file.
    """

    object_id: int
    rotation: np.ndarray
    translation: np.ndarray
    visibility: Visibility | None


@dataclass(frozen=True)
class BopFrame:
    """A photograph with its annotation.

    Attributes:
        frame_id: Its number in the scene.
        image_path: Of the RGB image.
        K: [3, 3] intrinsics.
        instances: The annotated objects, in the order of the annotation.
    """

    frame_id: int
    image_path: Path
    K: np.ndarray
    instances: list[BopInstance]

    def image(self) -> np.ndarray:
        """Read the photograph.

        Returns:
            [H, W, 3] uint8 RGB.

        Raises:
            FileNotFoundError: The file is missing.
            ValueError: The file is damaged.
        """
        _require(self.image_path)
        image = cv2.imread(str(self.image_path), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{self.image_path} is not a readable image: {_HINT}")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class BopScene:
    """A scene folder: rgb/, scene_gt.json, scene_camera.json and, if made, scene_gt_info.json.

    Attributes:
        frames: The frames by ascending number.
    """

    def __init__(self, directory: str | Path):
        """Read the annotation; images are read when asked for.

        Args:
            directory: Such as data/lmo/test/000002.

        Raises:
            FileNotFoundError: The folder or one of its files is missing.
            ValueError: A file is damaged.
        """
        directory = Path(directory)
        truth = _read_json(directory / "scene_gt.json")
        cameras = _read_json(directory / "scene_camera.json")
        info_path = visibility_path(directory)
        info = _read_json(info_path) if info_path.exists() else {}
        try:
            self.frames = [
                BopFrame(
                    int(key),
                    directory / "rgb" / f"{int(key):06d}.png",
                    np.reshape(np.array(cameras[key]["cam_K"], np.float64), (3, 3)),
                    _instances(truth[key], info.get(key)),
                )
                for key in sorted(truth, key=int)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{directory} has a damaged annotation ({error!r}): {_HINT}"
            ) from error


def load_mesh(root: str | Path, object_id: int) -> trimesh.Trimesh:
    """Read an object's mesh.

    Args:
        root: Folder of the data set, such as data/lmo.
        object_id: The object's number.

    Returns:
        The mesh in metres with its vertex colours.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is damaged.
    """
    path = Path(root) / "models" / f"obj_{object_id:06d}.ply"
    _require(path)
    try:
        mesh = trimesh.load(path, process=False, force="mesh")
        faces = len(mesh.faces)
    except Exception as error:  # trimesh raises whatever its parser stumbles over
        raise ValueError(f"{path} is not a readable mesh ({error}): {_HINT}") from error
    if faces == 0 or not np.isfinite(mesh.vertices).all():
        raise ValueError(f"{path} holds no usable mesh: {_HINT}")
    mesh.apply_scale(_MM)
    return mesh


def load_models_info(root: str | Path) -> dict[int, ModelInfo]:
    """Read diameters and discrete symmetries.

    Args:
        root: Folder of the data set.

    Returns:
        Facts by object number.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file is damaged.
    """
    path = Path(root) / "models" / "models_info.json"
    try:
        return {int(key): _model_info(value) for key, value in _read_json(path).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): {_HINT}") from error


def describe_model(mesh: trimesh.Trimesh, half_turn: bool) -> dict:
    """The entry of an object in models_info.json.

    Args:
        mesh: Metres.
        half_turn: The object is unchanged by half a turn about z.

    Returns:
        Diameter, bounds and symmetries in the BOP format (millimetres).
    """
    low, high = mesh.bounds / _MM
    entry = {"diameter": float(pdist(mesh.convex_hull.vertices).max() / _MM)}
    for axis, start, end in zip("xyz", low, high, strict=True):
        entry |= {f"min_{axis}": float(start), f"size_{axis}": float(end - start)}
    if half_turn:
        entry["symmetries_discrete"] = [np.diag([-1.0, -1.0, 1.0, 1.0]).ravel().tolist()]
    return entry


def visibility_path(scene_directory: str | Path) -> Path:
    """Where a scene keeps the visibility of its objects."""
    return Path(scene_directory) / "scene_gt_info.json"


def annotate_visibility(scene_directory: str | Path, root: str | Path) -> None:
    """Compute what is visible of every annotated object and write scene_gt_info.json.

    All annotated objects are rendered together. What is not annotated is not known to hide
    anything, so the visible fractions are upper bounds.

    Args:
        scene_directory: The scene.
        root: Folder of the data set with the meshes.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged.
    """
    scene = BopScene(scene_directory)
    object_ids = {i.object_id for frame in scene.frames for i in frame.instances}
    renderers = {number: Renderer(load_mesh(root, number)) for number in sorted(object_ids)}
    height, width = scene.frames[0].image().shape[:2]
    info = {
        str(frame.frame_id): _frame_visibility(frame, renderers, width, height)
        for frame in scene.frames
    }
    path = visibility_path(scene_directory)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(info))
    partial.replace(path)


def _frame_visibility(
    frame: BopFrame, renderers: dict[int, Renderer], width: int, height: int
) -> list[dict]:
    """The BOP visibility entries of one frame, in the order of its instances."""
    border = max(width, height)  # so that what reaches out of the image is counted
    K = frame.K.copy()
    K[:2, 2] += border
    inside = (slice(border, border + height), slice(border, border + width))
    nearest = np.full((height, width), np.inf, np.float32)
    silhouettes, depths = [], []
    for instance in frame.instances:
        depth = (
            renderers[instance.object_id]
            .render(
                instance.rotation, instance.translation, K, width + 2 * border, height + 2 * border
            )
            .depth
        )
        silhouettes.append(_pixels(depth > 0) - border)
        depths.append(np.where(depth[inside] > 0, depth[inside], np.inf))
        np.minimum(nearest, depths[-1], out=nearest)
    return [
        _visibility_entry(silhouette, np.isfinite(depth), (depth <= nearest) & np.isfinite(depth))
        for silhouette, depth in zip(silhouettes, depths, strict=True)
    ]


def _visibility_entry(silhouette: np.ndarray, valid: np.ndarray, visible: np.ndarray) -> dict:
    """One entry from the silhouette's pixels [P, 2] and the masks [H, W] within the image."""
    count = int(np.count_nonzero(visible))
    return {
        "bbox_obj": _bop_box(silhouette),
        "bbox_visib": _bop_box(_pixels(visible)),
        "px_count_all": len(silhouette),
        "px_count_valid": int(np.count_nonzero(valid)),
        "px_count_visib": count,
        "visib_fract": count / len(silhouette) if len(silhouette) else 0.0,
    }


def _pixels(mask: np.ndarray) -> np.ndarray:
    """The xy [P, 2] of the true pixels."""
    return np.argwhere(mask)[:, ::-1]


def _bop_box(pixels: np.ndarray) -> list[int]:
    """First pixel and last minus first, as the BOP files have it; -1 when there are none."""
    if len(pixels) == 0:
        return [-1, -1, -1, -1]
    low, high = pixels.min(0), pixels.max(0)
    return [*map(int, low), *map(int, high - low)]


def _instances(truths: list[dict], infos: list[dict] | None) -> list[BopInstance]:
    """The instances of one frame."""
    if infos is not None and len(infos) != len(truths):
        raise ValueError("scene_gt_info.json does not match scene_gt.json")
    return [
        BopInstance(
            int(truth["obj_id"]),
            np.reshape(np.array(truth["cam_R_m2c"], np.float64), (3, 3)),
            np.array(truth["cam_t_m2c"], np.float64).reshape(3) * _MM,
            None if infos is None else _visibility(infos[index]),
        )
        for index, truth in enumerate(truths)
    ]


def _visibility(info: dict) -> Visibility:
    """From a BOP entry."""
    x, y, w, h = info["bbox_visib"]
    hidden = info["px_count_visib"] == 0
    box = None if hidden else np.array([x - 0.5, y - 0.5, x + w + 0.5, y + h + 0.5])
    return Visibility(box, float(info["visib_fract"]))


def _model_info(entry: dict) -> ModelInfo:
    """From a BOP entry."""
    symmetries = [np.eye(4)]
    for values in entry.get("symmetries_discrete", []):
        matrix = np.reshape(np.array(values, np.float64), (4, 4))
        matrix[:3, 3] *= _MM
        symmetries.append(matrix)
    return ModelInfo(float(entry["diameter"]) * _MM, np.stack(symmetries))


def _require(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {_HINT}")


def _read_json(path: Path) -> dict:
    _require(path)
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {_HINT}") from error
