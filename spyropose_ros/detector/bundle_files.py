"""The files of a detector, without its network: needs no PyTorch and is fast to import."""

import math
from dataclasses import dataclass
from pathlib import Path

from spyropose_ros.core.bundle_files import read_config
from spyropose_ros.core.errors import BundleError, InputError

FORMAT = "spyropose_ros/detector/1"
WEIGHTS = "detector.safetensors"
CONFIG = "detector.json"

SIDE_STEP = 32
"""Sides of images are multiples of this: pixels from cell to cell of the coarsest scale."""


@dataclass(frozen=True)
class DetectorInfo:
    """What a detector finds, and how large its image is.

    Attributes:
        classes: names of the objects, as in detections.
        side: images are scaled so that their longer side has this many pixels.
        calibration: slope and offset of the class logits, whose sigmoid is then the probability
            that a box is right; a positive slope.
    """

    classes: tuple[str, ...]
    side: int = 416
    calibration: tuple[float, float] = (1.0, 0.0)

    def __post_init__(self) -> None:
        classes = self.classes
        named = all(isinstance(name, str) and name for name in classes)
        if not classes or not named or len(set(classes)) < len(classes):
            raise InputError(f"a detector needs classes with different names, got {classes}")
        if not isinstance(self.side, int) or self.side < SIDE_STEP or self.side % SIDE_STEP:
            raise InputError(f"side must be a multiple of {SIDE_STEP}, got {self.side!r}")
        slope, offset = self.calibration
        if not (0 < slope < math.inf and math.isfinite(offset)):
            raise InputError(f"calibration must be slope > 0 and offset, got {self.calibration}")


def read_info(directory: Path) -> DetectorInfo:
    """Read what the detector of a folder finds, without loading its weights.

    Args:
        directory: of the bundle.

    Returns:
        Its description.

    Raises:
        BundleError: missing, damaged or foreign, with the reason.
    """
    if not (directory / CONFIG).is_file():
        raise BundleError(f"{directory} holds no detector: {CONFIG} is missing")
    config = read_config(directory, CONFIG, FORMAT)
    try:
        calibration = tuple(config.get("calibration", DetectorInfo.calibration))
        return DetectorInfo(tuple(config["classes"]), config["side"], calibration)
    except (LookupError, TypeError, ValueError) as error:
        raise BundleError(
            f"{directory / CONFIG} does not describe a detector of this version "
            f"({type(error).__name__}: {error}); export the bundle again"
        ) from error
