"""A camera that may be anywhere around the demo's mug, on the graph."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray

from spyropose_ros.demo import node, stage
from spyropose_ros.demo.camera import FRAME_ID, camera_info
from spyropose_ros.demo.plan import FIXED_FRAME
from spyropose_ros.ros.messages.conversions import poses
from spyropose_ros.ros.messages.detection_messages import detection_message
from spyropose_ros.ros.pipeline.images import image_message
from spyropose_ros.scenes.mug import make_mug
from spyropose_ros.scenes.renderer import bounding_sphere
from spyropose_ros.scenes.sampler import mask_box

_TF_DEPTH = 100  # as in tf2


class MugCamera:
    """Publishes renderings of the mug, which rests in FIXED_FRAME, with box and transform.

    Args:
        owner: gets the publishers, and has the clock.

    Attributes:
        center: of the mug's bounding sphere in FIXED_FRAME, metres, [3].
    """

    center: np.ndarray

    def __init__(self, owner: Node) -> None:
        mesh, _ = make_mug()
        self.center, _ = bounding_sphere(mesh)
        self._stage = stage.Stage(mesh)
        self._clock = owner.get_clock()
        self._image = owner.create_publisher(Image, node.IMAGE, node.QUEUE)
        self._camera_info = owner.create_publisher(CameraInfo, node.CAMERA_INFO, node.QUEUE)
        self._detections = owner.create_publisher(Detection2DArray, node.DETECTIONS, node.QUEUE)
        self._tf = owner.create_publisher(TFMessage, "/tf", _TF_DEPTH)
        self._count = 0

    def show(self, camera: np.ndarray) -> Header:
        """Publish what a camera sees.

        Args:
            camera: pose of its optical frame in FIXED_FRAME, [4, 4].

        Returns:
            The header of the image.
        """
        header = Header(stamp=self._clock.now().to_msg(), frame_id=FRAME_ID)
        # Before the image is rendered: without it the estimator's filter would forget what it knows
        self._tf.publish(TFMessage(transforms=[_transform(header, camera)]))
        self._count += 1
        object_pose = np.linalg.inv(camera)
        R, t = object_pose[:3, :3], object_pose[:3, 3]
        image, seen, _ = self._stage.render(R, t, np.random.default_rng(self._count))
        calibration = camera_info(stage.K, stage.WIDTH, stage.HEIGHT)
        calibration.header = header
        self._camera_info.publish(calibration)
        box = detection_message(header, mask_box(seen >= 0), "mug", 1.0, "mug")
        self._detections.publish(Detection2DArray(header=header, detections=[box]))
        self._image.publish(image_message(header, image))
        return header


def _transform(header: Header, camera: np.ndarray) -> TransformStamped:
    """Say where the camera is."""
    message = TransformStamped(child_frame_id=FRAME_ID)
    message.header = Header(stamp=header.stamp, frame_id=FIXED_FRAME)
    (pose,) = poses(camera[None, :3, :3], camera[None, :3, 3])
    message.transform.rotation = pose.orientation
    place = message.transform.translation
    place.x, place.y, place.z = camera[:3, 3].tolist()
    return message
