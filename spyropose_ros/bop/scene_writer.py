"""Write a scene folder in the BOP format, safe against a kill at any time.

While a scene is in work, the annotation of every finished image lies in a file of its own; the last
step joins them. Whatever exists under its final name is complete.
"""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np

from spyropose_ros.bop import MM
from spyropose_ros.core.files import write_bytes, write_text
from spyropose_ros.scenes.sampler import Scene

OBJECT_ID = 1
"""Number of the only annotated object."""

_JPEG_QUALITY = 95
_JOINED = ("scene_camera.json", "scene_gt.json", "scene_gt_info.json")
_IN_WORK = "in_work"


def write_image(folder: Path, number: int, scene: Scene) -> None:
    """Write an image, its masks and, last, its annotation.

    Args:
        folder: of the scene's files.
        number: of the image in the folder.
        scene: the image, a whole camera image, and what is known about it.
    """
    bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    jpg = cv2.imencode(".jpg", bgr, quality)[1].tobytes()
    write_bytes(folder / "rgb" / f"{number:06d}.jpg", jpg)
    for name, mask in (("mask", scene.silhouette), ("mask_visib", scene.mask)):
        png = cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()
        write_bytes(folder / name / f"{number:06d}_000000.png", png)
    write_text(_annotation(folder, number), json.dumps(_entries(scene)))


def _entries(scene: Scene) -> dict:
    """Return the annotation of an image: an entry for each of the three JSON files."""
    truth = {
        "obj_id": OBJECT_ID,
        "cam_R_m2c": scene.rotation.ravel().tolist(),
        "cam_t_m2c": (scene.translation / MM).tolist(),
    }
    info = {
        "bbox_obj": _bop_box(scene.full_box),
        "bbox_visib": _bop_box(scene.box),
        "px_count_all": int(scene.full_count),
        # There are no depth images: every pixel of the silhouette inside the image is valid.
        "px_count_valid": int(scene.silhouette.sum()),
        "px_count_visib": int(scene.mask.sum()),
        "visib_fract": float(scene.visible_fraction),
    }
    camera = {"cam_K": scene.K.ravel().tolist(), "depth_scale": 1.0}
    return {"scene_camera.json": camera, "scene_gt.json": [truth], "scene_gt_info.json": [info]}


def missing_images(folder: Path, count: int) -> list[int]:
    """Find the images of a scene that are still to be made.

    Args:
        folder: of the scene's files.
        count: images that the scene shall have.

    Returns:
        Their numbers, ascending.
    """
    if _is_joined(folder):
        return []
    return [number for number in range(count) if not _annotation(folder, number).is_file()]


def join_annotations(folder: Path, count: int) -> None:
    """Write the scene's JSON files from those of its images, which must all be there.

    Args:
        folder: of the scene's files.
        count: images of the scene.
    """
    if not _is_joined(folder):
        entries = [json.loads(_annotation(folder, number).read_text()) for number in range(count)]
        for name in _JOINED:
            write_json(folder / name, {str(i): entry[name] for i, entry in enumerate(entries)})
    shutil.rmtree(folder / _IN_WORK, ignore_errors=True)


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file with one entry a line.

    Args:
        path: of the file.
        content: what to write.
    """
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _annotation(folder: Path, number: int) -> Path:
    return folder / _IN_WORK / f"{number:06d}.json"


def _is_joined(folder: Path) -> bool:
    return (folder / _JOINED[-1]).is_file()


def _bop_box(box: np.ndarray) -> list[int]:
    """Return first pixel and last minus first, as the toolkit has it, from a box xyxy [4]."""
    low, high = np.rint(box[:2] + 0.5).astype(int), np.rint(box[2:] - 0.5).astype(int)
    return [*low.tolist(), *(high - low).tolist()]
