"""How far off a simulated detector's boxes are."""

from pathlib import Path

from spyropose_ros.core.errors import InputError
from spyropose_ros.detector.bundle import read_box_errors
from spyropose_ros.scenes.detector import BoxNoise, EdgeNoise, MeasuredNoise
from training import runs
from training.config import DataConfig


def box_noise(data: DataConfig) -> EdgeNoise | None:
    """Make the noise that settings ask for.

    Args:
        data: settings.

    Returns:
        The noise; None for the paper's offset around the truth.

    Raises:
        InputError: the detector's errors are asked for, but no detector is named, or its errors
            were not measured.
        BundleError: they are damaged.
    """
    if data.detector_noise == "paper":
        return None
    if data.detector_noise == "boxes":
        return BoxNoise()
    if not data.detector:
        raise InputError(
            "--detector-noise measured needs --detector, the run or the bundle of a detector"
        )
    errors = read_box_errors(runs.bundle_directory(data.detector))
    if errors is None:
        raise InputError(
            f"{data.detector} does not say how far its boxes are off: train it again with "
            "training.train_detector, or leave out --detector-noise measured"
        )
    return MeasuredNoise(errors)


def bundle_noise(directory: str | Path) -> EdgeNoise:
    """Return the errors of the detector in a pose model's bundle; a simulated one's without it."""
    errors = read_box_errors(Path(directory))
    return BoxNoise() if errors is None else MeasuredNoise(errors)
