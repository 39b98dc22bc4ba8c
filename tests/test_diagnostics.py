"""Laws of the diagnostics: agreement with the objectives, closed forms, refusals."""

import math

import numpy as np
import pytest
import torch
from references import BOUNDS, dense_bound, posteriors
from scipy import sparse
from scipy.stats import norm
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import (
    AggregateKLBounds,
    active_units,
    aggregate_kl,
    aggregate_kl_bounds,
    reconstruction_r2,
    sliced_wasserstein,
)
from sklearn_wiseale.likelihoods import Gaussian

CLOSED_FORMS = ["jensen", "renyi", "moment"]


# divergence of the aggregate ------------------------------------------------------------------


@pytest.mark.parametrize("method", CLOSED_FORMS)
@pytest.mark.parametrize("n", [1, 30])
def test_aggregate_kl_equals_the_dense_formula(method, n):
    mean, log_var, z = posteriors(n, 3)
    expected = float(dense_bound(method, mean, log_var, z))
    assert aggregate_kl(mean, log_var, method=method) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("method", BOUNDS)
def test_aggregate_kl_is_a_float_for_any_container(method):
    arrays = [part.numpy() for part in posteriors(10, 2)[:2]]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    single = [array.astype(np.float32) for array in arrays]

    def value(*arrays):
        return aggregate_kl(*arrays, method=method, random_state=0)

    assert type(value(*arrays)) is float
    assert value(*(array.tolist() for array in arrays)) == value(*arrays)
    # float32 codes are summed in float64
    assert value(*single) == value(*(array.astype(np.float64) for array in single))
    np.testing.assert_array_equal(arrays, before)


@pytest.mark.parametrize(("method", "n"), [("jensen", 700), ("renyi", 700), ("moment", 70_000)])
def test_aggregate_kl_of_several_blocks_is_that_of_one(method, n):
    """A posterior counts as often as it is given; seven of them fit one block."""
    mean, log_var, _ = posteriors(7, 2)
    many = [part.repeat(n // 7, 1) for part in (mean, log_var)]
    expected = aggregate_kl(mean, log_var, method=method)
    assert aggregate_kl(*many, method=method) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        lambda mean, log_var, seed: aggregate_kl(
            mean, log_var, method="monte_carlo", random_state=seed
        ),
        lambda mean, log_var, seed: aggregate_kl(mean, log_var, method="sliced", random_state=seed),
        lambda mean, log_var, seed: sliced_wasserstein(mean, n_projections=10, random_state=seed),
    ],
)
def test_estimates_are_repeated_by_their_seed(function):
    mean, log_var, _ = posteriors(10, 2)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second, other = (function(mean, log_var, seed) for seed in (3, 3, 4))
    assert first == second != other
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("method", ["monte_carlo", "sliced"])
def test_estimates_lie_below_the_upper_bound(method):
    mean, log_var, _ = posteriors(4, 2)
    many = mean.repeat(500, 1), log_var.repeat(500, 1)  # the same mixture, 2,000 draws
    lower, upper, _ = aggregate_kl_bounds(mean, log_var)
    value = aggregate_kl(*many, method=method, random_state=0)
    assert (lower if method == "monte_carlo" else 0) < value < upper


def test_bounds_are_moment_and_jensen():
    mean, log_var, _ = posteriors(8, 3)
    bounds = aggregate_kl_bounds(mean, log_var)
    lower, upper = (aggregate_kl(mean, log_var, method=m) for m in ("moment", "jensen"))
    assert bounds == AggregateKLBounds(lower, upper, 8)
    assert type(bounds) is AggregateKLBounds
    assert lower <= upper


@pytest.mark.parametrize("method", ["jensen", "renyi"])
def test_upper_bounds_of_a_sample_are_upper_bounds_in_the_mean(method):
    mean, log_var, _ = posteriors(8, 2)
    pairs = [[i, j] for i in range(8) for j in range(8) if i != j]
    of_pairs = [aggregate_kl(mean[pair], log_var[pair], method=method) for pair in pairs]
    assert np.mean(of_pairs) > aggregate_kl(mean, log_var, method=method)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "exact"}, r"method must be one of .*'jensen'.* Got 'exact'"),
        ({"log_var": np.zeros((4, 1))}, r"log_var must have .*\(4, 2\). Got \(4, 1\)"),
        ({"mean": np.zeros(4)}, "Expected 2D array"),
        ({"mean": np.full((4, 2), np.nan)}, "mean contains NaN"),
        ({"log_var": np.full((4, 2), np.inf)}, "log_var contains infinity"),
        ({"mean": np.zeros((0, 2))}, "0 sample"),
    ],
)
def test_aggregate_kl_refuses_what_it_cannot_use(arguments, message):
    fitting = {"mean": np.zeros((4, 2)), "log_var": np.zeros((4, 2))}
    with pytest.raises(ValueError, match=message):
        aggregate_kl(**{**fitting, **arguments})


# codes ----------------------------------------------------------------------------------------


def test_active_units_counts_columns_that_vary_more_than_the_threshold():
    z = np.tile([-1.0, 1.0], 10)[:, None]
    mean = 3.0 + z * np.sqrt([0.0, 0.009, 0.011, 1.0])  # columns of these variances
    assert active_units(mean) == 2
    assert active_units(mean, threshold=0.005) == 3
    assert active_units(mean, threshold=0) == 3
    assert active_units(mean.tolist(), threshold=2.0) == 0
    assert type(active_units(mean)) is int


@pytest.mark.parametrize(
    ("function", "name", "allowed", "value"),
    [
        *((active_units, "threshold", "a number >= 0", v) for v in (-0.1, math.nan, "small", None)),
        *((sliced_wasserstein, "n_projections", "an int >= 1", v) for v in (0, 2.5, "many", None)),
    ],
)
def test_arguments_out_of_range_are_refused(function, name, allowed, value):
    with pytest.raises(ValueError, match=f"{name} must be {allowed}") as error:
        function([[0.0], [1.0]], **{name: value})
    assert f"Got {value!r}." in str(error.value)


def normal_quantiles():
    """A column whose quantiles at 0.005, 0.010, ... are exactly those of the normal."""
    levels = np.linspace(0.005, 0.995, 199)
    return np.r_[-5.0, norm.ppf(levels), 5.0][:, None]


@pytest.mark.parametrize(("shift", "factor"), [(0.0, 1.0), (0.7, 1.0), (0.0, 0.4), (-2.0, 1.5)])
def test_sliced_wasserstein_in_one_dimension_has_a_closed_form(shift, factor):
    z = normal_quantiles()
    squares = np.mean(z[1:-1] ** 2)
    expected = math.sqrt(shift**2 + (factor - 1) ** 2 * squares)
    value = sliced_wasserstein(shift + factor * z, n_projections=5, random_state=0)
    assert type(value) is float
    assert value == pytest.approx(expected, abs=1e-9)


def test_sliced_wasserstein_is_the_root_mean_square_over_directions():
    # a shift by c moves the quantiles along direction d by c * d_1, whose mean square is c^2 / K
    z = np.random.RandomState(0).standard_normal((5000, 4))
    shifted = z + np.array([10.0, 0, 0, 0])
    value = sliced_wasserstein(shifted, n_projections=1000, random_state=1)
    # d_1^2 has mean 1/4 and variance 2 * 3 / (16 * 6) in four dimensions
    tolerance = 4 * math.sqrt(6 / 96 / 1000) * 100
    assert value**2 == pytest.approx(25, abs=tolerance)


def test_sliced_wasserstein_sees_what_columns_one_by_one_do_not():
    z = np.random.RandomState(0).standard_normal((5000, 1))
    same_twice = np.hstack([z, z])
    independent = np.random.RandomState(1).standard_normal((5000, 2))
    assert sliced_wasserstein(independent, random_state=0) < 0.05
    assert sliced_wasserstein(same_twice, random_state=0) > 0.2


# reconstructions ------------------------------------------------------------------------------


@pytest.fixture(name="X")
def correlated_columns(rng):
    """Correlated columns of very different variances."""
    return rng.standard_normal((60, 5)) @ rng.standard_normal((5, 5)) * [1, 10, 0.1, 3, 1] + 7


WEIGHTS = ["estimator", "feature", "none"]


@pytest.mark.parametrize("weights", ["estimator", "none"])
def test_r2_of_pca_is_its_explained_variance_ratio(X, weights):
    pca = PCA(2).fit(X)
    value = reconstruction_r2(pca, X, weights=weights)
    assert value == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-12)


def test_r2_by_feature_is_that_of_standardised_columns(X):
    pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    value = reconstruction_r2(pipeline, X, weights="feature")
    assert value == pytest.approx(pipeline[-1].explained_variance_ratio_.sum(), abs=1e-12)
    scaled = FunctionTransformer(
        func=lambda X: pipeline.transform(X / 1000),
        inverse_func=lambda Z: pipeline.inverse_transform(Z) * 1000,
    )
    assert reconstruction_r2(scaled, X * 1000, weights="feature") == pytest.approx(value)


def test_r2_by_estimator_weights_columns_as_it_scales_them(X):
    params = {"max_epochs": 2, "random_state": 0, "likelihood": Gaussian(1.0)}
    for scale, same in (("feature", "feature"), ("global", "none"), (None, "none")):
        model = WiSEALETransformer(2, scale=scale, **params).fit(X)
        expected = reconstruction_r2(model, X, weights=same)
        found = reconstruction_r2(model, X, weights="estimator")
        assert found == pytest.approx(expected, abs=1e-12)


def test_r2_by_default_says_the_same_of_any_transformer():
    """Whatever it scales inside: the mean over columns of what scikit-learn's r2_score is."""
    wine = load_wine().data
    ours = WiSEALETransformer(2, random_state=0, max_epochs=30).fit(wine)
    for model in (ours, make_pipeline(StandardScaler(), PCA(2)).fit(wine), PCA(2).fit(wine)):
        back = model.inverse_transform(model.transform(wine))
        assert reconstruction_r2(model, wine) == pytest.approx(r2_score(wine, back), abs=1e-12)
        expected = r2_score(wine, back, multioutput="variance_weighted")
        assert reconstruction_r2(model, wine, weights="none") == pytest.approx(expected, abs=1e-12)


def test_r2_is_one_for_the_identity_and_zero_for_the_mean(X):
    identity = FunctionTransformer(check_inverse=False).fit(X)
    mean = FunctionTransformer(inverse_func=lambda Z: np.tile(X.mean(axis=0), (len(Z), 1))).fit(X)
    worse = FunctionTransformer(inverse_func=lambda Z: np.zeros_like(Z)).fit(X)
    for weights in WEIGHTS:
        assert reconstruction_r2(identity, X, weights=weights) == 1
        assert reconstruction_r2(mean, X, weights=weights) == pytest.approx(0, abs=1e-12)
        assert reconstruction_r2(worse, X, weights=weights) < 0


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e8 / 3])
def test_constant_column_does_not_count(X, weights, value):
    pca = PCA(2).fit(X)
    extended = np.column_stack([X, np.full(len(X), value)])
    blind = FunctionTransformer(
        func=lambda X: pca.transform(X[:, :-1]),
        inverse_func=lambda Z: np.column_stack([pca.inverse_transform(Z), np.full(len(Z), value)]),
    )
    expected = reconstruction_r2(pca, X, weights=weights)
    assert reconstruction_r2(blind, extended, weights=weights) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("weights", ["none", "feature"])
def test_constant_column_that_a_transformer_rounds_does_not_count(X, weights):
    extended = np.column_stack([X, np.full(len(X), 0.1)])
    expected = reconstruction_r2(PCA(2).fit(X), X, weights=weights)
    value = reconstruction_r2(PCA(2).fit(extended), extended, weights=weights)
    assert value == pytest.approx(expected, abs=1e-9)


def test_r2_of_sparse_rows_is_that_of_dense_rows(X):
    X = np.where(X > 5, X, 0)
    svd = TruncatedSVD(2, random_state=0).fit(X)
    expected = reconstruction_r2(svd, X)
    for rows in (sparse.csr_matrix(X), sparse.csr_array(X), sparse.csc_matrix(X)):
        assert reconstruction_r2(svd, rows) == pytest.approx(expected, abs=1e-12)


def test_r2_serves_as_a_scorer(X):
    scores = cross_val_score(PCA(2), X, scoring=reconstruction_r2, cv=3)
    assert scores.shape == (3,)
    assert np.all((scores > 0) & (scores < 1))


def test_r2_refuses_what_it_cannot_use(X):
    pca = PCA(2).fit(X)
    with pytest.raises(ValueError, match=r"weights must be 'estimator', .* Got 'equal'"):
        reconstruction_r2(pca, X, weights="equal")
    for weights in WEIGHTS:
        with pytest.raises(ValueError, match="X must have at least one column that varies"):
            reconstruction_r2(pca, np.ones_like(X), weights=weights)
