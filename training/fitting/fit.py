"""One training run, from a data set to a bundle."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from torch import nn

from spyropose_ros.core.bundle import MESH, ModelBundle
from spyropose_ros.core.errors import InputError
from training.config import NetworkConfig, TrainConfig
from training.data.mixture import mixed
from training.data.source import CropSettings, Items, Source
from training.fitting.assembly import Assembly, assemble
from training.fitting.checkpoints import Checkpoints, Interrupted
from training.fitting.clock import TrainingClock
from training.fitting.memory import keep_freed_memory
from training.fitting.precision import trainer_precision
from training.fitting.progress import Progress, silence_lightning
from training.fitting.running import (
    count,
    log_file,
    make_logger,
    make_trainer,
    train_or_resume,
    training_record,
    write_yaml,
)
from training.fitting.stream_data import StreamData
from training.runs import IDENTITY, SETTINGS, log_next

log = logging.getLogger(__name__)

_BEST = "val/ll_gain"


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
        InputError: settings that the data set does not allow.
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
    clock = TrainingClock(config.optim.hours)
    assembly = assemble(source, config, clock)
    module = assembly.module
    items, composer = _training(source, config, assembly.crop)
    data = StreamData(
        items,
        source.validation_items(assembly.validation_crop),
        config.data,
        config.optim,
        config.seed,
        composer,
    )
    processes = count(devices) * num_nodes
    progress = Progress(clock, config.optim.max_steps, config.optim.batch_size * processes)
    trainer = make_trainer(
        config.optim,
        [clock, progress, *_callbacks(config, run_dir, debug)],
        False if debug else make_logger(logger, run_dir),
        debug,
        accelerator,
        devices,
        num_nodes,
    )
    bundle = run_dir / "bundle"
    if not debug and trainer.is_global_zero:
        shutil.rmtree(bundle, ignore_errors=True)  # of an earlier --debug
        shared = {"devices": count(devices), "num_nodes": num_nodes}
        write_yaml(run_dir / IDENTITY, identity | shared)
        write_yaml(run_dir / SETTINGS, config.to_flat())
    with log_file(None if debug else run_dir / "log.txt"):
        try:
            steps = train_or_resume(trainer, clock, module, data, config.optim.patience)
        except Interrupted as stop:
            if trainer.is_global_zero:
                log.info("%s; to resume, add --run-id %s to the command", stop, run_dir.name)
            raise
        except OSError:  # such as a full disk
            log.info("to resume, add --run-id %s to the command", run_dir.name)
            raise
        if trainer.is_global_zero:
            record = identity | training_record(trainer, clock, steps, config.to_flat())
            if source.mesh is not None:
                bundle.mkdir(parents=True, exist_ok=True)
                source.mesh.export(bundle / MESH)
            # Last: with it the run is finished.
            _made(assembly, config.network, record).save_pretrained(bundle)
            log.info("bundle written to %s", bundle)
            if not debug:
                _log_next(run_dir, source)
    return bundle


def _made(assembly: Assembly, network: NetworkConfig, record: dict[str, object]) -> ModelBundle:
    """Join the trained network and its record; features stay those of the same object's bundle."""
    made = ModelBundle(assembly.module.model, assembly.info, [1.0] * network.depth, record)
    if network.start_from:
        start = ModelBundle.from_pretrained(network.start_from)
        record["started_from"] = start.record
        if start.object.name == made.object.name:
            made.features = start.features
    return made


def _training(source: Source, config: TrainConfig, crop: CropSettings) -> tuple[Items, nn.Module]:
    """Return the training items, and what composes their batches."""
    if config.data.photographs:
        data = config.data
        return mixed(source, data.photographs, data.photographs_share, crop, config.bop)
    return source.training_items(crop), source.composer(crop)


def _log_next(run_dir: Path, source: Source) -> None:
    """Print what to do with the bundle."""
    if not source.validates_on_test:  # which must not be fitted on
        log_next("next, calibrate it", "calibrate", run_dir)
    log_next("then see how good it is", "evaluate", run_dir)


def _check(source: Source, config: TrainConfig) -> None:
    """Raise InputError for early stopping on what must not, or cannot, be watched."""
    if config.optim.patience > 0 and source.validates_on_test:
        raise InputError(
            f"the validation images of {source.name} are test images, which select nothing: "
            "leave --patience out"
        )
    if config.optim.patience > 0 and config.objective.last_level_only:
        raise InputError("--last-level-only is not validated while it trains: leave --patience out")


def _callbacks(config: TrainConfig, run_dir: Path, debug: bool) -> list[Callback]:
    """Return checkpoints, the average of the weights and early stopping, where set."""
    callbacks: list[Callback] = []
    optim = config.optim
    if not debug:
        callbacks.append(Checkpoints(run_dir / "checkpoints", _BEST if optim.patience else None))
    if optim.ema > 0:
        callbacks.append(EMAWeightAveraging(decay=optim.ema))
    if optim.patience > 0:
        callbacks.append(EarlyStopping(_BEST, mode="max", patience=optim.patience))
    return callbacks
