"""The order of many masses, computed only as far as it is needed."""

import numpy as np
import torch
from torch import Tensor


def descending(values: Tensor, n: int) -> Tensor:
    """Return the indices of the n greatest values, greatest first; equal ones keep their order.

    The same as `values.argsort(descending=True, stable=True)[:n]`, NaN first. On the CPU NumPy
    sorts one integer per value, several times faster than PyTorch sorts floats.

    Args:
        values: [N].
        n: at most N are returned.

    Returns:
        Int64 [min(n, N)].
    """
    n = min(n, len(values))
    if n == 0:
        return torch.zeros(0, dtype=torch.int64, device=values.device)
    if values.device.type == "cpu" and values.dtype == torch.float32:
        return torch.from_numpy(_descending(values.numpy(), n))
    if n == len(values):
        return values.argsort(descending=True, stable=True)
    least = values.topk(n, sorted=False)[0].min()
    candidates = (~(values < least)).nonzero().squeeze(1)
    return candidates[values[candidates].argsort(descending=True, stable=True)[:n]]


def _descending(values: np.ndarray, n: int) -> np.ndarray:
    """Do the same for float32 on the CPU."""
    rank = len(values) - n
    candidates = None
    if rank:
        least = np.partition(values, rank)[rank]
        candidates = np.flatnonzero(~(values < least))
        values = values[candidates]
    bits = (values + np.float32(0)).view(np.int32)  # no -0
    keys = np.where(bits < 0, bits & 0x7FFFFFFF, ~bits)  # ascend as the values descend
    keys[np.isnan(values)] = np.iinfo(np.int32).min  # of whichever sign
    packed = np.sort(keys.astype(np.int64) << 32 | np.arange(len(keys)))
    order = packed[:n] & 0xFFFFFFFF
    return order if candidates is None else candidates[order]
