"""Distributed training: two processes take the step that one takes on the same batch."""

import os
import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent


def gradients_of(processes, path):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    call = [sys.executable, str(HERE / "ddp_step.py"), str(processes), str(path)]
    subprocess.run(call, check=True, env=environment, timeout=240, capture_output=True)
    return torch.load(path, weights_only=True)


def test_two_processes_have_the_gradient_of_one(tmp_path):
    one, two = (gradients_of(n, tmp_path / f"{n}.pt") for n in (1, 2))
    assert one.keys() == two.keys() and len(one) > 40
    assert max(float(g.abs().max()) for g in one.values()) > 1e-2
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
