"""A small network that nobody trained."""

import torch

from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.keypoint_model import PoseModel

TINY = ModelConfig(
    backbone={
        "model_type": "resnet",
        "layer_type": "basic",
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
    },
    depth=3,
    crop_resolution=32,
    feature_stride=2,
    decoder_channels=(16, 8),
    feature_channels=8,
    embed_dim=4,
    hidden_dim=16,
    hidden_layers=1,
)
KEYPOINTS = 0.05 * torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]])


def untrained_model(keypoints=KEYPOINTS, seed=0):
    """A network of the sizes of `TINY` with random weights."""
    torch.manual_seed(seed)
    return PoseModel(TINY, keypoints).eval().requires_grad_(False)
