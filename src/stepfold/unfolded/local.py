"""What each layer of a nonlinear network does near its iterate: eigenvalues of its Jacobian.

Layer t maps x to ``f(x)``; near the iterate it multiplies small errors by the Jacobian J. For
gradient descent ``(I − J)/γₜ`` is the Hessian; with a proximal step it is the Hessian seen by what
the penalty lets move, and ``1/γₜ`` on what it holds still. For layers that do more than that it has
no such meaning: ``I − γₜ`` times it is J, no more. Layers with a memory, such as momentum, are maps
of the iterate and what they remember together. The product of all Jacobians says how much of a
small error at the start is left at the end.

Complex vectors are pairs of real ones: to a map that is linear over the complex numbers belong each
eigenvalue and its conjugate.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from stepfold._arrays import from_host, to_host
from stepfold._typing import FloatArray
from stepfold.iterations import Iteration
from stepfold.problems.base import check_rows
from stepfold.problems.fixed_point import FixedPoint
from stepfold.problems.jacobian import Jacobian
from stepfold.spectrum.arnoldi import arnoldi_values
from stepfold.unfolded._layers import layers_of
from stepfold.unfolded.choice import check_network
from stepfold.unfolded.module import UnfoldedIteration

MOST_UNKNOWNS = 512
"""Numbers that layers hand on up to which Jacobians are dense."""
NUM_PRODUCTS = 30
"""Products with each larger Jacobian, at most."""
NUM_GAIN_PRODUCTS = 10
"""Products with the derivative of each iterate, and with its transpose, for each gain."""


@dataclass(frozen=True, eq=False)
class LocalSpectra:
    """Eigenvalues along one trajectory.

    Args:
        eigenvalues: Real parts of those of ``(I − J)/γₜ``, ascending, shape (T, n), n the real
            numbers that layers hand on: of complex vectors both parts; with a memory kn, k the
            number of vectors. Of larger networks Ritz values, shape (T, k), filled up by NaN.
        largest_imaginary: Largest imaginary part among them for each layer, shape (T,).
        radii: Spectral radius of J for each layer, shape (T,).
        gains: Largest singular value of the derivative of the t-th iterate with respect to the
            start, shape (T,).
        steps: γₜ, shape (T,).
        has_memory: Whether layers hand on more than the iterate, as momentum does: J is then the
            Jacobian of all that they hand on.
        is_estimate: Whether there are too many unknowns for dense Jacobians. The ends of Ritz
            values approach those of the spectrum from inside, and so do radii and gains from below.
    """

    eigenvalues: FloatArray
    largest_imaginary: FloatArray
    radii: FloatArray
    gains: FloatArray
    steps: FloatArray
    has_memory: bool = False
    is_estimate: bool = False


def local_spectra(network: UnfoldedIteration, problem: Any, x0: Any = None) -> LocalSpectra:
    """Spectra of the layers' Jacobians along the trajectory of one problem.

    Args:
        network: Layers that hand on the iterate, a tensor, or containers and dataclasses of
            tensors, real or complex; single numbers in them are held as they are.
        problem: A problem over tensors, or ``data`` of the network's own step.
        x0: Start, as the network takes it: of shape (n,), or (batch, …), of which the first row is
            followed, the others held as they are; 0 if not given and the problem is linear.

    Returns:
        Up to 512 numbers that layers hand on: dense spectra. Above: Ritz values of 30 products with
        each Jacobian.

    Raises:
        TypeError: If layers hand on no tensors, or something of another size than they are given.
        ValueError: If a Jacobian is not finite, or a step is 0.

    >>> from stepfold import Quadratic, Schedule
    >>> hessian = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    >>> network = UnfoldedIteration(Schedule([0.5, 0.4]))
    >>> found = local_spectra(network, Quadratic(hessian, torch.ones(2, dtype=torch.float64)))
    >>> found.eigenvalues.round(12).tolist()
    [[1.0, 3.0], [1.0, 3.0]]
    """
    check_network(network)
    if isinstance(network.iteration, Iteration):
        if not hasattr(problem, "gradient_step"):  # not only a `Problem` has it
            raise TypeError(
                f"`problem` must have gradient steps, got {type(problem).__name__}; as "
                "`LeastSquares(operator, rhs)` of tensors"
            )
        term = getattr(problem, "linear_term", None)
        if isinstance(term, np.ndarray):
            raise TypeError("`problem` must be made of tensors of torch, got arrays of NumPy")
        if isinstance(x0, Tensor) and isinstance(term, Tensor):
            check_rows("x0", x0, term.shape[-1], "`problem`")
    return _Trajectory(network, problem, x0).spectra()


class _Trajectory:
    """The states of one run through the network, and functions of the row that is followed."""

    def __init__(self, network: UnfoldedIteration, problem: Any, x0: Any) -> None:
        self.problem = problem
        self.kind = layers_of(network.iteration)
        self.matrices: dict[int, Tensor] = {}
        self.layers = network._layers(network.num_layers)
        self.steps = network.layer_steps().detach().double().cpu().numpy()
        if not self.steps.all():
            raise ValueError(
                f"layer {int(np.flatnonzero(self.steps == 0)[0])} has a step of 0, which leaves "
                "nothing to divide its Jacobian by"
            )
        start = x0
        if x0 is None and hasattr(problem, "linear_term"):
            start = 0 * problem.linear_term
        with torch.no_grad():
            self.states = [self.kind.start(problem, start)]
            self.start = start
            self.batch = _batch_of(start)
            for layer in self.layers:
                self.states.append(layer(problem, self.states[-1]))

    def spectra(self) -> LocalSpectra:
        size = self.flat(self.states[0]).numel()
        is_estimate = size > MOST_UNKNOWNS
        look = self.ritz_values if is_estimate else self.dense_values
        rows: list[FloatArray] = []
        imaginary, radii = np.zeros(len(self.layers)), np.zeros(len(self.layers))
        for index, gamma in enumerate(self.steps):
            values = look(index) / gamma
            rows.append(np.sort(values.real))
            imaginary[index] = np.abs(values.imag).max()
            radii[index] = np.abs(1 - gamma * values).max()
        eigenvalues = np.full((len(rows), max(row.size for row in rows)), np.nan)
        for place, row in zip(eigenvalues, rows, strict=True):
            place[: row.size] = row
        return LocalSpectra(
            eigenvalues,
            imaginary,
            radii,
            self.estimated_gains() if is_estimate else self.gains(),
            self.steps,
            has_memory=size > self.flat(self.kind.iterate(self.states[0])).numel()
            or self.num_followed(self.states[0]) > 1,
            is_estimate=is_estimate,
        )

    def dense_values(self, index: int) -> Any:
        """Eigenvalues of I − J."""
        matrix = self.matrix(index).double()
        identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        return to_host(torch.linalg.eigvals(identity - matrix))

    def matrix(self, index: int) -> Tensor:
        """J, by reverse mode, which every operation has; forward mode some lack."""
        if index in self.matrices:
            return self.matrices[index]
        flat = self.flat(self.states[index])
        matrix: Tensor = jacobian(self.moved(index), flat)
        self.check_size(index, len(matrix), flat.numel())
        if not matrix.isfinite().all():
            raise ValueError(
                f"the Jacobian of layer {index} is not finite at its iterate; the layers before "
                "may diverge on this problem"
            )
        self.matrices[index] = matrix
        return matrix

    def ritz_values(self, index: int) -> Any:
        """Ritz values of I − J."""
        flat, moved = self.flat(self.states[index]), self.moved(index)
        self.check_size(index, self.flat(self.states[index + 1]).numel(), flat.numel())
        local = Jacobian(FixedPoint(moved), flat)

        def product(vector: FloatArray) -> FloatArray:
            image = to_host(local.product(from_host(vector, flat))).astype(np.float64)
            if not np.isfinite(image).all():
                raise ValueError(
                    f"the Jacobian of layer {index} is not finite at its iterate; the layers "
                    "before may diverge on this problem"
                )
            result: FloatArray = vector - image
            return result

        start = np.random.default_rng(index).standard_normal(flat.numel())
        with torch.no_grad():
            return arnoldi_values(product, start, NUM_PRODUCTS, tolerance=1e-2)[0]

    def gains(self) -> FloatArray:
        row = self.flat(self.start)
        product: Tensor = jacobian(self.begun, row)
        gains = []
        for index in range(len(self.layers)):
            product = self.matrix(index) @ product
            # What is seen of a state does not depend on where it is.
            shown: Tensor = jacobian(self.seen(index), self.flat(self.states[index + 1]))
            gains.append(float(torch.linalg.matrix_norm((shown @ product).double(), 2)))
        return np.array(gains)

    def estimated_gains(self) -> FloatArray:
        """By Lanczos on FᵀF, F the derivative of the iterate with respect to the start."""
        row = self.flat(self.start)
        start = np.random.default_rng(0).standard_normal(row.numel())
        gains = []
        for depth in range(1, len(self.layers) + 1):

            def output(v: Tensor, depth: int = depth) -> Tensor:
                state = self.kind.start(self.problem, self.replaced(self.start, v))
                for layer in self.layers[:depth]:
                    state = layer(self.problem, state)
                return self.flat(self.kind.iterate(state))

            point = row.clone().requires_grad_()
            with torch.enable_grad():
                image = output(point)
            local = Jacobian(FixedPoint(output), row)

            def product(
                vector: FloatArray,
                point: Tensor = point,
                image: Tensor = image,
                local: Jacobian = local,
            ) -> FloatArray:
                there = local.product(from_host(vector, row))
                (back,) = torch.autograd.grad(image, point, there, retain_graph=True)
                result: FloatArray = to_host(back).astype(np.float64)
                return result

            largest = arnoldi_values(product, start, NUM_GAIN_PRODUCTS, tolerance=1e-2)[0][-1].real
            gains.append(max(float(largest), 0.0) ** 0.5)
        return np.array(gains)

    def begun(self, v: Tensor) -> Tensor:
        return self.flat(self.kind.start(self.problem, self.replaced(self.start, v)))

    def moved(self, index: int) -> Callable[[Tensor], Tensor]:
        layer, state = self.layers[index], self.states[index]
        return lambda v: self.flat(layer(self.problem, self.replaced(state, v)))

    def seen(self, index: int) -> Callable[[Tensor], Tensor]:
        state = self.states[index + 1]
        return lambda v: self.flat(self.kind.iterate(self.replaced(state, v)))

    def check_size(self, index: int, found: int, given: int) -> None:
        if found != given:
            raise TypeError(
                f"layer {index} must hand on as much as it was given for a Jacobian that has "
                f"eigenvalues, got {found} entries from {given}"
            )

    def is_followed(self, tensor: Tensor) -> bool:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return False
        if self.batch is None:
            return tensor.ndim > 0
        return tensor.ndim > 1 and len(tensor) == self.batch

    def num_followed(self, state: Any) -> int:
        parts: list[Tensor] = []
        _mapped(state, lambda each: parts.append(each) or each)  # type: ignore[func-returns-value]
        return sum(self.is_followed(each) for each in parts)

    def flat(self, state: Any) -> Tensor:
        """What a state holds of the row that is followed, as one real vector."""
        rows: list[Tensor] = []

        def look(tensor: Tensor) -> Tensor:
            if self.is_followed(tensor):
                row = tensor if self.batch is None else tensor[0]
                if row.is_complex():
                    row = torch.view_as_real(row.resolve_conj())
                rows.append(row.reshape(-1))
            return tensor

        _mapped(state, look)
        if not rows:
            raise TypeError(
                "layers must hand on a tensor with an axis, or a container of some, for their "
                f"Jacobians, got {type(state).__name__}"
            )
        return torch.cat(rows)

    def replaced(self, state: Any, vector: Tensor) -> Any:
        """The state with the row that is followed taken from a vector."""
        done = 0

        def change(tensor: Tensor) -> Tensor:
            nonlocal done
            if not self.is_followed(tensor):
                return tensor
            row = tensor if self.batch is None else tensor[0]
            size = row.numel() * (1 + row.is_complex())
            piece = vector[done : done + size]
            done += size
            if row.is_complex():
                new = torch.view_as_complex(piece.reshape(*row.shape, 2).contiguous())
            else:
                new = piece.reshape(row.shape)
            return new if self.batch is None else torch.cat([new[None], tensor[1:]])

        return _mapped(state, change)


def _batch_of(start: Any) -> int | None:
    """Rows of the first tensor of a start; None if it is one vector."""
    found: list[Tensor] = []
    _mapped(start, lambda each: found.append(each) or each)  # type: ignore[func-returns-value]
    first = next((each for each in found if each.ndim), None)
    return None if first is None or first.ndim == 1 else len(first)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Containers, named tuples and dataclasses with each tensor in them changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        entries = [_mapped(each, change) for each in value]
        if isinstance(value, list):
            return entries
        return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)
    if isinstance(value, dict):
        return {name: _mapped(each, change) for name, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        clone = copy.copy(value)
        for each in dataclasses.fields(value):
            object.__setattr__(clone, each.name, _mapped(getattr(value, each.name), change))
        return clone
    return value
