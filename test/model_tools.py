"""A small network that nobody trained, and a scorer that is exact."""

import numpy as np
import torch
import trimesh

from spyropose_ros.core import se3_grid
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


def coloured_box():
    """A mesh with colours at its vertices, about as large as the objects of small bundles."""
    mesh = trimesh.creation.box((0.08, 0.06, 0.04))
    low, high = mesh.bounds
    mesh.visual.vertex_colors = np.uint8(255 * (mesh.vertices - low) / (high - low))
    return mesh


class ProductScorer:
    """Scorer whose logits are, up to a constant, the exact log masses of cells at every level.

    Args:
        box: batch of one.
        rotation: unnormalised masses of the finest rotation cells, [72 * 8^(depth - 1)].
        position: of the finest translation cells, [2^depth, 2^depth, 2^depth].
    """

    def __init__(self, box, rotation, position):
        self.box = box
        rotation, position = rotation.double(), position.double()
        rotations, positions = [rotation / rotation.sum()], [position / position.sum()]
        while len(rotations[0]) > 72:  # coarser levels hold the sums of their parts
            rotations.insert(0, rotations[0].view(-1, 8).sum(1))
            n = len(positions[0]) // 2
            positions.insert(0, positions[0].view(n, 2, n, 2, n, 2).sum((1, 3, 5)))
        self.rotations, self.positions = rotations, positions

    def log_mass(self, level, rotations, translations):
        cells = se3_grid.containing(rotations, translations, self.box, level)
        x, y, z = cells.position_index.unbind(-1)
        rotation = self.rotations[level][cells.rotation_index]
        return (rotation * self.positions[level][x, y, z]).log()

    def __call__(self, level, rotations, translations):
        return self.log_mass(level, rotations, translations) + 3.0 * level - 1.0
