"""Where networks run, and how images get there."""

import torch
from torch import Tensor

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.inputs import check_image


def resolve_device(name: str | torch.device | None) -> torch.device:
    """Choose a device; one that is named is tried out.

    Args:
        name: such as 'cuda:1'; by default, or with 'auto', the first GPU, else the CPU.

    Returns:
        The device.

    Raises:
        InputError: unknown or absent, with the list of those that exist.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if name is None or name == "auto":
        return torch.device(gpus[0] if gpus else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        available = ", ".join(["cpu", *gpus])
        raise InputError(
            f"device '{name}' is not available here; choose from {available}"
        ) from error
    return device


def upload(image: object, device: torch.device) -> Tensor:
    """Check an image and put it on a device.

    Args:
        image: RGB uint8 [H, W, 3], or a PIL image of mode RGB.
        device: where it is needed.

    Returns:
        The image, uint8 [3, H, W].

    Raises:
        InputError: if it is something else.
    """
    return torch.from_numpy(check_image(image)).to(device).permute(2, 0, 1)
