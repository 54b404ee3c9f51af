"""Equivolumetric, nested grid on SO(3), generated on the fly on any device.

A rotation R is split into the direction of its third column (the object's z axis in the reference
frame) and the tilt about that axis. Directions live in HEALPix pixels (nested order, nside
2^level); the tilt circle has 6 * 2^level steps. Every cell of a level has the same volume and
splits into exactly 8 children: child = 8 * parent + (0..7). Cells are plain int64 indices; nothing
is tabulated, so depth is limited by the integers only (tested to level 8).

Tilt is measured against a frame that belongs to each of the 12 base pixels and is carried from the
pixel's centre to the direction by the minimal rotation, so there is no pole and no seam inside a
base pixel.

Sources: Yershova et al., IJRR 2010 (SO(3) from HEALPix x circle); Gorski et al., ApJ 2005,
section 5 (pixel centres in nested order); Haugaard et al., ICCVW 2023 (local frames, half-step
tilts).
"""

import functools
import math

import torch
from torch import Tensor

TOTAL_VOLUME = math.pi**2
"""Volume of SO(3) in the Implicit-PDF convention (half-angle radians), used for all densities."""

BRANCHING = 8
"""Children per cell."""

BASE_PIXELS = 12
BASE_TILTS = 6
BASE_CELLS = BASE_PIXELS * BASE_TILTS
_REACH = 1.36  # radians at level 0


def cell_count(level: int) -> int:
    """Return the number of cells of a level, 72 * 8^level."""
    return BASE_CELLS * BRANCHING**level


def cell_volume(level: int) -> float:
    """Return the volume of one cell, pi^2 / (72 * 8^level)."""
    return TOTAL_VOLUME / cell_count(level)


def cell_radius(level: int) -> float:
    """Return half the tilt step of a level in radians: the angle that one cell stands for."""
    return math.pi / (BASE_TILTS * 2**level)


def children(index: Tensor) -> Tensor:
    """Return the indices of the 8 children, one level finer.

    Args:
        index: cells, int64 [...].

    Returns:
        int64 [..., 8].
    """
    return index.unsqueeze(-1) * BRANCHING + torch.arange(BRANCHING, device=index.device)


def parent(index: Tensor) -> Tensor:
    """Return the index of the parent, one level coarser, int64 [...] -> [...]."""
    return index // BRANCHING


def cell_reach(level: Tensor) -> Tensor:
    """Return an angle that no rotation in a cell is farther from the cell's centre.

    Measured on corners and edges of cells: 0.98 at level 0, 1.17 / 2 at level 1, then growing to
    1.346 / 2^level.

    Args:
        level: of each cell, int64 [...]; 0 is the coarsest.

    Returns:
        Radians, [...].
    """
    return _REACH / 2**level


def rotations(
    index: Tensor,
    level: int | Tensor,
    dtype: torch.dtype = torch.float32,
    at: Tensor | None = None,
) -> Tensor:
    """Compute the rotation at the centre of each cell, or elsewhere in it.

    Args:
        index: cells, int64 [...].
        level: of all of them, or of each, int64 [...]; 0 is the coarsest.
        dtype: of the result.
        at: where in the cell, in [0, 1]^3, float64 [..., 3]; equal volumes have equal shares of
            the cell's rotations.

    Returns:
        Rotation matrices [..., 3, 3].
    """
    size: int | Tensor = 1
    if isinstance(level, Tensor):  # each cell's corner on the finest of the levels
        finest = int(level.max()) if level.numel() else 0
        up = finest - level
        index, size = index << 3 * up, 2**up
    else:
        finest = level
    face, *corner = _split(index, finest)
    steps = 2**finest
    u: tuple[float | Tensor, ...] = (0.5, 0.5, 0.5) if at is None else at.unbind(-1)
    # HEALPix's in-face coordinates and the tilt are both area preserving.
    x, y, tilt = ((i.to(dtype) + v * size) / steps for i, v in zip(corner, u, strict=True))
    return _compose(face, x, y, tilt / BASE_TILTS * 2 * math.pi)


def child_rotations(index: Tensor, level: int) -> Tensor:
    """Compute the rotations at the centres of cells' children, on a CPU in one compiled loop.

    Args:
        index: cells of the level, int64 [...].
        level: 0 is the coarsest.

    Returns:
        What `rotations(children(index), level + 1)` is, to 1e-6: [..., 8, 3, 3].
    """
    if index.device.type != "cpu":
        return rotations(children(index), level + 1)
    from spyropose_ros.core.kernels import numba_rotations  # importing Numba takes half a second

    result = torch.empty((*index.shape, BRANCHING, 3, 3))
    frames = _base_frames(result.dtype, result.device)
    numba_rotations.child_rotations(
        index.contiguous().view(-1).numpy(),
        level,
        frames.numpy(),
        result.view(-1, BRANCHING, 3, 3).numpy(),
    )
    return result


def sample_in_cells(index: Tensor, level: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw one rotation per cell, exactly uniform (Haar) within it.

    Args:
        index: cells of this level, int64 [...].
        level: 0 is the coarsest.
        generator: on the device of `index`.

    Returns:
        Rotation matrices, float32 [..., 3, 3].
    """
    u = torch.rand((*index.shape, 3), generator=generator, device=index.device, dtype=torch.float64)
    return rotations(index, level, torch.float64, u).float()


def index(rotation: Tensor, level: int) -> Tensor:
    """Find the cell that contains each rotation.

    Args:
        rotation: rotation matrices [..., 3, 3].
        level: 0 is the coarsest.

    Returns:
        Cell indices, int64 [...].
    """
    rotation = rotation.double()  # a level-8 cell is 4e-3 rad wide: stay far below it
    direction = rotation[..., 2]
    face, x, y = _direction_to_face(direction)
    frame = _local_frame(face, direction)
    # frame^T R = Rz(tilt); read the angle from its upper left block.
    cos = (frame[..., 0] * rotation[..., 0]).sum(-1) + (frame[..., 1] * rotation[..., 1]).sum(-1)
    sin = (frame[..., 1] * rotation[..., 0]).sum(-1) - (frame[..., 0] * rotation[..., 1]).sum(-1)
    tilt = torch.atan2(sin, cos).div(2 * math.pi).remainder(1.0)

    steps = 2**level
    to_step = lambda v, n: (v * n).floor().long().clamp(0, n - 1)  # noqa: E731
    return _join(
        face, to_step(x, steps), to_step(y, steps), to_step(tilt, BASE_TILTS * steps), level
    )


# --- index digits: [12 pixels, 6 tilts, (4 pixels, 2 tilts) per level], highest first ---


def _split(index: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split a flat index into base pixel, in-face x and y, and tilt step (all int64)."""
    x = torch.zeros_like(index)
    y = torch.zeros_like(index)
    tilt = torch.zeros_like(index)
    for bit in range(level):  # the lowest digit belongs to the finest level
        digit = (index >> (3 * bit)) & 7  # pixel child (2 bits: y x), tilt child (1 bit)
        tilt |= (digit & 1) << bit
        x |= ((digit >> 1) & 1) << bit
        y |= ((digit >> 2) & 1) << bit
    base = index >> (3 * level)
    return base // BASE_TILTS, x, y, tilt + (base % BASE_TILTS << level)


def _join(face: Tensor, x: Tensor, y: Tensor, tilt: Tensor, level: int) -> Tensor:
    """Invert `_split`."""
    out = (face * BASE_TILTS + (tilt >> level)) << (3 * level)
    for bit in range(level):
        digit = ((tilt >> bit) & 1) | (((x >> bit) & 1) << 1) | (((y >> bit) & 1) << 2)
        out = out | (digit << (3 * bit))
    return out


# --- directions ---


def _compose(face: Tensor, x: Tensor, y: Tensor, tilt: Tensor) -> Tensor:
    """Compute LocalFrame(direction) * Rz(tilt), [..., 3, 3]."""
    frame = _local_frame(face, _face_to_direction(face, x, y))
    cos, sin = tilt.cos().unsqueeze(-1), tilt.sin().unsqueeze(-1)
    fx, fy, fz = frame.unbind(-1)
    return torch.stack((cos * fx + sin * fy, cos * fy - sin * fx, fz), -1)


def _face_to_direction(face: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Map in-face coordinates in [0, 1]^2 to unit vectors [..., 3] (area preserving)."""
    # Row and column offsets of the base pixels (Gorski et al. 2005, section 5.2).
    row = 2 + face // 4  # 2, 3, 4: north, belt, south
    column = 2 * (face % 4) + (row != 3)
    v = row - x - y  # distance from the north pole in ring units, 0..4
    cap_width = torch.minimum(v, 4 - v).clamp(1e-12, 1.0)  # < 1 in the polar caps
    z_cap = (1 - cap_width.square() / 3) * torch.where(v < 2, 1.0, -1.0).to(v.dtype)
    in_belt = (v >= 1) & (v <= 3)
    z = torch.where(in_belt, (2 - v) * (2 / 3), z_cap)
    phi = (column + (x - y) / cap_width) * (math.pi / 4)
    # In the caps 1 - z^2 cancels; use its factors instead.
    w = cap_width.square() / 3
    radius = torch.where(in_belt, (1 - z.square()).clamp_min(0).sqrt(), (w * (2 - w)).sqrt())
    return torch.stack((radius * phi.cos(), radius * phi.sin(), z), -1)


def _direction_to_face(direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Map unit vectors [..., 3] to base pixels, int64, and in-face x, y in [0, 1]."""
    dx, dy, z = direction.unbind(-1)
    longitude = torch.atan2(dy, dx).div(math.pi / 2).remainder(4.0)  # in quadrants

    # Equatorial belt: ascending and descending edge lines.
    up, down = 0.5 + longitude - 0.75 * z, 0.5 + longitude + 0.75 * z
    up_line, down_line = up.floor(), down.floor()
    face_belt = torch.where(
        up_line == down_line,
        up_line.remainder(4) + 4,
        torch.where(up_line < down_line, up_line.remainder(4), down_line.remainder(4) + 8),
    )
    x_belt, y_belt = down - down_line, 1 - (up - up_line)

    # Polar caps. 1 - |z| from the horizontal part, which does not cancel at the poles.
    quadrant = longitude.floor().clamp(max=3)
    part = longitude - quadrant
    one_minus_z = (dx.square() + dy.square()) / (1 + z.abs())
    width = (3 * one_minus_z).sqrt().clamp(max=1.0)
    p, q = part * width, (1 - part) * width
    north = z > 0
    x_cap = torch.where(north, 1 - q, p)
    y_cap = torch.where(north, 1 - p, q)
    face_cap = torch.where(north, quadrant, quadrant + 8)

    belt = z.abs() <= 2 / 3
    face = torch.where(belt, face_belt, face_cap).long()
    return face, torch.where(belt, x_belt, x_cap), torch.where(belt, y_belt, y_cap)


@functools.lru_cache(maxsize=8)
def _base_frames(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return frames of the 12 base pixels, [12, 3, 3]: z = centre, x = normalize((1,1,1) x z)."""
    face = torch.arange(BASE_PIXELS)
    half = torch.full((BASE_PIXELS,), 0.5, dtype=torch.float64)
    z = _face_to_direction(face, half, half)
    x = torch.linalg.cross(torch.ones_like(z), z)
    x = x / x.norm(dim=-1, keepdim=True)
    return torch.stack((x, torch.linalg.cross(z, x), z), -1).to(device, dtype)


def _local_frame(face: Tensor, direction: Tensor) -> Tensor:
    """Carry the pixel's base frame to the direction by the minimal rotation, [..., 3, 3]."""
    base = _base_frames(direction.dtype, direction.device)[face]
    centre = base[..., 2]
    # Minimal rotation from c to d applied to a vector u orthogonal to c:
    # u - (u.d) / (1 + c.d) * (c + d)   (Rodrigues; c and d are never opposite inside a pixel).
    middle = centre + direction
    scale = 1 / (1 + (centre * direction).sum(-1, keepdim=True))
    carry = lambda u: u - (u * direction).sum(-1, keepdim=True) * scale * middle  # noqa: E731
    return torch.stack((carry(base[..., 0]), carry(base[..., 1]), direction), -1)
