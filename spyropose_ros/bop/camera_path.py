"""Poses of a moving camera from annotated objects that rest between two images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from spyropose_ros.bop.scene import BopFrame
from spyropose_ros.core.errors import DataError

PLACE_TOLERANCE = 0.005
"""Metres by which the place of an object at rest may differ between two images."""
TURN_TOLERANCE = np.radians(2.0)


@dataclass(frozen=True)
class CameraPath:
    """Camera of every frame in a world in which objects rest until somebody moves them.

    Attributes:
        world_from_camera: [F, 4, 4], metres.
        layout: [F] number that grows where so much was moved that nothing ties two frames together;
            across such a place only the reference object keeps its place, by definition.
    """

    world_from_camera: np.ndarray
    layout: np.ndarray


def camera_path(frames: Sequence[BopFrame], reference: int) -> CameraPath:
    """Follow the camera from frame to frame.

    The motion between two frames is that of the largest group of objects which agree on it: they
    stood still. One object's pose is as good as the group's mean where the annotation of a group is
    exactly rigid, as in LM-O, so no mean is taken.

    Args:
        frames: in their order; every object is in a frame at most once.
        reference: number of the object whose frame, where it is first annotated, is the world's.

    Returns:
        The path.

    Raises:
        DataError: the reference object is in no frame, or two frames have no object in common.
    """
    poses = [object_poses(frame) for frame in frames]
    path, layout = [np.eye(4)], [0]
    for frame, earlier, later in zip(frames[1:], poses, poses[1:], strict=False):
        motion, group = _motion(earlier, later, reference)
        if motion is None:
            raise DataError(
                f"frame {frame.frame_id} shows none of the objects of the frame before it: its "
                "camera pose is not known"
            )
        path.append(path[-1] @ motion)
        layout.append(layout[-1] + (group < 2))
    for camera, seen in zip(path, poses, strict=True):
        if reference in seen:
            world = np.linalg.inv(camera @ seen[reference])
            return CameraPath(world @ np.array(path), np.array(layout))
    raise DataError(f"object {reference} is in no frame: choose another reference")


def longest_rest(
    frames: Sequence[BopFrame], path: CameraPath, objects: Sequence[int]
) -> tuple[int, int]:
    """Find where some objects stand still for the longest time.

    Args:
        frames: the frames.
        path: their cameras.
        objects: numbers of the objects; where one is not annotated, it does not count.

    Returns:
        Index of the first frame, and of that after the last one.
    """
    best, begin = (0, 0), 0
    stood: dict[int, np.ndarray] = {}
    for index, frame in enumerate(frames):
        poses = object_poses(frame)
        seen = {n: path.world_from_camera[index] @ poses[n] for n in objects if n in poses}
        moved = any(not _same(stood[number], seen[number]) for number in stood.keys() & seen)
        if moved or path.layout[index] != path.layout[begin]:
            begin, stood = index, {}
        stood = seen | stood
        best = max(best, (begin, index + 1), key=lambda stretch: stretch[1] - stretch[0])
    return best


def object_poses(frame: BopFrame) -> dict[int, np.ndarray]:
    """Collect the poses of a frame's objects: object to camera [4, 4], metres, by their number."""
    poses = {}
    for instance in frame.instances:
        pose = np.eye(4)
        # annotated with few digits: products of hundreds must stay rotations
        pose[:3, :3] = Rotation.from_matrix(instance.rotation).as_matrix()
        pose[:3, 3] = instance.translation
        poses[instance.object_id] = pose
    return poses


def _motion(
    earlier: dict[int, np.ndarray], later: dict[int, np.ndarray], reference: int
) -> tuple[np.ndarray | None, int]:
    """Return earlier from later camera [4, 4] and the number of objects that agree."""
    best, size = None, 0
    common = earlier.keys() & later.keys()
    for number in sorted(common, key=lambda number: (number != reference, number)):
        motion = earlier[number] @ np.linalg.inv(later[number])
        group = sum(_same(motion @ later[other], earlier[other]) for other in common)
        if group > size:
            best, size = motion, group
    return best, size


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether two poses [4, 4] are equal within the tolerances."""
    cosine = (np.sum(a[:3, :3] * b[:3, :3]) - 1) / 2
    near = np.linalg.norm(a[:3, 3] - b[:3, 3]) < PLACE_TOLERANCE
    return bool(near and cosine > np.cos(TURN_TOLERANCE))
