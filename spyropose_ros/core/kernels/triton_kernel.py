"""The kernel of `triton_heads`, in a module of its own because importing it needs Triton."""

import triton
from triton import language as tl


@triton.jit(do_not_specialize=["n", "family", "translations", "height", "width"])
def score_families(
    embedded: tl.tensor,
    image: tl.tensor,
    rotated: tl.tensor,
    moved: tl.tensor,
    out_of_image: tl.tensor,
    first: tl.tensor,
    first_bias: tl.tensor,
    hidden: tl.tuple,
    hidden_bias: tl.tuple,
    last: tl.tensor,
    last_bias: tl.tensor,
    logits: tl.tensor,
    n: tl.tensor,
    family: tl.tensor,
    translations: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    P: tl.constexpr,
    E: tl.constexpr,
    H: tl.constexpr,
    POSES: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Score n poses, POSES per program; tensors as for `triton_heads.family_logits`.

    Sizes are not specialised: families may be of any number without compiling again.

    Args:
        embedded: [B, height, width, E].
        image: [n / family].
        rotated: [3, n / translations, P].
        moved: [3, n / family, translations].
        out_of_image: [E].
        first: [P, E, H].
        first_bias: [H].
        hidden: tuple of [H, H], outputs first.
        hidden_bias: tuple of [H].
        last: [H].
        last_bias: one number.
        logits: result, [n].
        n: number of poses.
        family: poses of a family.
        translations: of a family.
        height: of the maps.
        width: of the maps.
        P: keypoints.
        E: channels of the maps.
        H: width of the layers.
        POSES: power of two, at least 16.
        CHANNELS: E or more, power of two, at least 16.
        BLOCK: columns that are multiplied at a time, power of two, at least 16.
        BLOCKS: of columns, together H or more.
    """
    pose = tl.program_id(0) * POSES + tl.arange(0, POSES)
    valid = pose < n
    index = pose // family
    channel = tl.arange(0, CHANNELS)
    outside = tl.load(out_of_image + channel, channel < E, 0.0).to(tl.float32)
    maps = embedded + tl.load(image + index, valid, 0).to(tl.int64) * (height * width * E)
    moved += index * translations + pose % translations
    rotated += pose // translations * P
    moved_stride, rotated_stride = n // family * translations, n // translations * P
    tu, tv = tl.load(moved, valid, 0.0), tl.load(moved + moved_stride, valid, 0.0)
    tz = tl.load(moved + 2 * moved_stride, valid, 0.0)

    sums = _zeros(POSES, BLOCK, BLOCKS)
    for p in range(P):
        u = tl.load(rotated + p, valid, 0.0) + tu
        v = tl.load(rotated + rotated_stride + p, valid, 0.0) + tv
        z = tl.load(rotated + 2 * rotated_stride + p, valid, 0.0) + tz
        value = _look_up(maps, u, v, z, outside, height, width, E, CHANNELS)
        value = value.to(first.dtype.element_ty)
        sums = _add_product(sums, value, first + p * E * H, E, H, 1, H, CHANNELS, BLOCK, BLOCKS)
    x = _activate(sums, first_bias, first.dtype.element_ty, H, BLOCK, BLOCKS)
    for layer in tl.static_range(len(hidden)):
        sums = _zeros(POSES, BLOCK, BLOCKS)
        for b in tl.static_range(BLOCKS):
            weight = hidden[layer] + b * BLOCK
            sums = _add_product(sums, x[b], weight, H - b * BLOCK, 1, H, H, BLOCK, BLOCK, BLOCKS)
        x = _activate(sums, hidden_bias[layer], first.dtype.element_ty, H, BLOCK, BLOCKS)

    total = tl.zeros((POSES,), tl.float32) + tl.load(last_bias).to(tl.float32)
    for b in tl.static_range(BLOCKS):
        column = b * BLOCK + tl.arange(0, BLOCK)
        weight = tl.load(last + column, column < H, 0.0).to(tl.float32)
        total += tl.sum(x[b].to(tl.float32) * weight[None, :], 1)
    tl.store(logits + pose, total, valid)


@triton.jit
def _look_up(maps, u, v, z, outside, height, width, E: tl.constexpr, CHANNELS: tl.constexpr):
    """Interpolate at homogeneous pixels [POSES], `outside` beyond the map, [POSES, CHANNELS]."""
    inverse = 1.0 / tl.maximum(z, 1e-12)
    u, v = u * inverse, v * inverse
    inside = (z > 0) & (u >= -0.5) & (u <= width - 0.5) & (v >= -0.5) & (v <= height - 0.5)
    u = tl.minimum(tl.maximum(u, 0.0), width - 1.0)
    v = tl.minimum(tl.maximum(v, 0.0), height - 1.0)
    left, top = u.to(tl.int32), v.to(tl.int32)
    x, y = (u - left)[:, None], (v - top)[:, None]
    right, bottom = tl.minimum(left + 1, width - 1), tl.minimum(top + 1, height - 1)

    channel = tl.arange(0, CHANNELS)[None, :]
    mask = inside[:, None] & (channel < E)
    above = maps + top * width * E
    below = maps + bottom * width * E
    a = tl.load((above + left * E)[:, None] + channel, mask, 0.0).to(tl.float32)
    b = tl.load((above + right * E)[:, None] + channel, mask, 0.0).to(tl.float32)
    c = tl.load((below + left * E)[:, None] + channel, mask, 0.0).to(tl.float32)
    d = tl.load((below + right * E)[:, None] + channel, mask, 0.0).to(tl.float32)
    value = (a * (1 - x) + b * x) * (1 - y) + (c * (1 - x) + d * x) * y
    return tl.where(inside[:, None], value, outside[None, :])


@triton.jit
def _zeros(POSES: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr):
    """Return a tuple of blocks of columns."""
    blocks = ()
    for _ in tl.static_range(BLOCKS):
        blocks = blocks + (tl.zeros((POSES, BLOCK), tl.float32),)  # type: ignore[assignment]
    return blocks


@triton.jit
def _add_product(
    sums,
    x,
    weight,
    rows: tl.constexpr,
    row_stride: tl.constexpr,
    column_stride: tl.constexpr,
    columns: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Compute sums + x @ weight in blocks of columns, x being [POSES, ROWS]."""
    row = tl.arange(0, ROWS)[:, None]
    added = ()
    for b in tl.static_range(BLOCKS):
        column = b * BLOCK + tl.arange(0, BLOCK)[None, :]
        mask = (row < rows) & (column < columns)
        part = tl.load(weight + row * row_stride + column * column_stride, mask, 0.0)
        # tf32x3 is as exact as float32 and still runs on tensor cores; halves ignore it.
        product = tl.dot(x, part, sums[b], input_precision="tf32x3")
        added = added + (product,)  # type: ignore[assignment]
    return added


@triton.jit
def _activate(sums, bias, dtype, H, BLOCK: tl.constexpr, BLOCKS: tl.constexpr):
    """Compute GELU of sums + bias, block by block, in the precision of the next product."""
    activated = ()
    for b in tl.static_range(BLOCKS):
        column = b * BLOCK + tl.arange(0, BLOCK)
        x = sums[b] + tl.load(bias + column, column < H, 0.0).to(tl.float32)[None, :]
        x = 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
        activated = activated + (x.to(dtype),)  # type: ignore[assignment]
    return activated
