"""The CPU's kernel that sums up a table's rows where poses put keypoints; imports Numba."""

from collections.abc import Callable
from functools import cache
from math import gcd
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spyropose_ros.core.kernels.numba_kernels import compiled

_LANES = 16  # of a vector instruction; a CPU with narrower ones takes several
_INDEX = ir.IntType(64)


@cache
def sums(keypoints: int, columns: int) -> Callable:
    """Return the kernel for a number of keypoints and a table's width, compiled on first use.

    Both are constants of it: sums stay in registers, and a pose's keypoints are looked up in vector
    instructions.
    """
    P, H = keypoints, columns
    L = -(-P // _LANES) * _LANES  # LLVM makes no vectors of shorter loops

    @compiled(
        types.int64[::1],
        types.float32[:, :, :, ::1],
        types.float32[:, :, ::1],
        types.int64,
        types.int64,
        types.int64,
        types.float32[:, ::1],
        types.float32[:, ::1],
    )
    def kernel(
        image: np.ndarray,
        rotated: np.ndarray,
        moved: np.ndarray,
        batch: int,
        height: int,
        width: int,
        table: np.ndarray,
        result: np.ndarray,
    ) -> None:
        """Do in one pass what `look_up` and `Lookup.sum_of` do.

        Args:
            image: batch element of each family, int64 [M].
            rotated: homogeneous map pixels, the rotations' part, float32 [3, M, R, P].
            moved: the translations' part, float32 [3, M, T].
            batch: number of maps.
            height: of the maps.
            width: of the maps.
            table: float32 [U, H].
            result: float32 [M R T, H].
        """
        f = np.float32
        right, bottom = f(width - 0.5), f(height - 0.5)  # edges of the map
        last_column, last_row = f(width - 2), f(height - 2)
        beyond, below = np.int32(height * width), np.int32(width)
        padded = np.int32(height * width + width + 2)
        place = np.zeros(3 * L, np.float32)  # one array each, so that LLVM sees no overlap
        rows, weights = np.empty(4 * L, np.int32), np.empty(4 * L, np.float32)
        n = 0
        for m in range(len(image)):
            first_row, step = np.int32(image[m] * padded), np.int32(batch * padded)
            for r in range(rotated.shape[2]):
                for p in range(P):
                    for axis in range(3):
                        place[axis * L + p] = rotated[axis, m, r, p]
                for t in range(moved.shape[2]):
                    tu, tv, tz = moved[0, m, t], moved[1, m, t], moved[2, m, t]
                    for p in range(L):
                        z = place[2 * L + p] + tz
                        inverse = f(1) / max(z, f(1e-12))
                        u, v = (place[p] + tu) * inverse, (place[L + p] + tv) * inverse
                        inside = (z > f(0)) & (u >= f(-0.5)) & (u <= right)
                        inside &= (v >= f(-0.5)) & (v <= bottom)
                        u, v = min(max(u, f(0)), right - f(0.5)), min(max(v, f(0)), bottom - f(0.5))
                        column, row = np.int32(min(u, last_column)), np.int32(min(v, last_row))
                        x, y = u - f(column), v - f(row)
                        corner = np.int32(row * below + column) if inside else beyond
                        corner = np.int32(corner + first_row + np.int32(p * step))
                        rows[p], rows[L + p] = corner, corner + 1
                        rows[2 * L + p], rows[3 * L + p] = corner + below, corner + below + 1
                        both = x * y
                        weights[p], weights[L + p] = f(1) - y - (x - both), x - both
                        weights[2 * L + p], weights[3 * L + p] = y - both, both
                    _sum_rows(table, rows, weights, result, n, P, H)
                    n += 1

    return kernel


def _typed_sum(
    _context: Any,
    table: types.Array,
    rows: types.Array,
    weights: types.Array,
    result: types.Array,
    n: types.Type,
    used: types.Type,
    width: types.Type,
) -> tuple[Any, Callable] | None:
    """Type `_sum_rows`: write the weighted sum of a table's rows to row n of the result.

    Of each quarter of the rows the first few are used, in their order.
    """
    if not isinstance(width, types.IntegerLiteral):
        return None  # Numba tries it as a variable first
    signature = types.void(table, rows, weights, result, n, used, width)
    return signature, _lowered_sum


_sum_rows: Callable = intrinsic(_typed_sum)  # its annotations are those of the typing


def _lowered_sum(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    """Write the instructions of `_sum_rows`: one vector of sums for every so many columns."""
    width = signature.args[6].literal_value
    lanes = gcd(width, _LANES)
    vector = ir.VectorType(ir.FloatType(), lanes)
    table, rows, weights, result = (
        context.make_array(kind)(context, builder, array)
        for kind, array in zip(signature.args[:4], arguments[:4], strict=True)
    )
    three = ir.FunctionType(vector, [vector] * 3)
    name = f"llvm.fmuladd.v{lanes}f32"
    multiply_add = cgutils.get_or_insert_function(builder.module, three, name)

    def at(base: ir.Value, row: ir.Value, column: int) -> ir.Value:
        offset = builder.add(builder.mul(row, _INDEX(width)), _INDEX(column))
        return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())

    columns = range(0, width, lanes)
    zero = vector([0.0] * lanes)
    totals = [cgutils.alloca_once(builder, vector) for _ in columns]
    for total in totals:
        builder.store(zero, total)
    quarter = builder.udiv(builder.extract_value(rows.shape, 0), _INDEX(4))
    with (
        cgutils.for_range(builder, _INDEX(4)) as corner,
        cgutils.for_range(builder, arguments[5]) as keypoint,
    ):
        index = builder.add(builder.mul(corner.index, quarter), keypoint.index)
        row = builder.zext(builder.load(builder.gep(rows.data, [index])), _INDEX)
        weight = builder.load(builder.gep(weights.data, [index]))
        spread = builder.insert_element(vector(ir.Undefined), weight, ir.IntType(32)(0))
        everywhere = ir.VectorType(ir.IntType(32), lanes)([0] * lanes)
        spread = builder.shuffle_vector(spread, vector(ir.Undefined), everywhere)
        for column, total in zip(columns, totals, strict=True):
            value = builder.load(at(table.data, row, column), align=4)
            builder.store(builder.call(multiply_add, [spread, value, builder.load(total)]), total)
    for column, total in zip(columns, totals, strict=True):
        builder.store(builder.load(total), at(result.data, arguments[4], column), align=4)
    return context.get_dummy_value()
