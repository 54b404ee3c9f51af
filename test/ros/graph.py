"""What the tests on a ROS graph share: message builders, a small model, and a peer of the node."""

import os
import signal
import subprocess
import sys
import time
from array import array
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from spyropose_ros.msg import PoseDistributionArray
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

WIDTH, HEIGHT = 160, 120
FRAME = "camera_optical_frame"
SECOND = 10**9
COCO = str(Path(__file__).parents[2] / "models" / "nanodet_coco")
"""A detector of everyday things."""


def call(node: Node, spin_until, kind: type, name: str, request):
    """Calls one of the estimator's services and returns its answer.

    Args:
        node: in the namespace of the estimator.
        spin_until: lets the graph work until a condition holds.
        kind: of the service.
        name: without estimator/.
        request: to send.
    """
    client = node.create_client(kind, f"estimator/{name}")
    spin_until(client.service_is_ready)
    future = client.call_async(request)
    spin_until(future.done)
    node.destroy_client(client)
    return future.result()


def stamp(message, nanoseconds: int):
    """Sets the stamp of a message's header and its frame."""
    message.header.frame_id = FRAME
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(nanoseconds, SECOND)
    return message


def picture(seed: int = 0) -> np.ndarray:
    """Noise, RGB uint8 [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def image_message(nanoseconds: int, rgb: np.ndarray | None = None) -> Image:
    """A valid rgb8 image."""
    rgb = picture() if rgb is None else rgb
    message = stamp(Image(), nanoseconds)
    message.height, message.width = rgb.shape[:2]
    message.encoding, message.step = "rgb8", 3 * rgb.shape[1]
    message.data = array("B", rgb.tobytes())
    return message


def camera_info_message(nanoseconds: int = SECOND, rgb: np.ndarray | None = None) -> CameraInfo:
    """The calibration of an image; P differs from K, so that mixing them up shows."""
    message = stamp(CameraInfo(), nanoseconds)
    message.height, message.width = (HEIGHT, WIDTH) if rgb is None else rgb.shape[:2]
    message.k = [151.0, 0.0, 81.0, 0.0, 151.0, 61.0, 0.0, 0.0, 1.0]
    message.p = [150.0, 0.0, 79.5, 0.0, 0.0, 150.0, 59.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def detection(class_id="mug", x=80.0, y=60.0, size_x=60.0, size_y=50.0, score=0.9, name="7"):
    """One detection; class_id None gives no hypothesis."""
    message = Detection2D(id=name)
    message.bbox.center.position.x, message.bbox.center.position.y = x, y
    message.bbox.size_x, message.bbox.size_y = size_x, size_y
    if class_id is not None:
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = class_id, score
        message.results = [result]
    return message


def detections_message(nanoseconds: int, *detections: Detection2D) -> Detection2DArray:
    """Detections of an image."""
    return stamp(Detection2DArray(detections=list(detections)), nanoseconds)


class Peer:
    """A camera, a detector and a listener around one estimator node.

    Args:
        namespace: of the estimator, for example /bench.
        node: the estimator if it runs in this process.
        image_topic: name of the image topic.
    """

    def __init__(
        self, namespace: str, node: Node | None = None, image_topic: str = "image_rect"
    ) -> None:
        self.node = Node("peer", namespace=namespace)
        self.estimator = node
        self._executor = SingleThreadedExecutor()
        for member in filter(None, (self.node, node)):
            self._executor.add_node(member)
        self.image = self.node.create_publisher(Image, image_topic, 5)
        self.camera_info = self.node.create_publisher(CameraInfo, "camera_info", 5)
        self.detections = self.node.create_publisher(Detection2DArray, "detections", 10)
        self.distributions = self.listen(PoseDistributionArray, "distributions")
        self.poses = self.listen(PoseArray, "poses")

    def listen(self, kind: type, topic: str) -> list:
        """Returns a list that grows with the messages of one of the estimator's topics."""
        received: list = []
        self.node.create_subscription(kind, f"estimator/{topic}", received.append, 10)
        return received

    def spin_until(self, condition, timeout: float = 30.0) -> None:
        """Lets the graph work until the condition holds; fails after the timeout (seconds)."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "nothing happened in time"
            self._executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        """Lets the graph work for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.05)

    def connect(self) -> None:
        """Waits until both sides know each other."""
        publishers = (self.image, self.camera_info, self.detections)
        topics = ("distributions", "poses")
        self.spin_until(
            lambda: (
                all(publisher.get_subscription_count() for publisher in publishers)
                and all(self.node.count_publishers(f"estimator/{topic}") for topic in topics)
            )
        )

    def now(self) -> int:
        """Present time in nanoseconds."""
        return self.node.get_clock().now().nanoseconds

    def send(self, *detections: Detection2D, image: Image | None = None, info=None) -> int:
        """Publishes a frame; returns its stamp in nanoseconds."""
        now = self.now()
        self.camera_info.publish(info or camera_info_message(now))
        self.spin(0.05)  # topics are not ordered among themselves
        self.image.publish(stamp(image, now) if image else image_message(now))
        self.detections.publish(detections_message(now, *detections))
        return now

    def close(self) -> None:
        """Takes the nodes off the graph."""
        self._executor.shutdown()
        if self.estimator is not None:
            self.estimator.stop()
            self.estimator.destroy_node()
        self.node.destroy_node()


def overrides(**values) -> list[Parameter]:
    """Parameters with dots written as double underscores."""
    return [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]


class Process:
    """The estimator as its own process, with its output.

    Args:
        directory: for the output.
        arguments: ROS arguments after --ros-args.
    """

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._log = directory / "output.txt"
        command = [sys.executable, "-m", "spyropose_ros.ros.node.estimator_node", "--ros-args"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "RCUTILS_LOGGING_BUFFERED_STREAM": "0"},
            )

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def wait_for(self, text: str, timeout: float = 60.0) -> None:
        """Waits until it has written a text."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert self._process.poll() is None, (
                f"ended early, exit code {self._process.poll()}:\n{self.output}"
            )
            assert time.monotonic() < deadline, f"{text!r} did not come:\n{self.output}"
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    @property
    def cpu_time(self) -> float:
        """Seconds of CPU time so far, all threads."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def exit_code(self, timeout: float = 60.0) -> int:
        """Waits for the end."""
        return self._process.wait(timeout)

    def close(self) -> None:
        """Ends it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
