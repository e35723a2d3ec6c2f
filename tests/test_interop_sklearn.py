"""Ridge regression by `solve` is scikit-learn's, in scikit-learn's manners."""

import pickle
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.sparse as sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from stepfold.interop.sklearn import ChebyshevRidge, ChebyshevRidgeCV

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 25)) + 3
Y = X @ RNG.standard_normal((25, 3)) + RNG.standard_normal((60, 3)) + [1.0, -4.0, 9.0]
WEIGHTS = RNG.uniform(0, 2, 60)


@parametrize_with_checks([ChebyshevRidge(), ChebyshevRidgeCV()])
@pytest.mark.filterwarnings("ignore")
def test_it_passes_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.csc_matrix])
@pytest.mark.parametrize("has_intercept", [True, False])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("targets", [0, slice(None)])
def test_coefficients_are_those_of_ridge(
    make: Any, has_intercept: bool, weights: Any, targets: Any
) -> None:
    y = Y[:, targets]
    ours = ChebyshevRidge(2.5, fit_intercept=has_intercept).fit(make(X), y, weights)
    theirs = Ridge(2.5, fit_intercept=has_intercept, solver="cholesky").fit(X, y, weights)
    assert ours.coef_.shape == theirs.coef_.shape
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-5)
    np.testing.assert_allclose(ours.predict(make(X)), theirs.predict(X), atol=1e-5)


def test_without_a_penalty_it_is_least_squares_of_smallest_norm() -> None:
    wide = RNG.standard_normal((10, 30))
    ours = ChebyshevRidge(0.0, fit_intercept=False).fit(wide, Y[:10, 0])
    np.testing.assert_allclose(ours.coef_, np.linalg.pinv(wide) @ Y[:10, 0], atol=1e-7)


def test_single_precision_stays_single() -> None:
    model = ChebyshevRidge().fit(X.astype(np.float32), Y.astype(np.float32))
    assert model.coef_.dtype == model.predict(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(model.coef_, Ridge().fit(X, Y).coef_, atol=2e-2)


def test_names_of_columns_are_kept_and_asked_for() -> None:
    frame = pandas.DataFrame(X, columns=[f"c{i}" for i in range(25)])
    model = ChebyshevRidge().fit(frame, pandas.Series(Y[:, 0]))
    assert list(model.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[frame.columns[::-1]])


def test_iterations_that_end_early_are_said_and_counted() -> None:
    scaled = X * np.geomspace(1, 1e4, 25)
    with pytest.warns(ConvergenceWarning, match="budget was spent.*Raise `max_iter`"):
        model = ChebyshevRidge(1e-6, max_iter=3).fit(scaled, Y[:, 0])
    assert model.n_iter_ <= 3
    assert not model.result_.converged


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (ChebyshevRidge(-1.0), ValueError, "`alpha` must be at least 0"),
        (ChebyshevRidge(np.nan), ValueError, "`alpha` must be at least 0"),
        (ChebyshevRidge("much"), TypeError, "`alpha`"),
        (ChebyshevRidge(tol=-1.0), ValueError, "`tol` must be at least 0"),
        (ChebyshevRidge(max_iter=-3), ValueError, "`max_iter` must"),
        (ChebyshevRidgeCV("aic"), ValueError, '`alphas` must be numbers or "gcv", got .aic'),
        (ChebyshevRidgeCV([]), ValueError, "`alphas` must have a number, got none"),
        (ChebyshevRidgeCV([1.0, -1.0]), ValueError, "`alphas` must be at least 0"),
    ],
)
def test_parameters_are_checked_when_fitted(model: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        model.fit(X, Y)


def test_weights_that_are_all_0_are_refused() -> None:
    with pytest.raises(ValueError, match=r"non-zero number|a weight above 0"):
        ChebyshevRidge().fit(X, Y, np.zeros(60))
    with pytest.raises(NotFittedError):
        ChebyshevRidge().predict(X)


def test_it_is_copied_pickled_searched_and_put_into_pipelines() -> None:
    model = ChebyshevRidge(0.5, tol=1e-9)
    assert clone(model).get_params() == model.get_params()
    fitted = pickle.loads(pickle.dumps(model.fit(X, Y)))
    np.testing.assert_array_equal(fitted.predict(X), model.predict(X))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), ChebyshevRidge()),
        {"chebyshevridge__alpha": [1e-3, 1.0, 1e3]},
    ).fit(X, Y[:, 0])
    assert search.best_params_["chebyshevridge__alpha"] in (1e-3, 1.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("has_intercept", [True, False])
def test_the_best_of_a_list_is_that_of_folds_by_hand(seed: int, has_intercept: bool) -> None:
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((50, 40)) + 2
    y = data @ rng.standard_normal(40) + 3 * rng.standard_normal(50)
    alphas, folds = np.geomspace(1e-3, 1e4, 8), KFold(4)
    ours = ChebyshevRidgeCV(alphas, cv=folds, fit_intercept=has_intercept).fit(data, y)
    scores = [
        cross_val_score(
            Ridge(a, fit_intercept=has_intercept),
            data,
            y,
            cv=folds,
            scoring="neg_mean_squared_error",
        ).mean()
        for a in alphas
    ]
    sizes = [len(test) for _, test in folds.split(data)]
    if len(set(sizes)) == 1:
        assert ours.best_score_ == pytest.approx(max(scores), rel=1e-5)
    assert ours.alpha_ == alphas[int(np.argmax(scores))]
    theirs = Ridge(ours.alpha_, fit_intercept=has_intercept).fit(data, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)


def test_cross_validation_without_a_list_predicts_as_ridgecv_does() -> None:
    rng = np.random.default_rng(1)
    data = rng.standard_normal((80, 60)) @ np.diag(np.geomspace(1, 1e-3, 60))
    weights = rng.standard_normal(60)
    y = data @ weights + 0.1 * rng.standard_normal(80)
    ours = ChebyshevRidgeCV("gcv").fit(data, y)
    theirs = RidgeCV(np.geomspace(1e-8, 1e2, 60)).fit(data, y)
    fresh = rng.standard_normal((2000, 60)) @ np.diag(np.geomspace(1, 1e-3, 60))
    errors = [np.mean((m.predict(fresh) - fresh @ weights) ** 2) for m in (ours, theirs)]
    assert errors[0] <= 1.5 * errors[1]
    assert ours.choice_.ridge == ours.alpha_
