"""Which poses a model takes for which others."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from training.symmetry.symmetry import named_axis

WRONG = np.radians(30)
"""Rotation error from which an answer counts as another pose."""

_ALIKE = np.cos(np.radians(25))  # of axes
_STEP = 30  # degrees: what angles are rounded to
_MOST = 5


class Confusion(NamedTuple):
    """A turn between the true and the estimated pose that is found in several images.

    Attributes:
        share: of all images.
        words: the turn, in the object's frame.
    """

    share: float
    words: str


def confusions(truth: np.ndarray, estimate: np.ndarray, symmetries: np.ndarray) -> list[Confusion]:
    """Find what is confused.

    Args:
        truth: true rotations, object to camera, [N, 3, 3].
        estimate: of the leading modes, [N, 3, 3].
        symmetries: rotations that leave the object as it is, with the identity, [S, 3, 3].

    Returns:
        The most frequent turns first; none where all errors are below `WRONG`.
    """
    turns: Counter[str] = Counter()
    for true, found in zip(truth, estimate, strict=True):
        between = Rotation.from_matrix(symmetries.transpose(0, 2, 1) @ (true.T @ found))
        angles = between.magnitude()
        nearest = int(angles.argmin())
        if angles[nearest] >= WRONG:
            turns[_words(between[nearest].as_rotvec())] += 1
    return [Confusion(count / len(truth), words) for words, count in turns.most_common(_MOST)]


def _words(vector: np.ndarray) -> str:
    """Return a rotation vector as a rounded angle and, where it is one of the frame's, the axis."""
    angle = np.linalg.norm(vector)
    axis = vector / angle
    degrees = _STEP * round(np.degrees(angle) / _STEP)
    nearest = int(abs(axis).argmax())
    if abs(axis[nearest]) < _ALIKE:
        return f"about {degrees} degrees about a skew axis"
    return f"about {degrees} degrees about {named_axis(np.eye(3)[nearest])}"
