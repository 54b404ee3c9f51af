"""A camera that looks until the pose is known: `python -m benchmarks.node.wait_until_sure`.

Runs the condition of examples/wait_until_sure.py with an estimator on a graph: a rendered mug hides
its handle from a camera, which goes where the condition says until it is sure. Prints what each
image told and draws it, <output>/using_wait.png. Ends with 1 if it is not sure after six images.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rclpy
from geometry_msgs.msg import Pose
from rclpy.node import Node
from sensor_msgs.msg import Image

from benchmarks.node import graph
from spyropose_ros.demo import node, plan
from spyropose_ros.demo.processes import isolate
from spyropose_ros.ros.messages.conversions import pose_matrix, poses
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.images import rgb_image
from training import cli

ROOT = Path(__file__).parents[2]
_FIRST, _ELEVATION, _DISTANCE = np.radians(185), np.radians(24), 0.55  # of the first camera
_TURNS = np.radians([-90, -45, 45, 90])  # about the mug, of the cameras to choose from
_MOST = 6  # images
_PATIENCE = 300.0  # seconds for an answer
_REPEAT = 30.0  # seconds until an image without an answer is shown again
_CROP = 90  # pixels around the middle of the image
_DISTANCE_OFF, _ANGLE_OFF, _ENOUGH = 0.03, np.radians(15), 0.9  # what is asked for


class Look(NamedTuple):
    """What is known after an image.

    Attributes:
        turn: of the camera about the mug, from the first image, degrees.
        probability: that the pose is within tolerance of the leading one.
        overlay: the estimator's figure, RGB uint8 [H, W, 3].
    """

    turn: float
    probability: float
    overlay: np.ndarray


class Camera(Node):
    """Looks at the mug from anywhere.

    Attributes:
        pose: of the camera in the fixed frame, [4, 4].
    """

    pose: np.ndarray

    def __init__(self) -> None:
        from spyropose_ros.demo.mug_camera import MugCamera  # imports PyTorch
        from spyropose_ros.demo.mug_views import camera_from_object

        super().__init__("camera")
        self._mug = MugCamera(self)
        self.pose = np.linalg.inv(
            camera_from_object(self._mug.center, _FIRST, _ELEVATION, _DISTANCE)
        )
        self._overlay: Image | None = None
        self.create_subscription(Image, "estimator/overlay", self._on_overlay, node.QUEUE)

    def look(self) -> tuple[int, np.ndarray]:
        """Show the mug to the estimator; return the image's stamp and the estimator's figure."""
        first, shown = nanoseconds(self._mug.show(self.pose).stamp), time.monotonic()

        def answered() -> bool:
            nonlocal shown
            if time.monotonic() > shown + _REPEAT:  # it was not there yet
                self._mug.show(self.pose)
                shown = time.monotonic()
            overlay = self._overlay
            return overlay is not None and nanoseconds(overlay.header.stamp) >= first

        self.until(answered)
        return first, rgb_image(self._overlay)

    def until(self, condition: Callable[[], bool]) -> None:
        """Spin until a condition holds.

        Raises:
            RuntimeError: it takes too long.
        """
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"no answer in {_PATIENCE:g} s")
            rclpy.spin_once(self, timeout_sec=0.1)

    def go(self, goal: Pose) -> None:
        """Move to a pose in the camera's own frame."""
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = pose_matrix(goal)
        self.pose = self.pose @ step

    def places(self) -> list[Pose]:
        """Return places on an arc about the mug, in the frame of a camera on that arc."""
        from spyropose_ros.demo.mug_views import camera_from_object

        first, *others = (
            camera_from_object(self._mug.center, turn, _ELEVATION, _DISTANCE)
            for turn in (0.0, *_TURNS)
        )
        steps = np.array([first @ np.linalg.inv(other) for other in others])
        return poses(steps[:, :3, :3], steps[:, :3, 3])

    def _on_overlay(self, message: Image) -> None:
        self._overlay = message


def wait_until_sure(output: str = "bench_output/wait_until_sure") -> int:
    """Look until it is sure, and draw.

    Args:
        output: folder of the picture.

    Returns:
        The exit code.
    """
    isolate()
    sys.path.insert(0, str(ROOT / "examples"))
    model = plan.Model.read(plan.shipped_model("mug"))
    parameters = plan.next_view_parameters(model, "cpu", "")["estimator"]
    directory = Path(tempfile.mkdtemp(prefix="wait_until_sure_"))
    with rclpy.init(args=[]), graph.Estimator(parameters, directory) as estimator:
        estimator.wait_for("ready after")
        looks = _run(Camera())
        estimator.interrupt()
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    _draw(looks, folder / "using_wait.png")
    return 0 if looks[-1].probability >= _ENOUGH else 1


def _run(camera: Camera) -> list[Look]:
    """Tick the condition until it is sure, and go where it says; return what each image told."""
    from wait_until_sure import IsSure, Status

    condition = IsSure(camera, _DISTANCE_OFF, _ANGLE_OFF, _ENOUGH, camera.places())
    looks: list[Look] = []
    start = _azimuth(camera.pose)
    while len(looks) < _MOST:
        stamp, overlay = camera.look()

        def told(stamp: int = stamp) -> bool:
            sure = condition.tick() is Status.SUCCESS
            advice = condition.camera
            return sure or (advice is not None and nanoseconds(advice.header.stamp) >= stamp)

        camera.until(told)
        turn = abs((np.degrees(_azimuth(camera.pose) - start) + 180) % 360 - 180)
        looks.append(Look(float(turn), condition.probability, overlay))
        print(f"{looks[-1].turn:4.0f} deg: probability {condition.probability:.2f}", flush=True)
        if condition.camera is None:
            break
        camera.go(condition.camera.pose)
    return looks


def _azimuth(camera: np.ndarray) -> float:
    """Return from which side of the mug, which stands at the origin, a camera looks, radians."""
    return float(np.arctan2(camera[1, 3], camera[0, 3]))


def _draw(looks: list[Look], path: Path) -> None:
    """Draw every image, and below it how probable it is that the pose is within tolerance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.0), layout="constrained")
    grid = figure.add_gridspec(2, len(looks), height_ratios=(1, 1.1))
    bars = figure.add_subplot(grid[1, :])
    for number, look in enumerate(looks, 1):
        axes = figure.add_subplot(grid[0, number - 1])
        y, x = (side // 2 for side in look.overlay.shape[:2])
        axes.imshow(look.overlay[y - _CROP : y + _CROP, x - _CROP : x + _CROP])
        axes.set_axis_off()
        axes.set_title(f"image {number}", fontsize=10)
    numbers = range(1, len(looks) + 1)
    drawn = bars.bar(numbers, [look.probability for look in looks], width=0.4, color="#0072b2")
    words = [f"{look.probability:.0%}" for look in looks]
    bars.bar_label(drawn, words, label_type="center", color="white")
    bars.axhline(_ENOUGH, color="0.4", ls="--", zorder=0)
    bars.set(xlim=(0.5, len(looks) + 0.5), xticks=numbers, ylim=(0, 1.05))
    bars.set(yticks=(0, 0.5, _ENOUGH), yticklabels=("0", "50 %", f"sure: {_ENOUGH:.0%}"))
    bars.set_xticklabels([f"{look.turn:.0f}° from the first" for look in looks])
    bars.set_ylabel("probability within\nthe tolerances")
    bars.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    raise SystemExit(cli.run(wait_until_sure))
