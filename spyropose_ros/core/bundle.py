"""A trained model on disk, without pickle: a folder that says everything needed to run it.

model.safetensors  weights (float16 or float32)
config.json        architecture, object, keypoints, calibration, training record and metrics
mesh.ply           optional, metres, for pictures
README.md          optional, the model card
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.keypoint_model import PoseModel, make_model
from spyropose_ros.core.network.rotation_model import RotationModel

FORMAT = "spyropose_ros/1"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
MESH = "mesh.ply"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class BundleError(Exception):
    """A model bundle cannot be used; the message names the reason and the remedy."""


@dataclass(frozen=True)
class ObjectInfo:
    """What the model knows about its object.

    Attributes:
        name: matched with the class ids of detections.
        center: bounding-sphere centre in object coordinates, metres.
        diameter: of the bounding sphere, metres.
        size_ratio: mean over views of the apparent size; see `camera.translation_from_boxes`.
        size_ratio_std: its standard deviation over views.
        keypoints: relative to the centre, metres, [P][3]; empty for the vector scorer.
    """

    name: str
    center: list[float]
    diameter: float
    size_ratio: float
    size_ratio_std: float
    keypoints: list[list[float]]

    def __post_init__(self):
        sizes = self.diameter, self.size_ratio
        numbers = [*sizes, self.size_ratio_std, *self.center, *sum(self.keypoints, [])]
        if not all(map(math.isfinite, numbers)) or min(sizes) <= 0 or len(self.center) != 3:
            raise ValueError(
                "an object needs finite numbers, a center of 3, and a diameter and size_ratio > 0"
            )


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
        directory.mkdir(parents=True, exist_ok=True)
        dtype = torch.float16 if half else torch.float32
        state = {
            name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in self.model.state_dict().items()
        }
        weights = save_tensors(state)
        (directory / WEIGHTS).write_bytes(weights)
        config = {
            "format": FORMAT,
            "weights_sha256": _sha256(weights),
            "object": vars(self.object),
            "model": self.model.config.to_dict(),
            "temperatures": self.temperatures,
            "record": self.record,
        }
        write_config(directory, config)

    @classmethod
    def from_pretrained(cls, directory_or_hub_id: str | Path) -> "ModelBundle":
        """Load a bundle from a folder or from the Hugging Face hub.

        Raises:
            BundleError: missing, damaged or foreign, with the reason.
        """
        name = str(directory_or_hub_id)
        directory = _locate(name)
        config = _read_config(directory)
        info = _object(config, directory)
        try:
            model_config = ModelConfig.from_dict(config["model"])
            temperatures = [float(t) for t in config["temperatures"]]
            model = make_model(model_config, torch.tensor(info.keypoints))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise _not_described(directory, error) from error
        usable = all(0 < t < math.inf for t in temperatures)
        if len(temperatures) != model_config.depth or not usable:
            raise BundleError(
                f"{directory / CONFIG} needs {model_config.depth} positive temperatures"
            )
        _load_weights(model, directory / WEIGHTS, config.get("weights_sha256"))
        mesh = directory / MESH
        return cls(
            model.eval().requires_grad_(False),
            info,
            temperatures,
            config.get("record", {}),
            mesh if mesh.is_file() else None,
            name,
        )


def write_config(directory: Path, config: dict) -> None:
    """Write a bundle's config.json beside, then rename: with it a training is finished."""
    partial = directory / f"{CONFIG}.partial"
    partial.write_text(json.dumps(config, indent=1) + "\n")
    partial.replace(directory / CONFIG)


def read_object(directory_or_hub_id: str | Path) -> ObjectInfo:
    """What a bundle is for, without loading its weights.

    Raises:
        BundleError: missing, damaged or foreign, with the reason.
    """
    directory = _locate(str(directory_or_hub_id))
    config = _read_config(directory)
    if not (directory / WEIGHTS).is_file():
        raise BundleError(f"{directory} is incomplete: {WEIGHTS} is missing")
    return _object(config, directory)


def _object(config: dict, directory: Path) -> ObjectInfo:
    """The object of a config.json."""
    try:
        return ObjectInfo(**config["object"])
    except (LookupError, TypeError, ValueError) as error:
        raise _not_described(directory, error) from error


def _not_described(directory: Path, error: Exception) -> BundleError:
    return BundleError(
        f"{directory / CONFIG} does not describe a model of this version "
        f"({type(error).__name__}: {error}); export the bundle again"
    )


def _locate(name: str) -> Path:
    """Local folder of a bundle, downloaded when the name is a hub id."""
    directory = Path(name).expanduser()
    if directory.is_dir():
        return directory
    if not directory.is_absolute() and _HUB_ID.fullmatch(name):
        from huggingface_hub import snapshot_download  # only here: it needs the network
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            files = [WEIGHTS, CONFIG, MESH]
            return Path(snapshot_download(name, allow_patterns=files))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            raise BundleError(
                f"no model bundle at '{name}': no such folder, and the hub did not provide it "
                f"({type(error).__name__}); give the path of a folder with {CONFIG} and {WEIGHTS}"
            ) from error
    raise BundleError(
        f"no model bundle at '{name}': no such folder; give the path of a folder with {CONFIG} "
        f"and {WEIGHTS}"
    )


def _read_config(directory: Path) -> dict:
    """config.json, checked for its format."""
    path = directory / CONFIG
    if not path.is_file():
        raise BundleError(f"{directory} is not a model bundle: {CONFIG} is missing")
    try:
        config = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} is damaged, not valid JSON: {error}") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        raise BundleError(f"{path} is of format {found!r}, this package reads {FORMAT!r}")
    return config


def _load_weights(model: PoseModel | RotationModel, path: Path, sha256: str | None) -> None:
    """Fill the model; every tensor must be there, of the right shape and finite."""
    if not path.is_file():
        raise BundleError(f"{path.parent} is incomplete: {WEIGHTS} is missing")
    content = path.read_bytes()
    if sha256 is not None and _sha256(content) != sha256:
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
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(f"{path} does not fit the architecture in {CONFIG}: {error}") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
