"""Grasps with their probability of success, for MoveIt Task Constructor's external generation.

An action server of `moveit_task_constructor_msgs/SampleGraspPoses`: to every goal it sends the
grasps of an object, where they are now, as feedback, at a cost of 1 - probability of success. The
grasps are a YAML file, in the object's frame:

    - {position: [0, 0, 0.1], quaternion: [1, 0, 0, 0], tolerance: [0.01, 0.01, 0.02],
       angles: [0.2, 0.2, 3.2]}

    python examples/grasp_candidates.py grasps.yaml --ros-args -p object:=mug

`candidates` is tested with the estimator. The action is written from its public definition and was
never run with MoveIt.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import rclpy
import yaml
from geometry_msgs.msg import Pose, PoseStamped, Vector3
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from scipy.spatial.transform import Rotation
from spyropose_ros.srv import ScoreGrasps


def read_grasps(path: Path, name: str) -> ScoreGrasps.Request:
    """Read grasps.

    Args:
        path: of the YAML file.
        name: of the object.

    Returns:
        The question to the estimator.
    """
    request = ScoreGrasps.Request(object=name)
    for entry in yaml.safe_load(path.read_text()):
        pose = Pose()
        place, turn = pose.position, pose.orientation
        place.x, place.y, place.z = map(float, entry["position"])
        turn.x, turn.y, turn.z, turn.w = map(float, entry["quaternion"])
        request.grasps.append(pose)
        for key, vectors in (
            ("tolerance", request.translation_tolerances),
            ("angles", request.rotation_tolerances),
        ):
            x, y, z = map(float, entry[key])
            vectors.append(Vector3(x=x, y=y, z=z))
    return request


def candidates(
    request: ScoreGrasps.Request, response: ScoreGrasps.Response
) -> tuple[list[PoseStamped], list[float]]:
    """Return the grasps where the object is most probably, and their costs.

    Args:
        request: the question.
        response: the answer, a success.
    """
    R, t = _matrix(response.planned_for)
    stamped = []
    for grasp in request.grasps:
        own_R, own_t = _matrix(grasp)
        message = PoseStamped(header=response.header)
        place, turn = message.pose.position, message.pose.orientation
        place.x, place.y, place.z = (R.apply(own_t) + t).tolist()
        turn.x, turn.y, turn.z, turn.w = (R * own_R).as_quat().tolist()
        stamped.append(message)
    there = 1.0 if np.isnan(response.presence) else response.presence
    return stamped, [1 - there * probability for probability in response.probabilities]


def _matrix(pose: Pose) -> tuple[Rotation, np.ndarray]:
    turn, place = pose.orientation, pose.position
    rotation = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w])
    return rotation, np.array([place.x, place.y, place.z])


def main() -> None:
    """Serve the action."""
    # Of an installation with MoveIt Task Constructor.
    from moveit_task_constructor_msgs.action import SampleGraspPoses
    from rclpy.action import ActionServer

    rclpy.init()
    node = Node("grasp_candidates")
    name = node.declare_parameter("object", "").value
    request = read_grasps(Path(sys.argv[1]), name)
    group = ReentrantCallbackGroup()
    client = node.create_client(ScoreGrasps, "estimator/score_grasps", callback_group=group)

    def execute(goal):
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: answered.set())
        answered.wait()
        response = future.result()
        if not response.success:
            node.get_logger().warning(response.message)
            goal.abort()
            return SampleGraspPoses.Result(grasp_state="failed")
        feedback = SampleGraspPoses.Feedback()
        feedback.grasp_candidates, feedback.costs = candidates(request, response)
        goal.publish_feedback(feedback)
        goal.succeed()
        return SampleGraspPoses.Result(grasp_state="success")

    ActionServer(node, SampleGraspPoses, "sample_grasp_poses", execute, callback_group=group)
    executor = MultiThreadedExecutor()
    executor.add_node(node)
    executor.spin()


if __name__ == "__main__":
    main()
