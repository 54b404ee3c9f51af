"""Where the GPU's code is tested: on a GPU, or without one in Triton's interpreter."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported, once

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

needs_gpu = pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="needs a GPU")
