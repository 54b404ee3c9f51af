"""A network's weights on disk, without pickle: written whole, read only when whole and finite."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from spyropose_ros.core.errors import BundleError
from spyropose_ros.core.files import sha256, write_bytes


def save_weights(network: nn.Module, path: Path, half: bool = True) -> str:
    """Write the weights as safetensors.

    Args:
        network: whose state is written.
        path: of the file.
        half: store floats as float16.

    Returns:
        The checksum for `read_weights`.
    """
    dtype = torch.float16 if half else torch.float32
    state = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
    content = save_tensors(state)
    write_bytes(path, content)
    return sha256(content)


def read_weights(path: Path, checksum: str | None, config: str) -> dict[str, Tensor]:
    """Read the weights that a file of a bundle describes.

    Args:
        path: of the file.
        checksum: as `save_weights` returned it.
        config: name of the file that describes the network, for messages.

    Returns:
        The tensors, all finite.

    Raises:
        BundleError: missing, damaged, or without a checksum.
    """
    if not path.is_file():
        raise BundleError(f"{path.parent} is incomplete: {path.name} is missing")
    if checksum is None:
        raise BundleError(
            f"{path.with_name(config)} lacks weights_sha256, the checksum of {path.name}; copy or "
            "download the bundle again"
        )
    content = path.read_bytes()
    if sha256(content) != checksum:
        raise BundleError(
            f"{path} is damaged or not the file that {config} describes (sha256 differs); "
            "copy or download it again"
        )
    try:
        state: dict[str, Tensor] = load_tensors(content)
    except SafetensorError as error:
        raise BundleError(f"{path} is damaged, not a safetensors file: {error}") from error
    bad = [n for n, t in state.items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        raise BundleError(f"{path} holds NaN or infinite weights in {bad[0]}")
    return state


@contextmanager
def no_more_than(state: dict[str, Tensor], path: Path, config: str) -> Iterator[None]:
    """End the construction of a network that claims more weights than its file holds.

    PyTorch takes a weight's memory when it is first written, which is after its registration.

    Args:
        state: as `read_weights` returned it.
        path: of the file, for messages.
        config: name of the file that describes the network, for messages.

    Raises:
        BundleError: at the first weight that is too much.
    """
    left = sum(tensor.numel() for tensor in state.values())
    builder = threading.get_ident()

    def count(_module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is not None and threading.get_ident() == builder:  # hooks are for all threads
            left -= parameter.numel()
            if left < 0:
                shape = list(parameter.shape)
                raise _unfitting(path, config, f"too few values for a {name} of {shape}")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def fill(network: nn.Module, state: dict[str, Tensor], path: Path, config: str) -> None:
    """Fill a network; every tensor must be there and of the right shape.

    Args:
        network: to be filled.
        state: as `read_weights` returned it.
        path: of the file, for messages.
        config: name of the file that describes the network, for messages.

    Raises:
        BundleError: they are of another network.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise _unfitting(path, config, str(error)) from error


def _unfitting(path: Path, config: str, reason: str) -> BundleError:
    return BundleError(f"{path} does not fit the architecture in {config}: {reason}")
