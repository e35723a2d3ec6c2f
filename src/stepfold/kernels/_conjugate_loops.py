"""Steps of conjugate gradients in one compiled call; imported when first needed, not before.

All threads run `conjugate`, each on its own rows, and meet three times a step. To meet they write a
number that the others read over and over: a thread that sleeps wakes up 50 to 90 microseconds
later, which is half a step of 160 000 unknowns. Scalars are computed by every thread from the same
partial sums, in the same order, so that all of them decide alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

U = np.uintp
# Numbers to a pair of cache lines: what two threads write is that far apart.
APART = 16
# Looks at another thread's number before the system is asked to run somebody else.
PATIENCE = 4000

_yield_processor = types.ExternalFunction("sched_yield", types.int32())


@intrinsic
def _read(typing_context: Any, array: Any, place: Any) -> Any:
    """``array[place]`` of int64, as other threads have left it."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(builder.gep(found.data, [arguments[1]]), "acquire", 8)

    return types.int64(array, types.int64), code


@intrinsic
def _publish(typing_context: Any, array: Any, place: Any, value: Any) -> Any:
    """``array[place] = value`` of int64, after everything that this thread wrote before."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(found.data, [arguments[1]])
        builder.store_atomic(arguments[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), code


@njit(nogil=True)
def _meet(meetings: Any, part: int, parts: int, met: int) -> None:
    """Wait until every thread has come here for the ``met``-th time."""
    if parts == 1:
        return
    _publish(meetings, part * APART, met)
    for other in range(parts):
        looks = 0
        while other != part and _read(meetings, other * APART) < met:
            looks += 1
            if looks >= PATIENCE:
                _yield_processor()


def conjugate(
    data: Any,
    indices: Any,
    indptr: Any,
    x: Any,
    g: Any,
    p: Any,
    image: Any,
    saved: Any,
    log: Any,
    limits: Any,
    scalars: Any,
    outcome: Any,
    sums: Any,
    meetings: Any,
    starts: Any,
    part: int,
) -> None:
    """Steps on ``½xᵀAx − bᵀx`` for the rows ``starts[part] <= i < starts[part + 1]``.

    In ``limits``: the square to stop at; that below which an iterate is saved before its gradient
    grows, and by what the square of a saved one is multiplied for the next; the share of the
    largest Rayleigh quotient up to which one counts as 0. In
    ``scalars``: ``gᵀg``, that of the step before, ``pᵀp``, whether to start with ``−g``, and the
    largest quotient so far. Written by part 0: a row of ``log`` for each step (β, pᵀp, pᵀAp, α, gᵀg
    after it), and in ``outcome`` the number of steps, whether the next one failed, and the step
    before which x was saved, or −1.
    """
    begin, end = U(starts[part]), U(starts[part + 1])
    parts = len(starts) - 1
    square, before, lengths = scalars[0], scalars[1], scalars[2]
    is_fresh, largest = scalars[3] != 0, scalars[4]
    stop, better = limits[0], limits[1]
    met = 0
    done = 0
    failed = 0
    saved_at = -1
    while done < len(log):
        ratio = 0.0
        if is_fresh:
            lengths = square
            for i in range(begin, end):
                p[i] = -g[i]
        else:
            if before > 0:
                ratio = square / before
            lengths = square + ratio * ratio * lengths
            beta = x.dtype.type(ratio)
            for i in range(begin, end):
                p[i] = beta * p[i] - g[i]
        is_fresh = False
        met += 1
        _meet(meetings, part, parts, met)

        total = 0.0
        j = U(indptr[begin])
        for i in range(begin, end):
            row_end = U(indptr[i + U(1)])
            s = x.dtype.type(0)
            while j < row_end:
                s += data[j] * p[U(indices[j])]
                j += U(1)
            image[i] = s
            total += np.float64(p[i]) * np.float64(s)
        sums[part * APART] = total
        met += 1
        _meet(meetings, part, parts, met)

        curvature = 0.0
        for k in range(parts):
            curvature += sums[k * APART]
        quotient = curvature / lengths if lengths > 0 else 0.0
        if math.isfinite(quotient):
            largest = max(largest, quotient)
        if part == 0:
            log[done, 0], log[done, 1], log[done, 2] = ratio, lengths, curvature
        if not (quotient > limits[3] * largest and math.isfinite(quotient)):
            failed = 1
            break
        alpha = square / curvature
        step = x.dtype.type(alpha)
        total = 0.0
        for i in range(begin, end):
            x[i] += step * p[i]
            moved = g[i] + step * image[i]
            g[i] = moved
            total += np.float64(moved) * np.float64(moved)
        sums[part * APART + 1] = total
        met += 1
        _meet(meetings, part, parts, met)

        after = 0.0
        for k in range(parts):
            after += sums[k * APART + 1]
        if after > square and square < better:
            for i in range(begin, end):
                saved[i] = x[i] - step * p[i]
            better = square * limits[2]
            saved_at = done
        before = square
        square = after
        if part == 0:
            log[done, 3], log[done, 4] = alpha, after
        done += 1
        if not after > stop or not math.isfinite(after):
            break
    if part == 0:
        outcome[0], outcome[1], outcome[2] = done, failed, saved_at
