"""The activation of the heads' layers, in place."""

from torch import Tensor
from torch.nn import functional as F


def gelu_(x: Tensor) -> Tensor:
    """GELU; on a CPU x [N, H] itself, overwritten. Float32 there, without gradients."""
    if x.device.type != "cpu":
        return F.gelu(x)
    from spyropose_ros.core.kernels import numba_kernels  # importing Numba takes half a second

    numba_kernels.gelu(x.view(-1).numpy())
    return x
