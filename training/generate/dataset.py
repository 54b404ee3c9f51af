"""Generate a data set in several processes; complete it after an interruption.

Every image has a random generator of its own, so that the result depends neither on the number of
workers nor on interruptions.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import trimesh
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from spyropose_ros import bop
from spyropose_ros.bop.scene_writer import (
    OBJECT_ID,
    join_annotations,
    missing_images,
    write_image,
    write_json,
)
from spyropose_ros.core import interrupts
from spyropose_ros.core.errors import DataError, InputError
from spyropose_ros.core.files import sha256, write_bytes, write_text
from spyropose_ros.scenes.renderer import bounding_sphere
from training import provenance
from training.data.workers import single_thread
from training.generate.cad import has_colours, load_cad, lost_colours
from training.generate.exports import export_boxes
from training.generate.part import Part
from training.generate.settings import GenerationSettings, ViewSettings, distance_range
from training.generate.summary import description, summary
from training.generate.symmetry import symmetry_of
from training.symmetry import Symmetry

RECORD = "generation.json"
"""File of a data set with all its settings."""

_SPLITS = ("train", "test")


def generate(
    cad: Path,
    output: Path,
    settings: GenerationSettings,
    occluders: list[Path],
    workers: int,
    symmetry: Symmetry | None = None,
) -> str:
    """Make the data set, or complete it.

    Args:
        cad: file of the object.
        output: folder of the data set.
        settings: what to make.
        occluders: CAD files of things found near the object.
        workers: processes; 0 for this one alone.
        symmetry: of the object, where it is known already; otherwise as the settings say.

    Returns:
        A table that sums up the data set.

    Raises:
        MissingFileError: a CAD file is missing.
        InputError: a file or a setting is not usable, or the folder holds something else.
    """
    mesh = load_cad(cad, settings.units)
    diameter = 2 * bounding_sphere(mesh)[1]
    distance = distance_range(settings.views, diameter)
    info = bop.describe_model(mesh, half_turn=False) | {"name": settings.name}
    symmetry = symmetry or symmetry_of(settings.symmetry, mesh)
    info |= symmetry.entry()
    others = [load_cad(path, settings.units) for path in occluders]

    _claim(output, _record(settings, cad, occluders))
    _write_model(output, mesh, info)
    _write_camera(output, settings)
    images = _MissingImages(output, settings.scenes(), settings.seed)
    total = settings.images + settings.test_images
    if len(images):
        images.part = Part(mesh, others, settings.views, distance)
        # Spawned, not forked: the ray caster and OpenCV have threads, which a fork would lose.
        loader = DataLoader(
            images,
            batch_size=None,
            num_workers=workers,
            worker_init_fn=single_thread,
            multiprocessing_context="spawn" if workers else None,
        )
        with interrupts.ignored():  # by the workers, which this process ends
            made = iter(loader)
        _ = list(tqdm(made, initial=total - len(images), total=total, unit="image"))
    for (split, scene), count in settings.scenes().items():
        join_annotations(_scene_folder(output, split, scene), count)
    for partial in output.rglob("*.partial"):  # of a killed run
        partial.unlink(missing_ok=True)
    _write_targets(output, settings)
    splits = [split for split in _SPLITS if (output / split).is_dir()]
    export_boxes(output, settings.name, splits)
    colours = has_colours(mesh), lost_colours(mesh)
    text = description(settings, diameter, distance, *colours, symmetry.words())
    write_text(output / "dataset_info.md", text)
    return summary(output, splits, diameter, symmetry.words())


class _MissingImages(Dataset):
    """The images that are still to be made; asking for one makes and writes it."""

    part: Part

    def __init__(self, output: Path, scenes: dict[tuple[str, int], int], seed: int):
        self._output = output
        self._seed = seed
        self._missing = [
            (split, scene, image)
            for (split, scene), count in scenes.items()
            for image in missing_images(_scene_folder(output, split, scene), count)
        ]

    def __len__(self) -> int:
        return len(self._missing)

    def __getitem__(self, index: int) -> int:
        split, scene, image = self._missing[index]
        rng = np.random.default_rng((self._seed, _SPLITS.index(split), scene, image))
        write_image(_scene_folder(self._output, split, scene), image, self.part.sample(rng))
        return index


def views_of(directory: str | Path) -> ViewSettings | None:
    """Read what the camera of a generated data set sees.

    Args:
        directory: of a data set.

    Returns:
        Its settings; None if it is not from `training.generate_data`.

    Raises:
        DataError: its record is damaged.
    """
    path = Path(directory) / RECORD
    if not path.is_file():
        return None
    try:
        views = json.loads(path.read_text())["views"]
        near_far, resolution = views["distance"], tuple(views["resolution"])
        distance = tuple(near_far) if near_far else None
        return ViewSettings(views["views"], distance, resolution, views["fov"], views["occlusion"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error!r}): generate the data set again") from error


def _scene_folder(output: Path, split: str, scene: int) -> Path:
    return output / split / f"{scene:06d}"


def _record(settings: GenerationSettings, cad: Path, occluders: list[Path]) -> dict:
    """Return what decides the bytes of the data set, as JSON gives it back."""
    record = asdict(settings) | {
        "cad": cad.name,
        "cad_sha256": sha256(cad),
        "occluders_sha256": [sha256(path) for path in occluders],
        "package_version": provenance.package_version(),
    }
    return json.loads(json.dumps(record))


def _claim(output: Path, record: dict) -> None:
    """Make sure that the folder is new, or the same data set in work or complete."""
    path = output / RECORD
    if path.is_file():
        known = json.loads(path.read_text())
        changed = [key for key in record if known.get(key) != record[key]]
        if changed:
            raise InputError(
                f"{output} was made with other settings ({', '.join(changed)}): give another "
                "--output, or delete the folder"
            )
    elif any(file.suffix != ".partial" for file in output.glob("*")):
        raise InputError(f"{output} is not empty: give another --output")
    else:
        write_json(path, record)


def _write_model(output: Path, mesh: trimesh.Trimesh, info: dict) -> None:
    scaled = mesh.copy()
    scaled.apply_scale(1 / bop.MM)
    folder = output / "models"
    ply = scaled.export(file_type="ply", vertex_normal=True)
    assert isinstance(ply, bytes)
    write_bytes(folder / f"obj_{OBJECT_ID:06d}.ply", ply)
    write_json(folder / "models_info.json", {str(OBJECT_ID): info})


def _write_camera(output: Path, settings: GenerationSettings) -> None:
    width, height = settings.views.resolution
    size = {"width": width, "height": height, "depth_scale": 1.0}
    write_json(output / "camera.json", settings.views.camera | size)


def _write_targets(output: Path, settings: GenerationSettings) -> None:
    """Write what the toolkit evaluates: every image of the test split."""
    targets = [
        {"im_id": image, "inst_count": 1, "obj_id": OBJECT_ID, "scene_id": 0}
        for image in range(settings.test_images)
    ]
    write_text(output / "test_targets_bop19.json", json.dumps(targets, indent=1))
