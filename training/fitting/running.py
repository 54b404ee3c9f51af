"""What every training of a run does: the trainer, going on after a stop, files of the run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from spyropose_ros.core.errors import InputError
from spyropose_ros.core.files import write_text
from training import provenance
from training.config import OptimConfig
from training.fitting.checkpoints import Checkpoints
from training.fitting.clock import TrainingClock
from training.fitting.stream_data import ENDLESS_STEPS, StreamData

log = logging.getLogger(__name__)

_DEBUG_STEPS = 5
_LOGGED_STEPS = 25  # from one to the next


class Steps(NamedTuple):
    """Of a training.

    Attributes:
        exported: that the weights to export took: those of the best validation, or all.
        done: all of them.
    """

    exported: int
    done: int


def make_trainer(
    optim: OptimConfig,
    callbacks: list[Callback],
    logger: Logger | bool,
    debug: bool,
    accelerator: str,
    devices: int | list[int] = 1,
    num_nodes: int = 1,
) -> lightning.Trainer:
    """Make Lightning's trainer.

    Args:
        optim: settings, with a precision that Lightning knows.
        callbacks: of the run, the clock among them.
        logger: of the run, or False.
        debug: a few steps, no checkpoints.
        accelerator: as Lightning names it.
        devices: number of processes or GPUs on this machine, or the GPUs' numbers.
        num_nodes: machines.

    Returns:
        The trainer, without a progress bar of its own.
    """
    steps = optim.max_steps or ENDLESS_STEPS
    return lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        strategy="ddp" if count(devices) * num_nodes > 1 else "auto",
        precision=cast(Any, optim.precision),  # Lightning checks the name
        max_steps=_DEBUG_STEPS if debug else steps,
        use_distributed_sampler=False,  # the streams share themselves
        logger=logger,
        callbacks=callbacks,
        enable_checkpointing=not debug,
        enable_progress_bar=False,
        enable_model_summary=False,
        # A short training has a curve, too.
        log_every_n_steps=max(1, min(_LOGGED_STEPS, optim.steps_per_epoch // 8)),
        val_check_interval=min(optim.steps_per_epoch, steps),
        check_val_every_n_epoch=None,  # to Lightning, the whole training is one epoch
        num_sanity_val_steps=0,
    )


def train_or_resume(
    trainer: lightning.Trainer,
    clock: TrainingClock,
    module: lightning.LightningModule,
    data: StreamData,
    patience: int = 0,
) -> Steps:
    """Train from the start or the latest checkpoint; the module ends with the weights to export.

    Args:
        trainer: of the run.
        clock: of the run.
        module: to train.
        data: to train on.
        patience: whether, if not 0, the best weights are exported, not the last.

    Returns:
        What was done.

    Raises:
        InputError: the checkpoint is of an earlier version.
        Interrupted: SIGINT or SIGTERM has ended the training.
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
        done = state["global_step"]
        finished = clock.enough(trainer) or done >= trainer.max_steps
    if finished:  # but not exported yet
        module.load_state_dict(state["state_dict"])  # the average, where there is one
    else:
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        done = trainer.global_step
    if patience == 0 or not (checkpoints and checkpoints.best.is_file()):
        return Steps(done, done)
    state = torch.load(checkpoints.best, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    return Steps(state["global_step"], done)


def training_record(
    trainer: lightning.Trainer, clock: TrainingClock, steps: Steps, settings: dict
) -> dict[str, object]:
    """Return how weights were made.

    Args:
        trainer: that trained them.
        clock: of the run.
        steps: of the training.
        settings: all of the run's, plain values.

    Returns:
        For the bundle's record.
    """
    return {
        "package_version": provenance.package_version(),
        "git_commit": provenance.git_commit(),
        "config": settings,
        "steps": steps.exported,
        "steps_done": steps.done,
        "processes": trainer.world_size,
        "precision": trainer.precision,
        "hardware": provenance.hardware(str(trainer.strategy.root_device)),
        "seconds": round(clock.seconds.wall),
        "core_hours": round(clock.seconds.core / 3600, 4),
    }


def write_yaml(path: Path, values: dict) -> None:
    """Write values, in their order."""
    write_text(path, yaml.safe_dump(values, sort_keys=False))


@contextmanager
def log_file(path: Path | None) -> Iterator[None]:
    """Also log to a file, at its end; None for no file."""
    handler = logging.NullHandler() if path is None else logging.FileHandler(path)
    logging.getLogger("training").setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def make_logger(kind: str, run_dir: Path) -> Logger | bool:
    """Return Lightning's logger; a resumed run continues its TensorBoard log, or a new CSV."""
    if kind == "none":
        return False
    if kind == "csv":
        return CSVLogger(run_dir, name=kind)
    return TensorBoardLogger(run_dir, name="", version=kind)


def count(devices: int | list[int]) -> int:
    """Return the number of processes or GPUs."""
    return devices if isinstance(devices, int) else len(devices)
