"""Assemble what is trained from a data set and settings: object, network, crops, module."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import trimesh

from spyropose_ros.core.bundle import ModelBundle, ObjectInfo
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.network.backbone import resolve_backbone
from spyropose_ros.core.network.config import ModelConfig
from spyropose_ros.core.network.keypoint_model import PoseModel, make_model
from spyropose_ros.core.network.keypoints import box_keypoints, farthest_points
from spyropose_ros.core.network.rotation_model import RotationModel
from training.config import NetworkConfig, TrainConfig
from training.data.box_noise import box_noise
from training.data.looks import Looks
from training.data.source import CropSettings, Source
from training.fitting.clock import TrainingClock
from training.fitting.module import PoseModule

_SURFACE_SAMPLES = 10_000
_SURFACE_SYMMETRIES = 64  # at most; a continuous symmetry has hundreds


@dataclass(frozen=True)
class Assembly:
    """What is trained.

    Attributes:
        info: geometry that the bundle stores.
        module: the network, `module.model`, with its objective.
        crop: how training items are cut.
        validation_crop: how validation items are cut.
    """

    info: ObjectInfo
    module: PoseModule
    crop: CropSettings
    validation_crop: CropSettings


def assemble(source: Source, config: TrainConfig, clock: TrainingClock | None = None) -> Assembly:
    """Build the network and its objective for a data set.

    The weights of a fresh network are drawn from torch's global generator.

    Args:
        source: data set and object.
        config: settings.
        clock: of a training by hours.

    Returns:
        All that the training and its bundle take from the data set and the settings.

    Raises:
        InputError: settings that the data set does not allow.
    """
    info = _object_info(source, config.network)
    network = _build_model(config.network, info, source)
    module = _make_module(network, info, source, config, clock)
    crops = (crop_settings(config, source, training) for training in (True, False))
    return Assembly(info, module, *crops)


def _object_info(source: Source, network: NetworkConfig) -> ObjectInfo:
    """Compute keypoints, bounding sphere and apparent size."""
    if network.keypoints != "none" and not source.has_intrinsics:
        raise InputError(
            f"{source.name} has no camera model, so keypoints cannot be projected: "
            "use --keypoints none"
        )
    if network.keypoints == "none" and not source.rotation_only:
        raise InputError(
            f"--keypoints none knows rotations only, but {source.name} has unknown translations: "
            "use fps or box"
        )
    ratio, ratio_std = source.size_ratio
    return ObjectInfo(
        source.object_name,
        [float(v) for v in source.center],
        float(source.diameter),
        float(ratio),
        float(ratio_std),
        np.round(_keypoints(source, network), 6).tolist(),
    )


def _keypoints(source: Source, network: NetworkConfig) -> np.ndarray:
    """Choose keypoints relative to the centre, metres, [P, 3]."""
    if network.keypoints == "none":
        return np.empty((0, 3))
    if network.keypoints == "box":
        return box_keypoints(source.diameter / 2)
    if source.mesh is None:
        raise InputError(f"{source.name} has no mesh: use --keypoints box or none")
    surface, _ = trimesh.sample.sample_surface(source.mesh, _SURFACE_SAMPLES, seed=0)
    return farthest_points(surface - source.center, network.n_keypoints)


def _build_model(
    network: NetworkConfig, info: ObjectInfo, source: Source
) -> PoseModel | RotationModel:
    """Build a network, with another bundle's or published weights if available."""
    pretrained = network.pretrained and not network.start_from
    backbone, weights = resolve_backbone(network.backbone, pretrained)
    scorer = "vector" if network.keypoints == "none" else "keypoints"
    architecture = network.shared() | {"crop_padding": _crop_padding(network, source)}
    config = ModelConfig(backbone, scorer, source.rotation_only, **architecture)
    model = make_model(config, torch.tensor(info.keypoints))
    if network.start_from:
        other = ModelBundle.from_pretrained(network.start_from)
        if not isinstance(model, PoseModel) or not isinstance(other.model, PoseModel):
            raise InputError("--start-from goes from one model with keypoints to another")
        model.extractor.load_state_dict(other.model.extractor.state_dict())
        if other.object.name == info.name:
            _load_what_fits(model, other.model.state_dict())
    elif weights is not None:
        model.encoder.backbone.load_state_dict(weights)
    return model


def _load_what_fits(model: PoseModel | RotationModel, weights: dict[str, torch.Tensor]) -> None:
    """Take over the weights of all layers that have the same shape."""
    own = model.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)


def _crop_padding(network: NetworkConfig, source: Source) -> float:
    """Return the crops' side over the projected diameter: the data set's unless it is set."""
    if network.crop_padding and source.rotation_only:
        raise InputError(f"the images of {source.name} are the crops: leave --crop-padding out")
    return network.crop_padding or source.crop_padding


def crop_settings(config: TrainConfig, source: Source, training: bool) -> CropSettings:
    """Decide how the items of a run are cut.

    Args:
        config: settings.
        source: data set and object.
        training: whether they are training items, which are turned at random.

    Returns:
        Settings of the crops.

    Raises:
        InputError: a crop padding is set, but the images are the crops.
    """
    network = config.network
    return CropSettings(
        network.crop_resolution,
        network.crop_resolution // network.feature_stride,
        _crop_padding(network, source),
        box_noise(config.data),
        config.data.max_roll if training else 0.0,
        _reads_surface(config, source),
        config.data.zoom if training else 0.0,
        Looks(config.data.painted, config.data.harsh, config.data.miscalibration),
    )


def _reads_surface(config: TrainConfig, source: Source) -> bool:
    """Tell whether the auxiliary loss applies: it needs a feature map and a rendered surface."""
    return config.optim.surface_weight > 0 and not source.rotation_only


def _make_module(
    network: PoseModel | RotationModel,
    info: ObjectInfo,
    source: Source,
    config: TrainConfig,
    clock: TrainingClock | None,
) -> PoseModule:
    """Join the network and its objective; switch off what the data set does not support."""
    optim, augmentation = config.optim, config.augmentation
    if not _reads_surface(config, source):
        optim = replace(optim, surface_weight=0.0)
    if source.rotation_only:  # the published data sets of rotations are used as they are
        augmentation = replace(augmentation, image_augmentations=False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's gap
    symmetries = torch.from_numpy(source.target().symmetries[:, :3, :3]).float()
    symmetries = symmetries[:: -(-len(symmetries) // _SURFACE_SYMMETRIES)]
    return PoseModule(
        network,
        info.diameter,
        config.objective,
        optim,
        augmentation,
        config.seed,
        symmetries,
        clock,
    )
