"""What each layer of a nonlinear network does near its iterate: eigenvalues of its Jacobian.

Layer t maps x to ``f(x)``; near the iterate it multiplies small errors by the Jacobian J. For
gradient descent ``(I − J)/γₜ`` is the Hessian; with a proximal step it is the Hessian seen by what
the penalty lets move, and ``1/γₜ`` on what it holds still. For layers that do more than that it has
no such meaning: ``I − γₜ`` times it is J, no more. The product of all Jacobians says how
much of a small error at the start is left at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stepfold._typing import FloatArray
from stepfold.unfolded.module import UnfoldedIteration

MOST_UNKNOWNS = 2048


@dataclass(frozen=True, eq=False)
class LocalSpectra:
    """Eigenvalues along one trajectory.

    Args:
        eigenvalues: Real parts of those of ``(I − J)/γₜ``, ascending, shape (T, n).
        largest_imaginary: Largest imaginary part among them for each layer, shape (T,).
        radii: Spectral radius of J for each layer, shape (T,).
        gains: Largest singular value of the product of the first t Jacobians, shape (T,).
        steps: γₜ, shape (T,).
    """

    eigenvalues: FloatArray
    largest_imaginary: FloatArray
    radii: FloatArray
    gains: FloatArray
    steps: FloatArray


def local_spectra(network: UnfoldedIteration, problem: Any, x0: Any = None) -> LocalSpectra:
    """Spectra of the layers' Jacobians along the trajectory of one problem.

    Args:
        network: Layers that are maps of the iterate alone.
        problem: A problem over tensors, or ``data`` of the network's own step.
        x0: Start, shape (n,), or (batch, …) of which the first row is followed, the others held as
            they are; 0 if not given and the problem is linear.

    Returns:
        Dense spectra: n products with the Jacobian and its eigenvalues for each layer.

    Raises:
        TypeError: If layers hand on more than the iterate.
        ValueError: If there are more than 2048 unknowns, or a Jacobian is not finite.

    >>> from stepfold import Quadratic, Schedule
    >>> hessian = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    >>> network = UnfoldedIteration(Schedule([0.5, 0.4]))
    >>> found = local_spectra(network, Quadratic(hessian, torch.ones(2, dtype=torch.float64)))
    >>> found.eigenvalues.round(12).tolist()
    [[1.0, 3.0], [1.0, 3.0]]
    """
    iterate: Tensor = 0 * problem.linear_term if x0 is None else x0
    is_alone = iterate.ndim == 1
    row = iterate if is_alone else iterate[0]
    size = row.numel()
    if size > MOST_UNKNOWNS:
        raise ValueError(
            f"`x0` must have at most {MOST_UNKNOWNS} entries for dense Jacobians, got {size}; "
            "`stepfold.accelerate` looks at larger maps by their products"
        )
    steps = network.layer_steps().detach()
    identity = torch.eye(size, dtype=iterate.dtype, device=iterate.device)
    product = identity
    rows, imaginary, radii, gains = [], [], [], []
    for index, gamma in enumerate(steps):
        rest = iterate[1:]

        def layer(v: Tensor, index: int = index, rest: Tensor = rest) -> Tensor:
            if is_alone:
                return network.layer(index, problem, v)
            return network.layer(index, problem, torch.cat([v[None], rest]))[0]

        # Reverse mode, which every operation has; forward mode some lack.
        jacobian = torch.autograd.functional.jacobian(layer, row).reshape(size, size)
        if not jacobian.isfinite().all():
            raise ValueError(
                f"the Jacobian of layer {index} is not finite at its iterate; the layers before "
                "may diverge on this problem"
            )
        values = torch.linalg.eigvals((identity - jacobian).double() / gamma.double())
        rows.append(values.real.sort().values)
        imaginary.append(values.imag.abs().max())
        radii.append((1 - gamma.double() * values).abs().max())
        product = jacobian @ product
        gains.append(torch.linalg.matrix_norm(product.double(), 2))
        with torch.no_grad():
            iterate = network.layer(index, problem, iterate)
        row = iterate if is_alone else iterate[0]
    found = [torch.stack(each).cpu().numpy() for each in (rows, imaginary, radii, gains)]
    return LocalSpectra(found[0], found[1], found[2], found[3], steps.double().cpu().numpy())
