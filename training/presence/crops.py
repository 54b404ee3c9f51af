"""What the network says of many crops."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from spyropose_ros.core import camera
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.network.evidence import evidence
from training.presence.shown import WITHOUT_HANDLE, Shown


@dataclass(frozen=True)
class Crops:
    """What is known of crops.

    Attributes:
        evidence: see `spyropose_ros.core.network.evidence.evidence`, float64 [N, F].
        kinds: what each shows, str [N].
        name: of the object.
    """

    evidence: np.ndarray
    kinds: np.ndarray
    name: str

    @property
    def there(self) -> np.ndarray:
        """Whether the object is in a crop, bool [N]."""
        return self.kinds == self.name

    def without_parts(self) -> "Crops":
        """Leave out those that show a part of the object: they are neither right nor wrong."""
        whole = self.kinds != WITHOUT_HANDLE
        return Crops(self.evidence[whole], self.kinds[whole], self.name)


@torch.inference_mode()
def look_at(estimator: Estimator, images: Iterable[Shown]) -> Crops:
    """Cut out boxes as the node does and let the network see them.

    Args:
        estimator: of the object.
        images: with boxes.

    Returns:
        What it says of all boxes.
    """
    info = estimator.bundle.object
    rows, kinds = [np.zeros((0, 0))], []
    for shown in tqdm(images, unit="image"):
        if len(shown.boxes) == 0:
            continue
        K = torch.from_numpy(shown.K).float().to(estimator.device)
        boxes = torch.from_numpy(shown.boxes).float().to(estimator.device)
        estimate = camera.translation_from_boxes(boxes, K, info.diameter, info.size_ratio)
        crops, _ = estimator.crops(shown.image, shown.K, estimate)
        rows.append(evidence(estimator.features(crops)).double().cpu().numpy())
        kinds += shown.kinds
    return Crops(np.concatenate(rows[1:] or rows), np.array(kinds), info.name)
