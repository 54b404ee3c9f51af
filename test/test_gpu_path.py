"""The search on a GPU: the host waits for nothing, and the answers are those of the CPU."""

import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import spyropose_ros
from gpu_tools import needs_gpu
from model_tools import TINY
from spyropose_ros.core import search as search_module
from spyropose_ros.core.kernels.cuda_graphs import Graphed
from spyropose_ros.core.network.keypoint_model import make_model
from spyropose_ros.core.scorer import NetworkScorer, View, search_heads
from spyropose_ros.core.search import search
from spyropose_ros.core.translation_grid import TranslationBox

PACKAGE = Path(spyropose_ros.__file__).parent
UPLOADS = (torch.tensor, torch.as_tensor, torch.from_numpy)
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_linalg_check_errors", "_unique2"}


def caller():
    """Line of the package that is being run."""
    frames = [f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(PACKAGE)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"


class Uploads(TorchFunctionMode):
    """Where tensors are made of numbers of the host."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in UPLOADS and not isinstance(args[0], torch.Tensor):
            self.found.append(f"{caller()} {function.__name__}")
        return function(*args, **(kwargs or {}))


class Waits(TorchDispatchMode):
    """Where the host waits for the device "meta", or uses a tensor that is not on it.

    That device computes shapes only; what asks it for a value raises an error.
    """

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_iter((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        name = function.overloadpacket.__name__
        if name in WAITS or any(x.device.type != "meta" for x in tensors):
            self.found.append(f"{caller()} {name}")
        return result


def make_search(model, device, views=1):
    """A search of two boxes as a function of tensors to a tuple of tensors, and its arguments."""
    config = model.config
    generator = torch.Generator().manual_seed(0)
    crops = torch.rand((2, 3, *[config.crop_resolution] * 2), generator=generator)
    K_crop = torch.tensor([[80.0, 0, 15.5], [0, 80.0, 15.5], [0, 0, 1]]).repeat(2, 1, 1)
    center = torch.tensor([[0.0, 0.0, 0.5], [0.02, 0.0, 0.6]])
    basis = 0.1 * torch.eye(3).repeat(2, 1, 1)
    if config.rotation_only:
        basis = basis[..., :0]
    inputs = [x.to(device) for x in (model.features(crops), K_crop, center, basis)]
    heads = search_heads(model.to(device))

    def run(features, K_crop, center, basis):
        scorer = NetworkScorer(heads, [0.1] * config.depth, [View(features, K_crop)] * views, 1.0)
        pyramid = search(scorer, TranslationBox(center, basis), config.depth, beam=16)
        return tuple(
            tensor
            for level in pyramid.levels
            for tensor in (level.cells.keys(), level.log_probability, level.expanded)
        )

    return run, inputs


@pytest.fixture(params=["keypoints", "keypoints, rotations only", "vector"])
def model(request, tiny_model):
    if request.param == "keypoints":
        return tiny_model
    torch.manual_seed(0)
    config = replace(TINY, scorer=request.param.split(",")[0], rotation_only=True)
    return make_model(config, tiny_model.keypoints).eval().requires_grad_(False)


@pytest.fixture
def unchecked(monkeypatch):
    """Without the one look, at the end, at whether all is finite."""
    monkeypatch.setattr(search_module, "check", lambda levels: None)


@pytest.mark.parametrize("views", [1, 2])
def test_a_search_of_a_fixed_beam_waits_for_nothing(model, views, unchecked):
    run, inputs = make_search(model, "meta", views)
    run(*inputs)  # some constants are copied to the device once
    found = []
    with Uploads(found), Waits(found):
        run(*inputs)
    assert sorted(set(found)) == []


@needs_gpu
def test_a_search_of_a_fixed_beam_waits_for_nothing_on_a_gpu(model, unchecked):
    run, inputs = make_search(model, "cuda")
    run(*inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def assert_alike(found, expected):
    """Log masses of every level's cells, wherever near ties let both searches look."""
    assert torch.equal(found[0], expected[0])
    for keys, log_p, wanted_keys, wanted in zip(
        found[::3], found[1::3], expected[::3], expected[1::3], strict=True
    ):
        for b in range(len(keys)):
            _, mine, theirs = np.intersect1d(keys[b], wanted_keys[b], return_indices=True)
            assert len(mine) > 0.95 * keys.shape[1]
            torch.testing.assert_close(log_p[b][mine], wanted[b][theirs], rtol=0, atol=5e-3)


@needs_gpu
def test_a_search_on_a_gpu_finds_what_the_cpu_finds(model):
    run, inputs = make_search(model, "cpu")
    expected = run(*inputs)
    run, inputs = make_search(model, "cuda")
    assert_alike([x.cpu() for x in run(*inputs)], expected)


@needs_gpu
@pytest.mark.parametrize("n", [1, 2])
def test_a_captured_search_finds_the_same_on_a_gpu(model, n, unchecked, caplog):
    run, inputs = make_search(model, "cuda")
    inputs = [x[:n] for x in inputs]
    expected = [x.cpu() for x in run(*inputs)]
    graphed = Graphed(run)
    graphed(*(x.flip(0) if x.ndim < 4 else x for x in inputs))  # captured with other values
    assert_alike([x.cpu() for x in graphed(*inputs)], expected)
    assert "no CUDA graphs" not in caplog.text
