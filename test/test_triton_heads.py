"""The Triton kernel against the plain formulation, on a GPU or in Triton's interpreter."""

import logging
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gpu_tools import INTERPRETED, needs_gpu
from model_tools import TINY
from spyropose_ros.core import so3
from spyropose_ros.core.kernels import triton_heads
from spyropose_ros.core.kernels.packed_head import PackedHead
from spyropose_ros.core.kernels.torch_heads import FusedHeads
from spyropose_ros.core.network.keypoint_model import PoseModel

pytest.importorskip("triton", reason="Triton comes for Linux on x86_64 only")

K_CROP = torch.tensor([[80.0, 0, 15.5], [0, 80.0, 15.5], [0, 0, 1]])
MAP_FROM_CROP = torch.tensor([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])  # 32 to 16 pixels


@pytest.fixture(
    params=[
        pytest.param(
            "cpu",
            marks=pytest.mark.skipif(
                not INTERPRETED, reason="compiles for the GPU here; TRITON_INTERPRET=1 interprets"
            ),
        ),
        pytest.param("cuda", marks=needs_gpu),
    ]
)
def device(request):
    return request.param


def make_model(device, n_keypoints=4, **changes):
    """Untrained, with weights so large that logits differ by about one."""
    torch.manual_seed(0)
    points = 0.05 * torch.randn(n_keypoints, 3)
    model = PoseModel(replace(TINY, **changes), points).eval().requires_grad_(False)
    for layer in model.heads[0].mlp:
        if isinstance(layer, torch.nn.Linear):
            layer.weight *= 2.5
        elif isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            layer.weight.uniform_(0.5, 2)
    return model.to(device)


def make_families(device, sizes, image=(1, 0)):
    """Families in, beside and behind the picture: image [M], [M, R, 3, 3], [M, T, 3]."""
    generator = torch.Generator().manual_seed(1)
    n_rotations, n_translations = sizes
    families = len(image)
    rotations = so3.random_rotations(families * n_rotations, generator)
    offset = torch.randn((families, n_translations, 3), generator=generator)
    translations = offset * torch.tensor([0.05, 0.05, 0.3]) + torch.tensor([0, 0, 0.4])
    rotations = rotations.view(families, n_rotations, 3, 3)
    return [x.to(device) for x in (torch.tensor(image), rotations, translations)]


def plain(model, features, image, rotations, translations):
    """`PoseModel.logits` of the families' poses, [M, R T]."""
    families, n_rotations = rotations.shape[:2]
    n_translations = translations.shape[1]
    return model.logits(
        features[image],
        K_CROP.to(features).expand(families, 3, 3),
        0,
        rotations.repeat_interleave(n_translations, 1),
        translations.repeat(1, n_rotations, 1),
    )


def by_kernel(model, features, image, rotations, translations, dtype=torch.float32):
    head = PackedHead.of(model, 0)
    embedded = F.linear(features.permute(0, 2, 3, 1), head.embed_weight, head.embed_bias)
    projector = (MAP_FROM_CROP @ K_CROP).to(features)
    rotated = (projector @ rotations @ model.keypoints.mT).permute(2, 0, 1, 3)  # [3, M, R, P]
    moved = (translations @ projector.mT).permute(2, 0, 1)  # [3, M, T]
    return triton_heads.family_logits(embedded.to(dtype), image, rotated, moved, head)


def feature_maps(model):
    crops = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(2))
    return model.features(crops.to(model.keypoints))


# Keypoints; channels, width and number of layers; rotations and translations, of which a search has
# 72 x 8 on its first level: less here, for the interpreter is slow.
SHAPES = [
    (4, 4, 16, 1, (8, 8)),
    (2, 16, 32, 2, (9, 8)),
    (12, 64, 64, 3, (8, 1)),
    (3, 20, 24, 4, (72, 1)),
    (1, 16, 192, 2, (8, 8)),
    (5, 8, 256, 2, (8, 8)),
]


@pytest.mark.parametrize(("points", "channels", "width", "layers", "sizes"), SHAPES)
def test_logits_of_the_plain_formulation(device, points, channels, width, layers, sizes):
    model = make_model(device, points, embed_dim=channels, hidden_dim=width, hidden_layers=layers)
    features, poses = feature_maps(model), make_families(device, sizes)
    expected = plain(model, features, *poses)
    assert float(expected.std()) > 0.05
    found = by_kernel(model, features, *poses)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_stays_within_its_bound(device, dtype, bound):
    """The bound is relative to how far the logits of the poses differ."""
    if device == "cpu" and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter multiplies bfloat16 wrongly: needs a GPU")
    model = make_model(device, 12, embed_dim=16, hidden_dim=64, hidden_layers=2)
    features, poses = feature_maps(model), make_families(device, (4, 8))
    expected = plain(model, features, *poses)
    error = by_kernel(model, features, *poses, dtype) - expected
    assert 0 < float(error.abs().max()) < bound * float(expected.max() - expected.min())


def test_large_tiles_score_alike(device, monkeypatch):
    monkeypatch.setattr(triton_heads, "_MANY_POSES", 1)
    model = make_model(device, embed_dim=16, hidden_dim=64, hidden_layers=2)
    features, poses = feature_maps(model), make_families(device, (8, 8))
    expected = plain(model, features, *poses)
    found = by_kernel(model, features, *poses, torch.float16)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)


def test_batch_norm_is_folded_in(device):
    model = make_model(device, hidden_layers=2, batchnorm=True)
    features, poses = feature_maps(model), make_families(device, (4, 8))
    expected = plain(model, features, *poses)
    torch.testing.assert_close(by_kernel(model, features, *poses), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("place", [(0.0, 0.0, -0.5), (9.0, 0.0, 0.5), (0.0, -9.0, 0.5), (0, 0, 0)])
def test_keypoints_outside_are_not_looked_up(device, place):
    """Behind the camera, on either side, and with the object's centre on the camera itself."""
    model = make_model(device)
    nowhere = torch.full((2, TINY.feature_channels, 16, 16), torch.inf, device=device)
    image, rotations, translations = make_families(device, (4, 4))
    translations[:] = torch.tensor(place)
    found = by_kernel(model, nowhere, image, rotations, translations)
    if place[2] != 0:
        nothing = model.heads[0].mlp(model.out_of_image.repeat(4).view(1, -1))
        torch.testing.assert_close(found, nothing.expand_as(found), rtol=0, atol=1e-4)
    else:
        assert found.shape == (2, 16)


def test_the_last_tile_may_be_partial(device):
    """Any number of families, each scored for itself."""
    model = make_model(device)
    features = feature_maps(model)
    image, rotations, translations = make_families(device, (8, 1), image=(0, 1, 1, 0, 1))
    whole = by_kernel(model, features, image, rotations, translations)
    part = by_kernel(model, features, image[3:], rotations[3:], translations[3:])
    torch.testing.assert_close(part, whole[3:], rtol=0, atol=1e-6)


def failing_from(call, error):
    """The kernel's launch, of which one and all that follow fail."""
    launch, calls = triton_heads.family_logits, []

    def family_logits(*arguments):
        calls.append(arguments)
        if len(calls) >= call:
            raise error
        return launch(*arguments)

    return family_logits, calls


@pytest.fixture
def probed(device, monkeypatch):
    """Where the kernel is tried, if need be in the interpreter, which is slow."""
    monkeypatch.setattr(triton_heads, "available", lambda device: True)
    monkeypatch.setattr(triton_heads, "_MANY_POSES", 128)
    return device


def test_the_heads_use_the_kernel_where_it_runs(probed, monkeypatch, caplog):
    launch, calls = failing_from(9, AssertionError("not so often"))
    monkeypatch.setattr(triton_heads, "family_logits", launch)
    model = make_model(probed)
    heads = FusedHeads(model)
    assert [len(image) for _, image, *_ in calls] == [1, 2]  # once for each size of the tile
    features, poses = feature_maps(model), make_families(probed, (4, 8))
    found = heads.family_logits(features, K_CROP.to(features).expand(2, 3, 3), 0, *poses)
    torch.testing.assert_close(found, plain(model, features, *poses), rtol=0, atol=1e-4)
    assert len(calls) == 3
    assert not caplog.records


@pytest.mark.parametrize("call", [1, 2])
def test_pytorch_scores_where_the_kernel_does_not_run(probed, monkeypatch, caplog, call):
    launch, calls = failing_from(call, RuntimeError("no C compiler"))
    monkeypatch.setattr(triton_heads, "family_logits", launch)
    model = make_model(probed)
    with caplog.at_level(logging.WARNING):
        heads = FusedHeads(model)
    [record] = caplog.records
    assert "the Triton kernel does not run here" in record.message
    assert "no C compiler" in record.message
    features, poses = feature_maps(model), make_families(probed, (4, 8))
    found = heads.family_logits(features, K_CROP.to(features).expand(2, 3, 3), 0, *poses)
    torch.testing.assert_close(found, plain(model, features, *poses), rtol=0, atol=1e-4)
    assert len(calls) == call
    assert len(caplog.records) == 1


def test_later_errors_of_the_kernel_are_raised(probed, monkeypatch):
    launch, _ = failing_from(3, RuntimeError("an illegal memory access was encountered"))
    monkeypatch.setattr(triton_heads, "family_logits", launch)
    model = make_model(probed)
    heads = FusedHeads(model)
    features, poses = feature_maps(model), make_families(probed, (4, 8))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="illegal memory access"):
            heads.family_logits(features, K_CROP.to(features).expand(2, 3, 3), 0, *poses)


def test_too_little_memory_is_no_fault_of_the_kernel(probed, monkeypatch):
    launch, _ = failing_from(1, torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(triton_heads, "family_logits", launch)
    with pytest.raises(torch.OutOfMemoryError):
        FusedHeads(make_model(probed))


@needs_gpu
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-4), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
def test_sizes_of_the_paper_on_a_gpu(dtype, bound):
    model = make_model("cuda", 16, embed_dim=64, hidden_dim=256, hidden_layers=3)
    features = feature_maps(model)
    poses = make_families("cuda", (8, 8), image=(0, 1) * 256)
    exact = [x.double() if x.is_floating_point() else x for x in (features, *poses)]
    expected = plain(model.double(), *exact).float()
    error = by_kernel(model.float(), features, *poses, dtype) - expected
    assert float(error.abs().max()) < bound * max(1.0, float(expected.max() - expected.min()))
