"""The detection adapter as a process of its own; a PoseArray stands for a detector's own type."""

import os
import signal
import subprocess
import sys
import time

import pytest
import rclpy
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from vision_msgs.msg import Detection2DArray

import graph

PATHS = {
    "type": "geometry_msgs/msg/PoseArray",
    "list": "poses",
    "class_id": "position.z",
    "left": "position.x",
    "top": "position.y",
    "right": "orientation.x",
    "bottom": "orientation.y",
}


@pytest.fixture
def adapter():
    """Starts the adapter in the namespace /adapter; ends it with the test."""
    processes = []

    def start(**parameters):
        arguments = [f"-p {name}:={value}".split() for name, value in parameters.items()]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "spyropose_ros.ros.node.detection_adapter", "--ros-args"]
                + ["-r", "__ns:=/adapter", *sum(arguments, [])],
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"RCUTILS_LOGGING_BUFFERED_STREAM": "0"},
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "offered", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT], ids=["all", "less"]
)
def test_detections_arrive_in_the_type_of_the_estimator(adapter, offered):
    process = adapter(**PATHS, scale_x=100)
    peer = Node("peer", namespace="/adapter")
    received = []
    peer.create_subscription(Detection2DArray, "detections", received.append, 10)
    qos = QoSProfile(depth=10, reliability=offered)
    publisher = peer.create_publisher(PoseArray, "input", qos)
    corners = Pose(position=Point(x=0.1, y=20.0, z=3.0), orientation=Quaternion(x=0.5, y=60.0))
    sent = graph.stamp(PoseArray(poses=[corners]), 5 * graph.SECOND)
    deadline = time.monotonic() + 30
    while not received and time.monotonic() < deadline:
        if publisher.get_subscription_count() and peer.count_publishers("detections"):
            publisher.publish(sent)
        rclpy.spin_once(peer, timeout_sec=0.1)
    peer.destroy_node()
    (item,) = received[0].detections
    assert received[0].header == sent.header
    assert item.bbox.center.position.x == pytest.approx(30) and item.bbox.size_x == pytest.approx(
        40
    )
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=30)[1]
    assert process.returncode == 0 and "Traceback" not in errors


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"left": "position.w"}, "no field 'w': Point has x, y, z"),
        ({"scale_x": "wide"}, "parameter 'scale_x' is 'wide' but must be like 1.0"),
        ({"qos.reliability": "often"}, "write one of reliable, best_effort"),
        ({"preset": "yolo_ros", "type": "yolo_msgs/msg/DetectionArray"}, "build yolo_msgs"),
    ],
)
def test_a_mistake_ends_the_process_with_one_line(adapter, changes, text):
    process = adapter(**(PATHS | changes))
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert text in errors and "Traceback" not in errors
