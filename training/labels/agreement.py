"""What several views agree on: the place of an object, and its pose."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from spyropose_ros.core.triangulation import fuse, locate

_SAME_PLACE = 11.3
"""Squared Mahalanobis distance: 99 % of the true estimates of a position are nearer."""

_SAME_TURN = np.radians(10.0)
_SAME_POSITION = 0.1
"""Of the diameter."""


class Place(NamedTuple):
    """A position that several boxes lead to.

    Attributes:
        position: of the bounding sphere's centre, metres, world, [3].
        agreeing: which boxes do, bool [V].
    """

    position: np.ndarray
    agreeing: np.ndarray


class Agreement(NamedTuple):
    """A pose that several estimates agree on.

    Attributes:
        rotation: [3, 3].
        translation: metres, [3].
        agreeing: which estimates do, bool [N].
    """

    rotation: np.ndarray
    translation: np.ndarray
    agreeing: np.ndarray


def agreed_place(
    boxes: np.ndarray,
    Ks: np.ndarray,
    world_from_cameras: np.ndarray,
    diameter: float,
    size_ratio: float,
) -> Place:
    """Find the position that most boxes lead to; any number of them may be wrong.

    Args:
        boxes: x0, y0, x1, y1 in pixels, one for each view, [V, 4].
        Ks: intrinsics, [V, 3, 3].
        world_from_cameras: [V, 4, 4], metres.
        diameter: of the bounding sphere, metres.
        size_ratio: apparent-size ratio of the object.

    Returns:
        The position, fused from the boxes that agree with the one with which most do.
    """
    found, covariances = locate(boxes, Ks, world_from_cameras, diameter, size_ratio)
    apart = found[:, None] - found[None]
    information = np.linalg.inv(covariances[:, None] + covariances[None])
    near = np.einsum("ijk,ijkl,ijl->ij", apart, information, apart) < _SAME_PLACE
    agreeing = near[near.sum(1).argmax()]
    return Place(fuse(found[agreeing], covariances[agreeing])[0], agreeing)


def agreed_pose(
    rotations: np.ndarray,
    translations: np.ndarray,
    symmetries: np.ndarray,
    center: np.ndarray,
    diameter: float,
) -> Agreement:
    """Find the pose that most estimates agree on, and their mean.

    Args:
        rotations: [N, 3, 3].
        translations: metres, [N, 3].
        symmetries: transforms that leave the object as it is, [S, 4, 4].
        center: of the object, in its frame, metres, [3].
        diameter: of the object, metres.

    Returns:
        The mean of those within 10 degrees and a tenth of the diameter of the one with which most
        agree, each in the equivalent pose that is nearest to it.
    """
    equivalent = rotations[:, None] @ symmetries[:, :3, :3]  # [N, S, 3, 3]
    cosines = (np.einsum("iab,jsab->ijs", rotations, equivalent) - 1) / 2
    places = rotations @ center + translations
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    agree = (cosines.max(2) > np.cos(_SAME_TURN)) & (apart < _SAME_POSITION * diameter)
    best = agree.sum(1).argmax()
    agreeing = agree[best]
    nearest = cosines[best].argmax(1)  # [N]
    turned = equivalent[np.arange(len(rotations)), nearest]
    moved = np.einsum("nab,nb->na", rotations, symmetries[nearest, :3, 3]) + translations
    mean = Rotation.from_matrix(turned[agreeing]).mean().as_matrix()
    return Agreement(mean, moved[agreeing].mean(0), agreeing)
