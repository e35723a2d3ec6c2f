"""Stepfold beside deepinv: its physics and priors in our methods, our steps in its optimisers.

deepinv holds images as tensors of shape (batch, channel, height, width), we hold vectors as rows.
A complex entry is two real ones here, so that every map is real and its adjoint is its transpose.
deepinv itself is not imported: what is asked of its objects are the methods ``A`` and ``A_adjoint``
of a ``LinearPhysics``, ``prox`` and ``fn`` of a ``Prior`` and the call of a ``Denoiser``. Written
for deepinv 0.5.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "`stepfold.interop.deepinv` needs torch, which is not installed; "
        "install it with `pip install 'stepfold[unfolded]'`",
        name=error.name,
    ) from error
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stepfold._checks import check_count, check_nonnegative, check_positive
from stepfold.operators import linear_map
from stepfold.polynomial import first_order_lower_bound, num_steps_to
from stepfold.problems.penalties import Penalty
from stepfold.schedules import Schedule, chebyshev_steps
from stepfold.spectrum import SpectralBounds

MOST_STEPS = 1000
"""Steps of one data step beyond which a smaller γ is asked for."""


class PhysicsOperator:
    """A linear physics of deepinv as a real matrix A of shape (m, n), known by its products.

    For `LeastSquares`, `estimate_bounds`, `plan`, `solve` and unfolded networks. Like a tensor it
    has ``shape``, (m, n), ``dtype``, which is real, and ``device``.

    Args:
        physics: What has ``A`` and ``A_adjoint``, as deepinv's ``LinearPhysics``. Its parameters
            are shared by a batch.
        image: An image, or a batch of them, of shape (batch, …): n is the number of real entries
            of one, products are in its dtype and on its device.

    Raises:
        TypeError: If ``physics`` has no such methods, or ``image`` is no tensor of floating-point
            numbers.
        ValueError: If ``image`` has no axis for a batch, or ``physics`` makes several measurements
            of one image.

    >>> class Blur:
    ...     def A(self, x):
    ...         return x + x.roll(1, -1)
    ...
    ...     def A_adjoint(self, y):
    ...         return y + y.roll(-1, -1)
    >>> operator = PhysicsOperator(Blur(), torch.zeros(1, 1, 2, 3))
    >>> operator.shape, (operator @ torch.arange(6.0)).tolist()
    ((6, 6), [2.0, 1.0, 3.0, 8.0, 7.0, 9.0])
    """

    def __init__(self, physics: Any, image: Tensor) -> None:
        for name in ("A", "A_adjoint"):
            if not callable(getattr(physics, name, None)):
                raise TypeError(
                    f"`physics` must have the methods `A` and `A_adjoint` of a LinearPhysics, got "
                    f"{type(physics).__name__} without `{name}`; of a nonlinear one there is no "
                    "matrix"
                )
        self._images = _Packing("image", image)
        with torch.no_grad():
            measured = physics.A(image[:1])
        self._measured = _Packing("physics.A(image)", measured)
        if self._measured.batch != 1:
            raise ValueError(
                "`physics` must measure one image as one, got a batch of "
                f"{self._measured.batch} from it; give each set of parameters a physics of its own"
            )
        self.physics = physics
        self.shape = (self._measured.length, self._images.length)
        like = self._images.rows(image[:1])[0]
        self.dtype, self.device = like.dtype, like.device
        self._map = linear_map(self._forward, self._backward, shape=self.shape, like=like)

    def rows(self, images: Tensor) -> Tensor:
        """Images of shape (batch, …) as rows, shape (batch, n)."""
        return self._images.rows(images)

    def images(self, rows: Tensor) -> Any:
        """Rows of shape (batch, n), or one of shape (n,), as images of shape (batch, …)."""
        return self._images.values(rows)

    def measured_rows(self, measured: Any) -> Tensor:
        """Measurements as rows, shape (batch, m): what `LeastSquares` takes as right-hand sides."""
        return self._measured.rows(measured)

    def measurements(self, rows: Tensor) -> Any:
        """Rows of shape (batch, m), or one of shape (m,), as deepinv's measurements."""
        return self._measured.values(rows)

    def __matmul__(self, columns: Any) -> Any:
        return self._map @ columns

    @property
    def T(self) -> Any:  # noqa: N802, RUF100 (NumPy's name)
        """The adjoint, of shape (n, m)."""
        return self._map.T

    @property
    def H(self) -> Any:  # noqa: N802, RUF100 (NumPy's name)
        """The adjoint, of shape (n, m)."""
        return self._map.H

    def _forward(self, rows: Tensor) -> Tensor:
        return self._measured.rows(self.physics.A(self._images.values(rows))).reshape(
            *rows.shape[:-1], -1
        )

    def _backward(self, rows: Tensor) -> Tensor:
        return self._images.rows(self.physics.A_adjoint(self._measured.values(rows))).reshape(
            *rows.shape[:-1], -1
        )


class _Packing:
    """Tensors of one shape, or lists of them, as real rows and back."""

    def __init__(self, name: str, example: Any) -> None:
        self._list = None if isinstance(example, Tensor) else type(example)
        parts: list[Any] = [example] if self._list is None else list(example)
        for part in parts:
            if not isinstance(part, Tensor) or not (part.is_floating_point() or part.is_complex()):
                raise TypeError(
                    f"`{name}` must be a tensor of floating-point numbers, got "
                    f"{getattr(part, 'dtype', type(part).__name__)}"
                )
            if part.ndim < 2 or part.numel() == 0:
                raise ValueError(
                    f"`{name}` must have an axis for a batch in front and not be empty, got shape "
                    f"{tuple(part.shape)}; write `image[None]` for a single one"
                )
        self._shapes = [tuple(part.shape[1:]) for part in parts]
        self._complex = [part.is_complex() for part in parts]
        sizes = zip(self._shapes, self._complex, strict=True)
        self._lengths = [math.prod(shape) * (2 if double else 1) for shape, double in sizes]
        self.length = sum(self._lengths)
        self.batch = len(parts[0])
        self.dtype: torch.dtype = parts[0].real.dtype

    def rows(self, values: Any) -> Tensor:
        parts = [values] if self._list is None else list(values)
        if [tuple(part.shape[1:]) for part in parts] != self._shapes:
            raise ValueError(
                f"tensors must have the shapes (batch, …) with … = {self._shapes}, got "
                f"{[tuple(part.shape) for part in parts]}"
            )
        real = [torch.view_as_real(part) if part.is_complex() else part for part in parts]
        flat = [part.reshape(len(part), -1) for part in real]
        return flat[0] if len(flat) == 1 else torch.cat(flat, 1)

    def values(self, rows: Tensor) -> Any:
        if not isinstance(rows, Tensor):
            raise TypeError(
                f"rows must be tensors, got {type(rows).__name__}; pose the problem on tensors, as "
                "by `torch.from_numpy`"
            )
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != self.length:
            raise ValueError(
                f"rows must have shape ({self.length},) or (batch, {self.length}), got "
                f"{tuple(rows.shape)}"
            )
        parts = []
        pieces: Sequence[Tensor] = torch.split(rows, self._lengths, 1)
        for piece, shape, double in zip(pieces, self._shapes, self._complex, strict=True):
            part = piece.reshape(len(piece), *shape, *((2,) if double else ()))
            parts.append(torch.view_as_complex(part.contiguous()) if double else part)
        return parts[0] if self._list is None else self._list(parts)


class PriorPenalty(Penalty):
    """A prior or a denoiser of deepinv as a penalty ``weight·g`` of rows.

    For `Composite` objectives and for the iteration `ProximalGradient`. Weights of a prior that is
    a module are trained with a network that takes it.

    Args:
        prior: What has ``prox(x, sigma, gamma=γ)``, as a ``Prior``; or a denoiser
            ``denoiser(x, sigma)``, which is taken as the proximal operator whatever γ is.
        image: An image, or a batch of them, of shape (batch, …): the shape that rows have there.
        weight: What γ is multiplied by, at least 0, deepinv's ``lambda``.
        sigma: Noise level that the denoiser takes, deepinv's ``g_param``.

    Raises:
        TypeError: If ``prior`` is neither.
        ValueError: If ``weight`` is negative, or ``sigma`` is missing for a denoiser or a prior
            that is made of one.

    >>> def shrink(x, sigma):
    ...     return x / (1 + sigma**2)
    >>> penalty = PriorPenalty(shrink, torch.zeros(1, 1, 2, 2), sigma=1.0)
    >>> penalty.prox(torch.ones(4), 0.1).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    def __init__(
        self, prior: Any, image: Tensor, *, weight: float = 1.0, sigma: Any = None
    ) -> None:
        self._is_prior = callable(getattr(prior, "prox", None))
        if not self._is_prior and not callable(prior):
            raise TypeError(
                "`prior` must be a prior with a method `prox`, or a denoiser, got "
                f"{type(prior).__name__}"
            )
        self.is_explicit = self._is_prior and bool(getattr(prior, "explicit_prior", False))
        if sigma is None and not self.is_explicit:
            raise ValueError(
                f"`sigma` must be given for {type(prior).__name__}, whose proximal operator is a "
                "denoiser; it is the noise level that the denoiser removes"
            )
        self.prior = prior
        self.weight = check_nonnegative("weight", weight)
        self.sigma = sigma
        self._images = _Packing("image", image)

    def value(self, x: Any) -> Any:
        """``weight·g`` of each row.

        Raises:
            TypeError: If the prior is a denoiser, which is no function's.
        """
        if not self.is_explicit:
            raise TypeError(
                f"`prior` must have values for an objective, and {type(self.prior).__name__} is "
                "known by its denoiser only; take `Composite(…).fixed_point()` and `accelerate`, "
                "or an `UnfoldedIteration`"
            )
        values = self.weight * self.prior.fn(self._images.values(x), self.sigma).reshape(-1)
        return values[0] if x.ndim == 1 else values

    def prox(self, v: Any, step: Any) -> Any:
        """``prior.prox(v, sigma, gamma=step·weight)``, or ``denoiser(v, sigma)``."""
        images = self._images.values(v)
        if self._is_prior:
            moved = self.prior.prox(images, self.sigma, gamma=step * self.weight)
        else:
            moved = self.prior(images, self.sigma)
        rows = self._images.rows(moved)
        return rows[0] if v.ndim == 1 else rows


class ChebyshevL2(nn.Module):
    """deepinv's fidelity ``‖Ax − y‖²/(2σ²)``, with a proximal operator made of Chebyshev steps.

    ``prox(x, y, physics, gamma=γ)`` solves ``(AᵀA + I·σ²/γ) u = Aᵀy + x·σ²/γ`` by as many steps as
    the bounds and ``rtol`` call for, known in advance: without inner products, the same linear map
    for every image of a batch. For ``HQS``, ``ADMM`` and ``DRS`` in the place of ``L2``, whose
    conjugate gradients need fewer products for one image, and two sums over all images in each.
    Gradients are those of the solution, by one more solve, whatever the number of steps: by x, y, γ
    and what the physics holds.

    Args:
        bounds: Interval [a, b] of the eigenvalues of AᵀA for every physics that is met.
        sigma: σ.
        rtol: Error of u over that of x, at most, both in the 2-norm.

    Raises:
        TypeError: If ``bounds`` are not `SpectralBounds`.
        ValueError: If ``sigma`` or ``rtol`` are out of range; from `prox`, if γ takes more than
            1000 steps, an entry is not finite, or the steps do not shrink the residual as they must
            with these bounds.

    >>> class Double:
    ...     def A(self, x):
    ...         return 2 * x
    ...
    ...     def A_adjoint(self, y):
    ...         return 2 * y
    >>> fidelity = ChebyshevL2(SpectralBounds(3.0, 5.0))
    >>> x, y = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    >>> round(fidelity.prox(x, y, Double(), gamma=0.5).item(), 4)  # 2y/(4 + 2)
    0.3333
    """

    def __init__(self, bounds: SpectralBounds, *, sigma: float = 1.0, rtol: float = 1e-5) -> None:
        super().__init__()
        if not isinstance(bounds, SpectralBounds):
            raise TypeError(
                f"`bounds` must be SpectralBounds, got {type(bounds).__name__}; take "
                "`estimate_bounds(LeastSquares(PhysicsOperator(physics, image), rows))`"
            )
        self.bounds = bounds
        check_positive("sigma", sigma, "it is the noise level")
        check_positive("rtol", rtol, "1e-5 is the default")
        if rtol >= 1:
            raise ValueError(f"`rtol` must be below 1, got {rtol!r}")
        self.sigma = float(sigma)
        self.rtol = float(rtol)

    def schedule(self, gamma: float) -> Schedule:
        """The steps that `prox` takes for this γ."""
        check_positive("gamma", gamma, "it is the step of `prox`")
        shift = self.sigma**2 / gamma
        shifted = SpectralBounds(self.bounds.lower + shift, self.bounds.upper + shift)
        # 1/cosh is at most twice an exponential, whose rate this is.
        period = num_steps_to(self.rtol / 2, first_order_lower_bound(shifted))
        if period > MOST_STEPS:
            raise ValueError(
                f"`gamma` must leave the data step a condition that {MOST_STEPS} steps can "
                f"solve, got {gamma:g}, which takes {period:g}; give a smaller `gamma`, a larger "
                "`rtol` or a lower bound above 0"
            )
        return _steps(shifted.lower, shifted.upper, int(period))

    def forward(self, x: Tensor, y: Any, physics: Any) -> Tensor:
        """``‖Ax − y‖²/(2σ²)`` of each image, shape (batch,)."""
        residual = physics.A(x) - y
        rows = _Packing("y", residual).rows(residual)
        return (rows * rows).sum(-1) / (2 * self.sigma**2)

    def grad(self, x: Tensor, y: Any, physics: Any) -> Tensor:
        """``Aᵀ(Ax − y)/σ²``, of the shape of ``x``."""
        gradient: Tensor = physics.A_adjoint(physics.A(x) - y) / self.sigma**2
        return gradient

    def prox(self, x: Tensor, y: Any, physics: Any, *, gamma: Any = 1.0) -> Tensor:
        """``argmin_u γ‖Au − y‖²/(2σ²) + ½‖u − x‖²``, of the shape of ``x``; γ is one number."""
        if isinstance(gamma, Tensor):
            if gamma.numel() != 1:
                raise ValueError(
                    f"`gamma` must be one number for all images, got shape {tuple(gamma.shape)}"
                )
            gamma = gamma.reshape(())
        number = gamma.item() if isinstance(gamma, Tensor) else gamma
        schedule = self.schedule(number)
        shift = self.sigma**2 / gamma

        def residual(u: Tensor) -> Tensor:
            gap: Tensor = physics.A_adjoint(y - physics.A(u)) + shift * (x - u)
            return gap

        def inverse(v: Tensor) -> Tensor:
            """``(AᵀA + shift·I)⁻¹v``, to a factor rtol."""
            u = schedule[0] * v
            for step in schedule[1:]:
                u = u + step * (v - physics.A_adjoint(physics.A(u)) - shift * u)
            return u

        with torch.no_grad():
            first = residual(x)
            solution = x + inverse(first)
        last = residual(solution)
        self._check(first, last.detach(), solution, self.sigma**2 / number)
        if not last.requires_grad:
            return solution
        # The residual is 0 there, up to rtol, and so is its Newton step: what counts is its slope.
        step: Tensor = _NewtonStep.apply(last, inverse)  # type: ignore[no-untyped-call]
        return solution + step

    def _check(self, first: Tensor, last: Tensor, solution: Tensor, shift: float) -> None:
        sizes = [part.reshape(len(part), -1).norm(dim=1) for part in (first, last, solution)]
        if not bool(sizes[0].isfinite().all()):
            raise ValueError(
                "`x` and `y` must be finite, and so must what `physics` makes of them, got NaN or "
                "infinity"
            )
        eps = torch.finfo(sizes[0].dtype).eps
        allowed = 10 * self.rtol * sizes[0]
        allowed = allowed + 100 * eps * ((self.bounds.upper + shift) * sizes[2] + sizes[0])
        if not bool((sizes[1] <= allowed).all()):
            raise ValueError(
                "`bounds` must hold every eigenvalue of AᵀA of `physics`, and the steps made for "
                f"[{self.bounds.lower:g}, {self.bounds.upper:g}] have not shrunk the residual as "
                "they must; take `estimate_bounds` of this physics, or a larger upper bound"
            )


@functools.lru_cache(maxsize=64)
def _steps(lower: float, upper: float, period: int) -> Schedule:
    return chebyshev_steps(SpectralBounds(lower, upper), period)


class _NewtonStep(torch.autograd.Function):
    """0, with the derivative of ``inverse(residual)``; the inverse is symmetric."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, inverse: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.inverse = inverse
        return torch.zeros_like(residual)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        with torch.no_grad():
            return ctx.inverse(gradient), None


def stepsizes(schedule: Schedule, max_iter: int) -> list[float]:
    """The steps of ``max_iter`` iterations, which deepinv's optimisers take as ``stepsize``.

    deepinv does not repeat a list: it holds a single step for all iterations, and refuses a list
    that is shorter than ``max_iter``. With ``unfold=True`` each entry is trained by itself.

    Args:
        schedule: T steps, which repeat; a longer one is cut.
        max_iter: The optimiser's.

    >>> stepsizes(Schedule([0.5, 0.25]), 5)
    [0.5, 0.25, 0.5, 0.25, 0.5]
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"`schedule` must be a Schedule, got {type(schedule).__name__}; "
            "wrap step sizes as `Schedule(steps)`"
        )
    return [schedule(count) for count in range(check_count("max_iter", max_iter))]


def schedule_of(model: Any) -> Schedule:
    """The steps of an optimiser or an unfolded network of deepinv, learned or given.

    Args:
        model: What has ``params_algo`` with "stepsize", one entry or one for each iteration.

    Raises:
        TypeError: If there are none.
        ValueError: If one is not positive; deepinv does not keep them so.

    >>> class Model:
    ...     params_algo = {"stepsize": [torch.tensor(0.5), torch.tensor(0.25)]}
    >>> schedule_of(Model()).steps.tolist()
    [0.5, 0.25]
    """
    parameters = getattr(model, "params_algo", None)
    if parameters is None or "stepsize" not in parameters:
        raise TypeError(
            f"`model` must be an optimiser of deepinv with a `stepsize`, got {type(model).__name__}"
        )
    steps: Sequence[Any] = parameters["stepsize"]
    return Schedule(np.array([float(step) for step in steps]), "deepinv's")
