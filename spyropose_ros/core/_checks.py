"""Checks of poses that callers give; the checks of images and boxes are in `inputs.py`."""

import torch
from torch import Tensor

from spyropose_ros.core.errors import InputError

_ORTHONORMAL = 1e-3


def as_rotations(rotation: object, name: str) -> Tensor:
    """Return rotation matrices [..., 3, 3].

    Args:
        rotation: what may be some.
        name: what they are, in the error's text.

    Returns:
        The same as a tensor of its own type of floats.

    Raises:
        InputError: they are none.
    """
    matrix = torch.as_tensor(rotation)
    if not _are_rotations(matrix):
        raise InputError(
            f"{name} must be rotation matrices [..., 3, 3] of floats, got {_shown(matrix)}"
        )
    return matrix


def as_motion(motion: object, name: str) -> Tensor:
    """Return a rigid motion, float64 [4, 4] on the CPU.

    Args:
        motion: what may be one, metres.
        name: what it is, in the error's text.

    Returns:
        The same.

    Raises:
        InputError: it is none.
    """
    matrix = torch.as_tensor(motion, dtype=torch.float64).cpu()
    if matrix.shape != (4, 4) or not _are_rotations(matrix[:3, :3]) or not _is_finite(matrix):
        raise InputError(f"{name} must be a finite rigid motion [4, 4], got {_shown(matrix)}")
    return matrix


def as_vector(vector: object, name: str) -> Tensor:
    """Return three finite numbers, float32 [3]; raise InputError if they are none."""
    values = torch.as_tensor(vector, dtype=torch.float32)
    if values.shape != (3,) or not _is_finite(values):
        raise InputError(f"{name} must be three finite numbers, got {_shown(values)}")
    return values


def _are_rotations(matrix: Tensor) -> bool:
    if matrix.shape[-2:] != (3, 3) or not matrix.is_floating_point():
        return False
    error = matrix @ matrix.mT - torch.eye(3).to(matrix)
    return bool((error.abs() < _ORTHONORMAL).all() and (torch.linalg.det(matrix) > 0).all())


def _is_finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())


def _shown(values: Tensor) -> str:
    few = values.numel() <= 16
    return str(values.tolist()) if few else f"{values.dtype} of shape {tuple(values.shape)}"
