"""The one pose per object that goes to TF, chosen so that it does not jump. Independent of ROS.

A symmetric object has several equally valid poses, or a ring of them, and the leading mode changes
from frame to frame. The pose chosen here follows the probability around the previous pose: it is
the mean of the poses in a window about it, one step of mean shift (Cheng, 1995). A sharp mode lies
within the window, and its mean is the result; on the ring of a continuous symmetry the window
selects the part about the previous pose, which therefore stays put. If another mode is more
probable by more than the hysteresis, the result jumps there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WINDOW_ANGLE = 0.35  # rad, the radius of the modes
WINDOW_DIAMETERS = 1.0
GAP = 3 * 10**9  # ns without an object, forwards or back, after which its frame starts over


@dataclass(frozen=True)
class ObjectPoses:
    """What is known of the pose of one object in one frame.

    Attributes:
        name: of the object, any text.
        diameter: metres.
        rotation: leading mode, object -> frame, [3, 3].
        translation: leading mode, metres, [3].
        mass: of the leading mode.
        rotations: the most probable poses of the distribution, [N, 3, 3].
        translations: metres, [N, 3].
        weights: probability masses, [N].
    """

    name: str
    diameter: float
    rotation: np.ndarray
    translation: np.ndarray
    mass: float
    rotations: np.ndarray
    translations: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class ChosenPose:
    """The pose of an object for TF.

    Attributes:
        name: of the object, as a valid TF name.
        child: name of its TF frame: the same, or with a number.
        stamp: nanoseconds.
        rotation: object -> frame, [3, 3].
        translation: metres, [3].
    """

    name: str
    child: str
    stamp: int
    rotation: np.ndarray
    translation: np.ndarray


class TransformChooser:
    """Chooses one pose per object and names its TF frame.

    A frame is named after its object. Of several alike, the first seen has the plain name and the
    others end in _2, _3, ...; an instance keeps its name by its previous position.
    """

    def __init__(self) -> None:
        self._last: dict[str, ChosenPose] = {}
        self._frame_id = ""
        self._epoch = 0

    def update(
        self,
        stamp: int,
        frame_id: str,
        objects: Sequence[ObjectPoses],
        hysteresis: float,
        epoch: int = 0,
    ) -> list[ChosenPose]:
        """Choose the poses of a frame.

        Args:
            stamp: of the frame, nanoseconds.
            frame_id: the frame that the poses are in.
            objects: all objects of the frame.
            hysteresis: a mode takes over if its mass exceeds the mass about the last pose by more
                than this.
            epoch: of the frame; in a new one the earlier poses do not count.

        Returns:
            One pose per object; none where the frame is not newer than the last, because TF
            refuses to go back.
        """
        if (frame_id, epoch) != (self._frame_id, self._epoch):
            self._last.clear()
            self._frame_id, self._epoch = frame_id, epoch
        self._last = {
            child: last for child, last in self._last.items() if abs(stamp - last.stamp) <= GAP
        }
        by_name: dict[str, list[ObjectPoses]] = {}
        for item in objects:
            by_name.setdefault(frame_name(item.name), []).append(item)
        chosen = []
        for name, alike in by_name.items():
            for child, item in zip(self._children(name, alike), alike, strict=True):
                last = self._last.get(child)
                if last is not None and stamp <= last.stamp:
                    continue
                pose = _choose(item, last, hysteresis)
                self._last[child] = ChosenPose(name, child, stamp, *pose)
                chosen.append(self._last[child])
        return chosen

    def _children(self, name: str, alike: Sequence[ObjectPoses]) -> list[str]:
        """Assign a frame name to each object of one name by the smallest total motion."""
        from scipy.optimize import linear_sum_assignment  # slow to import, not always needed

        known = [child for child, last in self._last.items() if last.name == name]
        before = np.array([self._last[child].translation for child in known]).reshape(-1, 3)
        now = np.array([item.translation for item in alike])  # [N, 3]
        rows, columns = linear_sum_assignment(np.linalg.norm(before[:, None] - now, axis=-1))
        names = {column: known[row] for row, column in zip(rows, columns, strict=True)}
        taken = {self._frame_id, *self._last}
        for index in range(len(alike)):
            if index not in names:
                names[index], number = name, 2
                while names[index] in taken:
                    names[index], number = f"{name}_{number}", number + 1
                taken.add(names[index])
        return [names[index] for index in range(len(alike))]


def frame_name(text: str) -> str:
    """Turn any text into a valid TF frame name, which never starts with a slash."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text) or "object"


def _choose(
    item: ObjectPoses, last: ChosenPose | None, hysteresis: float
) -> tuple[np.ndarray, np.ndarray]:
    """Choose rotation [3, 3] and translation [3]: near the last pose, or the leading mode."""
    if last is None:
        return item.rotation, item.translation
    traces = np.einsum("nij,ij->n", item.rotations, last.rotation)  # 1 + 2 cos(angle)
    distances = np.linalg.norm(item.translations - last.translation, axis=-1)
    near = traces >= 1 + 2 * np.cos(WINDOW_ANGLE)
    near &= distances <= WINDOW_DIAMETERS * item.diameter
    weights = item.weights[near]
    if weights.sum() == 0 or item.mass > weights.sum() + hysteresis:
        return item.rotation, item.translation
    weights = weights / weights.sum()
    # Chordal mean: the rotation closest to the mean matrix (Markley et al., 2007)
    left, _, right = np.linalg.svd(np.einsum("n,nij->ij", weights, item.rotations[near]))
    left[:, 2] *= np.sign(np.linalg.det(left @ right))
    return left @ right, weights @ item.translations[near]
