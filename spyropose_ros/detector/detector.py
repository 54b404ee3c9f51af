"""The detector: image in, boxes of known objects out."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spyropose_ros.core.device import resolve_device, upload
from spyropose_ros.core.errors import InputError, ScorerError
from spyropose_ros.core.inputs import check_image
from spyropose_ros.detector.boxes import area, decode, suppress
from spyropose_ros.detector.bundle import DetectorBundle
from spyropose_ros.detector.network import STRIDES, Prediction, cells

_CANDIDATES = 1000
"""Pairs of cell and class, best first, that compete for boxes: bounds the time of a bad image."""

_RIVALRY = 0.6
"""Intersection over union from which two boxes of a class count as one object."""


@dataclass(frozen=True)
class Detections:
    """Boxes of one image, best first.

    Attributes:
        boxes: x0, y0, x1, y1 in pixels, -0.5 at the image's border, float32 [N, 4].
        scores: probabilities that the boxes are right, where the detector is calibrated,
            float32 [N].
        classes: indices into the detector's classes, [N].
        names: of the classes, N.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    names: list[str]

    def __len__(self) -> int:
        return len(self.scores)


class Detector:
    """Finds the objects that it was trained for.

    On a GPU it computes in float16. Not for two threads at once.

    Args:
        bundle: the trained detector; its weights must not change afterwards.
        device: where to run; the GPU if there is one by default.

    Raises:
        InputError: unknown or absent device.
    """

    def __init__(self, bundle: DetectorBundle, device: str | torch.device | None = None):
        self.bundle = bundle
        self.device = resolve_device(device)
        self.classes = bundle.info.classes
        self._dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self._network = copy.deepcopy(bundle.network).eval()
        # PyTorch's own annotations lack the memory format.
        self._network.to(self.device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_pretrained(
        cls, directory_or_hub_id: str | Path, device: str | torch.device | None = None
    ) -> "Detector":
        """Load a bundle; see `DetectorBundle.from_pretrained` and the class for errors."""
        return cls(DetectorBundle.from_pretrained(directory_or_hub_id), device)

    @torch.inference_mode()
    def detect(self, image: np.ndarray, min_score: float = 0.3, limit: int = 100) -> Detections:
        """Find objects of all classes in one pass.

        Args:
            image: RGB uint8 [H, W, 3], or a PIL image of mode RGB.
            min_score: lowest score, in [0, 1].
            limit: largest number of boxes.

        Returns:
            The boxes, within the image.

        Raises:
            InputError: malformed image, or a setting out of its range.
            ScorerError: if the network's output is not finite.
        """
        if not 0 <= min_score <= 1 or limit < 1:
            raise InputError(
                f"min_score must be in [0, 1] and limit positive, got {min_score} and {limit}"
            )
        image = check_image(image)
        scaled = resize(upload(image, self.device)[None], self.bundle.info.side)
        framed = frame(scaled).to(self._dtype, memory_format=torch.channels_last)
        prediction = Prediction(*(part[0].float() for part in self._network(framed)))
        if not all(part.isfinite().all() for part in prediction):
            raise ScorerError("the detector's scores are not finite")
        slope, offset = self.bundle.info.calibration
        scores = (slope * prediction.logits + offset).sigmoid()
        cell, classes, scores = _candidates(scores, min_score)
        centers, strides = cells(framed.shape[-2], framed.shape[-1], self.device)
        boxes = decode(prediction.edges[cell], centers[cell], strides[cell])
        boxes = _unscaled(boxes.cpu(), scaled.shape[-2:], image.shape[:2])
        return self._best(boxes, scores.cpu(), classes.cpu(), limit)

    def _best(self, boxes: Tensor, scores: Tensor, classes: Tensor, limit: int) -> Detections:
        """Choose one box for each object."""
        scores = scores.where(area(boxes) > 0, -1)  # in the black frame, not in the image
        chosen = suppress(boxes, scores, classes, _RIVALRY, limit)
        chosen = chosen[scores[chosen] >= 0]
        names = [self.classes[i] for i in classes[chosen]]
        boxes, scores, classes = boxes[chosen], scores[chosen], classes[chosen]
        return Detections(boxes.numpy(), scores.numpy(), classes.numpy(), names)


def _candidates(scores: Tensor, min_score: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return cells, classes and scores, [N] each, of the best pairs of scores [A, C]."""
    count, scores = scores.shape[1], scores.flatten()
    good = (scores >= min_score).nonzero().squeeze(1)
    # Not topk: it returns equal scores in any order.
    order = scores[good].argsort(descending=True, stable=True)
    pairs = good[order[:_CANDIDATES]]
    return pairs // count, pairs % count, scores[pairs]


def _unscaled(boxes: Tensor, scaled: torch.Size, original: tuple[int, ...]) -> Tensor:
    """Return where boxes [N, 4] are before `resize`, cut at the border; sizes are (H, W)."""
    (height, width), (new_height, new_width) = original, scaled
    sides = torch.tensor([width, height, width, height])
    factors = sides / torch.tensor([new_width, new_height, new_width, new_height])
    return ((boxes + 0.5) * factors).clamp(min=0).minimum(sides) - 0.5


def resize(images: Tensor, side: int) -> Tensor:
    """Scale images to a longer side, averaging where they shrink.

    Args:
        images: uint8, [B, 3, H, W].
        side: of the result, pixels.

    Returns:
        The images in [0, 1], [B, 3, h, w]; the shorter side has at least one pixel.
    """
    scale = side / max(images.shape[-2:])
    size = [max(1, round(scale * n)) for n in images.shape[-2:]]
    # PyTorch resizes bytes on CPUs only, there several times as fast as floats.
    images = images.float() if images.is_cuda else images
    images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
    return images.round().div(255)


def frame(images: Tensor) -> Tensor:
    """Add black to the right and below, to sides that are multiples of the largest stride.

    Args:
        images: [..., H, W].

    Returns:
        The images, with the same pixels at the same places.
    """
    missing = [-n % STRIDES[-1] for n in images.shape[-2:]]
    return F.pad(images, (0, missing[1], 0, missing[0]))
