"""The fast tier, and fixtures of the unit tests: a seeded generator and a small untrained model."""

import functools
import multiprocessing.process
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

import gpu_tools  # noqa: F401  before anything imports triton
from model_tools import KEYPOINTS, untrained_model
from spyropose_ros.core import se3_grid
from spyropose_ros.core.bundle import ModelBundle, ObjectInfo
from spyropose_ros.scenes import sampler
from spyropose_ros.scenes.sprites import SpriteBank

settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, max_examples=50
)
settings.load_profile("repeatable")
# A background job inherits that SIGINT is ignored, and so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # small tensors: threads cost more than they give, and results repeat

# --- the fast tier: a test that does one of these is skipped when it does ---

GRAPHS = Path(__file__).parent / "ros"


def pytest_addoption(parser):
    parser.addoption(
        "--fast", action="store_true", help="skip what starts a graph, a process or a training"
    )


def pytest_ignore_collect(collection_path, config):
    return (config.getoption("--fast") and collection_path == GRAPHS) or None


def pytest_collection_finish(session):
    """A rule instead of marks."""
    if not session.config.getoption("--fast"):
        return
    import lightning

    from training.evaluation.records import RecordFile
    from training.generate.part import Part

    def skips(what):
        return lambda *_, **__: pytest.skip(what)

    start = subprocess.Popen.__init__

    def start_program(process, command, *args, **kwargs):
        if command[0] == sys.executable:
            pytest.skip("a process")
        start(process, command, *args, **kwargs)

    subprocess.Popen.__init__ = start_program
    multiprocessing.process.BaseProcess.start = skips("a process")
    lightning.Trainer.fit = torch.optim.Adam.step = skips("a training")
    torch.export.export = torch.onnx.export = skips("an export")
    RecordFile.__init__ = skips("an evaluation")
    Part.__init__ = skips("a generated data set")


@pytest.fixture(scope="session", autouse=True)
def one_sprite_bank():
    """Without meshes the sprites of every sampler are the same, and take seconds."""

    @functools.cache
    def simple(count):
        return SpriteBank([], count, np.random.default_rng(0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sampler,
            "SpriteBank",
            lambda meshes, count, rng: SpriteBank(meshes, count, rng) if meshes else simple(count),
        )
        yield


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def tiny_model():
    return untrained_model()


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
