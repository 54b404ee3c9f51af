"""The precision of a training, and where it does not apply."""

import torch

from spyropose_ros.core.network.precision import current_autocast, full_precision
from training.fitting import precision
from training.fitting.precision import trainer_precision


def test_bfloat16_is_chosen_where_it_pays(monkeypatch):
    for has_it, seconds, expected in (
        (True, {torch.float32: 2.0, torch.bfloat16: 1.0}, "bf16-mixed"),
        (True, {torch.float32: 1.0, torch.bfloat16: 2.0}, "32-true"),  # has it, but slowly
        (False, {torch.float32: 2.0, torch.bfloat16: 1.0}, "32-true"),
    ):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        monkeypatch.setattr(precision, "_seconds", lambda a, seconds=seconds: seconds[a.dtype])
        assert trainer_precision("auto", "cpu") == expected


def test_what_is_asked_for_is_taken():
    assert trainer_precision("16-mixed", "cpu") == "16-mixed"


def test_geometry_is_computed_in_float32(generator):
    a = torch.randn((4, 4), generator=generator)
    device = a.device
    with torch.autocast("cpu", torch.bfloat16):
        mixed = current_autocast(device)
        with full_precision(device):
            assert (a @ a).dtype == torch.float32
            with mixed:
                assert (a @ a).dtype == torch.bfloat16
    with current_autocast(device):
        assert (a @ a).dtype == torch.float32
