"""Laws of the order of components, of loadings and of contributions."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.diagnostics import reconstruction_r2
from sklearn_wiseale.likelihoods import Categorical, Gaussian, Mixed
from sklearn_wiseale.networks import MLP

pd = pytest.importorskip("pandas")

#: A perceptron without hidden layers that starts as PCA and stays there.
LINEAR = {"network": MLP(hidden=()), "learning_rate": 1e-30, "max_epochs": 2}


def counts(rng, n=150):
    rate = np.exp(rng.normal(size=(n, 2)) @ rng.normal(size=(2, 4)) * 0.5 + 1)
    return rng.poisson(rate).astype(float)


LIKELIHOODS = {
    "gaussian": lambda rng: load_wine().data,
    "bernoulli": lambda rng: (load_wine().data > load_wine().data.mean(axis=0)).astype(float),
    "poisson": counts,
    "negative_binomial": counts,
    "categorical": lambda rng: np.eye(4)[rng.randint(4, size=90)],
    "mixed": lambda rng: np.hstack([load_iris().data, np.eye(3)[load_iris().target]]),
}
each_likelihood = pytest.mark.parametrize("name", LIKELIHOODS)


def fitted(name, rng, n_components=3, **params):
    """A short fit of a likelihood, on rows that it could have drawn."""
    X, likelihood = LIKELIHOODS[name](rng), name
    if name == "mixed":
        likelihood = Mixed([(Gaussian(), slice(0, 4)), (Categorical(), slice(4, 7))])
    model = WiSEALETransformer(n_components, likelihood=likelihood, max_epochs=4, random_state=0)
    return model.set_params(**params).fit(X), X


@pytest.fixture(scope="module")
def wine():
    return load_wine(as_frame=True).data


@pytest.fixture(scope="module")
def model(wine):
    return WiSEALETransformer(4, max_epochs=8, random_state=0).fit(wine)


# order and signs --------------------------------------------------------------------------


def test_linear_codes_loadings_and_shares_are_those_of_pca(wine):
    X = StandardScaler().fit_transform(wine)
    pca = PCA(3).fit(X)
    model = WiSEALETransformer(3, random_state=0, **LINEAR).fit(wine.to_numpy())
    codes = model.transform(wine.to_numpy())
    np.testing.assert_allclose(
        StandardScaler().fit_transform(codes),
        StandardScaler().fit_transform(pca.transform(X)),
        atol=1e-4,
    )
    scaled = pca.components_ * pca.transform(X).std(axis=0)[:, None] * wine.to_numpy().std(axis=0)
    np.testing.assert_allclose(model.loadings(), scaled, rtol=1e-4, atol=1e-4 * scaled.std())
    np.testing.assert_allclose(
        model.explained_variance_ratio_, pca.explained_variance_ratio_, atol=1e-4
    )


def test_shares_sum_to_the_variance_reconstructed(model, wine):
    total = reconstruction_r2(model, wine)
    np.testing.assert_allclose(model.explained_variance_ratio_.sum(), total, atol=1e-5)
    assert model.explained_variance_ratio_.shape == (4,)


@each_likelihood
def test_components_are_sorted_by_what_is_lost_without_each(name, rng):
    reducer, X = fitted(name, rng)
    Z, scale = reducer.transform(X), reducer._scaling.scale

    def error(Z):
        return np.square((reducer.inverse_transform(Z) - X) / scale).sum()

    lost = []
    for k in range(3):
        without = Z.copy()
        without[:, k] = Z[:, k].mean()
        lost.append(error(without))
    assert np.all(np.diff(lost) <= 1e-5 * lost[0])


@each_likelihood
def test_largest_slope_is_positive(name, rng):
    reducer, X = fitted(name, rng)
    Z = reducer.transform(X)
    whole = reducer.inverse_transform(Z)
    for k in range(3):
        without = Z.copy()
        without[:, k] = Z[:, k].mean()
        moved = (whole - reducer.inverse_transform(without)) / reducer._scaling.scale
        slope = (Z[:, k] - Z[:, k].mean()) @ moved
        assert slope[np.abs(slope).argmax()] >= 0


def test_order_depends_on_the_rows_and_not_on_their_number(wine):
    """With twice the rows there is the same order."""
    twice = np.vstack([wine, wine])
    fits = [
        WiSEALETransformer(3, random_state=0, **LINEAR).fit(X) for X in (wine.to_numpy(), twice)
    ]
    one, two = (fit.transform(wine.to_numpy()) for fit in fits)
    correlation = np.corrcoef(one.T, two.T)[:3, 3:]
    np.testing.assert_allclose(np.diag(correlation), 1.0, atol=1e-3)


@pytest.mark.parametrize("copied", ["pickle", "file", "warm_start", "partial_fit"])
def test_every_way_on_keeps_codes_and_rows_together(copied, model, wine, tmp_path):
    """Codes of a component and the decoder's component of the same number belong together."""
    other = pickle.loads(pickle.dumps(model))
    if copied == "file":
        model.save(tmp_path / "model")
        other = load(tmp_path / "model")
    elif copied == "warm_start":
        other.set_params(warm_start=True).fit(wine)
    elif copied == "partial_fit":
        other.partial_fit(wine)
    else:
        np.testing.assert_array_equal(other.transform(wine), model.transform(wine))
    assert other.explained_variance_ratio_.shape == (4,)
    rows = other.inverse_transform(other.transform(wine))
    assert reconstruction_r2(other, wine) > 0.7
    mean, std = other.posterior(wine)
    np.testing.assert_array_equal(mean, other.transform(wine))
    assert rows.shape == wine.shape
    assert std.shape == mean.shape


# loadings ---------------------------------------------------------------------------------


@each_likelihood
def test_local_loadings_are_finite_differences(name, rng):
    reducer, X = fitted(name, rng, precision="float64")
    Z, std = reducer.transform(X[:2]), reducer.transform(X).std(axis=0)
    for row in range(2):
        found = reducer.loadings(X[row : row + 1])
        for k in range(3):
            step = np.zeros(3)
            step[k] = 1e-5
            above, below = (reducer.inverse_transform(Z[row : row + 1] + s) for s in (step, -step))
            expected = (above - below)[0] / 2e-5 * std[k]
            np.testing.assert_allclose(found[k], expected, rtol=1e-4, atol=1e-6)


def test_loadings_of_rows_are_the_mean_of_local_ones(model, wine):
    local = [model.loadings(wine[i : i + 1]) for i in range(5)]
    whole = model.loadings(wine[:5])
    np.testing.assert_allclose(whole, np.mean(local, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.loadings(), model.loadings(wine), rtol=1e-3, atol=1e-3)


def test_loadings_have_names_and_units(model, wine):
    loadings = model.loadings()
    assert list(loadings.columns) == list(wine.columns)
    assert list(loadings.index) == list(model.get_feature_names_out())
    hundredfold = wine.assign(proline=100 * wine["proline"])
    other = WiSEALETransformer(4, max_epochs=8, random_state=0).fit(hundredfold)
    np.testing.assert_allclose(other.loadings()["proline"], 100 * loadings["proline"], rtol=1e-2)
    assert isinstance(fitted("gaussian", None)[0].loadings(), np.ndarray)


@pytest.mark.filterwarnings("ignore:The start:UserWarning")  # these factors are nearly linear
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_factors_are_found_in_order_and_with_their_signs(seed):
    """Three factors of falling strength, each with columns of its own and given signs."""
    rng = np.random.RandomState(seed)
    signs = np.sign(rng.uniform(-1, 1, (3, 8)))
    signs[:, 0] = 1.0
    Z = rng.standard_normal((1500, 3))
    strength = np.array([3.0, 2.0, 1.2])
    blocks = [np.tanh(0.4 * Z[:, [k]]) * s * strength[k] for k, s in enumerate(signs)]
    X = np.hstack(blocks) + 0.2 * rng.standard_normal((1500, 24))
    model = WiSEALETransformer(3, scale="global", random_state=0).fit(X)
    codes, loadings = model.transform(X), model.loadings()
    for k in range(3):
        assert abs(np.corrcoef(codes[:, k], Z[:, k])[0, 1]) > 0.9
        block = loadings[k, 8 * k : 8 * k + 8]
        same = np.sign(block) == signs[k]
        assert same.all() or not same.any()
        assert (
            np.abs(block).min() > 3 * np.abs(np.delete(loadings[k], slice(8 * k, 8 * k + 8))).max()
        )


# contributions ----------------------------------------------------------------------------


@each_likelihood
@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_contributions_and_code_sum_to_the_score(name, holes, rng):
    reducer, X = fitted(name, rng)
    X = X.copy()
    X[rng.uniform(size=X.shape) < holes] = np.nan
    if name in ("categorical", "mixed"):
        X[np.isnan(X[:, -1]), -3:] = np.nan
        X[np.isnan(X[:, -3:]).any(axis=1), -3:] = np.nan
    if name == "categorical":
        X[np.isnan(X).any(axis=1)] = np.nan
    values, code = reducer.contributions(X, return_code=True)
    assert values.shape == X.shape
    assert np.all(values[np.isnan(X)] == 0)
    np.testing.assert_allclose(
        values.sum(axis=1) + code, reducer.score_samples(X), rtol=1e-5, atol=1e-4
    )


def test_least_contribution_is_that_of_the_wrong_entry(model, wine):
    for name in wine.columns[:5]:
        odd = wine[:3].assign(**{name: wine[name].max() + 5 * wine[name].std()})
        found = model.contributions(odd, reference=wine)
        assert list(found.idxmin(axis=1)) == [name] * 3
        assert list(found.index) == [0, 1, 2]


def test_estimator_must_be_fitted(wine):
    for method, rows in (("loadings", ()), ("loadings", (wine,)), ("contributions", (wine,))):
        with pytest.raises(NotFittedError):
            getattr(WiSEALETransformer(), method)(*rows)


def test_reference_has_mean_contributions_of_zero(model, wine):
    values = model.contributions(wine, reference=wine)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-4)


def test_columns_of_a_table_have_one_contribution_each(wine):
    table = wine[["alcohol", "hue"]].assign(
        kind=pd.Categorical(np.array(["a", "b", "c"])[load_wine().target]),
        one=pd.Categorical(["x"] * 178),
    )
    reducer = WiSEALETransformer(2, max_epochs=4, random_state=0).fit(table)
    values, code = reducer.contributions(table, return_code=True)
    assert list(values.columns) == list(table.columns)
    assert np.all(values["one"] == 0)
    np.testing.assert_allclose(
        values.sum(axis=1) + code, reducer.score_samples(table), rtol=1e-5, atol=1e-4
    )
    loadings = reducer.loadings()
    assert loadings.shape == (2, 5)
    np.testing.assert_allclose(loadings.filter(like="kind").sum(axis=1), 0, atol=1e-5)
    polars = pytest.importorskip("polars")
    other = WiSEALETransformer(2, max_epochs=4, random_state=0).fit(polars.from_pandas(wine))
    assert isinstance(other.loadings(), polars.DataFrame)
