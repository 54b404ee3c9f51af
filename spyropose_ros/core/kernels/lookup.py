"""Where poses put their keypoints in feature maps: rows of a table and bilinear weights."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def padded(height: int, width: int) -> int:
    """Return the number of rows of a padded map, see `Lookup`."""
    return height * width + width + 2


@dataclass(frozen=True)
class Lookup:
    """The rows of a table that poses sum up.

    The table holds a padded map for every image and keypoint: the pixels of the feature map, one
    row of pixels after the other, and then `width + 2` times what is outside. So the four
    neighbours are always at the same distances, and outside needs no weights of its own.

    Attributes:
        rows: of the four neighbours of every keypoint, int32 [N, 4, P].
        weights: bilinear, [N, 4, P].
    """

    rows: Tensor
    weights: Tensor

    def sum_of(self, table: Tensor) -> Tensor:
        """Sum rows of a table, [U, H] -> [N, H]."""
        rows, weights = self.rows.flatten(1), self.weights.flatten(1)
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")


def look_up(image: Tensor, rotated: Tensor, moved: Tensor, shape: torch.Size) -> Lookup:
    """Look up where N = M R T poses put their keypoints.

    Args:
        image: batch element of each family, int64 [M].
        rotated: homogeneous map pixels of the keypoints, the rotations' part, [3, M, R, P].
        moved: the translations' part, which is added to it, [3, M, T].
        shape: of the feature maps, B C h w.

    Returns:
        The neighbours of the N P keypoints and their weights.
    """
    if image.device.type != "cpu":
        return plain_look_up(image, rotated, moved, shape)
    from spyropose_ros.core.kernels import numba_kernels  # importing Numba takes half a second

    batch, _, height, width = shape
    poses = rotated.shape[1] * rotated.shape[2] * moved.shape[2]
    rows = torch.empty((poses, 4, rotated.shape[3]), dtype=torch.int32)
    weights = torch.empty(rows.shape)
    given = (x.contiguous().numpy() for x in (image, rotated, moved))
    numba_kernels.look_up(*given, batch, height, width, rows.numpy(), weights.numpy())
    return Lookup(rows, weights)


def row_sums(
    table: Tensor, shape: torch.Size, keypoints: int
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return what computes `look_up(...).sum_of(table)` on a CPU in one pass.

    What is looked up stays in the L1 cache, which leaves the next one to the table. The sums are
    the same, in the same order.

    Args:
        table: [U, H].
        shape: of the feature maps, B C h w.
        keypoints: of the families.

    Returns:
        Families as for `look_up` -> sums, [N, H].
    """
    from spyropose_ros.core.kernels import numba_sums

    batch, _, height, width = shape
    kernel = numba_sums.sums(keypoints, table.shape[1])  # here once, not in each thread
    rows = table.numpy()

    def sums(image: Tensor, rotated: Tensor, moved: Tensor) -> Tensor:
        result = table.new_empty((rotated[0, :, :, 0].numel() * moved.shape[2], table.shape[1]))
        given = (x.contiguous().numpy() for x in (image, rotated, moved))
        kernel(*given, batch, height, width, rows, result.numpy())
        return result

    return sums


def plain_look_up(image: Tensor, rotated: Tensor, moved: Tensor, shape: torch.Size) -> Lookup:
    """Do the same in tensor operations, whose results all pass through memory: for GPUs."""
    batch, _, height, width = shape
    rotated, moved = rotated.unsqueeze(3), moved[:, :, None, :, None]
    z = rotated[2] + moved[2]  # [M, R, T, P]
    outside = z <= 0
    inverse = z.clamp_min_(1e-12).reciprocal_()
    u, v = (rotated[:2] + moved[:2]).mul_(inverse).unbind()
    outside |= u.sub((width - 1) / 2).abs_() > width / 2
    outside |= v.sub((height - 1) / 2).abs_() > height / 2

    u, v = u.clamp_(0, width - 1), v.clamp_(0, height - 1)
    column, row = u.floor().clamp_(max=width - 2), v.floor().clamp_(max=height - 2)
    x, y = u.sub_(column), v.sub_(row)  # bilinear weights of the right and the lower neighbours
    corner = row.mul_(width).add_(column).masked_fill_(outside, height * width).int()
    keypoint = torch.arange(rotated.shape[-1], dtype=torch.int32, device=image.device)
    padded_map = keypoint * batch + image.int().unsqueeze(1)  # [M, P]
    corner += (padded_map * padded(height, width))[:, None, None]

    step = torch.arange(2, dtype=torch.int32, device=image.device)
    step = (step.unsqueeze(1) * width + step).view(4, 1)  # 0, 1, width, width + 1
    rows = corner.unsqueeze(3) + step  # [M, R, T, 4, P]
    weights = torch.empty(rows.shape, device=image.device)
    both = torch.mul(x, y, out=weights[..., 3, :])
    right = torch.sub(x, both, out=weights[..., 1, :])
    torch.sub(y, both, out=weights[..., 2, :])
    torch.sub(y.neg_().add_(1), right, out=weights[..., 0, :])
    return Lookup(rows.flatten(0, 2), weights.flatten(0, 2))
