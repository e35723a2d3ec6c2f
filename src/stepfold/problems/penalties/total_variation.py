"""Total variation of a signal or a picture, by the fast gradient method on its dual.

That of a signal is ``μ Σ|xᵢ₊₁ − xᵢ|``; that of a picture is isotropic, ``μ Σ √(|dᵢⱼ|² + |eᵢⱼ|²)``
over differences to the next row and to the next column; of complex numbers moduli are taken. There
is no formula for the proximal operator. With D for the differences it is ``v − λDᴴp``, ``λ = γμ``,
where p minimises ``‖v − λDᴴp‖²`` over ``|pᵢⱼ| ≤ 1``. The gap between the two problems,

    ``λ Σ (|(Dx)ᵢⱼ| − Re p̄ᵢⱼ(Dx)ᵢⱼ)`` at ``x = v − λDᴴp``,

has no negative term, and half the squared distance from x to the solution is at most that.

References:
    Beck and Teboulle, Fast gradient-based algorithms for constrained total variation image
    denoising and deblurring problems (IEEE Trans. Image Process. 18, 2009), section IV.
    O'Donoghue and Candès, Adaptive restart for accelerated gradient schemes (Found. Comput. Math.
    15, 2015), section 3.2.
"""

from __future__ import annotations

from typing import Any

from stepfold._arrays import detached, epsilon, namespace
from stepfold._checks import check_count, check_nonnegative
from stepfold._typing import ArrayT
from stepfold.problems._rows import real_products, squares
from stepfold.problems.penalties.base import PENALTIES, Penalty, check_step
from stepfold.problems.penalties.nuclear_norm import as_matrices, check_shape

# Iterations between two looks at the gap, each of which is a read from the device.
BETWEEN_LOOKS = 20


@PENALTIES.register("total_variation")
class TotalVariation(Penalty):
    """``μ·TV(x)`` of real or complex vectors, arrays or tensors.

    Args:
        weight: μ, at least 0.
        shape: Rows and columns of the picture whose rows, one after the other, are x; a signal if
            not given.
        max_iterations: Most iterations of the inner method, at least 1.
        rtol: It ends when the result is within ``rtol·‖v‖`` of the solution by the gap, or the gap
            is rounding; with 0 it takes all iterations. An iteration that calls this operator gets
            no more accurate than it is.

    Raises:
        ValueError: If ``weight`` is negative, or another argument is out of range.

    >>> TotalVariation(1.0).prox(np.array([0.0, 0.0, 3.0, 3.0]), 1.0).round(6)
    array([0.5, 0.5, 2.5, 2.5])
    """

    takes_complex = True

    def __init__(
        self,
        weight: float,
        shape: tuple[int, int] | None = None,
        *,
        max_iterations: int = 2000,
        rtol: float = 1e-8,
    ) -> None:
        self.weight = float(check_nonnegative("weight", weight))
        self.shape = None if shape is None else check_shape(shape)
        if self.shape is not None and min(self.shape) < 2:
            raise ValueError(
                f"`shape` must have at least two rows and two columns, got {self.shape}; "
                "leave it out for a signal"
            )
        self.max_iterations = check_count("max_iterations", max_iterations)
        self.rtol = check_nonnegative("rtol", rtol)

    def value(self, x: Any) -> Any:
        """``μ·TV(x)``."""
        return self.weight * _lengths(_differences(self._pictures(x))).sum(-1)

    def prox(self, v: ArrayT, step: Any) -> ArrayT:
        """By the inner method on all rows at once; a derivative is that of its iterations."""
        check_step(step)
        rows: Any = v
        pictures = self._pictures(rows)
        weight = step * self.weight + 0 * abs(rows[..., :1])
        problem = _Dual(pictures, weight[..., None], self.rtol)
        smoothed: ArrayT = problem.solved(self.max_iterations).reshape(rows.shape)
        return smoothed

    def _pictures(self, x: Any) -> Any:
        """Pictures (…, rows, columns); a signal is one row."""
        return x[..., None, :] if self.shape is None else as_matrices(x, self.shape)


class _Dual:
    """Smoothing of a batch of pictures, by the fast gradient method with restart.

    Args:
        pictures: v, shape (…, rows, columns).
        weight: λ, shape (…, 1, 1).
        rtol: How near to the solution, in units of ‖v‖.
    """

    def __init__(self, pictures: Any, weight: Any, rtol: float) -> None:
        self._pictures, self._weight = pictures, weight
        # ‖DDᴴ‖ is below 4 for a signal, below 8 for a picture.
        size = 4.0 if pictures.shape[-2] == 1 else 8.0
        self._step = 1 / (size * (weight + (weight == 0)))
        self._looks = rtol > 0
        self._enough = rtol**2 / 2 * squares(_flat(detached(pictures))).sum(-1)

    def solved(self, max_iterations: int) -> Any:
        """``v − λDᴴp``."""
        before = point = [0 * part for part in _differences(self._pictures)]
        momentum = 0 * self._weight + 1.0
        for count in range(1, max_iterations + 1):
            moved = zip(point, _differences(self._primal(point)), strict=True)
            dual = _in_balls([p + self._step * part for p, part in moved])
            moves = [p - old for p, old in zip(dual, before, strict=True)]
            uphill = sum(
                real_products(_flat(q - p), _flat(move))
                for q, p, move in zip(point, dual, moves, strict=True)
            )
            kept = 0 * momentum + (uphill[..., None, None] <= 0)
            grown = (1 + (1 + 4 * momentum * momentum) ** 0.5) / 2
            share = kept * (momentum - 1) / grown
            momentum = kept * grown + (1 - kept)
            point = [p + share * move for p, move in zip(dual, moves, strict=True)]
            before = dual
            if self._looks and count % BETWEEN_LOOKS == 0 and self._is_near(dual):
                break
        return self._primal(before)

    def _primal(self, dual: list[Any]) -> Any:
        return self._pictures - self._weight * _adjoint(dual)

    def _is_near(self, dual: list[Any]) -> bool:
        """Whether the gap of every picture is small enough, or rounding."""
        dual = [detached(part) for part in dual]
        differences = _differences(detached(self._primal(dual)))
        pairs = zip(dual, differences, strict=True)
        along = sum(real_products(_flat(p), _flat(part)) for p, part in pairs)
        variation, weight = _lengths(differences).sum(-1), detached(self._weight)[..., 0, 0]
        rounding = 4 * epsilon(variation) * weight * variation
        return bool((weight * (variation - along) <= self._enough + rounding).all())


def _differences(pictures: Any) -> list[Any]:
    """To the next column, and to the next row where there is one; 0 where there is no next."""
    xp = namespace(pictures)
    last = 0 * pictures[..., :1]
    found = [xp.concat([pictures[..., 1:] - pictures[..., :-1], last], axis=-1)]
    if pictures.shape[-2] > 1:
        last = 0 * pictures[..., :1, :]
        found.append(xp.concat([pictures[..., 1:, :] - pictures[..., :-1, :], last], axis=-2))
    return found


def _adjoint(dual: list[Any]) -> Any:
    """``Dᴴp`` of a p that is 0 where there is no next."""
    xp = namespace(dual[0])
    across = dual[0]
    total = xp.concat([0 * across[..., :1], across[..., :-1]], axis=-1) - across
    for down in dual[1:]:
        total = total + xp.concat([0 * down[..., :1, :], down[..., :-1, :]], axis=-2) - down
    return total


def _lengths(parts: list[Any]) -> Any:
    """``√(|dᵢⱼ|² + |eᵢⱼ|²)``, pictures as rows."""
    if len(parts) == 1:
        return _flat(abs(parts[0]))
    total = sum(squares(part) for part in parts)
    # The root of 0 has no derivative.
    return _flat((total + (total == 0)) ** 0.5 * (total > 0))


def _in_balls(parts: list[Any]) -> list[Any]:
    """Every ``(dᵢⱼ, eᵢⱼ)`` brought to a length of at most 1."""
    total = sum(squares(part) for part in parts)
    lengths = total.clip(1, None) ** 0.5
    return [part / lengths for part in parts]


def _flat(pictures: Any) -> Any:
    return pictures.reshape((*pictures.shape[:-2], -1))
