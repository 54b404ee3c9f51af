"""Label photographs of a resting object: `python -m training.label_photographs BUNDLE FOLDER`.

The camera has moved around the object, and where it was is known. Detector and pose model of the
bundle look at all photographs: the boxes that agree on a place tell which photographs show the
object there; groups of these are searched together; the pose that most groups agree on is that of
the object in every photograph. `training.train --photographs OUTPUT` trains with them.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from spyropose_ros.bop import MM, Photograph, read_photographs
from spyropose_ros.core.errors import DataError, InputError
from spyropose_ros.core.files import write_text
from spyropose_ros.core.search_settings import SearchSettings
from training import cli, runs

if TYPE_CHECKING:
    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.detector.detector import Detector
    from training.labels.agreement import Agreement, Place

log = logging.getLogger(__name__)

_LOWEST_SCORE = 0.01  # of boxes: wrong ones seldom agree on a place, see `_MAJORITY`
_FEWEST = 4  # photographs of a group
_GROUPS = 2  # in a round, at least: a single one would agree with itself
_ROUNDS = 3  # in which each photograph is in one group
_MAJORITY = 0.5  # more must agree, of photographs and of groups: fewer may be wrong in one way
_OBJECT = 1  # its number in the written scene
_SCENE = "000000"
_SUMMARY = "labels.json"


def label_photographs(
    run_or_bundle: str,
    photographs: str,
    output: str = "labels",
    views: int = 8,
    beam: int = 128,
    seed: int = 0,
    device: str | None = None,
    data_root: str = "data",
) -> Path:
    """Find the pose of a resting object in all photographs together, and write it for each.

    Args:
        run_or_bundle: run id or folder of a bundle with a detector.
        photographs: scene folder in the BOP format, with rgb/ and scene_camera.json, whose entries
            have cam_K, cam_R_w2c and cam_t_w2c.
        output: folder for the labelled scene, which may hold labels of an earlier call.
        views: photographs of a group; fewer where these would make only one group.
        beam: most cells expanded per level.
        seed: of the groups.
        device: where to run.
        data_root: where the data set of the training lies, whose symmetries count.

    Returns:
        The folder.

    Raises:
        BundleError: the bundle is missing or damaged, or has no detector.
        MissingFileError: the photographs are missing.
        DataError: a file of theirs is damaged, or the photographs do not agree on a pose, or are
            fewer than eight.
        InputError: groups of fewer than four photographs, or an output that holds something else
            than labels.
    """
    if views < _FEWEST:
        raise InputError(f"--views must be {_FEWEST} or more, got {views}")
    taken = read_photographs(photographs)
    _check_output(Path(output), taken)
    if len(taken) < _GROUPS * _FEWEST:
        raise DataError(
            f"{photographs} has {len(taken)} photographs, too few to check one another: take "
            f"{_GROUPS * _FEWEST} or more"
        )
    directory = runs.bundle_directory(run_or_bundle)

    from spyropose_ros.core.estimator import Estimator
    from spyropose_ros.detector.detector import Detector
    from training.labels.agreement import agreed_pose

    estimator = Estimator.from_pretrained(directory, device, SearchSettings(beam))
    info = estimator.bundle.object
    place, shown = _place(taken, Detector.from_pretrained(directory, device), estimator)
    poses = _fused(shown, place, estimator, views, seed)
    target = runs.bundle_source(estimator.bundle, data_root).target()
    found = agreed_pose(*poses, target.symmetries, np.array(info.center), target.diameter)
    if found.agreeing.mean() <= _MAJORITY:
        raise DataError(
            f"only {found.agreeing.sum()} of {len(found.agreeing)} groups of photographs of "
            f"{photographs} agree on a pose: train the model for longer first, or check that the "
            "object rests and that cam_R_w2c and cam_t_w2c are right"
        )
    return _write(Path(output), taken, found, shown)


def _check_output(output: Path, taken: list[Photograph]) -> None:
    """Raise InputError where the labels would take the place of something else."""
    target = output.resolve()
    labelled = (target / _SUMMARY).is_file()
    if target.exists() and (not labelled or taken[0].path.resolve().is_relative_to(target)):
        raise InputError(
            f"{output} holds something else than labels of an earlier call: give another --output"
        )


def _place(
    taken: list[Photograph], detector: Detector, estimator: Estimator
) -> tuple[Place, list[Photograph]]:
    """Find where the object is, and the photographs whose best box shows it there."""
    from training.labels.agreement import agreed_place

    info = estimator.bundle.object
    boxes, boxed = [], []
    for photograph in tqdm(taken, unit="image", desc="detect"):
        found = detector.detect(photograph.image(), _LOWEST_SCORE)
        mine = [
            box for box, name in zip(found.boxes, found.names, strict=True) if name == info.name
        ]
        if mine:
            boxes.append(mine[0])  # they are ordered by their scores
            boxed.append(photograph)
    shown = []
    if boxed:
        Ks, cameras = (
            np.stack([getattr(p, name) for p in boxed]) for name in ("K", "world_from_camera")
        )
        place = agreed_place(np.stack(boxes), Ks, cameras, info.diameter, info.size_ratio)
        shown = [p for p, agrees in zip(boxed, place.agreeing, strict=True) if agrees]
    if len(shown) < _GROUPS * _FEWEST or len(shown) <= _MAJORITY * len(taken):
        raise DataError(
            f"the detector finds '{info.name}' in one place in {len(shown)} of {len(taken)} "
            f"photographs; {_GROUPS * _FEWEST} or more, and more than half, are needed: train it "
            "for longer, leave out photographs that do not show the object, take more, or check "
            "cam_R_w2c and cam_t_w2c"
        )
    log.info("%d of %d photographs show %s in one place", len(shown), len(taken), info.name)
    return place, shown


def _fused(
    shown: list[Photograph], place: Place, estimator: Estimator, views: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Search groups of photographs together: poses in the world, [G, 3, 3] and [G, 3]."""
    rng = np.random.default_rng(seed)
    count = max(_GROUPS, len(shown) // views)
    groups = [
        part for _ in range(_ROUNDS) for part in np.array_split(rng.permutation(len(shown)), count)
    ]
    rotations, translations = [], []
    for group in tqdm(groups, unit="group", desc="search"):
        seen = [shown[index] for index in group]
        distribution = estimator.estimate_multiview(
            [photograph.image() for photograph in seen],
            [photograph.K for photograph in seen],
            np.stack([photograph.world_from_camera for photograph in seen]),
            place.position,
        )
        rotation, translation = distribution.mode()
        rotations.append(rotation.double().cpu().numpy())
        translations.append(translation.double().cpu().numpy())
    return np.stack(rotations), np.stack(translations)


def _write(
    output: Path, taken: list[Photograph], found: Agreement, shown: list[Photograph]
) -> Path:
    """Write the scene: links to the photographs, cameras, and the object's pose in each.

    It is there complete or not at all.
    """
    target = output.resolve()
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    scene = partial / _SCENE
    scene.mkdir(parents=True)
    folder = taken[0].path.parent
    (scene / folder.name).symlink_to(folder.resolve())
    shutil.copy(folder.parent / "scene_camera.json", scene)
    world_from_object = np.eye(4)
    world_from_object[:3, :3], world_from_object[:3, 3] = found.rotation, found.translation
    truths = {}
    for photograph in taken:
        pose = np.linalg.inv(photograph.world_from_camera) @ world_from_object
        truths[photograph.number] = [
            {
                "obj_id": _OBJECT,
                "cam_R_m2c": pose[:3, :3].ravel().tolist(),
                "cam_t_m2c": (pose[:3, 3] / MM).tolist(),
            }
        ]
    summary = {
        "photographs": len(taken),
        "detected": len(shown),
        "groups": len(found.agreeing),
        "agreeing": int(found.agreeing.sum()),
    }
    write_text(scene / "scene_gt.json", json.dumps(truths) + "\n")
    write_text(partial / _SUMMARY, json.dumps(summary, indent=1) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    log.info(
        "%d of %d groups agree on the pose; labels of %d photographs are in %s",
        summary["agreeing"],
        summary["groups"],
        len(taken),
        output,
    )
    return output


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(label_photographs, kept="nothing was written")
