"""Ridge regression by `stepfold.solve`, as estimators of scikit-learn.

`ChebyshevRidge` fits by products with X and its transpose alone, so that nothing of the size of
XᵀX is made. It pays on dense data with thousands of columns; on tall data with few columns, and on
text, scikit-learn's own solvers are as fast or faster (docs/guides/sklearn.md has the times).

``‖y − Xw‖² + α‖w‖²`` is minimised, as by ``sklearn.linear_model.Ridge``; the intercept has no
penalty. Written for scikit-learn 1.6 or newer.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Self

import numpy as np

from stepfold._checks import check_count, check_nonnegative
from stepfold._extras import check_version, not_installed
from stepfold.operators import linear_map
from stepfold.problems import LeastSquares
from stepfold.result import Result, Status
from stepfold.ridge import RidgeChoice, choose_ridge
from stepfold.solve import solve

NEED = "`stepfold.interop.sklearn` needs scikit-learn >= 1.6"
try:
    import sklearn
except ModuleNotFoundError as error:
    raise not_installed(NEED, "sklearn", error) from error
check_version(sklearn, NEED, "sklearn")

from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.model_selection import check_cv  # noqa: E402
from sklearn.utils.validation import (  # noqa: E402
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

__all__ = ["ChebyshevRidge", "ChebyshevRidgeCV"]


class _Centred:
    """Rows of X and y for least squares: weighted, and less their means if there is an intercept.

    A dense X is copied where it changes; a sparse one is not, and its means are taken out of
    products.
    """

    def __init__(self, X: Any, y: Any, weights: Any, *, has_intercept: bool) -> None:
        self.x_mean = np.zeros(X.shape[1], X.dtype)
        self.y_mean = np.zeros(y.shape[1:], X.dtype)
        self.is_vector = y.ndim == 1
        roots = None if weights is None else np.sqrt(weights)
        if has_intercept:
            shares = np.full(len(y), 1 / len(y), X.dtype) if weights is None else weights
            shares = shares / shares.sum()
            self.x_mean, self.y_mean = np.asarray(shares @ X), shares @ y
            y = y - self.y_mean
        if roots is not None:
            y = (roots * y.T).T
        self.rhs = np.ascontiguousarray(y.T)
        self.operator = self._operator(X, roots, has_intercept)

    def _operator(self, X: Any, roots: Any, has_intercept: bool) -> Any:
        if not hasattr(X, "tocsr"):
            X = X - self.x_mean if has_intercept else X
            return X if roots is None else roots[:, None] * X
        X = X.tocsr()
        if roots is not None:
            X = X.multiply(roots[:, None]).tocsr()
        if not has_intercept:
            return X
        means = self.x_mean
        ones = np.ones(X.shape[0], X.dtype) if roots is None else roots

        def product(v: Any) -> Any:
            return X @ v - ones * (means @ v)

        def adjoint(u: Any) -> Any:
            return X.T @ u - means * (ones @ u)

        return linear_map((product, adjoint), shape=X.shape, like=np.zeros(0, X.dtype))


class ChebyshevRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge regression by products with X and its transpose.

    Args:
        alpha: α ≥ 0, one number for all targets.
        fit_intercept: Whether there is an intercept, without penalty.
        tol: The reduction of the gradient at which iterations end; 1e-8 if None, in single
            precision 1e-4.
        max_iter: Most iterations; 10 000 if None.

    Attributes:
        coef_: Shape (n,), or (targets, n).
        intercept_: A number, or shape (targets,).
        n_iter_: Iterations taken.
        n_features_in_: n.
        feature_names_in_: Names of the columns, where X has names.
        result_: What `stepfold.solve` returned.

    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = ChebyshevRidge(alpha=0.1).fit(X, y)
    >>> print(f"{model.score(X, y):.3f}, {model.n_iter_} iterations")
    0.513, 10 iterations
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        tol: float | None = None,
        max_iter: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the coefficients.

        Args:
            X: Shape (m, n): array, data frame or sparse matrix.
            y: Shape (m,) or (m, targets).
            sample_weight: Weights of the rows, shape (m,); 1 if not given.

        Raises:
            ValueError: If data are not finite, shapes do not fit, or a parameter is out of range.
            TypeError: If a parameter is of the wrong type.
        """
        alpha = check_nonnegative("alpha", self.alpha)
        X, y, weights = self._checked(X, y, sample_weight)
        data = _Centred(X, y, weights, has_intercept=self.fit_intercept)
        result = self._solved(LeastSquares(data.operator, data.rhs, ridge=alpha))
        self._keep(data, result)
        return self

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=("csr", "csc"),
            dtype=(np.float64, np.float32),
            multi_output=True,
            y_numeric=True,
        )
        y = np.asarray(y, X.dtype)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=X.dtype, ensure_non_negative=True
            )
            if not sample_weight.any():
                raise ValueError("`sample_weight` must have a weight above 0, got zeros only")
        return X, y, sample_weight

    def _solved(self, problem: LeastSquares[Any], start: Any = None) -> Result[Any]:
        limit = 10_000 if self.max_iter is None else check_count("max_iter", self.max_iter)
        tol = None if self.tol is None else check_nonnegative("tol", self.tol)
        return solve(problem, x0=start, rtol=tol, max_steps=limit)

    def _keep(self, data: _Centred, result: Result[Any]) -> None:
        if result.status not in (Status.CONVERGED, Status.STALLED):
            warnings.warn(
                f"{result.advice} Raise `max_iter` or `tol`, or scale the columns of X",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.coef_ = result.x
        self.n_iter_ = result.num_steps
        self.result_ = result
        intercept = data.y_mean - result.x @ data.x_mean
        self.intercept_ = float(intercept) if data.is_vector else intercept

    def predict(self, X: Any) -> Any:
        """``Xw`` plus the intercept, shape (m,) or (m, targets)."""
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse=("csr", "csc"), dtype=(np.float64, np.float32), reset=False
        )
        return X @ self.coef_.T + self.intercept_

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² of the prediction: 1 if it is exact, 0 if it is no better than the mean of y."""
        return float(super().score(X, y, sample_weight))

    def __sklearn_tags__(self) -> Any:
        """That sparse X are taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class ChebyshevRidgeCV(ChebyshevRidge):
    """Ridge regression that chooses α: by generalised cross-validation, or from a list by folds.

    Args:
        alphas: What to choose from, by folds; or "gcv" for any α ≥ 0, by
            `stepfold.ridge.choose_ridge` (robust generalised cross-validation, by one decomposition
            or one set of Lanczos steps).
        cv: Folds, as scikit-learn's ``check_cv`` takes them; 5 if None. Not for "gcv".
        fit_intercept, tol, max_iter: As in `ChebyshevRidge`.

    Attributes:
        alpha_: The α chosen.
        best_score_: Minus the mean squared error of ``alpha_`` over the folds; None with "gcv".
        choice_: What `choose_ridge` returned with "gcv"; else None.

    >>> rng = np.random.default_rng(0)
    >>> X, w = rng.standard_normal((60, 40)), rng.standard_normal(40)
    >>> model = ChebyshevRidgeCV([1e-3, 1.0, 1e3]).fit(X, X @ w + rng.standard_normal(60))
    >>> model.alpha_
    1.0
    """

    def __init__(
        self,
        alphas: Any = (0.1, 1.0, 10.0),
        *,
        cv: Any = None,
        fit_intercept: bool = True,
        tol: float | None = None,
        max_iter: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Choose α, then fit with it; arguments as in `ChebyshevRidge`.

        Raises:
            ValueError: As `ChebyshevRidge.fit`; if ``alphas`` is empty or holds a negative number;
                if generalised cross-validation cannot tell noise from signal.
        """
        is_automatic = isinstance(self.alphas, str)
        if is_automatic and self.alphas != "gcv":
            raise ValueError(f'`alphas` must be numbers or "gcv", got {self.alphas!r}')
        X, y, weights = self._checked(X, y, sample_weight)
        data = _Centred(X, y, weights, has_intercept=self.fit_intercept)
        self.choice_: RidgeChoice | None = None
        self.best_score_: float | None = None
        if is_automatic:
            self.choice_ = choose_ridge(LeastSquares(data.operator, data.rhs))
            self.alpha_ = self.choice_.ridge
        else:
            self.alpha_, self.best_score_ = self._best_of_list(X, y, weights)
        self._keep(data, self._solved(LeastSquares(data.operator, data.rhs, ridge=self.alpha_)))
        return self

    def _best_of_list(self, X: Any, y: Any, weights: Any) -> tuple[float, float]:
        # From the largest on: each solution is near the next, and the easy ones come first.
        alphas = sorted((check_nonnegative("alphas", a) for a in self.alphas), reverse=True)
        if not alphas:
            raise ValueError("`alphas` must have a number, got none")
        errors = np.zeros(len(alphas))
        total = 0.0
        for train, test in check_cv(5 if self.cv is None else self.cv).split(X, y):
            fold_weights = None if weights is None else weights[train]
            if fold_weights is not None and not fold_weights.any():
                continue
            fold = _Centred(X[train], y[train], fold_weights, has_intercept=self.fit_intercept)
            start = None
            shares = np.ones(len(test)) if weights is None else weights[test]
            total += float(shares.sum())
            for place, alpha in enumerate(alphas):
                problem = LeastSquares(fold.operator, fold.rhs, ridge=alpha)
                start = self._solved(problem, start).x
                left = X[test] @ start.T + (fold.y_mean - start @ fold.x_mean) - y[test]
                squares = left**2 if fold.is_vector else (left**2).mean(axis=1)
                errors[place] += float(shares @ squares)
        best = int(np.argmin(errors))
        return float(alphas[best]), -float(errors[best]) / total if total else -math.inf
