"""What each layer of a nonlinear network does near its iterate: eigenvalues of its Jacobian.

Layer t maps x to ``f(x)``; near the iterate it multiplies small errors by the Jacobian J. For
gradient descent ``(I − J)/γₜ`` is the Hessian; with a proximal step it is the Hessian seen by what
the penalty lets move, and ``1/γₜ`` on what it holds still. For layers that do more than that it has
no such meaning: ``I − γₜ`` times it is J, no more. Layers with a memory, such as momentum, are maps
of the iterate and what they remember together. The product of all Jacobians says how much of a
small error at the start is left at the end.

A layer that shrinks moduli has no complex derivative. Complex vectors are taken as their real and
imaginary parts, and every eigenvalue of a Hermitian Hessian is there twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from stepfold._typing import FloatArray
from stepfold.unfolded._layers import Layer, layers_of
from stepfold.unfolded.module import UnfoldedIteration

MOST_UNKNOWNS = 2048


@dataclass(frozen=True, eq=False)
class LocalSpectra:
    """Eigenvalues along one trajectory.

    Args:
        eigenvalues: Real parts of those of ``(I − J)/γₜ``, ascending, shape (T, n); with a memory
            (T, kn), k the number of vectors that layers hand on. Complex entries count twice.
        largest_imaginary: Largest imaginary part among them for each layer, shape (T,).
        radii: Spectral radius of J for each layer, shape (T,).
        gains: Largest singular value of the derivative of the t-th iterate with respect to the
            start, shape (T,).
        steps: γₜ, shape (T,).
        has_memory: Whether layers hand on more than the iterate, as momentum does: J is then the
            Jacobian of all that they hand on.
    """

    eigenvalues: FloatArray
    largest_imaginary: FloatArray
    radii: FloatArray
    gains: FloatArray
    steps: FloatArray
    has_memory: bool = False


def local_spectra(network: UnfoldedIteration, problem: Any, x0: Any = None) -> LocalSpectra:
    """Spectra of the layers' Jacobians along the trajectory of one problem.

    Args:
        network: Layers that hand on the iterate, or a tuple with other tensors of its shape, such
            as the iterate before; numbers in it are held as they are.
        problem: A problem over tensors, or ``data`` of the network's own step.
        x0: Start, shape (n,), or (batch, …) of which the first row is followed, the others held as
            they are; 0 if not given and the problem is linear.

    Returns:
        Dense spectra: n products with the Jacobian and its eigenvalues for each layer.

    Raises:
        TypeError: If layers hand on something else.
        ValueError: If there are more than 2048 real unknowns, or a Jacobian is not finite.

    >>> from stepfold import Quadratic, Schedule
    >>> hessian = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    >>> network = UnfoldedIteration(Schedule([0.5, 0.4]))
    >>> found = local_spectra(network, Quadratic(hessian, torch.ones(2, dtype=torch.float64)))
    >>> found.eigenvalues.round(12).tolist()
    [[1.0, 3.0], [1.0, 3.0]]
    """
    iterate: Tensor = 0 * problem.linear_term if x0 is None else x0
    is_alone = iterate.ndim == 1
    row = _parts_of(iterate if is_alone else iterate[0])
    kind = layers_of(network.iteration)
    state = kind.start(problem, iterate)
    size = _flat(state, iterate).numel()
    if size > MOST_UNKNOWNS:
        raise ValueError(
            f"`x0` must have at most {MOST_UNKNOWNS} real entries, with what layers remember of "
            f"it, for dense Jacobians, got {size}; `stepfold.accelerate` looks at larger maps by "
            "their products"
        )
    steps = network.layer_steps().detach()
    identity = torch.eye(size, dtype=row.dtype, device=iterate.device)

    def begun(v: Tensor) -> Tensor:
        return _flat(kind.start(problem, _with_row(iterate, v)), iterate)

    # Reverse mode, which every operation has; forward mode some lack.
    product = jacobian(begun, row).reshape(size, -1)
    rows, imaginary, radii, gains = [], [], [], []
    for index, (gamma, layer) in enumerate(
        zip(steps, network._layers(network.num_layers), strict=True)
    ):

        def moved(v: Tensor, layer: Layer = layer, state: Any = state) -> Tensor:
            return _flat(layer(problem, _replaced(state, v, iterate)), iterate)

        def seen(v: Tensor, state: Any = state) -> Tensor:
            output: Tensor = kind.iterate(_replaced(state, v, iterate))
            return _parts_of(output if is_alone else output[0])

        flat = _flat(state, iterate).detach()
        matrix = jacobian(moved, flat)
        if matrix.shape != identity.shape:
            raise TypeError(
                f"layer {index} must hand on as much as it was given for a Jacobian that has "
                f"eigenvalues, got {matrix.shape[0]} entries from {matrix.shape[1]}"
            )
        if not matrix.isfinite().all():
            raise ValueError(
                f"the Jacobian of layer {index} is not finite at its iterate; the layers before "
                "may diverge on this problem"
            )
        values = torch.linalg.eigvals((identity - matrix).double() / gamma.double())
        rows.append(values.real.sort().values)
        imaginary.append(values.imag.abs().max())
        radii.append((1 - gamma.double() * values).abs().max())
        product = matrix @ product
        with torch.no_grad():
            state = layer(problem, state)
        # What is seen of a state does not depend on where it is.
        shown = jacobian(seen, flat).reshape(-1, size)
        gains.append(torch.linalg.matrix_norm((shown @ product).double(), 2))
    found = [torch.stack(each).cpu().numpy() for each in (rows, imaginary, radii, gains)]
    return LocalSpectra(
        found[0],
        found[1],
        found[2],
        found[3],
        steps.double().cpu().numpy(),
        has_memory=size > row.numel(),
    )


def _parts(state: Any, iterate: Tensor) -> list[Any]:
    parts = list(state) if isinstance(state, tuple) else [state]
    if not any(_is_vector(part, iterate) for part in parts):
        raise TypeError(
            "layers must hand on a tensor of the shape of `x0`, or a tuple with some, for their "
            f"Jacobians, got {type(state).__name__}"
        )
    return parts


def _is_vector(part: Any, iterate: Tensor) -> bool:
    return isinstance(part, Tensor) and part.shape == iterate.shape


def _flat(state: Any, iterate: Tensor) -> Tensor:
    """What a state holds of the row that is followed, as one vector."""
    parts = [part for part in _parts(state, iterate) if _is_vector(part, iterate)]
    rows = parts if iterate.ndim == 1 else [part[0] for part in parts]
    return torch.cat([_parts_of(row) for row in rows])


def _parts_of(row: Tensor) -> Tensor:
    """A row as one vector; a complex one as the parts of its entries in turn."""
    flat = row.reshape(-1)
    return torch.view_as_real(flat.resolve_conj()).reshape(-1) if flat.is_complex() else flat


def _with_row(tensor: Tensor, vector: Tensor) -> Tensor:
    """The tensor, with the row that is followed taken from such a vector."""
    if tensor.is_complex():
        vector = torch.view_as_complex(vector.reshape(-1, 2).contiguous())
    if tensor.ndim == 1:
        return vector
    return torch.cat([vector.reshape(tensor[:1].shape), tensor[1:]])


def _replaced(state: Any, vector: Tensor, iterate: Tensor) -> Any:
    """The state with the row that is followed taken from a vector."""
    parts = _parts(state, iterate)
    size = _parts_of(iterate if iterate.ndim == 1 else iterate[0]).numel()
    pieces = iter(vector.split(size))
    for place, part in enumerate(parts):
        if _is_vector(part, iterate):
            parts[place] = _with_row(part, next(pieces))
    if not isinstance(state, tuple):
        return parts[0]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
