"""Precision of a training's matrix products."""

import time

import torch

_SIDE, _TRIES = 384, 5  # of the products that are timed; some milliseconds in all
_GAIN = 1.4  # conversions must pay as well


def trainer_precision(precision: str, accelerator: str) -> str:
    """Choose the precision.

    Args:
        precision: Lightning's name, or "auto": bfloat16 if that is fast, else float32.
        accelerator: as Lightning names it.

    Returns:
        Lightning's name of the precision.
    """
    if precision != "auto":
        return precision
    if accelerator != "cpu" and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() and _pays()
    return "bf16-mixed" if fast else "32-true"


def _pays() -> bool:
    """Tell whether products of bfloat16 are clearly faster on this CPU.

    That it has the instructions says little: some take twice as long with them as in float32.
    """
    a = torch.ones((_SIDE, _SIDE))
    return _seconds(a) > _GAIN * _seconds(a.bfloat16())


def _seconds(a: torch.Tensor) -> float:
    """Return the least CPU time of a product."""
    spent = []
    for _ in range(_TRIES):
        started = time.process_time()
        a @ a
        spent.append(time.process_time() - started)
    return min(spent)
