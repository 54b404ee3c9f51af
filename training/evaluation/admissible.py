"""The poses that explain what an image shows of an object as well as the true one does.

Found by geometry alone, for each image: a pose is admissible if the object, rendered at it, has its
surface where the image shows it, and shows none where the image shows something else. What is
hidden, by itself or by other things, may be anywhere.

Source: Brazi et al., BOP-Distrib, WACV 2026 (sets of poses per image); docs/training.md says what
differs. Chen and Medioni, 1992 (ICP, point to plane).
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from spyropose_ros.core import so3_grid
from spyropose_ros.core.errors import InputError
from spyropose_ros.scenes.renderer import Renderer
from training.data.source import Sample

SURFACE_TOLERANCE = 0.03
"""Diameters that the surface may be off its place, along its normal."""

PIXEL_TOLERANCE = 0.05
"""Share of the visible pixels that may disagree, those at outlines apart."""

SPACING = 0.03
"""Diameters that a turn to the next admissible pose moves points of the sphere."""

MOST = 600
"""Candidates of an object, which are cut off there."""

_APPARENT = 72  # pixels that the diameter takes in renderings
_SIDE = 112  # of renderings, pixels
_TARGETS = 20_000  # points of the surface
_POINTS, _FEW = 200, 60  # that are moved; and at first
_ALIKE, _CLOSE = 0.5, 0.01  # share of the surface that a candidate brings so near, diameters
_FIELD, _REACH = 48, 0.62  # voxels along a side, and half a side in diameters
_FAR = 0.2  # diameters: points so far away from the surface are not led back
_GRID_LEVEL = 2  # of the rotations where the search begins: 4608, 15 degrees apart
_PRUNED_AFTER = (3, 6, 9)  # steps
_HOPEFUL = (0.08, 0.05, 0.03)  # median distance then, diameters
_EXACT = 5e-3  # diameters: residuals no larger are none
_NEARBY = 3  # spacings: motions so near that only the better of two counts, unless both are exact
_FINE_STEPS, _SETTLED = 15, 3e-3  # size of the last step, radians and diameters
_OUTLINE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class _Motions:
    """Rigid motions about the centre of the bounding sphere, in diameters.

    Attributes:
        rotations: [N, 3, 3].
        translations: [N, 3].
    """

    rotations: np.ndarray
    translations: np.ndarray

    def take(self, index: np.ndarray | slice) -> "_Motions":
        """Return some of the motions."""
        return _Motions(self.rotations[index], self.translations[index])

    def and_also(self, other: "_Motions") -> "_Motions":
        """Return these motions and then others."""
        return _Motions(
            np.concatenate((self.rotations, other.rotations)),
            np.concatenate((self.translations, other.translations)),
        )


class _Target(NamedTuple):
    """What an image shows, in the pixels of the renderings.

    Attributes:
        K: intrinsics of the renderings, [3, 3].
        depth: of the true surface, metres, [S, S].
        cosine: of the angle between the true surface's normal and the ray, [S, S].
        core: pixels that must show the surface, bool [S, S].
        free: pixels that may show it, bool [S, S].
    """

    K: np.ndarray
    depth: np.ndarray
    cosine: np.ndarray
    core: np.ndarray
    free: np.ndarray


class AdmissiblePoses:
    """Finds the admissible poses of one object.

    Candidates are the motions that bring at least half of its surface onto its surface, found once;
    every image selects from them by renderings.

    Args:
        mesh: of the object, metres.
        center: of the bounding sphere in the object frame, metres, [3].
        diameter: of the bounding sphere, metres.
    """

    def __init__(self, mesh: trimesh.Trimesh, center: np.ndarray, diameter: float):
        self._renderer = Renderer(mesh)
        self._center, self._diameter = np.asarray(center, np.float64), diameter
        self._candidates = _Likeness(mesh, self._center, diameter).motions()

    def __call__(self, sample: Sample) -> np.ndarray:
        """Find the admissible poses of an image.

        Args:
            sample: with the true pose.

        Returns:
            Object to camera, metres, the true pose first, [A, 4, 4].

        Raises:
            InputError: the object is partly hidden, and nobody knows where.
        """
        target, poses = self._target(sample), self._poses(sample, self._candidates)
        return poses[[i == 0 or self._explains(target, pose) for i, pose in enumerate(poses)]]

    def _target(self, sample: Sample) -> _Target:
        """Render the true pose, and cut out what the image shows of it."""
        if sample.seen is None and sample.visible_fraction < 1:
            raise InputError(
                f"sample {sample.id} is partly hidden and its data set does not say where: "
                "admissible poses are known of renderings and LM-O alone"
            )
        R, t = sample.rotation, sample.translation
        middle = R @ self._center + t
        focal = _APPARENT * middle[2] / self._diameter
        offset = (_SIDE - 1) / 2 - focal * middle[:2] / middle[2]
        K = np.array([[focal, 0, offset[0]], [0, focal, offset[1]], [0, 0, 1]])
        seen = self._renderer.render(R, t, K, _SIDE, _SIDE)
        rays = _rays(K)
        mask, hidden, inside = seen.mask, np.zeros_like(seen.mask), np.ones_like(seen.mask)
        if sample.seen is not None:
            image = sample.seen()
            x, y = np.rint(rays @ sample.K.T)[..., :2].astype(int).transpose(2, 0, 1)
            height, width = image.mask.shape
            inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
            x, y = x.clip(0, width - 1), y.clip(0, height - 1)
            # The image has other pixels: at outlines, either may be wrong.
            mask = seen.mask & image.mask[y, x] & inside
            hidden = image.hidden[y, x] | (seen.mask & ~image.mask[y, x])
        core = cv2.erode(mask.astype(np.uint8), _OUTLINE) > 0
        free = (cv2.dilate(mask.astype(np.uint8), _OUTLINE) > 0) | hidden | ~inside
        cosine = np.abs(np.einsum("yxc,yxc->yx", seen.normals, rays))
        cosine /= np.linalg.norm(rays, axis=-1)
        return _Target(K, seen.depth, cosine, core, free)

    def _poses(self, sample: Sample, motions: _Motions) -> np.ndarray:
        """Return the true pose after motions of the object, [N, 4, 4]."""
        turns = motions.rotations.astype(np.float64)
        shift = self._center - turns @ self._center + self._diameter * motions.translations
        poses = np.tile(np.eye(4), (len(turns), 1, 1))
        poses[:, :3, :3] = sample.rotation @ turns
        poses[:, :3, 3] = shift @ sample.rotation.T + sample.translation
        return poses

    def _explains(self, target: _Target, pose: np.ndarray) -> bool:
        """Tell whether the object at a pose looks as what is visible of the true one."""
        seen = self._renderer.render(pose[:3, :3], pose[:3, 3], target.K, _SIDE, _SIDE)
        off = np.abs(seen.depth - target.depth) * target.cosine
        wrong = target.core & (~seen.mask | (off > SURFACE_TOLERANCE * self._diameter))
        wrong |= seen.mask & ~target.free
        return bool(wrong.sum() <= PIXEL_TOLERANCE * target.core.sum())


class _Likeness:
    """Finds the motions after which an object is much like before."""

    def __init__(self, mesh: trimesh.Trimesh, center: np.ndarray, diameter: float):
        points, faces = trimesh.sample.sample_surface(mesh, _TARGETS, seed=0)
        self._surface = ((points - center) / diameter).astype(np.float32)
        self._normals = np.asarray(mesh.face_normals, np.float32)[faces]
        self._tree = cKDTree(self._surface)
        ticks = ((np.arange(_FIELD) + 0.5) / _FIELD * 2 - 1) * _REACH
        voxels = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), -1)
        nearest = self._tree.query(voxels, distance_upper_bound=_FAR)[1]
        self._nearest = nearest.clip(max=_TARGETS - 1)

    def motions(self) -> _Motions:
        """Search a grid of rotations, then the neighbours of what is found, theirs, and so on.

        Each rotation is tried with the translation that fits best.
        """
        found = _Motions(np.eye(3, dtype=np.float32)[None], np.zeros((1, 3), np.float32))
        misfits = np.zeros(1)
        candidates = self._coarse()
        while len(candidates.rotations) and len(found.rotations) < MOST:
            fitted, off = self._fitted(candidates)
            first = _distinct(fitted, found)
            both = found.and_also(fitted.take(first))
            misfits = np.append(misfits, off[first])
            best = _best(both, misfits)
            new = both.take(best[best >= len(found.rotations)])
            found, misfits, candidates = both.take(best), misfits[best], _neighbours(new)
        return found.take(slice(MOST))

    def _coarse(self) -> _Motions:
        """Return motions from all over the grid that fit roughly, the best first."""
        cells = torch.arange(so3_grid.cell_count(_GRID_LEVEL))
        rotations = so3_grid.rotations(cells, _GRID_LEVEL).numpy()
        motions = _Motions(rotations, np.zeros((len(rotations), 3), np.float32))
        points = self._surface[:_FEW]  # samples are in random order
        for step in range(max(_PRUNED_AFTER)):
            motions, away = self._stepped(motions, points)
            if step + 1 in _PRUNED_AFTER:
                hopeful = away < _HOPEFUL[_PRUNED_AFTER.index(step + 1)]
                motions = motions.take(away.argsort()[: np.count_nonzero(hopeful)])
        return motions.take(_distinct(motions))

    def _fitted(self, motions: _Motions) -> tuple[_Motions, np.ndarray]:
        """Fit motions.

        Returns:
            Those that bring enough of the surface onto the surface, the best first, and how far
            off it the median point is, [N].
        """
        points = self._surface[:_POINTS]
        for _ in range(_FINE_STEPS):
            before, (motions, _) = motions, self._stepped(motions, points)
        turned = np.linalg.norm(motions.rotations - before.rotations, axis=(1, 2))
        moved = np.linalg.norm(motions.translations - before.translations, axis=1)
        motions = motions.take(np.hypot(turned, moved) < _SETTLED)
        moved = _moved(points, motions)
        nearest = self._tree.query(moved)[1]
        off = np.einsum("npc,npc->np", self._surface[nearest] - moved, self._normals[nearest])
        median = np.median(np.abs(off), 1)
        order = median.argsort()
        order = order[(np.abs(off[order]) < _CLOSE).mean(1) >= _ALIKE]
        return motions.take(order), median[order]

    def _stepped(self, motions: _Motions, points: np.ndarray) -> tuple[_Motions, np.ndarray]:
        """Take one step of ICP; return the motions and the median distances before it, [N]."""
        moved = _moved(points, motions)
        index = ((moved + _REACH) * (_FIELD / (2 * _REACH))).astype(int).clip(0, _FIELD - 1)
        nearest = self._nearest[tuple(np.moveaxis(index, -1, 0))]
        normals, offset = self._normals[nearest], self._surface[nearest] - moved
        residual = np.einsum("npc,npc->np", offset, normals)
        # Geman and McClure's weights: what has no counterpart hardly counts.
        scale = 1.5 * np.median(np.abs(residual), 1, keepdims=True) + _EXACT
        weight = scale**2 / (scale**2 + residual**2)
        jacobian = np.concatenate([np.cross(moved, normals), normals], 2) * weight[..., None]
        # A little damping, where the surface may slide along itself.
        system = jacobian.transpose(0, 2, 1) @ jacobian
        system += 1e-4 * len(points) * np.eye(6, dtype=np.float32)
        right = np.einsum("npk,np->nk", jacobian, residual * weight)
        step = np.linalg.solve(system, right[..., None])[..., 0]
        turn = Rotation.from_rotvec(step[:, :3]).as_matrix().astype(np.float32)
        shift = np.einsum("nij,nj->ni", turn, motions.translations) + step[:, 3:]
        away = np.median(np.linalg.norm(offset, axis=-1), 1)
        return _Motions(turn @ motions.rotations, shift), away


def _rays(K: np.ndarray) -> np.ndarray:
    """Return the rays of all pixels, with z = 1, [S, S, 3]."""
    v, u = np.indices((_SIDE, _SIDE))
    return np.stack(((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)), -1)


def _moved(points: np.ndarray, motions: _Motions) -> np.ndarray:
    """Return points [P, 3] after each motion, [N, P, 3]."""
    return points @ motions.rotations.transpose(0, 2, 1) + motions.translations[:, None]


def _distinct(motions: _Motions, known: _Motions | None = None) -> np.ndarray:
    """Select motions that are apart from each other and from known ones: which, the first first."""
    places = _places(motions)
    free = np.ones(len(places), bool)
    if known is not None:
        free = cKDTree(_places(known)).query(places)[0] >= SPACING
    near = cKDTree(places).query_ball_point(places, SPACING)
    chosen = []
    for i in range(len(places)):
        if free[i]:
            chosen.append(i)
            free[near[i]] = False
    return np.array(chosen, int)


def _best(motions: _Motions, misfits: np.ndarray) -> np.ndarray:
    """Select motions that fit exactly, or nearly as well as all others nearby: which."""
    places = _places(motions)
    near = cKDTree(places).query_ball_point(places, _NEARBY * SPACING)
    least = np.array([misfits[index].min() for index in near])
    return np.flatnonzero((misfits < _EXACT) | (misfits < 2 * least))


def _places(motions: _Motions) -> np.ndarray:
    """Return vectors as far apart as the turns move points of the sphere, diameters, [N, 9]."""
    return motions.rotations.reshape(-1, 9) / 8**0.5  # apart by the sine of half the angle


def _neighbours(motions: _Motions) -> _Motions:
    """Turn motions a little about each axis, both ways, by one or two times the spacing or more."""
    axes = np.concatenate((np.eye(3), -np.eye(3)))
    vectors = 2 * SPACING * np.concatenate((1.2 * axes, 2 * axes))
    turns = Rotation.from_rotvec(vectors).as_matrix().astype(np.float32)
    rotations = turns[:, None] @ motions.rotations
    shifts = np.einsum("kij,nj->kni", turns, motions.translations)
    return _Motions(rotations.reshape(-1, 3, 3), shifts.reshape(-1, 3))
