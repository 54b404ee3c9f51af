"""Complete a data set in the BOP format: `python -m training.complete data/my_set`.

Computes what is missing from meshes and poses: models/models_info.json, and scene_gt_info.json of
every scene that has poses. What is there stays as it is.
"""

import logging
from pathlib import Path

from spyropose_ros.core.errors import MissingFileError
from training.cli import run

log = logging.getLogger(__name__)


def complete(dataset: str) -> None:
    """Compute the visibility of all annotated objects, and facts about the models, where missing.

    All annotated objects of an image are rendered together: what is not annotated is not known to
    hide anything. After an interruption, the same command continues with the next scene.

    Args:
        dataset: folder of the data set.

    Raises:
        MissingFileError: there is no such folder, or it has no meshes.
        DataError: a mesh or an annotation is damaged.
    """
    root = Path(dataset)
    if not root.is_dir():
        raise MissingFileError(f"there is no folder {root}: give that of a data set")
    from tqdm import tqdm

    from spyropose_ros import bop

    for path in bop.complete_models_info(root):
        log.info("%s: diameters and bounds from the meshes; add the symmetries yourself", path)
    data = bop.BopDataset(root)
    scenes = [
        (scene, camera)
        for split in data.splits()
        for scene in data.scenes(split)
        for camera in bop.scene_cameras(scene)
    ]
    missing = [(scene, camera) for scene, camera in scenes if bop.lacks_visibility(scene, camera)]
    for scene, camera in missing:
        path = bop.visibility_path(scene, camera)
        bop.annotate_visibility(scene, root, camera, lambda frames: tqdm(frames, unit="image"))
        log.info("%s: written", path)
    log.info("%s: %d scenes completed of %d with poses", root, len(missing), len(scenes))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run(complete, kept="the scenes that were written are kept: the same command goes on")
