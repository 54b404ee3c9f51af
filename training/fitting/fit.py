"""One training run, from a data set to a bundle."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from spyropose_ros.core.bundle import MESH, ModelBundle
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.files import write_text
from training import provenance
from training.config import TrainConfig
from training.data.source import Source
from training.fitting.assembly import assemble
from training.fitting.checkpoints import Checkpoints, Interrupted
from training.fitting.clock import TrainingClock
from training.fitting.memory import keep_freed_memory
from training.fitting.module import PoseModule
from training.fitting.precision import trainer_precision
from training.fitting.progress import Progress, silence_lightning
from training.fitting.stream_data import ENDLESS_STEPS, StreamData
from training.runs import IDENTITY, SETTINGS, next_command

log = logging.getLogger(__name__)

_BEST = "val/ll_gain"
_DEBUG_STEPS = 5


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
    steps = config.optim.max_steps or ENDLESS_STEPS
    clock = TrainingClock(config.optim.hours)
    assembly = assemble(source, config, clock)
    module = assembly.module
    data = StreamData(
        source.training_items(assembly.crop),
        source.validation_items(assembly.validation_crop),
        config.data,
        config.optim,
        config.seed,
        source.composer(assembly.crop),
    )
    processes = _count(devices) * num_nodes
    progress = Progress(clock, config.optim.max_steps, config.optim.batch_size * processes)
    trainer = lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        strategy="ddp" if processes > 1 else "auto",
        precision=cast(Any, precision),  # Lightning checks the name
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
                log.info("%s; to resume, add --run-id %s to the command", stop, run_dir.name)
            raise
        except OSError:  # such as a full disk
            log.info("to resume, add --run-id %s to the command", run_dir.name)
            raise
        if trainer.is_global_zero:
            record = identity | _record(trainer, clock, steps, config)
            temperatures = [1.0] * config.network.depth
            if source.mesh is not None:
                bundle.mkdir(parents=True, exist_ok=True)
                source.mesh.export(bundle / MESH)
            # Last: with it the run is finished.
            ModelBundle(module.model, assembly.info, temperatures, record).save_pretrained(bundle)
            log.info("bundle written to %s", bundle)
            if not debug:
                _log_next(run_dir, source)
    return bundle


def _log_next(run_dir: Path, source: Source) -> None:
    """Print what to do with the bundle."""
    if not source.validates_on_test:  # which must not be fitted on
        log.info("next, calibrate it: %s", next_command("calibrate", run_dir))
    log.info("then see how good it is: %s", next_command("evaluate", run_dir))


def _check(source: Source, config: TrainConfig) -> None:
    """Raise InputError for early stopping on what must not, or cannot, be watched."""
    if config.optim.patience > 0 and source.validates_on_test:
        raise InputError(
            f"the validation images of {source.name} are test images, which select nothing: "
            "leave --patience out"
        )
    if config.optim.patience > 0 and config.objective.last_level_only:
        raise InputError("--last-level-only is not validated while it trains: leave --patience out")


def _record(
    trainer: lightning.Trainer, clock: TrainingClock, steps: int, config: TrainConfig
) -> dict[str, object]:
    """Return how the weights were made."""
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
    found = trainer.checkpoint_callback
    checkpoints = found if isinstance(found, Checkpoints) else None  # none of --debug
    resume, finished = None, False
    if checkpoints and checkpoints.last.is_file():
        resume = checkpoints.last
        log.info("resuming from %s", resume)
        state = torch.load(resume, map_location="cpu", weights_only=True)
        if clock.state_key not in state["callbacks"]:
            raise InputError(f"{resume} is of an earlier version: choose another --run-id")
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
    write_text(path, yaml.safe_dump(values, sort_keys=False))


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


def _logger(kind: str, run_dir: Path) -> Logger | bool:
    """Return Lightning's logger; a resumed run continues its TensorBoard log, or a new CSV."""
    if kind == "none":
        return False
    if kind == "csv":
        return CSVLogger(run_dir, name=kind)
    return TensorBoardLogger(run_dir, name="", version=kind)


def _count(devices: int | list[int]) -> int:
    return devices if isinstance(devices, int) else len(devices)
