"""One training run, from a data set to a bundle."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import lightning
import numpy as np
import torch
import trimesh
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from spyropose_ros.core.backbone import resolve_backbone
from spyropose_ros.core.bundle import MESH, ModelBundle, ObjectInfo
from spyropose_ros.core.keypoints import box_keypoints, farthest_points
from spyropose_ros.core.model import PoseModel, make_model
from spyropose_ros.core.model_config import ModelConfig
from spyropose_ros.core.rotation_model import RotationModel
from training import provenance
from training.checkpoints import Checkpoints, Interrupted
from training.clock import TrainingClock
from training.config import NetworkConfig, TrainConfig
from training.data.source import CropSettings, Source
from training.data.streams import ENDLESS_STEPS, StreamData
from training.memory import keep_freed_memory
from training.module import PoseModule
from training.precision import trainer_precision
from training.progress import Progress, silence_lightning

log = logging.getLogger(__name__)

IDENTITY, SETTINGS = "run.yaml", "config.yaml"
"""Files of a run: data set, object and processes; all settings."""

_SURFACE_SAMPLES = 10_000
_SURFACE_SYMMETRIES = 64  # at most; a continuous symmetry has hundreds
_BEST = "val/ll_gain"
_DEBUG_STEPS = 5


def object_info(source: Source, network: NetworkConfig) -> ObjectInfo:
    """Geometry that the bundle stores: keypoints, bounding sphere and apparent size.

    Raises:
        ValueError: keypoints that the data set does not allow.
    """
    if network.keypoints != "none" and not source.has_intrinsics:
        raise ValueError(
            f"{source.name} has no camera model, so keypoints cannot be projected: "
            "use --keypoints none"
        )
    if network.keypoints == "none" and not source.rotation_only:
        raise ValueError(
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
    """Relative to the centre, metres, [P, 3]."""
    if network.keypoints == "none":
        return np.empty((0, 3))
    if network.keypoints == "box":
        return box_keypoints(source.diameter / 2)
    if source.mesh is None:
        raise ValueError(f"{source.name} has no mesh: use --keypoints box or none")
    surface, _ = trimesh.sample.sample_surface(source.mesh, _SURFACE_SAMPLES, seed=0)
    return farthest_points(surface - source.center, network.n_keypoints)


def build_model(
    network: NetworkConfig, info: ObjectInfo, source: Source
) -> PoseModel | RotationModel:
    """A fresh network, from another bundle's or published weights where there are such."""
    pretrained = network.pretrained and not network.start_from
    architecture, weights = resolve_backbone(network.backbone, pretrained)
    shared = set(ModelConfig.__dataclass_fields__) - {"backbone", "crop_padding"}
    options = {k: v for k, v in asdict(network).items() if k in shared}
    config = ModelConfig(
        architecture,
        scorer="vector" if network.keypoints == "none" else "keypoints",
        rotation_only=source.rotation_only,
        crop_padding=crop_padding(network, source),
        **options,
    )
    model = make_model(config, torch.tensor(info.keypoints))
    if network.start_from:
        other = ModelBundle.from_pretrained(network.start_from)
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


def crop_padding(network: NetworkConfig, source: Source) -> float:
    """Side of the crops over the projected diameter; the data set's own unless it is set.

    Raises:
        ValueError: it is set where the images are the crops.
    """
    if network.crop_padding and source.rotation_only:
        raise ValueError(f"the images of {source.name} are the crops: leave --crop-padding out")
    return network.crop_padding or source.crop_padding


def crop_settings(config: TrainConfig, source: Source, training: bool) -> CropSettings:
    """How the items of a run are cut."""
    network = config.network
    return CropSettings(
        network.crop_resolution,
        network.crop_resolution // network.feature_stride,
        crop_padding(network, source),
        config.data.detector_noise,
        config.data.max_roll if training else 0.0,
        _reads_surface(config, source),
    )


def _reads_surface(config: TrainConfig, source: Source) -> bool:
    """Whether the auxiliary loss applies: it needs a feature map and a rendered surface."""
    return config.optim.surface_weight > 0 and not source.rotation_only


def fit(
    source: Source,
    config: TrainConfig,
    run_dir: Path,
    *,
    identity: dict[str, str],
    accelerator: str = "auto",
    devices: int | list[int] = 1,
    num_nodes: int = 1,
    logger: str = "tensorboard",
    debug: bool = False,
) -> Path:
    """Train, or resume, and export the bundle.

    Args:
        source: data set and object.
        config: settings.
        run_dir: for everything the run writes.
        identity: goes into the bundle's record: "dataset", "object" and what else names the run.
        accelerator: as Lightning names it.
        devices: number of processes or GPUs on this machine, or the GPUs' numbers.
        num_nodes: machines.
        logger: "tensorboard", "csv" or "none".
        debug: a few steps; no logs and no checkpoints.

    Returns:
        Folder of the bundle.

    Raises:
        ValueError: settings that the data set does not allow.
        Interrupted: SIGINT or SIGTERM has ended the training.
    """
    _check(source, config)
    # Once for a run: another choice after a restart would change its numbers.
    precision = trainer_precision(config.optim.precision, accelerator)
    config = replace(config, optim=replace(config.optim, precision=precision))
    silence_lightning()
    keep_freed_memory()
    lightning.seed_everything(config.seed, verbose=False)
    cv2.setNumThreads(1)
    info = object_info(source, config.network)
    network = build_model(config.network, info, source)
    steps = config.optim.max_steps or ENDLESS_STEPS
    clock = TrainingClock(config.optim.hours)
    module = make_module(network, info, source, config, clock)
    crop = crop_settings(config, source, training=True)
    data = StreamData(
        source.training_items(crop),
        source.validation_items(crop_settings(config, source, training=False)),
        config.data,
        config.optim,
        config.seed,
        source.composer(crop),
    )
    processes = _count(devices) * num_nodes
    progress = Progress(clock, config.optim.max_steps, config.optim.batch_size * processes)
    trainer = lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        strategy="ddp" if processes > 1 else "auto",
        precision=precision,
        max_steps=_DEBUG_STEPS if debug else steps,
        use_distributed_sampler=False,  # the streams share themselves
        logger=False if debug else _logger(logger, run_dir),
        callbacks=[clock, progress, *_callbacks(config, run_dir, debug)],
        enable_checkpointing=not debug,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=25,
        val_check_interval=min(config.optim.steps_per_epoch, steps),
        check_val_every_n_epoch=None,  # to Lightning, the whole training is one epoch
        num_sanity_val_steps=0,
    )
    bundle = run_dir / "bundle"
    if not debug and trainer.is_global_zero:
        shutil.rmtree(bundle, ignore_errors=True)  # of an earlier --debug
        shared = {"devices": _count(devices), "num_nodes": num_nodes}
        _write_yaml(run_dir / IDENTITY, identity | shared)
        _write_yaml(run_dir / SETTINGS, config.to_flat())
    with _log_file(None if debug else run_dir / "log.txt"):
        try:
            steps = _run(trainer, clock, module, data, config)
        except Interrupted as stop:
            if trainer.is_global_zero:
                log.info("%s; to go on, add --run-id %s to its command", stop, run_dir.name)
            raise
        if trainer.is_global_zero:
            record = identity | _record(trainer, clock, steps, config)
            temperatures = [1.0] * config.network.depth
            if source.mesh is not None:
                bundle.mkdir(parents=True, exist_ok=True)
                source.mesh.export(bundle / MESH)
            # Last: with it the run is finished.
            ModelBundle(network, info, temperatures, record).save_pretrained(bundle)
            log.info("bundle written to %s", bundle)
    return bundle


def _check(source: Source, config: TrainConfig) -> None:
    """Raise ValueError for early stopping on what must not, or cannot, be watched."""
    if config.optim.patience > 0 and source.validates_on_test:
        raise ValueError(
            f"the validation images of {source.name} are test images, which select nothing: "
            "leave --patience out"
        )
    if config.optim.patience > 0 and config.objective.last_level_only:
        raise ValueError("--last-level-only is not validated during training: leave --patience out")


def _record(
    trainer: lightning.Trainer, clock: TrainingClock, steps: int, config: TrainConfig
) -> dict[str, object]:
    """How the weights came about."""
    record = {
        "package_version": provenance.package_version(),
        "git_commit": provenance.git_commit(),
        "config": config.to_flat(),
        "steps": steps,
        "processes": trainer.world_size,
        "precision": trainer.precision,
        "hardware": provenance.hardware(str(trainer.strategy.root_device)),
        "seconds": round(clock.seconds.wall),
        "core_hours": round(clock.seconds.core / 3600, 4),
    }
    if config.network.start_from:
        record["started_from"] = ModelBundle.from_pretrained(config.network.start_from).record
    return record


def _run(
    trainer: lightning.Trainer,
    clock: TrainingClock,
    module: PoseModule,
    data: StreamData,
    config: TrainConfig,
) -> int:
    """Train from the start or the latest checkpoint; the module ends with the weights to export.

    Returns:
        Steps that these weights took.
    """
    checkpoints = trainer.checkpoint_callback  # none of --debug
    resume, finished = None, False
    if checkpoints and checkpoints.last.is_file():
        resume = checkpoints.last
        log.info("resuming from %s", resume)
        state = torch.load(resume, map_location="cpu", weights_only=True)
        if clock.state_key not in state["callbacks"]:
            raise ValueError(f"{resume} is of an earlier version: choose another --run-id")
        clock.load_state_dict(state["callbacks"][clock.state_key])
        steps = state["global_step"]
        finished = clock.enough(trainer) or steps >= trainer.max_steps
    if finished:  # but not exported yet
        module.load_state_dict(state["state_dict"])  # the average, where there is one
    else:
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        steps = trainer.global_step
    if config.optim.patience == 0 or not (checkpoints and checkpoints.best.is_file()):
        return steps
    state = torch.load(checkpoints.best, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    return state["global_step"]


def _write_yaml(path: Path, values: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False))


@contextmanager
def _log_file(path: Path | None) -> Iterator[None]:
    """Also log to a file, at its end."""
    handler = logging.NullHandler() if path is None else logging.FileHandler(path)
    logging.getLogger("training").setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def make_module(
    network: PoseModel | RotationModel,
    info: ObjectInfo,
    source: Source,
    config: TrainConfig,
    clock: TrainingClock | None = None,
) -> PoseModule:
    """The network with its objective; what a data set cannot have is switched off."""
    optim, augmentation = config.optim, config.augmentation
    if not _reads_surface(config, source):
        optim = replace(optim, surface_weight=0.0)
    if source.rotation_only:  # the published data sets of rotations are used as they are
        augmentation = replace(augmentation, image_augmentations=False)
    if optim.channels_last:
        network.to(memory_format=torch.channels_last)
    if optim.compile:
        network.encoder.compile()
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


def _callbacks(config: TrainConfig, run_dir: Path, debug: bool) -> list[Callback]:
    """Checkpoints, the average of the weights and early stopping, as far as they are asked for."""
    callbacks: list[Callback] = []
    optim = config.optim
    if not debug:
        callbacks.append(Checkpoints(run_dir / "checkpoints", _BEST if optim.patience else None))
    if optim.ema > 0:
        callbacks.append(EMAWeightAveraging(decay=optim.ema))
    if optim.patience > 0:
        callbacks.append(EarlyStopping(_BEST, mode="max", patience=optim.patience))
    return callbacks


def _logger(kind: str, run_dir: Path) -> Logger | bool:
    """Lightning's logger; a resumed run continues its TensorBoard log and begins another CSV."""
    if kind == "none":
        return False
    if kind == "csv":
        return CSVLogger(run_dir, name=kind)
    return TensorBoardLogger(run_dir, name="", version=kind)


def _count(devices: int | list[int]) -> int:
    return devices if isinstance(devices, int) else len(devices)
