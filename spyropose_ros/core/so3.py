"""Rotations as matrices [..., 3, 3]: exp, log, mean, distance, twist and uniform samples.

Everything else works on matrices; quaternions in ROS's order are the business of
`spyropose_ros.ros.pipeline.rotations`.
"""

import math

import torch
from torch import Tensor


def skew(vector: Tensor) -> Tensor:
    """Return the cross-product matrices of vectors, [..., 3] -> [..., 3, 3]."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))


def exp(vector: Tensor) -> Tensor:
    """Return the rotations of rotation vectors (Rodrigues), radians [..., 3] -> [..., 3, 3]."""
    angle = vector.norm(dim=-1, keepdim=True)
    cross = skew(vector / angle.clamp_min(1e-12))
    sin, cos = angle.sin().unsqueeze(-1), angle.cos().unsqueeze(-1)
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return identity + sin * cross + (1 - cos) * (cross @ cross)


def log(rotation: Tensor) -> Tensor:
    """Return rotation vectors in radians, [..., 3, 3] -> float64 [..., 3], stable at 0 and pi."""
    m = rotation.double().reshape(-1, 3, 3)
    cos = (m[:, 0, 0] + m[:, 1, 1] + m[:, 2, 2] - 1) / 2
    axis = torch.stack(  # times twice the sine
        (m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]), -1
    )
    sin = axis.norm(dim=-1) / 2
    vector = axis * (torch.atan2(sin, cos) / (2 * sin).clamp_min(1e-12)).unsqueeze(-1)
    vector = torch.where(sin.unsqueeze(-1) > 1e-12, vector, axis / 2)
    obtuse = (cos < 0).nonzero().squeeze(1)  # where the axis loses digits towards pi
    if len(obtuse):
        vector[obtuse] = _log_of_obtuse(m[obtuse], axis[obtuse])
    return vector.view(rotation.shape[:-1])


def _log_of_obtuse(m: Tensor, axis: Tensor) -> Tensor:
    """Return rotation vectors of float64 [N, 3, 3] beyond a right angle, through quaternions."""
    # Of three quaternion formulas take the best conditioned one per matrix (Shepperd 1978).
    diagonal = m.diagonal(dim1=-2, dim2=-1)  # [N, 3]
    trace = diagonal.sum(-1)
    candidates = []
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        q = torch.empty((len(m), 4), dtype=m.dtype, device=m.device)  # w x y z, times 4 q_i
        q[:, 0] = axis[:, i]
        q[:, 1 + i] = 1 + 2 * diagonal[:, i] - trace
        q[:, 1 + j] = m[:, i, j] + m[:, j, i]
        q[:, 1 + k] = m[:, i, k] + m[:, k, i]
        candidates.append(q)
    q = torch.stack(candidates, 1)[torch.arange(len(m), device=m.device), diagonal.argmax(-1)]
    q = torch.where(q[:, :1] < 0, -q, q)
    sin = q[:, 1:].norm(dim=-1, keepdim=True)
    return q[:, 1:] / sin * 2 * torch.atan2(sin, q[:, :1])


def chordal_mean(moment: Tensor) -> Tensor:
    """Return the rotations nearest to weighted sums of rotations (Markley et al. 2007).

    Args:
        moment: the sums, of any scale, [..., 3, 3].

    Returns:
        Rotations [..., 3, 3].
    """
    u, _, vt = torch.linalg.svd(moment)
    flip = torch.ones(moment.shape[:-1], dtype=u.dtype, device=u.device)
    flip[..., 2] = torch.linalg.det(u @ vt).sign()
    return (u * flip.unsqueeze(-2)) @ vt


def geodesic_angle(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle of a^T b in radians, accurate near 0.

    Args:
        a: rotations [..., 3, 3].
        b: rotations that broadcast against them.

    Returns:
        Angles [...].
    """
    # |a - b|_F^2 = 8 sin^2(angle / 2); the arccos of the trace would lose half the digits near 0.
    half_sin = (a - b).square().sum((-2, -1)).div(8).clamp(0, 1).sqrt()
    return 2 * torch.atan2(half_sin, (1 - half_sin.square()).clamp_min(0).sqrt())


def twist(rotation: Tensor, axis: Tensor) -> Tensor:
    """Return the angle of each rotation about an axis: the twist of its swing-twist decomposition.

    Args:
        rotation: [..., 3, 3].
        axis: unit vector, [3].

    Returns:
        Angles in radians, in [-2 pi, 2 pi], [...].
    """
    # twist = 2 atan2(q_v . axis, q_w), with q_v = vector / (4 q_w) and 4 q_w^2 = 1 + trace.
    vector = torch.stack(
        (
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ),
        -1,
    )
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    return 2 * torch.atan2(vector @ axis, 1 + trace)


def twist_entropy(rotations: Tensor, reference: Tensor, axis: Tensor, bins: int = 72) -> float:
    """Return the differential entropy of the twist about an axis, from a histogram of samples.

    Args:
        rotations: samples of the rotation of an object, [N, 3, 3].
        reference: rotation that the twist is relative to, [3, 3].
        axis: unit vector in object coordinates, [3].
        bins: of the histogram over the full circle.

    Returns:
        Nats; uniform samples give log(2 pi) = 1.84.
    """
    angle = twist(reference.mT @ rotations, axis)
    index = (angle / (2 * math.pi) % 1.0 * bins).long().clamp(max=bins - 1)
    p = torch.bincount(index, minlength=bins).double() / len(index)
    p = p[p > 0]
    return -float((p * (p * bins / (2 * math.pi)).log()).sum())


def random_rotations(
    n: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Return rotations uniform on SO(3) (normalised Gaussian quaternions), float32 [n, 3, 3]."""
    q = torch.randn((n, 4), generator=generator, device=device, dtype=torch.float64)
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2).float()
