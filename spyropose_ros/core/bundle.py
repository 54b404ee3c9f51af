"""A trained model on disk, without pickle: a folder that says everything needed to run it.

model.safetensors  weights (float16 or float32)
config.json        architecture, object, keypoints, calibration, training record and metrics
mesh.ply           optional, metres, for figures
README.md          optional, the model card
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from spyropose_ros.core.bundle_files import (
    CONFIG,
    FORMAT,
    MESH,
    WEIGHTS,
    ObjectInfo,
    described_object,
    locate,
    read_config,
    undescribed,
    write_config,
)
from spyropose_ros.core.errors import BundleError
from spyropose_ros.core.files import sha256, write_bytes
from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.keypoint_model import PoseModel, make_model
from spyropose_ros.core.network.rotation_model import RotationModel


@dataclass
class ModelBundle:
    """A model with its object, calibration and record.

    Attributes:
        model: in eval mode, float32.
        object: what it was trained for.
        temperatures: logits of level r are divided by temperatures[r].
        record: free-form provenance: command, configuration, hardware, metrics, package version.
        mesh_path: mesh in metres, or None.
        name: folder or hub id it came from.
    """

    model: PoseModel | RotationModel
    object: ObjectInfo
    temperatures: list[float]
    record: dict = field(default_factory=dict)
    mesh_path: Path | None = None
    name: str = ""

    def save_pretrained(self, directory: str | Path, half: bool = True) -> None:
        """Write the bundle; an existing mesh.ply or README.md in the folder stays.

        Args:
            directory: created when missing.
            half: store the weights as float16.
        """
        directory = Path(directory)
        dtype = torch.float16 if half else torch.float32
        state = {
            name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in self.model.state_dict().items()
        }
        weights = save_tensors(state)
        write_bytes(directory / WEIGHTS, weights)
        config = {
            "format": FORMAT,
            "weights_sha256": sha256(weights),
            "object": vars(self.object),
            "model": self.model.config.to_dict(),
            "temperatures": self.temperatures,
            "record": self.record,
        }
        write_config(directory, config)

    @classmethod
    def from_pretrained(cls, directory_or_hub_id: str | Path) -> "ModelBundle":
        """Load a bundle from a folder or from the Hugging Face hub.

        Args:
            directory_or_hub_id: folder, or name of a repository such as owner/name.

        Returns:
            The bundle, with its network on the CPU.

        Raises:
            BundleError: missing, damaged or foreign, with the reason.
        """
        name = str(directory_or_hub_id)
        directory = locate(name)
        config = read_config(directory)
        info = described_object(config, directory)
        state = _read_weights(directory / WEIGHTS, config.get("weights_sha256"))
        try:
            model_config = ModelConfig.from_dict(config["model"])
            temperatures = [float(t) for t in config["temperatures"]]
            record = dict(config.get("record", {}))
            with _no_more_than(state, directory):
                model = make_model(model_config, torch.tensor(info.keypoints))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise undescribed(directory, error) from error
        usable = all(0 < t < math.inf for t in temperatures)
        if len(temperatures) != model_config.depth or not usable:
            raise BundleError(
                f"{directory / CONFIG} needs {model_config.depth} positive temperatures"
            )
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise _unfitting(directory, str(error)) from error
        mesh = directory / MESH
        return cls(
            model.eval().requires_grad_(False),
            info,
            temperatures,
            record,
            mesh if mesh.is_file() else None,
            name,
        )


@contextmanager
def _no_more_than(state: dict[str, Tensor], directory: Path) -> Iterator[None]:
    """End the construction of a network that claims more weights than its file holds.

    PyTorch takes a weight's memory when it is first written, which is after its registration.
    """
    left = sum(tensor.numel() for tensor in state.values())
    builder = threading.get_ident()

    def count(_module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is not None and threading.get_ident() == builder:  # hooks are for all threads
            left -= parameter.numel()
            if left < 0:
                raise _unfitting(directory, f"too few values for a {name} of {parameter.shape}")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _unfitting(directory: Path, reason: str) -> BundleError:
    return BundleError(f"{directory / WEIGHTS} does not fit the architecture in {CONFIG}: {reason}")


def _read_weights(path: Path, checksum: str | None) -> dict[str, Tensor]:
    """Return the tensors, all finite, of the file that config.json describes."""
    if not path.is_file():
        raise BundleError(f"{path.parent} is incomplete: {WEIGHTS} is missing")
    if checksum is None:
        raise BundleError(
            f"{path.with_name(CONFIG)} lacks weights_sha256, the checksum of {WEIGHTS}; copy or "
            "download the bundle again"
        )
    content = path.read_bytes()
    if sha256(content) != checksum:
        raise BundleError(
            f"{path} is damaged or not the file that {CONFIG} describes (sha256 differs); "
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
