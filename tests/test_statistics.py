"""Laws of the statistics pass: any chunks give numpy's moments, and eigh's principal axes."""

import numpy as np
import pytest
import scipy.sparse as sp

from sklearn_wiseale._data import statistics as _statistics
from sklearn_wiseale._data.statistics import Moments, principal_axes

#: Sizes of the chunks that 80 rows are cut into.
MERGES = [[80], [33, 47], [1, 78, 1], [20] * 4, [1] * 80]


def iterate(monkeypatch):
    """Let the axes be found by iteration in a subspace."""
    monkeypatch.setattr(_statistics, "COVARIANCE_COLUMNS", 1)
    monkeypatch.setattr(_statistics, "_SVD_NUMBERS", 0)


@pytest.fixture(params=["covariance", "rows", "iteration"])
def path(request, monkeypatch):
    """The ways to the axes: by the covariance, by all rows at once, by iteration."""
    if request.param == "rows":
        monkeypatch.setattr(_statistics, "COVARIANCE_COLUMNS", 1)
    elif request.param == "iteration":
        iterate(monkeypatch)
    return request.param


def correlated(n=80, n_features=6, seed=0):
    rng = np.random.RandomState(seed)
    return rng.standard_normal((n, n_features)) @ rng.standard_normal((n_features, n_features)) + 3


def moments_of(X, sizes=None):
    moments = Moments(X.shape[1])
    for chunk in np.split(X, np.cumsum(sizes)[:-1]) if sizes else [X]:
        moments.update(chunk)
    return moments


def axes_of(X, n_components, scale=None, sizes=None):
    """Axes of the rows, scaled by ``scale`` around zero; the chunks are those of ``sizes``."""
    scale = np.ones(X.shape[1]) if scale is None else scale
    shift = np.full(X.shape[1], 2.0) * scale

    def chunks():
        scaled = (X - shift) / scale
        return iter(np.split(scaled, np.cumsum(sizes)[:-1]) if sizes else [scaled])

    rng = np.random.RandomState(0)
    return principal_axes(moments_of(X, sizes), shift, scale, n_components, chunks, rng)


def eigh_of(X, n_components):
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    return values[::-1][:n_components], vectors.T[::-1][:n_components]


# moments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", MERGES, ids=len)
def test_moments_merged_from_any_chunks_are_numpys(path, sizes):
    X = correlated()
    moments = moments_of(X, sizes)
    assert moments.count == 80
    np.testing.assert_allclose(moments.mean, X.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.variance, X.var(axis=0), rtol=1e-12)
    if path == "covariance":
        np.testing.assert_allclose(moments.covariance, np.cov(X.T, bias=True), atol=1e-12)
    else:
        assert moments.covariance is None


def test_moments_leave_the_rows_as_they_were():
    X = correlated()
    X.setflags(write=False)
    moments_of(X, [30, 50])


@pytest.mark.parametrize("sizes", MERGES, ids=len)
def test_large_mean_costs_as_few_digits_as_it_must(path, sizes):
    offset = 2.0**30
    X = np.round(correlated() * 2**10) / 2**10  # exact when moved by a power of two
    expected = X.var(axis=0)
    # sums of squares would lose the square of this: every digit
    tolerance = np.finfo(np.float64).eps * offset / np.sqrt(expected.min())
    variance = moments_of(X + offset, sizes).variance
    np.testing.assert_allclose(variance, expected, rtol=tolerance)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e30, 1e-30, 123456.789])
@pytest.mark.parametrize("sizes", [[97], [1] * 98, [50, 49], [20_000], [9_999, 3, 7_000]], ids=sum)
def test_variance_of_a_constant_column_is_exactly_zero(path, value, sizes):
    n = sum(sizes)
    X = np.column_stack([np.full(n, value), np.arange(n)])
    variance = moments_of(X, sizes).variance
    assert variance[0] == 0
    assert variance[1] > 0


@pytest.mark.parametrize("sizes", MERGES, ids=len)
def test_columns_of_any_scale_keep_their_variance(path, sizes):
    X = correlated()
    scale = np.array([1e30, 1e-30, 1.0, 1e15, 1e-15, 1e-3])
    np.testing.assert_allclose(
        moments_of(X * scale, sizes).variance / scale**2, X.var(axis=0), rtol=1e-12
    )


@pytest.mark.parametrize("holes", ["none", "everywhere", "late", "early", "whole columns"])
@pytest.mark.parametrize("sizes", MERGES, ids=len)
def test_moments_of_parts_merge_to_those_of_the_whole(path, holes, sizes):
    X = correlated() + 1e3
    X[:, 1] = 0.1
    missing = np.random.RandomState(1).rand(*X.shape) < 0.2
    missing[40:] &= holes in ("everywhere", "late")
    missing[:40] &= holes in ("everywhere", "early")
    if holes == "whole columns":
        missing[:30, 2] = missing[50:, 3] = True
    X[missing] = np.nan
    whole, merged = moments_of(X), Moments(X.shape[1])
    for part in np.split(X, np.cumsum(sizes)[:-1]):
        merged.merge(moments_of(part))
    assert merged.merge(Moments(X.shape[1])).count == 80
    assert merged.missing == (holes != "none") == missing.any()
    np.testing.assert_array_equal(merged.observed, whole.observed)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    np.testing.assert_allclose(merged.mean, np.nanmean(X, axis=0), rtol=1e-13)
    np.testing.assert_allclose(merged.variance, np.nanvar(X, axis=0), rtol=1e-8, atol=1e-20)
    assert merged.variance[1] == whole.variance[1] == 0
    if path == "covariance" and holes == "none":
        np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=1e-8, atol=1e-8)
    else:
        assert merged.covariance is whole.covariance is None


# axes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_components", [1, 4, 6])
@pytest.mark.parametrize("sizes", [[80], [1, 30, 49]], ids=len)
def test_axes_are_the_eigenvectors_of_the_covariance(path, n_components, sizes):
    X = correlated()
    axes = axes_of(X, n_components, sizes=sizes)
    values, vectors = eigh_of(X, n_components)
    np.testing.assert_allclose(axes.variance, values, rtol=1e-8)
    assert axes.total_variance == pytest.approx(X.var(axis=0).sum(), rel=1e-12)
    cosines = np.abs((axes.directions * vectors).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, rtol=1e-8)
    np.testing.assert_allclose(
        axes.directions @ axes.directions.T, np.eye(n_components), atol=1e-10
    )


def decaying(ratio, n=300, n_features=120):
    """Rows whose principal variances fall by ``ratio`` squared from one axis to the next."""
    rng = np.random.RandomState(1)
    left, _ = np.linalg.qr(rng.standard_normal((n, n_features)))
    right, _ = np.linalg.qr(rng.standard_normal((n_features, n_features)))
    return left * ratio ** np.arange(n_features) @ right * np.sqrt(n) + 3


def test_iteration_in_a_subspace_finds_the_leading_axes(monkeypatch):
    iterate(monkeypatch)
    X = decaying(0.85)
    axes = axes_of(X, 4, sizes=[100, 200])
    values, vectors = eigh_of(X, 4)
    np.testing.assert_allclose(axes.variance, values, rtol=1e-6)
    np.testing.assert_allclose(np.abs((axes.directions * vectors).sum(axis=1)), 1, rtol=1e-6)


def test_iteration_in_a_subspace_loses_little_where_variances_are_alike(monkeypatch):
    iterate(monkeypatch)
    X = decaying(0.995)
    axes = axes_of(X, 4)
    values, _ = eigh_of(X, 4)
    assert np.all(axes.variance <= values * (1 + 1e-12))
    assert axes.variance.sum() > 0.95 * values.sum()
    # what is reported is the variance along the directions that are reported
    np.testing.assert_allclose((X @ axes.directions.T).var(axis=0), axes.variance, rtol=1e-9)
    np.testing.assert_allclose(axes.directions @ axes.directions.T, np.eye(4), atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, int])
def test_axes_of_sparse_rows_are_those_of_dense_ones(monkeypatch, dtype):
    """The stored entries alone are multiplied: nobody asks for chunks."""
    iterate(monkeypatch)
    rng = np.random.RandomState(0)
    X = rng.poisson(0.2, size=(300, 60)) + 3 * rng.poisson(rng.gamma(0.3, size=(300, 1)), (300, 60))
    X[:, 7] = 2
    scale = np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0)
    given = moments_of(X.astype(float)), X.mean(axis=0), scale, 3
    scaled = (X - X.mean(axis=0)) / scale
    dense = principal_axes(*given, lambda: [scaled], np.random.RandomState(0))
    sparse = sp.csr_matrix(X.astype(dtype))
    found = principal_axes(*given, None, np.random.RandomState(0), sparse)
    np.testing.assert_allclose(found.variance, dense.variance, rtol=1e-10)
    np.testing.assert_allclose(found.directions, dense.directions, atol=1e-9)
    assert sparse.dtype == dtype


def test_axes_are_those_of_the_scaled_rows(path):
    X = correlated()
    spread = np.array([1e30, 1e-30, 1.0, 1e15, 1e-15, 1e-3])
    axes = axes_of(X * spread, 3, scale=X.std(axis=0) * spread)
    values, vectors = eigh_of(X / X.std(axis=0), 3)
    np.testing.assert_allclose(axes.variance, values, rtol=1e-7)
    np.testing.assert_allclose(np.abs((axes.directions * vectors).sum(axis=1)), 1, rtol=1e-7)
    assert axes.total_variance == pytest.approx(6, rel=1e-10)


def test_sign_of_an_axis_is_that_of_its_largest_entry(path):
    for X in (correlated(), -correlated()):
        directions = axes_of(X, 4).directions
        peaks = directions[np.arange(4), np.abs(directions).argmax(axis=1)]
        assert np.all(peaks > 0)


@pytest.mark.parametrize(("n", "rank"), [(80, 2), (80, 5), (3, 2), (2, 1)])
def test_there_are_no_more_axes_than_the_rank(path, n, rank):
    X = correlated(n)
    X[:, rank:] = X[:, :1] * np.arange(1, 7 - rank)
    axes = axes_of(X, 6)
    assert len(axes.variance) == len(axes.directions) == rank
    assert axes.variance.sum() == pytest.approx(axes.total_variance, rel=1e-8)


def test_rows_that_are_all_equal_have_no_axes(path):
    axes = axes_of(np.full((9, 4), 0.1), 3)
    assert axes.variance.shape == (0,)
    assert axes.directions.shape == (0, 4)
    assert axes.total_variance == 0


def test_the_seed_decides_the_axes(path):
    first, second = (axes_of(decaying(0.9), 3) for _ in range(2))
    np.testing.assert_array_equal(first.directions, second.directions)
