"""What a robot asks of a distribution: is the object about here, and will a grasp succeed.

All answers suppose that the object is there; multiply by `presence` where that is in doubt.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spyropose_ros.core import _integration
from spyropose_ros.core._checks import as_rotations
from spyropose_ros.core._tolerance import ToleranceSets
from spyropose_ros.core.errors import InputError

if TYPE_CHECKING:
    from spyropose_ros.core.distribution import PoseDistribution

Pose = tuple[Tensor, Tensor]
"""Rotation [..., 3, 3] and translation [..., 3] in metres."""


@dataclass(frozen=True)
class Targets:
    """N poses that a tool is to have relative to the object: grasps, or a peg in its holes.

    A tool that is planned for one pose of the object and finds it at another is off. It succeeds if
    it is off by no more than its tolerances: the error of its position is within an ellipsoid, and
    so is the rotation vector of its error, both along the axes of the object where it really is.
    An angle of pi or more about one axis means any: then only the swing counts that remains after
    the best turn about this axis. About all three axes, any orientation is right.

    Attributes:
        rotations: of the tool's frame in the object's frame, [N, 3, 3].
        translations: of the tool's origin in the object's frame, metres, [N, 3].
        translation_tolerances: semi-axes along x, y, z of the object, metres, [N, 3]; inf for any.
        rotation_tolerances: semi-axes about x, y, z of the object, radians, [N, 3].

    Raises:
        InputError: unequal numbers, no rotations, a tolerance that is not positive, or any angle
            about just two axes, which would be any about the third as well.
    """

    rotations: Tensor
    translations: Tensor
    translation_tolerances: Tensor
    rotation_tolerances: Tensor

    def __post_init__(self) -> None:
        n, rotations = len(self.rotations), as_rotations(self.rotations, "rotations of targets")
        vectors = self.translations, self.translation_tolerances, self.rotation_tolerances
        shapes = [tuple(vector.shape) for vector in vectors]
        if rotations.ndim != 3 or n == 0 or shapes != [(n, 3)] * 3:
            raise InputError(
                "targets need rotations [N, 3, 3] and translations and tolerances [N, 3], at least "
                f"one, got {tuple(rotations.shape)} and {shapes}"
            )
        if not bool(self.translations.isfinite().all()):
            raise InputError("the translations of targets must be finite, in metres")
        if not all(bool((tolerance > 0).all()) for tolerance in vectors[1:]):
            raise InputError("tolerances must be positive; inf means any")
        if bool(((self.rotation_tolerances >= math.pi).sum(1) == 2).any()):
            raise InputError(
                "an angle of pi or more, which means any, is possible about one axis or all three, "
                "not about two"
            )

    def __len__(self) -> int:
        return len(self.rotations)

    def at(self, rotation: Tensor, translation: Tensor) -> Pose:
        """Return the poses of the tool for an object that is at a pose.

        Args:
            rotation: of the object, [3, 3] or one for each target, [N, 3, 3].
            translation: metres, [3] or [N, 3].

        Returns:
            rotations [N, 3, 3] and translations [N, 3], in the frame of the object's pose.
        """
        rotations, arms = self.rotations.to(rotation), self.translations.to(rotation)
        return rotation @ rotations, (rotation @ arms.unsqueeze(2)).squeeze(2) + translation

    def reached_from(self, rotation: Tensor, translation: Tensor) -> Pose:
        """Return the object's poses for which a tool at a pose is exactly right; inverts `at`.

        Args:
            rotation: of the tool, [3, 3] or one for each target, [N, 3, 3].
            translation: metres, [3] or [N, 3].

        Returns:
            rotations [N, 3, 3] and translations [N, 3], in the frame of the tool's pose.
        """
        rotations = rotation @ self.rotations.to(rotation).mT
        arms = rotations @ self.translations.to(rotation).unsqueeze(2)
        return rotations, translation - arms.squeeze(2)


@dataclass(frozen=True)
class Success:
    """How probably targets are reached.

    Attributes:
        probabilities: of each target, float64 [..., N].
        best: the most probable one, int64 [...].
        uncovered: probability that no target is reached, float64 [...].
    """

    probabilities: Tensor
    best: Tensor
    uncovered: Tensor


def success(
    distributions: Sequence["PoseDistribution"],
    targets: Targets,
    planned_for: Pose | None = None,
) -> Success:
    """Compute how probably each of N targets is reached, for B distributions.

    Leaves of the distributions have extent: where a leaf is partly within tolerance, its share is
    integrated, to an absolute error of about 0.002 or less.

    Args:
        distributions: of the object's pose, all in one frame.
        targets: N of them.
        planned_for: pose of the object that the tool's path is planned for, in the frame of the
            distributions: rotation [3, 3] and translation [3], or one for each target, [N, 3, 3]
            and [N, 3]; each distribution's `mode()` by default. `Targets.reached_from` gives it
            for a tool that goes to a fixed place.

    Returns:
        The answers, with probabilities [B, N].

    Raises:
        InputError: no distribution, or a pose that is none.
    """
    if not distributions:
        raise InputError("success needs at least one distribution")
    answers = []
    for distribution in distributions:
        sets = tolerance_sets(targets, planned_for or distribution.mode(), distribution)
        answers.append(_integration.probabilities(distribution, sets))
    probabilities = torch.stack([each for each, _ in answers])
    covered = torch.tensor([union for _, union in answers], dtype=torch.float64)
    return Success(probabilities, probabilities.argmax(1), (1 - covered).clamp(0, 1))


def probability_within(
    distribution: "PoseDistribution",
    rotation: Tensor,
    translation: Tensor,
    angle: float,
    distance: float,
    symmetries: Tensor | None = None,
) -> Tensor:
    """Compute the probability that the object is near a pose, or near an equivalent one.

    Args:
        distribution: of the object's pose.
        rotation: of the object, [3, 3] or [M, 3, 3].
        translation: of its origin, metres, [3] or [M, 3].
        angle: largest angle between the rotations, radians; pi or more for any.
        distance: largest distance of the origins, metres; inf for any.
        symmetries: motions of the object that leave it unchanged, with the identity, in its own
            frame, metres, [S, 4, 4]; none but the identity by default.

    Returns:
        Probabilities, float64 [] or [M].

    Raises:
        InputError: a pose that is none, or a limit that is not positive.
    """
    if symmetries is None:
        symmetries = torch.eye(4).unsqueeze(0)
    symmetries = torch.as_tensor(symmetries)
    if symmetries.ndim != 3 or symmetries.shape[1:] != (4, 4) or len(symmetries) == 0:
        raise InputError(f"symmetries must be [S, 4, 4], got {tuple(symmetries.shape)}")
    rotation = as_rotations(rotation, "the rotation")
    answers = []
    for R, t in zip(rotation.reshape(-1, 3, 3), translation.reshape(-1, 3), strict=True):
        S = symmetries.to(R)
        moved = R @ S[:, :3, :3], S[:, :3, 3] @ R.mT + t
        limits = torch.tensor([[distance, angle]]).expand(len(S), 2)
        near = Targets(
            torch.eye(3).expand(len(S), 3, 3),
            torch.zeros(len(S), 3),
            limits[:, :1].expand(-1, 3),
            limits[:, 1:].expand(-1, 3),
        )
        answers.append(
            _integration.probabilities(distribution, tolerance_sets(near, moved, distribution))[1]
        )
    return torch.tensor(answers, dtype=torch.float64).reshape(rotation.shape[:-2])


def tolerance_sets(
    targets: Targets, planned_for: Pose, distribution: "PoseDistribution"
) -> ToleranceSets:
    """Return the sets of object poses at which targets are reached."""
    rotation, translation = planned_for
    like = distribution.box.center
    rotation = as_rotations(rotation, "the rotation that is planned for").to(like)
    translation = torch.as_tensor(translation).to(like)
    n = len(targets)
    shapes = rotation.shape, translation.shape
    if shapes not in (((3, 3), (3,)), ((n, 3, 3), (n, 3))) or not bool(
        translation.isfinite().all()
    ):
        raise InputError(
            f"the pose that is planned for needs a rotation [3, 3] and a finite translation [3], "
            f"or {n} of them, got {tuple(shapes[0])} and {tuple(shapes[1])}"
        )
    angles = targets.rotation_tolerances.to(like)
    return ToleranceSets(
        rotation.expand(n, 3, 3),
        targets.at(rotation, translation)[1],
        targets.translations.to(like),
        1 / targets.translation_tolerances.to(like),
        (1 / angles).masked_fill(angles >= math.pi, 0.0),
    )
