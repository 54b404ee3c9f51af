"""Where to look next: the camera from which a look is expected to tell most about a pose.

What a look from a camera tells is the mutual information of the pose and of what the network will
see there, so the entropy that is expected after it is today's less this information. Both
expectations are means over poses of the distribution: a few of them are rendered as the camera
would see them, and the network compares each picture with many others. No search runs.

Sources: Lindley, Annals of Mathematical Statistics 1956 (information of an experiment); Bourgault
et al., IROS 2002 (views chosen by it).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from spyropose_ros.core import camera
from spyropose_ros.core._checks import as_motion
from spyropose_ros.core.distribution import PoseDistribution
from spyropose_ros.core.errors import InputError
from spyropose_ros.core.estimator import Estimator
from spyropose_ros.core.inputs import check_intrinsics

_LOOKS = 12
_HYPOTHESES = 2048


class Render(Protocol):
    """Draws the object alone, such as `spyropose_ros.scenes.portrait.Portrait`."""

    def __call__(
        self, rotation: np.ndarray, translation: np.ndarray, K: np.ndarray, size: int
    ) -> np.ndarray:
        """Draw a square picture.

        Args:
            rotation: object to camera, [3, 3].
            translation: object to camera, metres, [3].
            K: intrinsics, [3, 3].
            size: side, pixels.

        Returns:
            RGB uint8 [size, size, 3].
        """


@dataclass(frozen=True)
class NextView:
    """What each candidate is expected to tell.

    Attributes:
        information: expected decrease of the entropy, nats, [C]; 0 of a camera that cannot see the
            object.
        standard_error: of the information, from the poses that were looked at, [C].
        entropy: expected after the look, nats, [C], in the convention of
            `PoseDistribution.entropy`.
    """

    information: np.ndarray
    standard_error: np.ndarray
    entropy: np.ndarray

    @property
    def best(self) -> int:
        """Index of the candidate that is expected to tell most."""
        return int(self.information.argmax())


def next_view(
    estimator: Estimator,
    distribution: PoseDistribution,
    Ks: np.ndarray,
    frame_from_cameras: np.ndarray,
    render: Render,
    looks: int = _LOOKS,
    hypotheses: int = _HYPOTHESES,
) -> NextView:
    """Compare cameras by what a look from each is expected to tell about the pose.

    Args:
        estimator: of the object. Only its network is used, which has no state: another thread may
            estimate at the same time.
        distribution: what is known now, in any frame.
        Ks: intrinsics of the candidates' (rectified) images, [C, 3, 3].
        frame_from_cameras: rigid, from each candidate to the frame of the distribution, metres,
            [C, 4, 4].
        render: draws the object.
        looks: poses that each candidate is rendered with.
        hypotheses: poses that each picture is compared with; at most their log can be told.

    Returns:
        The information of every candidate.

    Raises:
        InputError: no candidate, malformed intrinsics or transforms, or fewer than 2 looks or
            hypotheses.
    """
    if len(frame_from_cameras) == 0 or len(Ks) != len(frame_from_cameras):
        raise InputError(
            f"need as many Ks as frame_from_cameras, at least one; got {len(Ks)} and "
            f"{len(frame_from_cameras)}"
        )
    if looks < 2 or hypotheses < 2:
        raise InputError(f"need 2 or more looks and hypotheses, got {looks} and {hypotheses}")
    generator = torch.Generator(distribution.box.center.device).manual_seed(0)
    truths = _Poses(*distribution.sample(looks, generator, systematic=True))
    poses = _Poses(*distribution.sample(hypotheses, generator, systematic=True))
    told = []
    for K, pose in zip(Ks, frame_from_cameras, strict=True):
        motion = as_motion(pose, "frame_from_cameras").inverse().to(poses.rotations)
        K = check_intrinsics(K)
        told.append(_told(estimator, K, truths.moved(motion), poses.moved(motion), render))
    gains = np.array(told)
    information = gains.mean(1)
    error = gains.std(1, ddof=1) / math.sqrt(looks)
    return NextView(information, error, distribution.entropy() - information)


class _Poses(NamedTuple):
    """Of the object: rotations [N, 3, 3] and translations in metres, [N, 3]."""

    rotations: Tensor
    translations: Tensor

    def moved(self, motion: Tensor) -> "_Poses":
        """Return the poses in another frame, motion [4, 4] from theirs."""
        R, t = motion[:3, :3], motion[:3, 3]
        return _Poses(R @ self.rotations, self.translations @ R.mT + t)

    def positions(self, center: Tensor) -> Tensor:
        """Return where a point [3] of the object is, [N, 3]."""
        return self.translations + self.rotations @ center


@torch.inference_mode()
def _told(
    estimator: Estimator, K: np.ndarray, truths: _Poses, poses: _Poses, render: Render
) -> np.ndarray:
    """Return what a look at each truth tells, nats: how far its posterior is from the prior."""
    bundle, config = estimator.bundle, estimator.model.config
    positions = poses.positions(torch.tensor(bundle.object.center).to(poses.rotations))
    if float(positions[:, 2].min()) <= 0:
        return np.zeros(len(truths.rotations))  # it may be behind the camera
    K_crop = camera.crop_intrinsics(
        positions.mean(0, keepdim=True),
        bundle.object.diameter,
        torch.from_numpy(K).to(positions),
        config.crop_resolution,
        config.crop_padding,
    )
    rotations, translations, intrinsics = (
        values.double().cpu().numpy() for values in (*truths, K_crop[0])
    )
    pictures = [
        render(R, t, intrinsics, config.crop_resolution)
        for R, t in zip(rotations, translations, strict=True)
    ]
    crops = torch.from_numpy(np.stack(pictures)).to(positions.device)
    features = estimator.features(crops.permute(0, 3, 1, 2).float().div(255))
    shape, level = (len(crops), -1, -1), estimator.depth - 1
    logits = estimator.model.logits(
        features,
        K_crop.expand(shape),
        level,
        poses.rotations.expand(len(crops), -1, -1, -1),
        positions.expand(shape),
    )
    log_p = (logits.double() / bundle.temperatures[level]).log_softmax(1)
    return (log_p.exp() * log_p).sum(1).cpu().numpy() + math.log(log_p.shape[1])
