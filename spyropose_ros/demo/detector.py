"""The demo's detector: imitates a detection network, with its delay and its errors.

It does not look at the images. It adds the errors of real detectors to the exact box that the
camera publishes.
"""

from __future__ import annotations

import time

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray

from spyropose_ros.demo import node
from spyropose_ros.ros.messages.detection_messages import detection_message
from spyropose_ros.ros.pipeline.camera_frame import nanoseconds
from spyropose_ros.scenes.detector import noisy_box


class Detector(node.DemoNode):
    """Publishes one noisy box for every image."""

    def __init__(self):
        super().__init__("demo_detector")
        self._latency = self.setting("latency", 0.05, "time that a detection takes, seconds")
        self._seed = self.setting("seed", 1, "of the noise")
        self._publisher = self.create_publisher(Detection2DArray, node.DETECTIONS, node.QUEUE)
        self._exact: dict[int, Detection2DArray] = {}
        self._images: dict[int, Image] = {}
        self.create_subscription(Image, node.IMAGE, self._on_image, node.QUEUE)
        self.create_subscription(Detection2DArray, node.VISIBLE, self._on_visible, node.QUEUE)

    def _on_image(self, message: Image) -> None:
        self._images[nanoseconds(message.header.stamp)] = message
        self._detect()

    def _on_visible(self, message: Detection2DArray) -> None:
        self._exact[nanoseconds(message.header.stamp)] = message
        self._detect()

    def _detect(self) -> None:
        for stamp in self._images.keys() & self._exact.keys():
            image, exact = self._images.pop(stamp), self._exact.pop(stamp)
            time.sleep(self._latency)
            detections = [noisy(image.header, box, self._seed) for box in exact.detections]
            self._publisher.publish(Detection2DArray(header=image.header, detections=detections))


def noisy(header: Header, exact: Detection2D, seed: int) -> Detection2D:
    """Make a detection with the errors of a network.

    The noise depends only on the seed and the frame's number, so that runs are repeatable.

    Args:
        header: Of the image.
        exact: Detection with the exact box; its id is the number of the frame.
        seed: Of the noise.

    Returns:
        The detection, with the same id.
    """
    rng = np.random.default_rng((seed, int(exact.id)))
    center, size = exact.bbox.center.position, (exact.bbox.size_x, exact.bbox.size_y)
    half = np.array(size) / 2
    middle = np.array([center.x, center.y])
    box = noisy_box(np.concatenate([middle - half, middle + half]), rng)
    class_id = exact.results[0].hypothesis.class_id
    return detection_message(header, box, class_id, rng.uniform(0.7, 1.0), exact.id)


def main() -> int:
    """Run the process."""
    return node.run(Detector)


if __name__ == "__main__":
    raise SystemExit(main())
