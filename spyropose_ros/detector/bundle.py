"""A trained detector on disk: alone, or as the second part of a pose model's bundle.

detector.safetensors  weights (float16 or float32)
detector.json         classes, size of the image, calibration, training record and metrics
box_errors.npy        optional, how far its boxes are off, see `DetectorBundle`
"""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spyropose_ros.core.bundle_files import locate, read_config
from spyropose_ros.core.errors import BundleError
from spyropose_ros.core.files import write_bytes, write_text
from spyropose_ros.core.weights import fill, read_weights, save_weights
from spyropose_ros.detector.bundle_files import CONFIG, FORMAT, WEIGHTS, DetectorInfo, read_info
from spyropose_ros.detector.network import DetectionNetwork

BOX_ERRORS = "box_errors.npy"


@dataclass
class DetectorBundle:
    """A detector with its record.

    Attributes:
        network: in eval mode, float32.
        info: what it finds.
        record: free-form provenance: command, configuration, hardware, metrics, package version.
        box_errors: of boxes that found their object in images that the training has not seen: shift
            of the centre in x and y over the true width and height, and logarithms of width and
            height over the true ones, float32 [N, 4]; None if nobody has measured them.
        name: folder or hub id it came from.
    """

    network: DetectionNetwork
    info: DetectorInfo
    record: dict = field(default_factory=dict)
    box_errors: np.ndarray | None = None
    name: str = ""

    def save_pretrained(self, directory: str | Path, half: bool = True) -> None:
        """Write the bundle's files; others in the folder stay.

        Args:
            directory: created when missing; may be the folder of a pose model's bundle.
            half: store the weights as float16.
        """
        directory = Path(directory)
        checksum = save_weights(self.network, directory / WEIGHTS, half)
        if self.box_errors is None:
            (directory / BOX_ERRORS).unlink(missing_ok=True)  # of another detector
        else:
            content = io.BytesIO()
            np.save(content, self.box_errors.astype(np.float32), allow_pickle=False)
            write_bytes(directory / BOX_ERRORS, content.getvalue())
        self._write(directory, checksum)

    def save_config(self, directory: str | Path) -> None:
        """Write detector.json again, as after a change of the record.

        Args:
            directory: of the bundle that this was loaded from.
        """
        directory = Path(directory)
        self._write(directory, read_config(directory, CONFIG, FORMAT)["weights_sha256"])

    def _write(self, directory: Path, checksum: str) -> None:
        config = {
            "format": FORMAT,
            "weights_sha256": checksum,
            "classes": self.info.classes,
            "side": self.info.side,
            "calibration": self.info.calibration,
            "record": self.record,
        }
        write_text(directory / CONFIG, json.dumps(config, indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, directory_or_hub_id: str | Path) -> "DetectorBundle":
        """Load a detector from a folder or from the Hugging Face hub.

        Args:
            directory_or_hub_id: folder, or name of a repository such as owner/name.

        Returns:
            The bundle, with its network on the CPU.

        Raises:
            BundleError: missing, damaged or foreign, with the reason.
        """
        name = str(directory_or_hub_id)
        directory = locate(name, (CONFIG, WEIGHTS), BOX_ERRORS)
        info = read_info(directory)
        config = read_config(directory, CONFIG, FORMAT)
        network = DetectionNetwork(len(info.classes))
        state = read_weights(directory / WEIGHTS, config.get("weights_sha256"), CONFIG)
        fill(network, state, directory / WEIGHTS, CONFIG)
        network.eval().requires_grad_(False)
        errors = read_box_errors(directory)
        return cls(network, info, dict(config.get("record") or {}), errors, name)


def read_box_errors(directory: str | Path) -> np.ndarray | None:
    """Read how far the boxes of a bundle's detector are off.

    Args:
        directory: of the bundle.

    Returns:
        See `DetectorBundle`; None if nobody has measured them.

    Raises:
        BundleError: the file is damaged.
    """
    path = Path(directory) / BOX_ERRORS
    if not path.is_file():
        return None
    try:
        errors = np.load(path, allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        raise BundleError(f"{path} is damaged, copy or download it again: {error}") from error
    shape = errors.shape
    if len(shape) != 2 or len(errors) == 0 or shape[1] != 4 or errors.dtype != np.float32:
        raise BundleError(f"{path} holds {errors.dtype} {list(shape)} instead of float32 [N, 4]")
    if not np.isfinite(errors).all():
        raise BundleError(f"{path} holds NaN or infinite errors")
    return errors
