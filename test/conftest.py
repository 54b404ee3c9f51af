"""Fixtures of the unit tests: a seeded generator and a small model that nobody trained."""

import pytest
import torch
from hypothesis import settings

import gpu_tools  # noqa: F401  before anything imports triton
from spyropose_ros.core import se3_grid
from spyropose_ros.core.bundle import ModelBundle, ObjectInfo
from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.keypoint_model import PoseModel

settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, max_examples=50
)
settings.load_profile("repeatable")
torch.set_num_threads(1)  # small tensors: threads cost more than they give, and results repeat

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


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def tiny_model():
    torch.manual_seed(0)
    return PoseModel(TINY, KEYPOINTS).eval().requires_grad_(False)


@pytest.fixture
def tiny_bundle(tiny_model):
    """Untrained; temperatures so low that the distributions are far from uniform."""
    info = ObjectInfo("thing", [0.01, -0.02, 0.03], 0.12, 0.9, 0.05, KEYPOINTS.tolist())
    return ModelBundle(tiny_model, info, [0.01, 0.02, 0.03], {"steps": 0})


@pytest.fixture(scope="session")
def rough_scorer():
    """Makes scorers that are as good as random from cell to cell and level to level."""

    def make(sharpness=3.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn((9, 12), generator=generator)

        def score(level, rotations, translations):
            pose = torch.cat((rotations.flatten(-2), 10 * translations), -1)
            return sharpness * torch.sin(20 * (pose * weights[level]).sum(-1))

        return score

    return make


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


@pytest.fixture(scope="session")
def product_scorer():
    return ProductScorer
