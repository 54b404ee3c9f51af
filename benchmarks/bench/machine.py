"""The machine: what it is called, and how fast it multiplies and copies."""

import os
import time

import torch

from benchmarks.bench.timing import synchronise
from training import provenance

_SIDE = {"cpu": 1536, "cuda": 8192}  # of the matrices
_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}  # of the copied tensor
_DTYPES = {
    "cpu": (torch.float32,),  # what the network is computed in
    "cuda": (torch.float32, torch.float16, torch.bfloat16),
}
_SECONDS = 0.5  # for each rate


def describe(device: torch.device) -> str:
    """Describe processor, cores, threads, PyTorch, and the GPU or its absence."""
    text = f"{provenance.hardware('cpu')}, {os.cpu_count()} cores"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}; {text}"
    return f"{text}; no accelerator used: GPU rows not measured"


def matmul_rate(device: torch.device) -> tuple[float, torch.dtype]:
    """Measure multiply-adds per second of large matrices in the fastest number format."""
    side = _SIDE[device.type]
    rates = {}
    for dtype in _DTYPES[device.type]:
        a, b = torch.randn((2, side, side), device=device).to(dtype)
        rates[dtype] = side**3 / _fastest(lambda a=a, b=b: a @ b, device)
    fastest = max(rates, key=rates.get)
    return rates[fastest], fastest


def copy_rate(device: torch.device) -> float:
    """Measure bytes per second, those read and those written."""
    source = torch.ones(_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source), device)


def _fastest(call, device: torch.device) -> float:
    """Return the seconds of the fastest of many calls."""
    call()
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        synchronise(device)
        begin = time.perf_counter()
        call()
        synchronise(device)
        best = min(best, time.perf_counter() - begin)
    return best
