"""A condition for a behaviour tree: is the pose known well enough, and if not, where to look next.

As a node of its own it ticks twice a second and publishes where the camera is to go:

    ./run exec python examples/wait_until_sure.py --ros-args -p probability:=0.95

In a behaviour tree, `IsSure.tick` is the condition's tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import rclpy
from geometry_msgs.msg import Pose, PoseStamped, Vector3
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from spyropose_ros.srv import NextView, ScoreGrasps


class Status(Enum):
    """What a tick returns, as in behaviour trees."""

    RUNNING = "running"
    SUCCESS = "success"


class IsSure:
    """Whether an object is near enough to its leading pose. No tick blocks.

    Args:
        node: calls the services of the estimator in its namespace.
        distance: tolerance of the position, metres.
        angle: tolerance of the rotation, radians.
        probability: that the object is to be within the tolerances with.
        cameras: places to look from, in the frame of the distributions; none: only wait.

    Attributes:
        probability: at the last answer.
        camera: where to look from next; None while that is not known, and once it is sure.
    """

    probability: float
    camera: PoseStamped | None

    def __init__(
        self,
        node: Node,
        distance: float = 0.02,
        angle: float = 0.2,
        probability: float = 0.95,
        cameras: Sequence[Pose] = (),
    ) -> None:
        self.probability, self.camera = 0.0, None
        self._enough, self._cameras = probability, list(cameras)
        # A tool in the object's own frame is right wherever the object is as expected.
        self._question = ScoreGrasps.Request(
            grasps=[Pose()],
            translation_tolerances=[Vector3(x=distance, y=distance, z=distance)],
            rotation_tolerances=[Vector3(x=angle, y=angle, z=angle)],
        )
        self._score: Client = node.create_client(ScoreGrasps, "estimator/score_grasps")
        self._look: Client = node.create_client(NextView, "estimator/next_view")
        self._asked: Future | None = None
        self._logger = node.get_logger()

    def tick(self) -> Status:
        """Return whether it is sure; ask again if there is an answer to the last question."""
        if self._asked is None or self._asked.done():
            self._ask()
        return Status.SUCCESS if self.probability >= self._enough else Status.RUNNING

    def _ask(self) -> None:
        if self._score.service_is_ready():
            self._asked = self._score.call_async(self._question)
            self._asked.add_done_callback(self._on_score)

    def _on_score(self, future: Future) -> None:
        answer = future.result()
        if not answer.success:  # such as: no distribution yet
            self._logger.info(answer.message, throttle_duration_sec=5.0)
            return
        self.probability = answer.probabilities[0]
        if self.probability >= self._enough:
            self.camera = None
        elif self._cameras and self._look.service_is_ready():
            self._asked = self._look.call_async(NextView.Request(cameras=self._cameras))
            self._asked.add_done_callback(self._on_look)

    def _on_look(self, future: Future) -> None:
        answer = future.result()
        if answer.success:
            self.camera = PoseStamped(header=answer.header, pose=self._cameras[answer.best])


def main() -> None:
    """Tick until it is sure."""
    rclpy.init()
    node = Node("wait_until_sure")
    needed = node.declare_parameter("probability", 0.95).value
    # Steps to the sides and up, for a start; an arm would list the places that it can reach.
    steps = [(x, y) for x in (-0.2, 0.0, 0.2) for y in (-0.2, 0.0)]
    cameras = [Pose() for _ in steps]
    for camera, (x, y) in zip(cameras, steps, strict=True):
        camera.position.x, camera.position.y = x, y
    condition = IsSure(node, probability=needed, cameras=cameras)
    goal = node.create_publisher(PoseStamped, "camera_goal", 1)
    while condition.tick() is not Status.SUCCESS:
        rclpy.spin_once(node, timeout_sec=0.5)
        if condition.camera is not None:
            goal.publish(condition.camera)
            where = condition.camera.pose.position
            node.get_logger().info(
                f"probability {condition.probability:.2f}: look from {where.x:+.2f} {where.y:+.2f}",
                throttle_duration_sec=1.0,
            )
    node.get_logger().info(f"sure: {condition.probability:.2f}")
    rclpy.shutdown()


if __name__ == "__main__":
    main()
