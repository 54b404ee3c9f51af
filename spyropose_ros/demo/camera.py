"""The demo's camera: publishes prepared frames at the pace of the estimator.

A real camera runs at its own rate, and a slower estimator skips frames. Here every frame is
processed on any machine: the next one is published when the distribution of the last one has
arrived, or after a timeout. Timeouts count as frames without a distribution.
"""

from __future__ import annotations

import time

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.duration import Duration
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, ObjectHypothesisWithPose

from spyropose_ros.demo import node
from spyropose_ros.demo.frames import Frame, open_frames
from spyropose_ros.msg import PoseDistributionArray
from spyropose_ros.ros.messages.conversions import poses
from spyropose_ros.ros.messages.detection_messages import detection_message
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.ros.pipeline.images import image_message

FRAME_ID = "camera_optical_frame"
_IDLE_INTERVAL = 0.5  # seconds between images while the other nodes start
_DELIVERY = Duration(seconds=10)  # longest wait at the end for the delivery of messages
_MAX_MISSED = 3  # frames in a row without a distribution


class Camera(node.DemoNode):
    """Publishes image, calibration, true pose and true box of every frame; then ends."""

    def __init__(self):
        super().__init__("demo_camera")
        object_name = self.setting("object", "mug", "what to show: mug, lmo/<object>, or a bundle")
        count = self.setting("frames", 0, "number of frames; 0: all photographs, or 60 renderings")
        data_root = self.setting("data_root", "data", "folder of the downloaded data sets")
        self._interval = self.setting("interval", 0.2, "shortest time between frames, seconds")
        self._timeout = self.setting("timeout", 60.0, "longest wait for a distribution, seconds")
        self._startup = self.setting("startup", 300.0, "longest wait for the other nodes, seconds")
        self._detections = self.setting("detections", True, "whether a detector publishes boxes")
        self._frames = open_frames(object_name, count, data_root)
        height, width = self._frames[0].image.shape[:2]
        self._calibration = camera_info(self._frames[0].K, width, height)  # the same for all
        self._class_id = self._frames.class_id

        self._image = self.create_publisher(Image, node.IMAGE, node.QUEUE)
        self._camera_info = self.create_publisher(CameraInfo, node.CAMERA_INFO, node.QUEUE)
        self._truth = self.create_publisher(PoseStamped, node.TRUTH, node.QUEUE)
        self._visible = self.create_publisher(Detection2DArray, node.VISIBLE, node.QUEUE)
        self.create_subscription(
            PoseDistributionArray, node.DISTRIBUTIONS, self._on_distributions, node.QUEUE
        )
        self._started = self._published = time.monotonic()
        self._answered = False  # whether the estimator has sent anything
        self._ready = False  # whether all nodes have started
        self._next = 0
        self._missed = 0
        self._awaited: int | None = None  # stamp of the frame whose distribution is pending
        self.create_timer(0.02, self._tick)

    def _on_distributions(self, message: PoseDistributionArray) -> None:
        self._answered = True
        if nanoseconds(message.header.stamp) == self._awaited:
            self._awaited = None
            self._missed = 0

    def _tick(self) -> None:
        now = time.monotonic()
        if now < self._published + (self._interval if self._ready else _IDLE_INTERVAL):
            return
        if not self._ready:
            self._wait_for_the_others(now)
        elif self._awaited is None:
            self._show_next()
        elif now > self._published + self._timeout:
            self._miss()

    def _wait_for_the_others(self, now: float) -> None:
        ready = {
            # resolved: rclpy does not remap the name
            "the detector": not self._detections
            or self.count_publishers(self.resolve_topic_name(node.DETECTIONS)) > 0,
            "the summary": self._truth.get_subscription_count() > 0,
            "the estimator": self._answered,
        }
        missing = " and ".join(name for name, is_ready in ready.items() if not is_ready)
        if not missing:
            self._ready = True
            self.get_logger().info(f"all nodes ready after {now - self._started:.1f} s")
        elif now > self._started + self._startup:
            self.get_logger().fatal(f"timed out after {self._startup:g} s waiting for {missing}")
            self.finish(1)
        else:
            self.get_logger().info(f"waiting for {missing}", throttle_duration_sec=5.0)
            header = self._header()
            self._publish(header, self._frames[0], Detection2DArray(header=header))

    def _miss(self) -> None:
        self._awaited = None
        self._missed += 1
        self.get_logger().warning(f"no distribution within {self._timeout:g} s")
        if self._missed == _MAX_MISSED:
            self.get_logger().fatal(f"no distribution for {_MAX_MISSED} frames in a row: giving up")
            self.finish(1)

    def _show_next(self) -> None:
        if self._next == len(self._frames):
            for publisher in (self._image, self._camera_info, self._truth, self._visible):
                publisher.wait_for_all_acked(_DELIVERY)
            self.get_logger().info(f"all {self._next} frames published")
            self.finish(0)
            return
        frame = self._frames[self._next]
        self._next += 1
        header = self._header()
        self._awaited = nanoseconds(header.stamp)
        (pose,) = poses(frame.rotation[None], frame.translation[None])
        self._truth.publish(PoseStamped(header=header, pose=pose))
        self._publish(header, frame, visible_message(header, frame, self._class_id))

    def _publish(self, header: Header, frame: Frame, visible: Detection2DArray) -> None:
        self._published = time.monotonic()
        self._calibration.header = header
        self._visible.publish(visible)
        self._camera_info.publish(self._calibration)
        self._image.publish(image_message(header, frame.image))

    def _header(self) -> Header:
        return Header(stamp=self.get_clock().now().to_msg(), frame_id=FRAME_ID)


def camera_info(K: np.ndarray, width: int, height: int) -> CameraInfo:
    """Make the calibration of a rectified image.

    Args:
        K: Intrinsics, [3, 3].
        width: Pixels.
        height: Pixels.

    Returns:
        The message, with an empty header.
    """
    return CameraInfo(
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=K.flatten(),  # a copy: the message must not share the camera's matrix
        r=np.eye(3).ravel(),
        p=np.column_stack([K, np.zeros(3)]).ravel(),
    )


def visible_message(header: Header, frame: Frame, class_id: str) -> Detection2DArray:
    """Describe what is visible of the object, see node.VISIBLE.

    Args:
        header: Of the image.
        frame: The frame; its name becomes the id of the detection.
        class_id: Of the object.

    Returns:
        One detection with the exact box; its score is the visible share of the object. If the
        handle is known, a second hypothesis has its share of the visible pixels.
    """
    message = detection_message(header, frame.box, class_id, frame.visible_fraction, frame.name)
    if frame.handle_fraction is not None:
        handle = ObjectHypothesisWithPose()
        handle.hypothesis.class_id, handle.hypothesis.score = "handle", frame.handle_fraction
        message.results.append(handle)
    return Detection2DArray(header=header, detections=[message])


def main() -> int:
    """Run the process."""
    return node.run(Camera)


if __name__ == "__main__":
    raise SystemExit(main())
