"""A camera that looks until the pose is known: `python -m benchmarks.node.wait_until_sure`.

Runs the condition of examples/wait_until_sure.py with an estimator on a graph: a rendered mug hides
its handle from a camera that goes where the condition says, until it is sure. Prints what happens
and draws the picture of docs/using_distributions.md, <output>/using_wait.png. Ends with 1 if it is
not sure in time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rclpy
from geometry_msgs.msg import Pose
from rclpy.node import Node
from scipy.spatial.transform import Rotation, Slerp
from sensor_msgs.msg import Image

from benchmarks.node import graph
from spyropose_ros.demo import node
from spyropose_ros.demo.mug_camera import MugCamera
from spyropose_ros.demo.mug_views import camera_from_object
from spyropose_ros.demo.plan import FIXED_FRAME
from spyropose_ros.demo.processes import isolate
from spyropose_ros.ros.messages.conversions import pose_matrix, poses
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.images import rgb_image
from training import cli

ROOT = Path(__file__).parents[2]
_PARAMETERS: dict[str, Any] = {
    "fixed_frame": FIXED_FRAME,
    "temporal.enabled": True,
    "search.beam": 128,
    "threads": 1,
    "sync.max_age": 10.0,
}
_FIRST, _ELEVATION, _DISTANCE = np.radians(185), np.radians(24), 0.55  # of the first camera
_TURNS = np.radians([-60, -40, -20, 0, 20, 40, 60])  # about the mug, of the cameras to choose from
_MOVE = 1.5  # seconds from one place to the next
_PERIOD = 0.5  # seconds between images
_SHOWN = 4  # images
_CROP = 90  # pixels around the middle of the image
_ENOUGH = 0.95


class Moment(NamedTuple):
    """What is known at a time.

    Attributes:
        time: seconds.
        probability: that the pose is within tolerance of the leading one.
        moves: whether the camera is on its way.
        overlay: the newest figure of the estimator, RGB uint8 [H, W, 3].
    """

    time: float
    probability: float
    moves: bool
    overlay: np.ndarray


class Camera(Node):
    """Shows the mug from where it is told to go.

    Attributes:
        pose: of the camera in the fixed frame, [4, 4].
        overlay: the newest figure of the estimator; None before the first.
        moves: whether it is on its way.
        arrived: time of the first image from where it is now, nanoseconds.
    """

    pose: np.ndarray
    overlay: np.ndarray | None
    moves: bool
    arrived: int

    def __init__(self) -> None:
        super().__init__("camera")
        self._mug = MugCamera(self)
        self.pose = np.linalg.inv(
            camera_from_object(self._mug.center, _FIRST, _ELEVATION, _DISTANCE)
        )
        self.overlay, self.moves, self.arrived = None, False, 0
        self._from, self._to, self._left = self.pose, self.pose, 0.0
        self.create_subscription(Image, "estimator/overlay", self._on_overlay, node.QUEUE)
        self.create_timer(_PERIOD, self._step)

    def go(self, goal: np.ndarray) -> None:
        """Begin to move by a goal, a pose in the camera's own frame, [4, 4]."""
        self._from, self._to, self.moves, self._left = self.pose, self.pose @ goal, True, _MOVE

    def _step(self) -> None:
        if self.moves:
            self._left = max(0.0, self._left - _PERIOD)
            share = 1 - self._left / _MOVE
            ends = Rotation.from_matrix(np.stack([self._from[:3, :3], self._to[:3, :3]]))
            self.pose = np.eye(4)
            self.pose[:3, :3] = Slerp([0, 1], ends)(share).as_matrix()
            self.pose[:3, 3] = (1 - share) * self._from[:3, 3] + share * self._to[:3, 3]
        header = self._mug.show(self.pose)
        if self.moves and not self._left:
            self.moves, self.arrived = False, nanoseconds(header.stamp)

    def _on_overlay(self, message: Image) -> None:
        self.overlay = rgb_image(message)


def wait_until_sure(output: str = "bench_output/wait_until_sure", timeout: float = 120.0) -> int:
    """Wait, look, and draw.

    Args:
        output: folder of the picture.
        timeout: seconds.

    Returns:
        The exit code.
    """
    isolate()
    sys.path.insert(0, str(ROOT / "examples"))
    directory = Path(tempfile.mkdtemp(prefix="wait_until_sure_"))
    with rclpy.init(args=[]), graph.Estimator(_PARAMETERS, directory) as estimator:
        estimator.wait_for("ready after")
        moments = _run(Camera(), timeout)
        estimator.interrupt()
    for moment in moments:
        print(f"{moment.time:5.1f} s  {moment.probability:.2f}  {'moves' * moment.moves}")
    sure = bool(moments) and moments[-1].probability >= _ENOUGH
    if moments:
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        _draw(moments, folder / "using_wait.png")
    return 0 if sure else 1


def _run(camera: Camera, timeout: float) -> list[Moment]:
    """Tick the condition until it is sure, and go where it says; return what was known when."""
    from wait_until_sure import IsSure, Status

    places = _places()
    condition = IsSure(camera, probability=_ENOUGH, cameras=places)
    moments: list[Moment] = []
    deadline, start = time.monotonic() + timeout, 0.0
    while time.monotonic() < deadline:
        rclpy.spin_once(camera, timeout_sec=0.1)
        status = condition.tick()
        now = time.monotonic()
        if camera.overlay is None or not condition.probability:
            start = now
            continue
        moment = Moment(now - start, condition.probability, camera.moves, camera.overlay)
        if not moments or moment[1:3] != moments[-1][1:3]:
            moments.append(moment)
        if status is Status.SUCCESS:
            break
        advice = condition.camera
        if advice and not camera.moves and nanoseconds(advice.header.stamp) >= camera.arrived:
            goal = np.eye(4)
            goal[:3, :3], goal[:3, 3] = pose_matrix(advice.pose)
            camera.go(goal)
    return moments


def _places() -> list[Pose]:
    """Return places on an arc about the mug, in the frame of a camera that looks at it."""
    turns = Rotation.from_rotvec(_TURNS[:, None] * [0, 1, 0]).as_matrix()  # [N, 3, 3]
    middle = np.array([0, 0, _DISTANCE])
    return poses(turns, middle - turns @ middle)


def _draw(moments: list[Moment], path: Path) -> None:
    """Draw some of the images, and below them the probability over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, _SHOWN, height_ratios=(1.1, 1))
    for column, index in enumerate(np.linspace(0, len(moments) - 1, _SHOWN).round().astype(int)):
        moment = moments[index]
        axes = figure.add_subplot(grid[0, column])
        y, x = (side // 2 for side in moment.overlay.shape[:2])
        axes.imshow(moment.overlay[y - _CROP : y + _CROP, x - _CROP : x + _CROP])
        axes.set_axis_off()
        axes.set_title(f"{moment.time:.0f} s: {moment.probability:.0%}", fontsize=10)
    axes = figure.add_subplot(grid[1, :])
    times = [moment.time for moment in moments]
    axes.fill_between(
        times,
        0,
        1,
        where=[moment.moves for moment in moments],
        step="post",
        color="0.9",
        label="the camera moves",
    )
    probabilities = [moment.probability for moment in moments]
    axes.step(times, probabilities, ".-", where="post", label="probability within the tolerances")
    axes.axhline(_ENOUGH, color="0.4", ls="--", label="sure")
    axes.set(xlabel="time, s", ylim=(0, 1.02), yticks=(0, 0.5, 1), xlim=(0, times[-1] + 0.2))
    axes.set_yticklabels(("0", "50 %", "100 %"))
    axes.legend(loc="lower right", fontsize=10)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(cli.run(wait_until_sure))
