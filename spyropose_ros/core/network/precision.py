"""Where mixed precision ends: what is geometry needs float32."""

from contextlib import AbstractContextManager, nullcontext

import torch


def current_autocast(device: torch.device) -> torch.autocast:
    """Return the present autocast, to be entered again within `full_precision`."""
    return torch.autocast(
        device.type,
        torch.get_autocast_dtype(device.type),
        enabled=torch.is_autocast_enabled(device.type),
    )


def full_precision(device: torch.device) -> AbstractContextManager:
    """Switch autocast off: for geometry, where bfloat16 is off by pixels."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()  # exporters do not support autocast
