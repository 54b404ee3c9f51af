"""A procedural mug: symmetric about its axis but for one handle, which may be hidden."""

from typing import NamedTuple, cast

import numpy as np
import trimesh

HEIGHT = 0.095
RADIUS = 0.04
WALL = 0.004
HANDLE_REACH = 0.03

_BODY_SECTIONS = 48
_HANDLE_STATIONS = 24
_HANDLE_SECTIONS = 12


class Mug(NamedTuple):
    """A mug and the part of it that breaks its symmetry.

    Attributes:
        mesh: closed body and closed handle, metres. The origin is the centre of the bottom, z runs
            along the axis to the opening and the handle sticks out along +x.
        handle_faces: [F] bool, true for the faces of the handle.
    """

    mesh: trimesh.Trimesh
    handle_faces: np.ndarray


def make_mug() -> Mug:
    """Build the mug.

    Returns:
        The mug; always the same one.
    """
    body, handle = _body(), _handle()
    mesh = cast(trimesh.Trimesh, trimesh.util.concatenate([body, handle]))
    handle_faces = np.arange(len(mesh.faces)) >= len(body.faces)
    return Mug(mesh, handle_faces)


def _body() -> trimesh.Trimesh:
    """Return the hollow cup: a rounded profile turned about the z axis."""
    bevel = 0.004
    corner = np.linspace(-np.pi / 2, 0, 4)
    rim = np.linspace(0, np.pi, 7)
    rim_radius = WALL / 2
    inner = RADIUS - WALL
    profile = np.concatenate(
        [
            [[0, 0], [RADIUS - 2 * bevel, 0]],
            np.stack([np.cos(corner), np.sin(corner)], 1) * bevel + [RADIUS - bevel, bevel],
            np.stack([np.cos(rim), np.sin(rim)], 1) * rim_radius
            + [RADIUS - rim_radius, HEIGHT - rim_radius],
            np.stack([np.cos(-corner - np.pi / 2), np.sin(corner[::-1])], 1) * bevel
            + [inner - bevel, WALL + bevel],
            [[inner - 2 * bevel, WALL], [0, WALL]],
        ]
    )
    return trimesh.creation.revolve(profile, sections=_BODY_SECTIONS)


def _handle() -> trimesh.Trimesh:
    """Return a tube along half an ellipse in the xz plane, its ends inside the wall."""
    start, reach, half_height, middle = RADIUS - 0.0025, HANDLE_REACH + 0.0025, 0.027, 0.048
    half_width, half_thickness = 0.006, 0.005
    reach -= half_thickness
    angle = np.linspace(0, np.pi, _HANDLE_STATIONS)
    sin, cos, zero = np.sin(angle), np.cos(angle), np.zeros_like(angle)
    path = np.stack([start + reach * sin, zero, middle + half_height * cos], 1)  # [S, 3]
    normal = np.stack([half_height * sin, zero, reach * cos], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    angle = np.arange(_HANDLE_SECTIONS) * 2 * np.pi / _HANDLE_SECTIONS
    rings = (
        path[:, None]
        + half_thickness * np.cos(angle)[None, :, None] * normal[:, None]
        + half_width * np.sin(angle)[None, :, None] * np.array([0.0, 1.0, 0.0])
    )  # [S, C, 3]

    index = np.arange(_HANDLE_STATIONS * _HANDLE_SECTIONS).reshape(_HANDLE_STATIONS, -1)
    a, b = index[:-1], np.roll(index[:-1], -1, axis=1)
    c, d = index[1:], np.roll(index[1:], -1, axis=1)
    side = np.concatenate([np.stack([a, b, c], -1), np.stack([b, d, c], -1)]).reshape(-1, 3)
    first, last = len(path) * _HANDLE_SECTIONS, len(path) * _HANDLE_SECTIONS + 1
    caps = [
        np.stack([np.full(_HANDLE_SECTIONS, first), np.roll(index[0], -1), index[0]], 1),
        np.stack([np.full(_HANDLE_SECTIONS, last), index[-1], np.roll(index[-1], -1)], 1),
    ]
    vertices = np.concatenate([rings.reshape(-1, 3), path[[0, -1]]])
    mesh = trimesh.Trimesh(vertices, np.concatenate([side, *caps]), process=False)
    mesh.fix_normals()
    return mesh
