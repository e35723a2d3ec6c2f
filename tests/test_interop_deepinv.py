"""deepinv's objects in our methods and our steps in its optimisers.

Objects that keep deepinv's contract stand in for it everywhere; where the package can be imported
the same theorems are tested on its own physics, priors and optimisers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepfold import (
    LeastSquares,
    Schedule,
    SpectralBounds,
    accelerate,
    chebyshev_steps,
    estimate_bounds,
    solve,
)
from stepfold.interop.deepinv import (
    ChebyshevL2,
    PhysicsOperator,
    PriorPenalty,
    schedule_of,
    stepsizes,
)
from stepfold.iterations import ProximalGradient
from stepfold.problems import Composite
from stepfold.problems.penalties import L1
from stepfold.unfolded import UnfoldedIteration


class Dense:
    """Linear physics of images of shape (1, 3, 4) with a matrix; an optional complex half."""

    def __init__(self, seed: int, *, rows: int = 14, kind: str = "real") -> None:
        rng = torch.Generator().manual_seed(seed)
        self.kind = kind
        self.matrix = torch.randn(rows, 12, generator=rng, dtype=torch.float64)
        self.other = torch.randn(rows, 12, generator=rng, dtype=torch.float64)

    def A(self, x: Tensor) -> Any:
        flat = x.reshape(len(x), -1)
        one, other = flat @ self.matrix.T.to(flat), flat @ self.other.T.to(flat)
        if self.kind == "complex":
            return torch.complex(one, other)
        return Parts([one, other]) if self.kind == "list" else one

    def A_adjoint(self, y: Any) -> Any:
        if self.kind == "complex":
            rows = y.real @ self.matrix + y.imag @ self.other
        elif self.kind == "list":
            rows = y[0] @ self.matrix + y[1] @ self.other
        else:
            rows = y @ self.matrix.to(y)
        return rows.reshape(len(rows), 1, 3, 4)


class Parts(list[Tensor]):
    """Measurements in a list, as deepinv's ``TensorList``."""


class Sparse(nn.Module):
    """deepinv's ``L1Prior``."""

    explicit_prior = True

    def fn(self, x: Tensor, *_: Any) -> Tensor:
        return x.reshape(len(x), -1).abs().sum(-1)

    def prox(self, x: Tensor, *_: Any, gamma: Any = 1.0) -> Any:
        return x.sign() * (x.abs() - gamma).clamp(min=0)


IMAGE = torch.zeros(2, 1, 3, 4, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["real", "complex", "list"])
def test_a_physics_is_the_matrix_that_its_products_say(kind: str) -> None:
    operator = PhysicsOperator(Dense(0, kind=kind), IMAGE)
    identity = torch.eye(12, dtype=torch.float64)
    matrix = operator @ identity
    assert operator.shape == tuple(matrix.shape) == (14 if kind == "real" else 28, 12)
    transpose = operator.T @ torch.eye(operator.shape[0], dtype=torch.float64)
    torch.testing.assert_close(transpose, matrix.T)
    assert operator.T.shape == operator.shape[::-1]
    assert (operator.dtype, operator.device) == (IMAGE.dtype, IMAGE.device)


@pytest.mark.parametrize("kind", ["real", "complex", "list"])
def test_rows_come_back_as_the_images_and_measurements_that_they_were(kind: str) -> None:
    physics = Dense(1, kind=kind)
    operator = PhysicsOperator(physics, IMAGE)
    images = torch.randn(3, 1, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(operator.images(operator.rows(images)), images)
    measured = physics.A(images)
    back = operator.measurements(operator.measured_rows(measured))
    assert type(back) is type(measured)
    for one, other in zip(back, measured, strict=True):
        torch.testing.assert_close(one, other)


def test_bounds_of_a_physics_hold_its_spectrum() -> None:
    physics = Dense(2)
    operator = PhysicsOperator(physics, IMAGE)
    rows = operator.measured_rows(physics.A(torch.ones_like(IMAGE)))
    bounds = estimate_bounds(LeastSquares(operator, rows))
    eigenvalues = np.linalg.eigvalsh((physics.matrix.T @ physics.matrix).numpy())
    assert bounds.lower <= eigenvalues[0] * (1 + 1e-9)
    assert eigenvalues[-1] * (1 - 1e-9) <= bounds.upper <= 1.2 * eigenvalues[-1]


def test_solve_ends_at_the_least_squares_solution_of_each_image() -> None:
    physics = Dense(3)
    operator = PhysicsOperator(physics, IMAGE)
    measured = physics.A(torch.randn(2, 1, 3, 4, dtype=torch.float64)) + 0.1
    problem = LeastSquares(operator, operator.measured_rows(measured), ridge=0.5)
    schedule = chebyshev_steps(estimate_bounds(problem), 16)
    result = solve(problem, schedule, rtol=1e-10, max_steps=2000)
    matrix = physics.matrix
    hessian = matrix.T @ matrix + 0.5 * torch.eye(12, dtype=torch.float64)
    expected = torch.linalg.solve(hessian, matrix.T @ measured.T).T
    torch.testing.assert_close(result.x, expected, rtol=1e-8, atol=1e-8)


def test_a_wrong_adjoint_is_refused() -> None:
    physics = Dense(4)
    true = physics.A_adjoint
    physics.A_adjoint = lambda y: true(y.flip(-1))  # type: ignore[method-assign]
    operator = PhysicsOperator(physics, IMAGE)
    with pytest.raises(ValueError, match=r"adjoint of `operator` must satisfy"):
        estimate_bounds(LeastSquares(operator, torch.ones(14, dtype=torch.float64)))


def test_a_prior_is_the_penalty_of_the_same_name() -> None:
    v = torch.randn(5, 12, dtype=torch.float64)
    ours, theirs = L1(0.3), PriorPenalty(Sparse(), IMAGE, weight=0.3)
    torch.testing.assert_close(theirs.prox(v, 0.7), ours.prox(v, 0.7))
    torch.testing.assert_close(theirs.value(v), ours.value(v))
    torch.testing.assert_close(theirs.prox(v[0], 0.7), ours.prox(v[0], 0.7))
    torch.testing.assert_close(theirs.value(v[0]), ours.value(v[0]))


def test_a_lasso_with_deepinvs_prior_has_the_solution_of_ours() -> None:
    physics = Dense(5)
    operator = PhysicsOperator(physics, IMAGE)
    problem = LeastSquares(operator, operator.measured_rows(physics.A(torch.ones_like(IMAGE)))[0])
    theirs = Composite(problem, PriorPenalty(Sparse(), IMAGE, weight=2.0))
    found = solve(theirs, rtol=1e-9, max_steps=5000)
    dense = LeastSquares(physics.matrix, problem.rhs)
    expected = solve(Composite(dense, L1(2.0)), rtol=1e-9, max_steps=5000)
    torch.testing.assert_close(found.x, expected.x, rtol=1e-6, atol=1e-7)


def test_a_denoiser_has_a_fixed_point_and_no_objective() -> None:
    physics = Dense(6)
    operator = PhysicsOperator(physics, IMAGE)
    rhs = operator.measured_rows(physics.A(torch.ones_like(IMAGE)))[0]
    problem = LeastSquares(operator, rhs)

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        return x / (1 + sigma)

    composite = Composite(problem, PriorPenalty(denoiser, IMAGE, sigma=0.5))
    gamma = composite.step
    result = accelerate(composite.fixed_point(), 0 * problem.linear_term, rtol=1e-10)
    # x = (x − γ∇f(x))/1.5
    gradient = problem.gradient(result.x)
    torch.testing.assert_close(1.5 * result.x, result.x - gamma * gradient, rtol=1e-6, atol=1e-7)
    with pytest.raises(TypeError, match=r"known by its denoiser only.*accelerate"):
        composite.value(result.x)


def test_a_layer_with_a_physics_and_a_denoiser_hands_gradients_to_both() -> None:
    physics = Dense(7)
    denoiser = nn.Linear(4, 4, dtype=torch.float64)
    penalty = PriorPenalty(lambda x, sigma: x + sigma * denoiser(x), IMAGE, sigma=0.1)
    network = UnfoldedIteration(
        Schedule(np.array([0.02, 0.03])), iteration=ProximalGradient(penalty)
    )
    operator = PhysicsOperator(physics, IMAGE)
    problem = LeastSquares(operator, operator.measured_rows(physics.A(torch.ones_like(IMAGE))))
    network(problem).square().sum().backward()
    assert denoiser.weight.grad is not None
    assert bool(denoiser.weight.grad.any())
    assert all(
        raw.grad is not None and bool(raw.grad.all()) for raw in network.stacked_parameters()
    )


def direct(physics: Dense, x: Tensor, y: Tensor, gamma: Any, sigma: float) -> Any:
    """The data step by a dense solver."""
    shift = sigma**2 / gamma
    hessian = physics.matrix.T @ physics.matrix + shift * torch.eye(12, dtype=torch.float64)
    rhs = y @ physics.matrix + shift * x.reshape(len(x), -1)
    return torch.linalg.solve(hessian, rhs.T).T.reshape(x.shape)


def bounds_of(physics: Dense) -> SpectralBounds:
    eigenvalues = np.linalg.eigvalsh((physics.matrix.T @ physics.matrix).numpy())
    return SpectralBounds(max(0.0, eigenvalues[0]), eigenvalues[-1])


@pytest.mark.parametrize("rows", [14, 8])
@pytest.mark.parametrize("gamma", [0.01, 1.0, 30.0])
def test_the_data_step_is_as_near_the_direct_one_as_promised(rows: int, gamma: float) -> None:
    physics = Dense(8, rows=rows)
    x, y = torch.randn_like(IMAGE), torch.randn(2, rows, dtype=torch.float64)
    fidelity = ChebyshevL2(bounds_of(physics), sigma=0.7, rtol=1e-7)
    expected = direct(physics, x, y, gamma, 0.7)
    found = fidelity.prox(x, y, physics, gamma=gamma)
    assert float((found - expected).norm()) <= 1e-7 * float((x - expected).norm())


def test_gradients_of_the_data_step_are_those_of_the_direct_one() -> None:
    physics, twin = Dense(9), Dense(9)
    fidelity = ChebyshevL2(bounds_of(physics), sigma=0.7, rtol=1e-12)
    torch.manual_seed(0)
    parts = [
        torch.randn_like(IMAGE),
        torch.randn(2, 14, dtype=torch.float64),
        torch.tensor(0.8, dtype=torch.float64),
    ]
    weights = torch.randn_like(IMAGE)
    gradients = []
    for kind, step in ((physics, None), (twin, direct)):
        leaves = [part.clone().requires_grad_() for part in parts]
        kind.matrix.requires_grad_()
        x, y, gamma = leaves
        if step is None:
            found = fidelity.prox(x, y, kind, gamma=gamma)
        else:
            found = step(kind, x, y, gamma, 0.7)
        gradients.append(torch.autograd.grad((found * weights).sum(), [*leaves, kind.matrix]))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_bounds_that_miss_an_eigenvalue_are_refused_by_what_the_steps_do() -> None:
    physics = Dense(10)
    true = bounds_of(physics)
    fidelity = ChebyshevL2(SpectralBounds(0.0, 0.6 * true.upper))
    with pytest.raises(ValueError, match=r"`bounds` must hold every eigenvalue"):
        fidelity.prox(IMAGE, torch.ones(2, 14, dtype=torch.float64), physics, gamma=1.0)


def test_values_and_gradients_of_the_fidelity_agree() -> None:
    physics = Dense(11)
    fidelity = ChebyshevL2(bounds_of(physics), sigma=0.5)
    x = torch.randn_like(IMAGE).requires_grad_()
    y = torch.randn(2, 14, dtype=torch.float64)
    values = fidelity(x, y, physics)
    assert values.shape == (2,)
    (expected,) = torch.autograd.grad(values.sum(), x)
    torch.testing.assert_close(fidelity.grad(x, y, physics), expected)


@pytest.mark.parametrize("max_iter", [1, 3, 7])
def test_step_lists_are_as_long_as_the_iterations_and_repeat(max_iter: int) -> None:
    schedule = Schedule(np.array([0.5, 0.2, 0.3]))
    assert stepsizes(schedule, max_iter) == [schedule(count) for count in range(max_iter)]


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no adjoint": (
        lambda: PhysicsOperator(nn.Linear(2, 2), IMAGE),
        TypeError,
        r"`physics` must have the methods .*Linear without `A`",
    ),
    "integers": (
        lambda: PhysicsOperator(Dense(0), torch.zeros(1, 1, 3, 4, dtype=torch.int64)),
        TypeError,
        r"`image` must be a tensor of floating-point numbers, got torch.int64",
    ),
    "no batch": (
        lambda: PhysicsOperator(Dense(0), torch.zeros(12)),
        ValueError,
        r"`image` must have an axis for a batch.*image\[None\]",
    ),
    "other images": (
        lambda: PhysicsOperator(Dense(0), IMAGE).rows(torch.zeros(2, 3, 4)),
        ValueError,
        r"shapes \(batch, …\) with … = \[\(1, 3, 4\)\], got \[\(2, 3, 4\)\]",
    ),
    "no prior": (
        lambda: PriorPenalty(3.0, IMAGE),
        TypeError,
        r"`prior` must be a prior with a method `prox`, or a denoiser, got float",
    ),
    "no noise level": (
        lambda: PriorPenalty(nn.Identity(), IMAGE),
        ValueError,
        r"`sigma` must be given for Identity",
    ),
    "negative weight": (
        lambda: PriorPenalty(Sparse(), IMAGE, weight=-1.0),
        ValueError,
        r"`weight` must be at least 0",
    ),
    "no bounds": (
        lambda: ChebyshevL2(4.0),  # type: ignore[arg-type]
        TypeError,
        r"`bounds` must be SpectralBounds, got float",
    ),
    "too long a step": (
        lambda: ChebyshevL2(SpectralBounds(0.0, 1.0)).schedule(1e9),
        ValueError,
        r"`gamma` must leave the data step a condition that 1000 steps can solve, got 1e\+09",
    ),
    "a step for each image": (
        lambda: ChebyshevL2(SpectralBounds(0.0, 1.0)).prox(
            IMAGE, torch.zeros(2, 14), Dense(0), gamma=torch.ones(2)
        ),
        ValueError,
        r"`gamma` must be one number for all images, got shape \(2,\)",
    ),
    "arrays": (
        lambda: PriorPenalty(Sparse(), IMAGE).prox(np.zeros(12), 1.0),
        TypeError,
        r"rows must be tensors, got ndarray",
    ),
    "rows of another length": (
        lambda: PriorPenalty(Sparse(), IMAGE).prox(torch.zeros(2, 13), 1.0),
        ValueError,
        r"rows must have shape \(12,\) or \(batch, 12\), got \(2, 13\)",
    ),
    "data that are not finite": (
        lambda: ChebyshevL2(SpectralBounds(0.0, 100.0)).prox(
            IMAGE, torch.full((2, 14), torch.nan, dtype=torch.float64), Dense(0)
        ),
        ValueError,
        r"`x` and `y` must be finite",
    ),
    "steps alone": (
        lambda: stepsizes([0.5], 3),  # type: ignore[arg-type]
        TypeError,
        r"`schedule` must be a Schedule, got list",
    ),
    "no optimiser": (
        lambda: schedule_of(nn.Identity()),
        TypeError,
        r"`model` must be an optimiser of deepinv with a `stepsize`, got Identity",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_deepinv_would_not_hand_over_is_refused(case: str) -> None:
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


# deepinv's own objects.


@pytest.fixture(scope="module")
def deepinv() -> Any:
    return pytest.importorskip(
        "deepinv",
        reason="deepinv cannot be imported; it needs torchvision, which the pinned torch lacks",
    )


def blur(deepinv: Any) -> Any:
    kernel = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]], dtype=torch.float64) / 8
    return deepinv.physics.Blur(filter=kernel[None, None], padding="circular")


def images(seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, 8, 8, generator=rng, dtype=torch.float64)


def test_a_blur_of_deepinv_has_the_bounds_of_its_transform(deepinv: Any) -> None:
    physics = blur(deepinv)
    image = images(0)
    operator = PhysicsOperator(physics, image)
    problem = LeastSquares(operator, operator.measured_rows(physics.A(image)))
    bounds = estimate_bounds(problem)
    delta = torch.zeros_like(image[:1])
    delta[..., 0, 0] = 1
    gains = torch.fft.fft2(physics.A(delta)).abs().square()
    assert bounds.lower <= float(gains.min()) * (1 + 1e-9)
    assert float(gains.max()) * (1 - 1e-9) <= bounds.upper <= 1.2 * float(gains.max())


@pytest.mark.parametrize("unfold", [False, True])
def test_proximal_gradients_of_deepinv_take_our_steps_as_ours_do(
    deepinv: Any, unfold: bool
) -> None:
    physics, image = blur(deepinv), images(1)
    y = physics.A(image)
    schedule = chebyshev_steps(SpectralBounds(0.2, 1.0), 4)
    model = deepinv.optim.PGD(
        data_fidelity=deepinv.optim.data_fidelity.L2(),
        prior=deepinv.optim.L1Prior(),
        lambda_reg=0.01,
        stepsize=stepsizes(schedule, 10),
        max_iter=10,
        unfold=unfold,
        trainable_params=["stepsize"],
    )
    with torch.no_grad():
        theirs = model(y, physics, init=torch.zeros_like(image))
    operator = PhysicsOperator(physics, image)
    problem = LeastSquares(operator, operator.measured_rows(y))
    penalty = PriorPenalty(deepinv.optim.L1Prior(), image, weight=0.01)
    network = UnfoldedIteration(schedule, iteration=ProximalGradient(penalty), num_layers=10)
    with torch.no_grad():
        ours = operator.images(network(problem))
    tolerance = 1e-5 if unfold else 1e-10  # deepinv trains steps in float32
    torch.testing.assert_close(theirs, ours, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(schedule_of(model).steps, stepsizes(schedule, 10), rtol=1e-6)


def test_deepinv_refuses_the_list_that_our_function_makes_longer(deepinv: Any) -> None:
    with pytest.raises(ValueError, match="inferior to max_iter"):
        deepinv.optim.GD(stepsize=[0.5, 0.2], max_iter=10)
    deepinv.optim.GD(stepsize=stepsizes(Schedule(np.array([0.5, 0.2])), 10), max_iter=10)


@pytest.mark.parametrize("name", ["HQS", "ADMM", "DRS"])
def test_optimisers_of_deepinv_end_where_they_do_with_its_own_data_step(
    deepinv: Any, name: str
) -> None:
    physics, image = blur(deepinv), images(2)
    physics.tol = 1e-10
    y = physics.A(image)
    found = [
        getattr(deepinv.optim, name)(
            data_fidelity=fidelity,
            prior=deepinv.optim.L1Prior(),
            lambda_reg=0.02,
            stepsize=2.0,
            max_iter=15,
        )(y, physics)
        for fidelity in (
            deepinv.optim.data_fidelity.L2(sigma=0.5),
            ChebyshevL2(SpectralBounds(0.0, 1.0), sigma=0.5, rtol=1e-9),
        )
    ]
    # deepinv's conjugate gradients add 1e-8 to what they divide by, and stop some 1e-4 away.
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-3)


def test_an_unfolded_network_of_deepinv_trains_through_our_data_step(deepinv: Any) -> None:
    physics, image = blur(deepinv), images(3).float()
    physics = physics.to(torch.float32)
    y = physics.A(image)
    model = deepinv.optim.HQS(
        data_fidelity=ChebyshevL2(SpectralBounds(0.0, 1.0)),
        prior=deepinv.optim.L1Prior(),
        lambda_reg=0.02,
        stepsize=[1.0, 2.0, 3.0],
        max_iter=3,
        unfold=True,
        trainable_params=["stepsize"],
    )
    (model(y, physics) - image).square().mean().backward()
    gradients = [step.grad for step in model.params_algo["stepsize"]]
    assert all(gradient is not None and gradient.isfinite() for gradient in gradients)
    assert all(float(gradient) != 0 for gradient in gradients)


@pytest.mark.parametrize("name", ["L1Prior", "Tikhonov", "TVPrior"])
def test_priors_of_deepinv_keep_their_value_and_proximal_operator(deepinv: Any, name: str) -> None:
    prior, v = getattr(deepinv.optim, name)(), images(4)
    operator = PhysicsOperator(deepinv.physics.Denoising(), v)
    penalty = PriorPenalty(prior, v, weight=0.1)
    rows = operator.rows(v)
    expected = prior.prox(v, gamma=0.1 * 0.5)
    torch.testing.assert_close(operator.images(penalty.prox(rows, 0.5)), expected)
    torch.testing.assert_close(penalty.value(rows), 0.1 * prior.fn(v).reshape(-1))


def test_a_denoiser_of_deepinv_is_a_penalty_by_itself_and_in_a_prior(deepinv: Any) -> None:
    denoiser, v = deepinv.models.MedianFilter(), images(5)
    operator = PhysicsOperator(deepinv.physics.Denoising(), v)
    rows = operator.rows(v)
    expected = operator.rows(denoiser(v, 0.1))
    for prior in (denoiser, deepinv.optim.PnP(denoiser)):
        torch.testing.assert_close(PriorPenalty(prior, v, sigma=0.1).prox(rows, 1.0), expected)


def test_magnetic_resonance_and_stacked_physics_of_deepinv_are_real_matrices(deepinv: Any) -> None:
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    mask[..., ::2] = 1
    image = torch.rand(1, 2, 8, 8, dtype=torch.float64)
    mri = deepinv.physics.MRI(mask=mask, img_size=(2, 8, 8))
    stacked = deepinv.physics.StackedLinearPhysics([blur(deepinv), blur(deepinv)])
    for physics in (mri, stacked):
        operator = PhysicsOperator(physics, image)
        matrix = operator @ torch.eye(128, dtype=torch.float64)
        transpose = operator.T @ torch.eye(operator.shape[0], dtype=torch.float64)
        torch.testing.assert_close(matrix.T, transpose)
