"""Compiled loops for dense matrices; imported when a kernel is first needed, not before.

The least-squares step needs ``g = ∑ᵢ aᵢ (bᵢ − aᵢ·x)`` over the rows of A. Two loops, one for the
products ``aᵢ·x`` and one for the sum, leave memory idle in the second one, whose rows are in cache.
So the loops are fused with a lag: while one block of rows comes from memory and is multiplied by x,
the block before it, still in cache, is added to g. For a matrix stored by columns the blocks are
panels of rows, and the same fused loop serves with the two roles exchanged.

The fused loop is written in LLVM's vectors, because LLVM does not vectorise it: with thirteen
pointers it would have to check at run time that they do not overlap, and gives up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.extending import intrinsic, register_jitable

U = np.uintp
# Unsigned indices throughout: numba wraps negative ones, a compare and a move for each load.
ROWS = 6
"""Rows at a time: six sums and six factors are what sixteen vector registers hold."""
VECTOR_BYTES = 64 if get_host_cpu_features().get("avx512f") else 32
"""Where registers have 64 bytes half the loads do: a tenth of a float32 step on a Zen 4."""
WIDE_UNROLL, NARROW_UNROLL = 8, 2
WIDE_STEP, STEP = WIDE_UNROLL * VECTOR_BYTES, NARROW_UNROLL * VECTOR_BYTES
"""The fused loops take whole multiples of so many bytes of x."""


def _fused(unroll: int, *, ahead: bool = False) -> Any:
    """``s = wide(matrix, x, g, at, factors)``: what both loops of least squares do, in one.

    ``sᵣ = ∑ⱼ newᵣ[j]·x[j]`` and ``g[j] += ∑ᵣ factorsᵣ·oldᵣ[j]``. Of ``at``, six unsigned numbers in
    elements, the first four are the offsets of the first new row, of the first old row, of x and of
    g in their arrays; then come the distance between rows and the number of columns.

    With ``ahead`` the next ROWS old rows are fetched as well: where rows are short pieces far apart
    the processor does not foresee them.
    """

    @intrinsic
    def fused(
        _context: Any,
        matrix: Any,
        x: Any,
        g: Any,
        at: Any,
        factors: Any,
    ):
        signature = types.UniTuple(x.dtype, ROWS)(matrix, x, g, at, factors)

        def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            number = target.get_data_type(x.dtype)
            stored = target.get_data_type(matrix.dtype)
            num_bytes = x.dtype.bitwidth // 8
            lanes = VECTOR_BYTES // num_bytes
            vector = ir.VectorType(number, lanes)
            index = target.get_value_type(types.uintp)
            i32 = ir.IntType(32)

            def start(position: int, offset: Any) -> Any:
                struct = cgutils.create_struct_proxy(signature.args[position])
                data = struct(target, builder, value=arguments[position]).data
                return builder.gep(data, [offset])

            def load(pointer: Any, j: Any, kind: Any) -> Any:
                wide = ir.VectorType(kind, lanes)
                loaded = builder.load(builder.bitcast(builder.gep(pointer, [j]), wide.as_pointer()))
                loaded.align = matrix.dtype.bitwidth // 8 if kind is stored else num_bytes
                return loaded if kind is number else builder.fpext(loaded, vector)

            new, old, x_at, g_at, distance, count = (
                builder.extract_value(arguments[3], k) for k in range(6)
            )
            new_rows, old_rows, scales = [], [], []
            blank = ir.Constant(vector, ir.Undefined)
            everywhere = ir.Constant(ir.VectorType(i32, lanes), [0] * lanes)
            for row in range(ROWS):
                shift = builder.mul(distance, index(row))
                new_rows.append(start(0, builder.add(new, shift)))
                old_rows.append(start(0, builder.add(old, shift)))
                scalar = builder.extract_value(arguments[4], row)
                first = builder.insert_element(blank, scalar, i32(0))
                scales.append(builder.shuffle_vector(first, blank, everywhere))
            x_pointer, g_pointer = start(1, x_at), start(2, g_at)
            multiply_add = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(vector, [vector] * 3),
                f"llvm.fmuladd.v{lanes}f{8 * num_bytes}",
            )

            byte = ir.IntType(8).as_pointer()
            fetch = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32]),
                "llvm.prefetch.p0",
            )

            before = builder.block
            head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
            builder.branch(head)
            builder.position_at_end(head)
            j = builder.phi(index)
            sums = [builder.phi(vector) for _ in range(ROWS)]
            j.add_incoming(index(0), before)
            for total in sums:
                total.add_incoming(ir.Constant(vector, [ir.Constant(number, 0.0)] * lanes), before)
            builder.cbranch(builder.icmp_unsigned("<", j, count), body, end)

            builder.position_at_end(body)
            totals: list[Any] = list(sums)
            if ahead:
                for row in old_rows:
                    place = builder.gep(row, [builder.add(j, builder.mul(distance, index(ROWS)))])
                    builder.call(fetch, [builder.bitcast(place, byte), i32(0), i32(3), i32(1)])
            for part in range(unroll):
                k = builder.add(j, index(part * lanes))
                x_part, g_part = load(x_pointer, k, number), load(g_pointer, k, number)
                for row in range(ROWS):
                    fresh = load(new_rows[row], k, stored)
                    totals[row] = builder.call(multiply_add, [fresh, x_part, totals[row]])
                    known = load(old_rows[row], k, stored)
                    g_part = builder.call(multiply_add, [known, scales[row], g_part])
                place = builder.bitcast(builder.gep(g_pointer, [k]), vector.as_pointer())
                builder.store(g_part, place).align = num_bytes
            j.add_incoming(builder.add(j, index(unroll * lanes)), body)
            for total, value in zip(sums, totals, strict=True):
                total.add_incoming(value, body)
            builder.branch(head)

            builder.position_at_end(end)
            results = []
            for total in sums:
                result = builder.extract_element(total, i32(0))
                for lane in range(1, lanes):
                    result = builder.fadd(result, builder.extract_element(total, i32(lane)))
                results.append(result)
            return cgutils.pack_array(builder, results)

        return signature, generate

    return fused


wide, narrow = _fused(WIDE_UNROLL), _fused(NARROW_UNROLL)
fetching = _fused(NARROW_UNROLL, ahead=True)


def rows(a: Any, b: Any, x: Any, g: Any, scratch: Any, start: int, stop: int) -> None:
    """``g = ∑ aᵢ (bᵢ − aᵢ·x)`` over rows ``start <= i < stop`` of a matrix stored by rows.

    Shapes: a (m, n), b (k, m), x and g (k, n), scratch (k + 1, ROWS).
    """
    num_columns, batch = U(a.shape[1]), U(x.shape[0])
    most = num_columns - num_columns % (U(WIDE_STEP) // U(x.itemsize))
    whole = num_columns - num_columns % (U(STEP) // U(x.itemsize))
    some = whole - most
    g[:] = 0
    scratch[:] = 0
    sums = scratch[batch]
    i, old, last = U(start), U(start), U(stop)
    while i + U(ROWS) <= last:
        for k in range(batch):
            q = scratch[k]
            p = (q[0], q[1], q[2], q[3], q[4], q[5])
            new_at, old_at, x_at = i * num_columns, old * num_columns, k * num_columns
            s = wide(a, x, g, (new_at, old_at, x_at, x_at, num_columns, most), p)
            there = (new_at + most, old_at + most, x_at + most, x_at + most, num_columns, some)
            t = narrow(a, x, g, there, p)
            sums[0], sums[1], sums[2] = s[0] + t[0], s[1] + t[1], s[2] + t[2]
            sums[3], sums[4], sums[5] = s[3] + t[3], s[4] + t[4], s[5] + t[5]
            for j in range(whole, num_columns):
                for r in range(U(ROWS)):
                    sums[r] += a[i + r, j] * x[k, j]
                    g[k, j] += q[r] * a[old + r, j]
            for r in range(U(ROWS)):
                q[r] = b[k, i + r] - sums[r]
        old = i
        i += U(ROWS)
    if i > U(start):
        # The last block is in cache and still to be added; the products come along for nothing.
        for k in range(batch):
            q = scratch[k]
            p = (q[0], q[1], q[2], q[3], q[4], q[5])
            old_at, x_at = old * num_columns, k * num_columns
            narrow(a, x, g, (old_at, old_at, x_at, x_at, num_columns, whole), p)
            for j in range(whole, num_columns):
                for r in range(U(ROWS)):
                    g[k, j] += q[r] * a[old + r, j]
    while i < last:
        row = a[i]
        for k in range(batch):
            s = x.dtype.type(0)
            for j in range(num_columns):
                s += row[j] * x[k, j]
            s = b[k, i] - s
            for j in range(num_columns):
                g[k, j] += s * row[j]
        i += U(1)


def columns(a: Any, b: Any, x: Any, g: Any, scratch: Any, start: int, stop: int) -> None:
    """``g = ∑ aᵢ (bᵢ − aᵢ·x)`` over rows ``start <= i < stop`` of a matrix stored by columns.

    Shapes: a (n, m), which is the transpose, b (k, m), x and g (k, n), scratch (2, k, height), the
    residuals of two panels of ``height`` rows, a multiple of 32.
    """
    num_columns, num_rows, batch = U(a.shape[0]), U(a.shape[1]), U(x.shape[0])
    height = U(scratch.shape[2])
    grouped = num_columns - num_columns % U(ROWS)
    zero = x.dtype.type(0)
    g[:] = 0
    scratch[:] = 0
    i, old, last = U(start), U(start), U(stop)
    which = U(0)
    while i + height <= last:
        fresh, known = scratch[which], scratch[U(1) - which]
        fresh_at, known_at = which * batch * height, (U(1) - which) * batch * height
        flat = scratch.reshape(-1)
        for k in range(batch):
            for p in range(height):
                fresh[k, p] = b[k, i + p]
        for c in range(U(0), grouped, U(ROWS)):
            for k in range(batch):
                v = (x[k, c], x[k, c + U(1)], x[k, c + U(2)])
                w = (x[k, c + U(3)], x[k, c + U(4)], x[k, c + U(5)])
                where = (c * num_rows + old, c * num_rows + i)
                there = (known_at + k * height, fresh_at + k * height)
                q = (-v[0], -v[1], -v[2], -w[0], -w[1], -w[2])
                s = fetching(a, flat, flat, (*where, *there, num_rows, height), q)
                g[k, c] += s[0]
                g[k, c + U(1)] += s[1]
                g[k, c + U(2)] += s[2]
                g[k, c + U(3)] += s[3]
                g[k, c + U(4)] += s[4]
                g[k, c + U(5)] += s[5]
        for c in range(grouped, num_columns):
            for k in range(batch):
                s0 = zero
                for p in range(height):
                    s0 += a[c, old + p] * known[k, p]
                g[k, c] += s0
                factor = x[k, c]
                for p in range(height):
                    fresh[k, p] -= factor * a[c, i + p]
        old = i
        i += height
        which = U(1) - which
    if i > U(start):
        add_products(a, scratch[U(1) - which], g, old, height)
    if i < last:
        rest = last - i
        left = scratch[which]
        for k in range(batch):
            for p in range(rest):
                left[k, p] = b[k, i + p]
            for c in range(num_columns):
                factor = x[k, c]
                for p in range(rest):
                    left[k, p] -= factor * a[c, i + p]
        add_products(a, left, g, i, rest)


@register_jitable
def add_products(a: Any, residual: Any, g: Any, first: int, count: int) -> None:
    """``g[k, c] += ∑ₚ a[c, first + p]·residual[k, p]``."""
    for c in range(U(a.shape[0])):
        for k in range(U(g.shape[0])):
            s = g.dtype.type(0)
            for p in range(count):
                s += a[c, first + p] * residual[k, p]
            g[k, c] += s
