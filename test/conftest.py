"""The fast tier, and fixtures of the unit tests: a seeded generator and a small untrained model.

What takes long to import is imported where it is used: the process that hands out the tests of
the fast tier needs none of it.
"""

import functools
import gc
import multiprocessing.process
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A background job inherits that SIGINT is ignored, and so would what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_pycollect_makemodule():
    """Before the first module with tests is imported."""
    from hypothesis import settings

    if settings.get_current_profile_name() != "repeatable":
        settings.register_profile(
            "repeatable", deadline=None, derandomize=True, database=None, max_examples=50
        )
        settings.load_profile("repeatable")
        import torch

        import gpu_tools  # noqa: F401  before anything imports triton

        torch.set_num_threads(1)  # small tensors: threads cost more than they give; repeatable


# --- the fast tier: a test that does one of these is skipped when it does ---

LEFT_OUT = [Path(__file__).parent / "ros", Path(__file__).parent / "fitting"]
"""Graphs, and what trains by Lightning."""


def pytest_addoption(parser):
    parser.addoption(
        "--fast", action="store_true", help="skip what starts a graph, a process or a training"
    )


def pytest_ignore_collect(collection_path, config):
    return (config.getoption("--fast") and collection_path in LEFT_OUT) or None


def pytest_collection_finish(session):
    """A rule instead of marks."""
    if not session.config.getoption("--fast"):
        return
    import torch

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
    torch.optim.Adam.step = skips("a training")
    torch.export.export = torch.onnx.export = skips("an export")
    RecordFile.__init__ = skips("an evaluation")
    Part.__init__ = skips("a generated data set")
    gc.freeze()  # what stays to the end need not be looked through again and again


@pytest.fixture(scope="session", autouse=True)
def one_sprite_bank():
    """Without meshes the sprites of every sampler are the same, and take seconds."""
    import numpy as np

    from spyropose_ros.scenes import compositing, groups, sampler
    from spyropose_ros.scenes.sprites import SpriteBank

    @functools.cache
    def simple(count):
        return SpriteBank([], count, np.random.default_rng(0))

    def bank(meshes, count, rng):
        return SpriteBank(meshes, count, rng) if meshes else simple(count)

    with pytest.MonkeyPatch.context() as patch:
        for module in (compositing, groups, sampler):
            patch.setattr(module, "SpriteBank", bank)
        yield


@pytest.fixture
def generator():
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture
def tiny_model():
    from model_tools import untrained_model

    return untrained_model()


@pytest.fixture
def tiny_bundle(tiny_model):
    """Untrained; temperatures so low that the distributions are far from uniform."""
    from model_tools import KEYPOINTS
    from spyropose_ros.core.bundle import ModelBundle, ObjectInfo

    info = ObjectInfo("thing", [0.01, -0.02, 0.03], 0.12, 0.9, 0.05, KEYPOINTS.tolist())
    return ModelBundle(tiny_model, info, [0.01, 0.02, 0.03], {"steps": 0})


@pytest.fixture(scope="session")
def photograph():
    """A person with a tie, RGB uint8 [H, W, 3]: a public-domain portrait of Matplotlib's."""
    import numpy as np
    from matplotlib.cbook import get_sample_data
    from PIL import Image

    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return np.array(image.convert("RGB"))


@pytest.fixture(scope="session")
def rough_scorer():
    """Makes scorers that are as good as random from cell to cell and level to level."""
    import torch

    def make(sharpness=3.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn((9, 12), generator=generator)

        def score(level, rotations, translations):
            pose = torch.cat((rotations.flatten(-2), 10 * translations), -1)
            return sharpness * torch.sin(20 * (pose * weights[level]).sum(-1))

        return score

    return make


@pytest.fixture(scope="session")
def product_scorer():
    from model_tools import ProductScorer

    return ProductScorer
