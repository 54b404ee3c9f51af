"""One training run of a detector: from objects to a calibrated bundle."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import lightning
from lightning.pytorch.callbacks import Callback

from spyropose_ros.detector.bundle import CONFIG, DetectorBundle, DetectorInfo
from spyropose_ros.detector.detector import Detector
from spyropose_ros.detector.network import DetectionNetwork
from training.config import PRESETS
from training.data.streams import VALIDATION
from training.detector.calibration import calibrated, fit_calibration
from training.detector.config import DetectorConfig
from training.detector.evaluation import LOWEST_SCORE, good_errors, summarise
from training.detector.images import GroupItems, KnownObjects
from training.detector.matching import Matches, match
from training.detector.module import DetectorModule
from training.detector.renderings import renderings
from training.detector.start import started_from
from training.fitting.checkpoints import Checkpoints, Interrupted
from training.fitting.clock import TrainingClock
from training.fitting.memory import keep_freed_memory
from training.fitting.precision import trainer_precision
from training.fitting.progress import Progress, silence_lightning
from training.fitting.running import (
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


def fit(
    known: KnownObjects,
    config: DetectorConfig,
    run_dir: Path,
    *,
    identity: dict,
    accelerator: str = "auto",
    logger: str = "tensorboard",
    debug: bool = False,
) -> Path:
    """Train, or resume, calibrate and export the bundle.

    Args:
        known: what it is trained for.
        config: settings.
        run_dir: for everything the run writes.
        identity: goes into the bundle's record: what names the run.
        accelerator: as Lightning names it.
        logger: "tensorboard", "csv" or "none".
        debug: a few steps; no logs and no checkpoints.

    Returns:
        Folder of the bundle.

    Raises:
        BundleError: there is no detector to start from.
        Interrupted: SIGINT or SIGTERM has ended the training.
    """
    # Once for a run: another choice after a restart would change its numbers.
    config = replace(config, precision=trainer_precision(config.precision, accelerator))
    silence_lightning()
    keep_freed_memory()
    lightning.seed_everything(config.seed, verbose=False)
    cv2.setNumThreads(1)
    clock = TrainingClock(config.hours)
    start = DetectorBundle.from_pretrained(config.start_from)
    network = started_from(start, known.classes)
    augmentation = PRESETS["default"].augmentation
    module = DetectorModule(network, config.optim, augmentation, config.seed, clock)
    items = GroupItems(known.sampler)
    data = StreamData(items, items, config.data, config.optim, config.seed)
    callbacks: list[Callback] = [clock, Progress(clock, config.max_steps, config.batch_size)]
    if not debug:
        callbacks.append(Checkpoints(run_dir / "checkpoints", None))
    kept = False if debug else make_logger(logger, run_dir)
    trainer = make_trainer(config.optim, callbacks, kept, debug, accelerator)
    bundle = run_dir / "bundle"
    if not debug:
        shutil.rmtree(bundle, ignore_errors=True)  # of an earlier --debug
        write_yaml(run_dir / IDENTITY, identity)
        write_yaml(run_dir / SETTINGS, config.to_flat())
    with log_file(None if debug else run_dir / "log.txt"):
        try:
            steps = train_or_resume(trainer, clock, module, data)
        except (Interrupted, OSError) as stop:  # such as a full disk
            log.info("%s; to resume, add --run-id %s to the command", stop, run_dir.name)
            raise
        record = identity | training_record(trainer, clock, steps, config.to_flat())
        record["started_from"] = start.record
        made = _calibrated(module.network, known, config, record)
        made.save_pretrained(bundle)  # last: with it the run is finished
        log.info("detector written to %s", bundle / CONFIG)
        if not debug:
            log_next("see how good it is", "evaluate_detector", run_dir)
    return bundle


def _calibrated(
    network: DetectionNetwork, known: KnownObjects, config: DetectorConfig, record: dict
) -> DetectorBundle:
    """Return the detector with scores that are probabilities of renderings never trained on."""
    info = DetectorInfo(known.classes, config.side)
    network = network.cpu().eval().requires_grad_(False)
    raw = Detector(DetectorBundle(network, info))
    shown = renderings(known, config.seed, VALIDATION, config.calibration_images)
    matches = Matches.join(
        [match(raw.detect(image, LOWEST_SCORE), truth) for image, truth in shown]
    )
    slope, offset = fit_calibration(matches)
    before = summarise(matches)["ece"]
    matches = replace(
        matches,
        scores=calibrated(matches.scores, slope, offset),
        false=calibrated(matches.false, slope, offset),
    )
    fitted = {"images": matches.images, "ece_before": before} | summarise(matches)
    log.info("scores calibrated on %d boxes of %d images", len(matches.scores), matches.images)
    errors = good_errors(matches)
    return DetectorBundle(
        network,
        replace(info, calibration=(slope, offset)),
        record | {"calibration": fitted},
        errors if len(errors) else None,
    )
