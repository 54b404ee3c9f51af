"""One CUDA graph per batch size.

A search is some hundred small kernels, and for one detection most take less time than their launch;
replaying a graph of them is one launch.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

BUCKETS = (1, 2, 4, 8, 16, 32)
"""Batch sizes that are captured; others are filled up to the next of them."""

_WARM_UPS = 3  # as PyTorch advises: for lazy constants, workspaces and compiled kernels


class Graphed:
    """A function of batches whose kernels are captured once and then replayed.

    Args:
        function: tensors [B, ...] in, tuple of tensors [B, ...] out, each batch element for itself.
            It runs in inference mode, makes no decision on values and reads nothing that changes
            between calls but its arguments. Not for two threads at once. Checks of values are left
            to the caller: a replay raises no errors of the function.
        buckets: ascending batch sizes.
    """

    def __init__(
        self, function: Callable[..., tuple[Tensor, ...]], buckets: Sequence[int] = BUCKETS
    ):
        self._function = function
        self._buckets = buckets
        self._captures: dict[tuple, _Capture] = {}
        self._capturable = True

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return what the function returns for inputs [B, ...], as tensors of their own.

        Batches larger than the last bucket run in parts. On CPUs, and after a capture failed,
        which is logged once, the function is called as it is, with the same padding.
        """
        n, largest = len(inputs[0]), self._buckets[-1]
        if n > largest:
            parts = [self(*part) for part in zip(*(x.split(largest) for x in inputs), strict=True)]
            return tuple(torch.cat(part) for part in zip(*parts, strict=True))
        size = next(bucket for bucket in self._buckets if bucket >= n)
        padded = [_filled_up(x, size) for x in inputs]
        outputs = self._run(padded)
        return tuple(output[:n] for output in outputs)

    def _run(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        if not (self._capturable and inputs[0].is_cuda):
            return self._function(*inputs)
        key = tuple((x.shape, x.dtype, x.device) for x in inputs)
        if key not in self._captures:
            # Only one is replayed at a time and its outputs are copied, so all share their memory.
            pool = next((other.pool for other in self._captures.values()), None)
            stream = torch.cuda.current_stream(inputs[0].device)
            try:
                self._captures[key] = _Capture(self._function, inputs, pool)
            except RuntimeError as error:
                torch.cuda.set_stream(stream)  # a failed capture may leave its own
                self._capturable = False
                log.warning("no CUDA graphs, kernels are launched one by one: %s", error)
                return self._function(*inputs)
        return self._captures[key].replay(inputs)


class _Capture:
    """The kernels of one call, and the memory that they read and write."""

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        inputs: list[Tensor],
        pool: Any,
    ):
        self._inputs = [x.clone() for x in inputs]
        self._device = inputs[0].device
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    function(*self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads, of a node, may use the GPU during the capture.
            with torch.cuda.graph(
                self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"
            ):
                self._outputs = function(*self._inputs)
        self.pool = self._graph.pool()

    def replay(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        with torch.cuda.device(self._device):
            self._graph.replay()
        return tuple(output.clone() for output in self._outputs)


def _filled_up(batch: Tensor, size: int) -> Tensor:
    """Fill a batch up with its last element, [B, ...] -> [size, ...]."""
    return torch.cat((batch, batch[-1:].expand(size - len(batch), *batch.shape[1:])))
