"""Records the demo's frames as a bag: python -m spyropose_ros.demo.record {mug|lmo} OUT.

Topics: image_rect, camera_info, detections (the exact boxes), truth/<object> (the annotated pose)
and /tf with the camera in the frame "world". The mug flies in front of a camera at rest. The LM-O
photographs were taken by a moving camera, and objects were moved between them now and then; with
--rest only the longest sequence in which the chosen objects are at rest is recorded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseStamped, TransformStamped
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from tqdm import tqdm
from vision_msgs.msg import Detection2DArray

from spyropose_ros.bop import LMO_OBJECTS, BopInstance, BopScene
from spyropose_ros.bop.camera_path import camera_path, longest_rest
from spyropose_ros.core import interrupts
from spyropose_ros.core.errors import SpyroposeError
from spyropose_ros.demo import stage
from spyropose_ros.demo.camera import FRAME_ID, camera_info
from spyropose_ros.demo.frames import MIN_VISIBLE, RENDERED_FRAMES, open_frames
from spyropose_ros.ros.bags.bag_files import STORAGES, BagWriter
from spyropose_ros.ros.messages.conversions import poses
from spyropose_ros.ros.messages.detection_messages import detection_message
from spyropose_ros.ros.pipeline import rotations
from spyropose_ros.ros.pipeline.images import image_message

WORLD = "world"
START = 1_700_000_000 * 10**9  # stamp of the first frame, nanoseconds: any except zero
PERIOD = 200_000_000  # between frames, nanoseconds; the times of the photographs are unknown
_SEED = 1  # of --noisy


@dataclass(frozen=True)
class Seen:
    """An object in a shot.

    Attributes:
        name: Class id.
        rotation: Object to camera, [3, 3].
        translation: Object to camera, metres, [3].
        box: xyxy around the visible pixels, [4]; None where it is hidden.
    """

    name: str
    rotation: np.ndarray
    translation: np.ndarray
    box: np.ndarray | None


@dataclass(frozen=True)
class Shot:
    """What the camera sees at one time.

    Attributes:
        name: Number of the frame.
        image: RGB uint8 [H, W, 3].
        K: Intrinsics, [3, 3].
        world_from_camera: [4, 4], metres.
        objects: What is annotated.
    """

    name: str
    image: np.ndarray
    K: np.ndarray
    world_from_camera: np.ndarray
    objects: list[Seen]


class MugShots(Sequence):
    """The rendered mug that flies in front of a camera at rest."""

    def __init__(self, count: int = RENDERED_FRAMES):
        """Build the scene.

        Args:
            count: Number of frames along the path.
        """
        self._frames = open_frames("mug", count)
        camera_from_world = np.eye(4)
        camera_from_world[:3, :3] = stage.CAMERA_FROM_WORLD
        camera_from_world[:3, 3] = stage.CAMERA_OFFSET
        self._world_from_camera = np.linalg.inv(camera_from_world)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Shot:  # type: ignore[override]  # no slices
        frame = self._frames[index]
        mug = Seen("mug", frame.rotation, frame.translation, frame.box)
        return Shot(frame.name, frame.image, frame.K, self._world_from_camera, [mug])


class PhotographShots(Sequence):
    """The LM-O photographs with their moving camera."""

    def __init__(self, directory: Path, names: Sequence[str], rest: bool = False, count: int = 0):
        """Read the annotation.

        Args:
            directory: The scene.
            names: The objects, the first of which sets the world's frame.
            rest: Take only the longest sequence in which none of them is moved.
            count: Number of frames; 0 takes all.

        Raises:
            FileNotFoundError: The photographs are missing.
            ValueError: An object is unknown.
        """
        for name in names:
            if name not in LMO_OBJECTS:
                raise ValueError(
                    f"LM-O has no object '{name}': choose from {', '.join(LMO_OBJECTS)}"
                )
        self._names = {LMO_OBJECTS[name]: name for name in names}
        frames = BopScene(directory).frames
        path = camera_path(frames, LMO_OBJECTS[names[0]])
        start, end = longest_rest(frames, path, list(self._names)) if rest else (0, len(frames))
        chosen = slice(start, min(end, start + count) if count else end)
        self._frames = frames[chosen]
        self._world_from_camera = path.world_from_camera[chosen]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Shot:  # type: ignore[override]  # no slices
        frame = self._frames[index]
        return Shot(
            str(frame.frame_id),
            frame.image(),
            frame.K,
            self._world_from_camera[index],
            [self._seen(i) for i in frame.instances if i.object_id in self._names],
        )

    def _seen(self, instance: BopInstance) -> Seen:
        visible = instance.visibility
        shown = visible is not None and visible.fraction >= MIN_VISIBLE
        box = visible.box if visible and shown else None
        name = self._names[instance.object_id]
        return Seen(name, instance.rotation, instance.translation, box)


def messages(shot: Shot, stamp: int, noisy: bool) -> Iterator[tuple[str, object]]:
    """Yield what a camera, a detector and a tracked camera mount publish of a shot.

    Args:
        shot: The shot.
        stamp: Nanoseconds.
        noisy: Whether the boxes have the errors of a detector.

    Yields:
        Topic and message.
    """
    from spyropose_ros.scenes.detector import noisy_box

    header = Header(frame_id=FRAME_ID)
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
    height, width = shot.image.shape[:2]
    calibration = camera_info(shot.K, width, height)
    calibration.header = header
    yield "/tf", TFMessage(transforms=[_camera_transform(header, shot.world_from_camera)])
    yield "/camera_info", calibration
    yield "/image_rect", image_message(header, shot.image)
    for seen in shot.objects:
        (pose,) = poses(seen.rotation[None], seen.translation[None])
        yield f"/truth/{seen.name}", PoseStamped(header=header, pose=pose)
    rng = np.random.default_rng((_SEED, int(shot.name)))
    boxes = {seen.name: seen.box for seen in shot.objects if seen.box is not None}
    if noisy:
        boxes = {name: noisy_box(box, rng) for name, box in boxes.items()}
    yield (
        "/detections",
        Detection2DArray(
            header=header,
            detections=[
                detection_message(header, box, name, 1.0, name) for name, box in boxes.items()
            ],
        ),
    )


def record(shots: Sequence[Shot], bag: BagWriter, noisy: bool = False) -> None:
    """Write all shots, a fixed time apart, with a progress bar."""
    for index in tqdm(range(len(shots)), unit="frame", disable=None):
        stamp = START + index * PERIOD
        for topic, message in messages(shots[index], stamp, noisy):
            bag.write(topic, message, stamp)


def _camera_transform(header: Header, world_from_camera: np.ndarray) -> TransformStamped:
    message = TransformStamped(child_frame_id=header.frame_id)
    message.header.stamp, message.header.frame_id = header.stamp, WORLD
    position, rotation = message.transform.translation, message.transform.rotation
    position.x, position.y, position.z = world_from_camera[:3, 3].tolist()
    quaternion = rotations.quaternion(world_from_camera[:3, :3])
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion.tolist()
    return message


def main(arguments: Sequence[str] | None = None) -> int:
    """Record a bag.

    Args:
        arguments: Of the command line; sys.argv by default.

    Returns:
        The exit code.
    """
    args = _parser().parse_args(arguments)
    try:
        interrupts.expect()
        if args.frames < 0:
            raise ValueError(f"--frames is {args.frames}: give 1 or more, or 0 for all")
        shots = _shots(args)
        with BagWriter(Path(args.output), args.storage, args.overwrite) as bag:
            record(shots, bag, args.noisy)
    except KeyboardInterrupt:
        print("record: interrupted; nothing was written", file=sys.stderr)
        return interrupts.EXIT_CODE
    except (SpyroposeError, OSError, ValueError) as error:
        print(f"record: {error}", file=sys.stderr)
        return 1
    print(f"{len(shots)} frames in {args.output}")
    return 0


def _shots(args: argparse.Namespace) -> Sequence[Shot]:
    if args.demo == "mug":
        return MugShots(args.frames or RENDERED_FRAMES)
    directory = Path(args.data) / "lmo" / "test" / "000002"
    return PhotographShots(directory, args.objects.split(","), args.rest, args.frames)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spyropose_ros.demo.record",
        description=__doc__.partition("\n\n")[2],
    )
    parser.add_argument("demo", choices=["mug", "lmo"], help="rendered mug, or LM-O photographs")
    parser.add_argument("output", metavar="OUT", help="folder of the bag")
    parser.add_argument(
        "--objects",
        default="can,driller,glue",
        help="lmo: objects, separated by commas; the first sets the frame 'world' (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--rest", action="store_true", help="lmo: only the longest sequence without a moved object"
    )
    parser.add_argument("--frames", type=int, default=0, help="number of frames; 0 takes all")
    parser.add_argument("--noisy", action="store_true", help="boxes with the errors of a detector")
    parser.add_argument("--data", default="data", help="folder of the downloaded data sets")
    parser.add_argument("--storage", choices=list(STORAGES), default="mcap", help="file format")
    parser.add_argument("--overwrite", action="store_true", help="replace a bag of that name")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
