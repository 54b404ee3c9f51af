"""A trained model on disk, without pickle: a folder that says everything needed to run it.

model.safetensors  weights (float16 or float32)
config.json        architecture, object, keypoints, features, calibration, training record
mesh.ply           optional, metres, for figures and renderings
README.md          optional, the model card
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch

from spyropose_ros.core.bundle_files import (
    CONFIG,
    FORMAT,
    MESH,
    WEIGHTS,
    Feature,
    ObjectInfo,
    described_features,
    described_object,
    locate,
    read_config,
    undescribed,
    write_config,
    written_features,
)
from spyropose_ros.core.errors import BundleError, InputError
from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.keypoint_model import PoseModel, make_model
from spyropose_ros.core.network.rotation_model import RotationModel
from spyropose_ros.core.presence import PresenceModel
from spyropose_ros.core.weights import fill, no_more_than, read_weights, save_weights


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
        presence: tells whether the object is there at all; None where that was not fitted.
        features: named places of the object; add and change them freely.
    """

    model: PoseModel | RotationModel
    object: ObjectInfo
    temperatures: list[float]
    record: dict = field(default_factory=dict)
    mesh_path: Path | None = None
    name: str = ""
    presence: PresenceModel | None = None
    features: dict[str, Feature] = field(default_factory=dict)

    def save_pretrained(self, directory: str | Path, half: bool = True) -> None:
        """Write the bundle; an existing mesh.ply or README.md in the folder stays.

        Args:
            directory: created when missing.
            half: store the weights as float16.
        """
        directory = Path(directory)
        config = {
            "format": FORMAT,
            "weights_sha256": save_weights(self.model, directory / WEIGHTS, half),
            "object": vars(self.object),
            "model": self.model.config.to_dict(),
            "temperatures": self.temperatures,
            "record": self.record,
        }
        if self.presence is not None:
            config["presence"] = vars(self.presence)
        if self.features:
            config["features"] = written_features(self.features)
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
        state = read_weights(directory / WEIGHTS, config.get("weights_sha256"), CONFIG)
        try:
            model_config = ModelConfig.from_dict(config["model"])
            temperatures = [float(t) for t in config["temperatures"]]
            record = dict(config.get("record", {}))
            with no_more_than(state, directory / WEIGHTS, CONFIG):
                model = make_model(model_config, torch.tensor(info.keypoints))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise undescribed(directory, error) from error
        usable = all(0 < t < math.inf for t in temperatures)
        if len(temperatures) != model_config.depth or not usable:
            raise BundleError(
                f"{directory / CONFIG} needs {model_config.depth} positive temperatures"
            )
        presence = _presence(config, model_config, directory)
        features = described_features(config, directory)
        fill(model, state, directory / WEIGHTS, CONFIG)
        mesh = directory / MESH
        return cls(
            model.eval().requires_grad_(False),
            info,
            temperatures,
            record,
            mesh if mesh.is_file() else None,
            name,
            presence,
            features,
        )


def _presence(config: dict, model: ModelConfig, directory: Path) -> PresenceModel | None:
    """Read the optional part of a config.json that tells whether the object is there."""
    if "presence" not in config:
        return None
    try:
        if model.rotation_only:
            raise InputError("a model of rotations only has no presence")
        return PresenceModel.from_dict(config["presence"], model.feature_channels)
    except InputError as error:
        raise BundleError(
            f"{directory / CONFIG}: {error}; fit it again with 'python -m training.fit_presence', "
            "or remove it"
        ) from error
