"""Image message in, result messages out, without a graph. Needs ROS 2."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from benchmarks.bench.networks import Scene
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.ros.interfaces import Header, Image
from spyropose_ros.ros.messages.result_messages import messages
from spyropose_ros.ros.messages.tf_poses import TransformChooser
from spyropose_ros.ros.pipeline.appearance import Appearance
from spyropose_ros.ros.pipeline.camera_frame import Result, View
from spyropose_ros.ros.pipeline.detections import Target
from spyropose_ros.ros.pipeline.images import image_message, rgb_image
from spyropose_ros.ros.pipeline.parameters import Parameters

TOPICS = ("~/distributions", "detections_3d", "~/pose")
_LOOK = Appearance(0.12, "file:///mug.ply", (0.0, 0.0, 0.05), (0.08, 0.08, 0.1))
_MODELS = SimpleNamespace(model_id=lambda name: name, appearance=lambda name: _LOOK)
_PARAMETERS = Parameters()


def pack(scene: Scene) -> Image:
    """Return the image as a camera sends it."""
    return image_message(Header(frame_id="camera"), scene.image)


def unpack(message: Image) -> np.ndarray:
    """Return the image as the node reads it, RGB uint8 [H, W, 3]."""
    return rgb_image(message)


def answer(distributions: Sequence[PoseDistribution], scene: Scene) -> list:
    """Return the messages about a frame that most nodes listen to, TOPICS."""
    header = Header(frame_id="camera")
    targets = [Target("mug", "mug", str(n), 0.9, tuple(b)) for n, b in enumerate(scene.boxes)]
    views = [View("", header, scene.image, scene.K, None)]
    result = Result(header, targets, distributions, 0.1, views)
    made = messages(result, _MODELS, _PARAMETERS, TransformChooser(), TOPICS.__contains__)
    return list(made)
