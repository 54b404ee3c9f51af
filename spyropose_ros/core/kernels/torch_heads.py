"""Logits of whole families of poses, without visiting the poses one by one.

The children of a cell are 8 rotations times 8 translations: a keypoint's homogeneous pixel is the
sum of a part that only the rotation moves and a part that only the translation moves, so 16
projections serve 64 poses. And the first layer of the MLP is linear in the features of each
keypoint, so it is applied to the pixels of the feature map instead of to the poses: what remains
per pose is a weighted sum over rows of a table.

On a GPU with Triton a kernel of `triton_heads` takes over from the projections on. The plain
formulation is `PoseModel.logits`; all agree to rounding.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from spyropose_ros.core.camera import resized_intrinsics
from spyropose_ros.core.kernels import triton_heads
from spyropose_ros.core.kernels.lookup import Lookup, look_up, padded, row_sums
from spyropose_ros.core.kernels.packed_head import PackedHead
from spyropose_ros.core.kernels.threads import run
from spyropose_ros.core.network.keypoint_model import PoseModel

_POSES_PER_PASS = 4096  # what a pass computes stays in a CPU's cache
_SMALL_MAP = 1024  # pixels up to which finding the used ones takes longer than using all
_CROWDED = 0.25  # rows over keypoints of poses, up to which a table of just these rows pays
_POSES_PER_TABLE = 65_536  # bounds the memory of the look-ups where the table is sparse


class FusedHeads:
    """The heads of a model, as it computes them in evaluation, packed once.

    Args:
        model: in evaluation, on the device to run on; its weights no longer change.
    """

    @torch.no_grad()
    def __init__(self, model: PoseModel):
        self._heads = [PackedHead.of(model, level) for level in range(model.config.depth)]
        self._keypoints = model.keypoints
        self._resolution = model.config.crop_resolution
        self._kernel = triton_heads.available(model.keypoints.device) and triton_heads.runs(
            self._heads[0], next(model.extractor.parameters()).dtype
        )

    @torch.no_grad()
    def family_logits(
        self,
        features: Tensor,
        K_crop: Tensor,
        level: int,
        image: Tensor,
        rotations: Tensor,
        translations: Tensor,
    ) -> Tensor:
        """Score families of poses: R rotations times T translations each.

        Args:
            features: from `PoseModel.features`, [B, C, h, w]; in half precision on a GPU, the
                layers of the Triton kernel multiply in half precision too.
            K_crop: intrinsics of the crops, third row (0, 0, 1), [B, 3, 3].
            level: pyramid level, selects the head.
            image: batch element of each family, int64 [M].
            rotations: object to camera, [M, R, 3, 3].
            translations: of the bounding-sphere centre, metres, [M, T, 3].

        Returns:
            Unnormalised log-likelihoods [M, R T], rotations outer, translations inner.
        """
        head = self._heads[level]
        scale = features.shape[-1] / self._resolution
        projector = resized_intrinsics(K_crop, scale)[image]  # [M, 3, 3], to the map's pixels
        rotated = (projector.unsqueeze(1) @ rotations) @ self._keypoints.mT  # [M, R, 3, P]
        rotated = rotated.permute(2, 0, 1, 3).contiguous()  # [3, M, R, P]
        moved = (projector @ translations.mT).transpose(0, 1).contiguous()  # [3, M, T]
        if self._kernel:
            weights = head.embed_weight.to(features), head.embed_bias.to(features)
            embedded = F.linear(features.permute(0, 2, 3, 1), *weights)  # [B, h, w, E]
            return triton_heads.family_logits(embedded, image, rotated, moved, head)
        features = features.float()
        if features.device.type != "cpu" or len(features) == 1:
            return _family_logits(head, features, image, rotated, moved)
        logits = rotated.new_empty((len(image), rotated.shape[2] * moved.shape[2]))
        for b in range(len(features)):  # one by one, their tables stay in a CPU's cache
            own = (image == b).nonzero().squeeze(1)
            families = torch.zeros_like(own), rotated[:, own], moved[:, own]
            logits[own] = _family_logits(head, features[b : b + 1], *families)
        return logits


def _family_logits(
    head: PackedHead, features: Tensor, image: Tensor, rotated: Tensor, moved: Tensor
) -> Tensor:
    """Compute logits [M, R T].

    Args:
        head: of the level.
        features: [B, C, h, w].
        image: batch element of each family, [M].
        rotated: homogeneous map pixels of the keypoints, the rotations' part, [3, M, R, P].
        moved: the translations' part, which is added to it, [3, M, T].
    """
    family = rotated.shape[2] * moved.shape[2]
    if family > _POSES_PER_PASS:  # families of one rotation
        image = image.repeat_interleave(rotated.shape[2])
        moved = moved.repeat_interleave(rotated.shape[2], 1)
        rotated = rotated.flatten(1, 2).unsqueeze(2)
    parts = _split(image, rotated, moved, _POSES_PER_TABLE)
    logits = [_family_logits_of_part(head, features, *part) for part in parts]
    return torch.cat(logits).view(-1, family)


FirstLayer = Callable[[Lookup], Tensor]
"""The first layer of the poses of a look-up, without its bias, [N, H]."""


def _split(
    image: Tensor, rotated: Tensor, moved: Tensor, poses: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Split families into parts of about so many poses each."""
    n = max(1, poses // (rotated.shape[2] * moved.shape[2]))
    return list(zip(image.split(n), rotated.split(n, 1), moved.split(n, 1), strict=True))


def _family_logits_of_part(
    head: PackedHead, features: Tensor, image: Tensor, rotated: Tensor, moved: Tensor
) -> Tensor:
    """Compute logits [M R T] through one table; arguments as for `_family_logits`."""
    poses = len(image) * rotated.shape[2] * moved.shape[2]
    if features.device.type != "cpu":  # counting rows would synchronise, and saves little
        lookup = look_up(image, rotated, moved, features.shape)
        return head.layers_after_first(_without_table(head, features)(lookup))
    passes = _split(image, rotated, moved, _POSES_PER_PASS)
    if features[:, 0].numel() <= max(poses, _SMALL_MAP * len(features)):
        sums = _through_dense_table(head, features)
        logits = run(lambda part: head.layers_after_first(sums(*part)), passes)
    else:
        lookups = run(lambda part: look_up(*part, features.shape), passes)
        first_layer = _of_crowds(head, features, lookups)
        logits = run(lambda lookup: head.layers_after_first(first_layer(lookup)), lookups)
    return torch.cat(logits)


def _padded_pixels(head: PackedHead, features: Tensor) -> Tensor:
    """Embed the pixels and what is outside, [B padded, E]."""
    (batch, _, height, width), inside = features.shape, features[0, 0].numel()
    pixels = features.new_empty((batch, padded(height, width), len(head.out_of_image)))
    pixels[:, inside:] = head.out_of_image
    weight = head.embed_weight.mT.expand(batch, -1, -1)
    torch.baddbmm(head.embed_bias, features.flatten(2).mT, weight, out=pixels[:, :inside])
    return pixels.flatten(0, 1)


def _without_table(head: PackedHead, features: Tensor) -> FirstLayer:
    """Return the first layer of embedded pixels that are summed up by their weights."""
    pixels = _padded_pixels(head, features)
    keypoint = torch.arange(len(head.first), dtype=torch.int32, device=pixels.device)
    weight = head.first.flatten(0, 1).mT  # [H, P E]

    def first_layer(lookup: Lookup) -> Tensor:
        rows = (lookup.rows - keypoint * len(pixels)).mT.reshape(-1, 4)  # [N P, 4]
        weights = lookup.weights.mT.reshape(-1, 4)
        values = F.embedding_bag(rows, pixels, per_sample_weights=weights, mode="sum")  # [N P, E]
        return torch.mm(values.view(-1, weight.shape[1]), weight.mT)

    return first_layer


def _through_dense_table(
    head: PackedHead, features: Tensor
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the first layer of every pixel as every keypoint; each pose sums up a few of them.

    Returns:
        Families as for `look_up` -> first layer of their poses, without its bias, [N, H].
    """
    pixels = _padded_pixels(head, features)
    keypoints, _, hidden = head.first.shape
    table = pixels.new_empty((keypoints, len(pixels), hidden))
    run(lambda p: torch.mm(pixels, head.first[p], out=table[p]), range(keypoints))
    return row_sums(table.flatten(0, 1), features.shape, keypoints)


def _of_crowds(head: PackedHead, features: Tensor, lookups: list[Lookup]) -> FirstLayer:
    """Return the first layer through a table of the rows that are looked up, where that pays.

    Poses crowd together as the search narrows down. Then they share few of a large map's pixels;
    before that, a table costs more than it saves.

    Args:
        head: of the level.
        features: of one image, [1, C, h, w].
        lookups: all that the first layer is asked for.
    """
    keypoints, inside = len(head.first), features[0, 0].numel()
    used = torch.zeros(keypoints * padded(*features.shape[2:]), dtype=torch.bool)
    for lookup in lookups:
        used[lookup.rows.flatten()] = True
    number = used.cumsum(0, dtype=torch.int32).sub_(1)
    count, looked_up = int(number[-1]) + 1, sum(lookup.rows[:, 0].numel() for lookup in lookups)
    if count > _CROWDED * looked_up:
        return _without_table(head, features)
    rows = used.view(keypoints, -1)  # [P, padded]
    pixel = rows.any(0).nonzero().squeeze(1)  # that any keypoint uses
    seen = features[0].flatten(1).mT[pixel.clamp(max=inside - 1)]  # [U, C]
    embedded = F.linear(seen, head.embed_weight, head.embed_bias)
    embedded[pixel >= inside] = head.out_of_image
    table = embedded.new_empty((count, head.first.shape[2]))
    parts = table.split(rows.sum(1).tolist())
    run(lambda p: torch.mm(embedded[rows[p][pixel]], head.first[p], out=parts[p]), range(keypoints))
    return lambda lookup: replace(lookup, rows=number[lookup.rows]).sum_of(table)
