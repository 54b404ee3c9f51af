"""The demo of the next view: a camera on an arc goes where it learns most about a mug.

It sees the mug with the handle hidden, asks the estimator's service ~/next_view from which of the
places on the arc the next image should be taken, and takes it there. The estimator's temporal
filter fuses both. Writes next_view.png.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rclpy.client import Client
from rclpy.task import Future
from sensor_msgs.msg import Image

from spyropose_ros.demo import node
from spyropose_ros.demo.mug_camera import MugCamera
from spyropose_ros.demo.mug_views import camera_from_object
from spyropose_ros.msg import PoseDistribution, PoseDistributionArray
from spyropose_ros.ros.messages.conversions import pose_arrays, poses
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.images import rgb_image
from spyropose_ros.srv import NextView

_TURNS = np.radians(np.arange(-90, 91, 15))  # of the camera about the mug
_FIRST = math.radians(190)  # azimuth of the first image; the handle is at 0
_ELEVATION, _DISTANCE = math.radians(24), 0.55
_INTERVAL = 1.0  # seconds between images until one is answered
_FAILED = 2  # exit code
_OVERLAY, _ROTATIONS = "estimator/overlay", "estimator/rotations"
_OUTPUTS: dict[str, type] = {
    node.DISTRIBUTIONS: PoseDistributionArray,
    _OVERLAY: Image,
    _ROTATIONS: Image,
}


@dataclass(frozen=True)
class Look:
    """An image and what the estimator makes of it.

    Attributes:
        camera: pose in the fixed frame, [4, 4].
        distribution: of the mug's pose in the camera's frame.
        overlay: RGB uint8 [H, W, 3].
        rotations: likewise.
    """

    camera: np.ndarray
    distribution: PoseDistribution
    overlay: np.ndarray
    rotations: np.ndarray


class NextViewDemo(node.DemoNode):
    """Takes an image of a mug, asks where to look next, and looks from there."""

    def __init__(self) -> None:
        super().__init__("demo_next_view")
        self._output = Path(self.setting("output", "demo_output/next_view", "folder of results"))
        self._mug = MugCamera(self)
        for topic, kind in _OUTPUTS.items():
            self.create_subscription(kind, topic, self._receiver(topic), node.QUEUE)
        self._client: Client = self.create_client(NextView, "estimator/next_view")
        self._received: dict[int, dict[str, Any]] = {}  # by stamp and topic
        self._places: dict[int, int] = {}  # of the camera: how many before, by stamp
        self._looks: list[Look] = []
        self._camera = _looking_at(self._mug.center, _FIRST)
        self._cameras = np.empty((0, 4, 4))
        self._answer: NextView.Response | None = None
        self.create_timer(_INTERVAL, self._tick)

    def _tick(self) -> None:
        """Show the image of the present place, until it is answered."""
        waiting_for_advice = len(self._looks) == 1 and self._answer is None
        if len(self._looks) < 2 and not waiting_for_advice:
            self._show()

    def _show(self) -> None:
        header = self._mug.show(self._camera)
        self._places[nanoseconds(header.stamp)] = len(self._looks)

    def _receiver(self, topic: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            stamp = nanoseconds(message.header.stamp)
            parts = self._received.setdefault(stamp, {})
            parts[topic] = message
            # Images of the last place may still be answered after the camera has left it.
            if len(parts) == len(_OUTPUTS) and self._places.get(stamp) == len(self._looks):
                self._on_look(parts)

        return receive

    def _on_look(self, parts: dict[str, Any]) -> None:
        (distribution,) = parts[node.DISTRIBUTIONS].distributions
        pictures = (rgb_image(parts[topic]) for topic in (_OVERLAY, _ROTATIONS))
        look = Look(self._camera, distribution, *pictures)
        self._looks.append(look)
        if len(self._looks) == 1:
            self._ask(look)
        else:
            self._conclude()

    def _ask(self, look: Look) -> None:
        """Ask where to look from, of places on an arc about where the mug seems to be."""
        positions, _ = pose_arrays(look.distribution.poses)
        weights = np.array(look.distribution.weights)
        middle = look.camera[:3, :3] @ (weights @ positions / weights.sum()) + look.camera[:3, 3]
        self._cameras = np.stack([_looking_at(middle, _FIRST + turn) for turn in _TURNS])
        seen_from_here = np.linalg.inv(look.camera) @ self._cameras
        request = NextView.Request(
            cameras=poses(seen_from_here[:, :3, :3], seen_from_here[:, :3, 3])
        )
        self._print(
            f"first place: entropy {look.distribution.entropy:.1f} nats. "
            f"Asking for the best of {len(_TURNS)} places ..."
        )
        self._client.call_async(request).add_done_callback(self._on_answer)

    def _on_answer(self, future: Future[NextView.Response]) -> None:
        answer = future.result()
        if answer is None or not answer.success:
            self._print(f"no answer: {answer and answer.message}")
            self.finish(1)
            return
        for turn, nats in zip(np.degrees(_TURNS), answer.information, strict=True):
            mark = "  <- best" if turn == np.degrees(_TURNS[answer.best]) else ""
            self._print(f"  {turn:+4.0f} deg  {nats:5.2f} nats  {'#' * round(8 * nats)}{mark}")
        self._answer = answer
        self._camera = self._cameras[answer.best]

    def _conclude(self) -> None:
        first, second = (look.distribution.entropy for look in self._looks)
        self._output.mkdir(parents=True, exist_ok=True)
        path = self._output / "next_view.png"
        assert self._answer is not None
        _figure(self._looks, np.array(self._answer.information)).savefig(path)
        self._print(f"second place: entropy {second:.1f} nats, {first - second:.1f} less")
        self._print(f"figure: {path}")
        self.finish(0 if second < first else _FAILED)

    def _print(self, text: str) -> None:
        print(text, flush=True)


def _looking_at(center: np.ndarray, azimuth: float) -> np.ndarray:
    """Return the pose [4, 4] of a camera that looks at a point [3] of the table's frame."""
    return np.linalg.inv(camera_from_object(center, azimuth, _ELEVATION, _DISTANCE))


def _figure(looks: list[Look], information: np.ndarray) -> Figure:
    """Draw both images with their rotations, and what each place was expected to tell."""
    figure = Figure(figsize=(9.3, 8.6), dpi=110, layout="constrained")  # as wide as GitHub's pages
    grid = figure.add_gridspec(3, 2, height_ratios=(3.0, 3.1, 2.0))
    titles = "first place: the handle is hidden", "second place, the best"
    for column, look, title in zip((0, 1), looks, titles, strict=True):
        height, width = look.overlay.shape[:2]
        near = look.overlay[height // 4 : -height // 4, width // 5 : -width // 5]  # the mug
        for row, picture in enumerate((near, look.rotations)):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(f"{title}\nentropy {look.distribution.entropy:.1f} nats")
    bars = figure.add_subplot(grid[2, :])
    best = int(information.argmax())
    colours = ["#c44e52" if index == best else "#4c72b0" for index in range(len(information))]
    drawn = bars.bar(np.degrees(_TURNS), information, width=11, color=colours)
    bars.bar_label(drawn, [f"{nats:.1f}" for nats in information])
    bars.set(xticks=np.degrees(_TURNS), ylabel="nats", ylim=(0, 1.15 * information.max()))
    bars.set_xlabel("how far the camera goes about the mug, degrees; red: the best place")
    bars.set_title("what a look from each place is expected to tell")
    bars.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> int:
    """Run the process."""
    return node.run(NextViewDemo)


if __name__ == "__main__":
    raise SystemExit(main())
