"""How an evaluation presents an image to the model: the choice of crop and grid."""

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from spyropose_ros.core import camera
from spyropose_ros.core.bundle import ModelBundle
from spyropose_ros.core.estimator import Estimator, SearchSettings
from spyropose_ros.core.search import PosePyramid
from spyropose_ros.core.translation_grid import TranslationBox
from training.data.crops import PAPER_LIMIT, PAPER_SIGMA, truncated_offset
from training.data.source import Sample
from training.evaluation.verdict import TEMPERATURES_OFF, TEMPERATURES_UNUSED


@dataclass(frozen=True)
class Protocol:
    """The choice of crop and grid.

    Attributes:
        paper: as published: crop and grid around the truth plus noise, the grid shaped by the true
            position and in a random orientation, temperatures off. Otherwise everything follows
            from the simulated detector's box, as in the node.
        regular_grid: a cubic grid instead of the frustum-aligned one.
    """

    paper: bool = False
    regular_grid: bool = False

    @property
    def suffix(self) -> str:
        """Part of a report's file name."""
        return "_paper" * self.paper + "_regular" * self.regular_grid

    def prepare(self, bundle: ModelBundle) -> None:
        """Switch the temperatures of a bundle off for the paper's protocol."""
        if self.paper:
            bundle.temperatures = [1.0] * bundle.model.config.depth

    def mass_tolerance(self, asked: float | None) -> float:
        """Return the default of what may stay at coarse levels: nothing in the paper."""
        if asked is None:
            return 0.0 if self.paper else SearchSettings().mass_tolerance
        return asked

    def describe(self, bundle: ModelBundle, rotation_only: bool) -> str:
        """Return one sentence for the report."""
        shape = "cubic" if self.regular_grid else "frustum-aligned"
        temperatures = self.temperatures(bundle)
        if rotation_only:
            return f"the image is the crop, the translation known, grid unturned; {temperatures}"
        if self.paper:
            return (
                "the paper's protocol: crop and grid around the truth with an offset of sigma "
                f"{PAPER_SIGMA} (at most {PAPER_LIMIT}) of the box, {shape} grid of the true "
                f"position in a random orientation; {temperatures}"
            )
        return f"boxes of a simulated detector, {shape} grid, unturned; {temperatures}"

    def temperatures(self, bundle: ModelBundle) -> str:
        """Describe where the temperatures come from."""
        if self.paper:
            return TEMPERATURES_UNUSED
        fitted = bundle.record.get("calibration")
        if fitted is None:  # a bundle comes with ones
            return TEMPERATURES_OFF
        return f"temperatures fitted on {fitted['images']} {fitted['data']}"

    def search(self, estimator: Estimator, sample: Sample, seed: int) -> PosePyramid:
        """Search the pose of a sample.

        Args:
            estimator: of the sample's object.
            sample: the image.
            seed: of the paper's noise; every sample has a stream of its own.

        Returns:
            The distribution over the poses, of this one image.
        """
        if sample.box is None:
            return _search_crop(estimator, sample)
        if not self.paper and not self.regular_grid:
            pyramid = estimator.search(sample.image, sample.K, sample.box[None])
            assert pyramid is not None  # as there is a box
            return pyramid
        info = estimator.bundle.object
        if self.paper:
            rng = sample_generator(sample, seed)
            box = noisy_truth(sample, np.array(info.center), info.diameter, rng, self.regular_grid)
        else:
            K, detected = torch.from_numpy(sample.K).float(), torch.from_numpy(sample.box).float()
            estimate = camera.translation_from_boxes(
                detected[None], K, info.diameter, info.size_ratio
            )
            box = TranslationBox.cubic(estimate, info.diameter)
        return search_box(estimator, sample, box)


def noisy_truth(
    sample: Sample,
    center: np.ndarray,
    diameter: float,
    rng: np.random.Generator,
    regular_grid: bool,
) -> TranslationBox:
    """Draw the paper's box: random rotation, shape of the true position, truncated offset.

    Args:
        sample: the truth.
        center: bounding-sphere centre in object coordinates, metres, [3].
        diameter: of the bounding sphere, metres.
        rng: of orientation and offset.
        regular_grid: cubic instead of frustum-aligned.

    Returns:
        A batch of one that holds the true position.
    """
    make = TranslationBox.cubic if regular_grid else TranslationBox.from_view
    truth = torch.from_numpy(sample.rotation @ center + sample.translation).float()[None]
    rotation = torch.from_numpy(Rotation.random(random_state=rng).as_matrix()).float()[None]
    offset = torch.from_numpy(truncated_offset(rng)).float()
    return make(truth, diameter, rotation).shifted(offset[None])


def sample_generator(sample: Sample, seed: int) -> np.random.Generator:
    """Return the sample's own random numbers for the paper's noise."""
    return np.random.default_rng((seed, zlib.crc32(sample.id.encode())))


def search_box(estimator: Estimator, sample: Sample, box: TranslationBox) -> PosePyramid:
    """Search a given box, the crop around its middle."""
    center = box.center.to(estimator.device)
    crops, K_crop = estimator.crops(sample.image, sample.K, center)
    return _search(estimator, crops, K_crop, box)


def _search_crop(estimator: Estimator, sample: Sample) -> PosePyramid:
    """Search an image that is the crop; the bounding-sphere centre's translation is known."""
    position = sample.rotation @ np.array(estimator.bundle.object.center) + sample.translation
    box = TranslationBox.known(torch.from_numpy(position).float()[None])
    image, K = _resized(sample.image, sample.K, estimator.bundle.model.config.crop_resolution)
    crops = _tensor(image)[None].float().div(255)
    return _search(estimator, crops, torch.from_numpy(K).float()[None], box)


def _resized(image: np.ndarray, K: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a square image and its intrinsics at another resolution."""
    if len(image) == resolution:
        return image, K
    scale = resolution / len(image)
    shift = (scale - 1) / 2  # pixel centres lie at integers
    to_resized = np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]])
    size = (resolution, resolution)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), to_resized @ K


def _search(
    estimator: Estimator, crops: Tensor, K_crop: Tensor, box: TranslationBox
) -> PosePyramid:
    device = estimator.device
    return estimator.search_crops(crops.to(device), K_crop.to(device), box.to(device))


def _tensor(image: np.ndarray) -> Tensor:
    """Convert RGB uint8 [H, W, 3] -> [3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
