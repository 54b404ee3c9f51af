"""Results as the pipeline gives them, for the tests of the outputs."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox
from spyropose_ros.ros.interfaces import Header, String
from spyropose_ros.ros.pipeline.appearance import Appearance
from spyropose_ros.ros.pipeline.camera_frame import Result, View
from spyropose_ros.ros.pipeline.detections import Target
from spyropose_ros.ros.pipeline.parameters import OutputParameters, Parameters

K = np.array([[150.0, 0.0, 79.5], [0.0, 150.0, 59.5], [0.0, 0.0, 1.0]])
LOOK = Appearance(0.12, "file:///mug.ply", (0.0, 0.0, 0.05), (0.08, 0.08, 0.1))
MODELS = SimpleNamespace(
    model_id=lambda name: f"demo_{name}", appearance=lambda name: LOOK, features=lambda name: {}
)
SHOWN = Parameters(publish_tf=True, output=OutputParameters(max_poses=50, min_mass=0.2))
UPSIDE_DOWN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


MESH = Path(__file__).parents[1] / "models/demo_mug/mesh.ply"


def model_info(mesh=None):
    """What an estimator says of the model that MODELS names."""
    entry = {"model_id": "demo_mug", "diameter": 0.12, "center": [0, 0, 0.04], "mesh": mesh}
    entry["features"] = {"handle": [0.07, 0, 0.048]}
    return String(data=json.dumps({"objects": [entry]}))


def header_at(seconds, frame_id="camera"):
    header = Header(frame_id=frame_id)
    header.stamp.sec = seconds
    return header


def two_sided(favourite):
    """Two sharp modes: object axes along the camera's (0), or turned by 180 degrees (1)."""

    def score(level, rotation, translation):
        upright = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
        upside_down = (rotation @ UPSIDE_DOWN).diagonal(dim1=-2, dim2=-1).sum(-1)
        alike = torch.stack((upright, upside_down), -1)
        alike[..., favourite] += 0.01
        offset = translation - torch.tensor([0.0, 0.0, 0.6])
        return 40 * alike.amax(-1) - 5000 * offset.square().sum(-1)

    box = TranslationBox.from_view(torch.tensor([[0.0, 0.0, 0.6]]), 0.12)
    return search(score, box, depth=3, beam=64).distribution(0, torch.zeros(3), 0.12)


def uniform():
    """Nothing is known but where the object is."""
    box = TranslationBox.from_view(torch.tensor([[0.0, 0.0, 0.6]]), 0.12)
    flat = search(lambda level, rotation, translation: rotation[..., 0, 0] * 0, box, 2, beam=64)
    return flat.distribution(0, torch.zeros(3), 0.12)


def view_of(camera_from_frame=None, width=160, height=120):
    image = np.full((height, width, 3), 90, np.uint8)
    return View("", header_at(1), image, K, camera_from_frame)


def result_of(*distributions, seconds=1, frame_id="camera", views=None, epoch=0):
    targets = [Target("mug", "cup", str(k), 0.8, (0, 0, 9, 9)) for k, _ in enumerate(distributions)]
    header = header_at(seconds, frame_id)
    views = [view_of()] if views is None else views
    return Result(header, targets, distributions, 0.25, views, epoch)
