"""Laws of ``n_components="auto"`` and of a share of variance."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.diagnostics import reconstruction_r2
from sklearn_wiseale.networks import MLP

#: A perceptron without hidden layers that starts as PCA and stays there.
LINEAR = {"network": MLP(hidden=()), "learning_rate": 1e-30, "max_epochs": 1, "random_state": 0}


def factors(n_factors, n=600, n_columns=12):
    """Rows of a linear model whose columns have equal variances and equal noise."""
    rng = np.random.RandomState(n_factors)
    loading = rng.standard_normal((n_factors, n_columns))
    X = rng.standard_normal((n, n_factors)) @ (loading / np.linalg.norm(loading, axis=0))
    return X + 0.5 * rng.standard_normal(X.shape)


@pytest.mark.parametrize("n_factors", [1, 2, 3, 5])
def test_known_number_of_factors_is_found(n_factors):
    reducer = WiSEALETransformer("auto", **LINEAR).fit(factors(n_factors))
    assert abs(reducer.n_components_ - n_factors) <= 1


@pytest.mark.parametrize("asked", ["auto", 0.6])
def test_fit_is_that_with_the_number_chosen(asked, tmp_path):
    X = load_wine().data
    chosen = WiSEALETransformer(asked, **LINEAR).fit(X)
    told = clone(chosen).set_params(n_components=chosen.n_components_).fit(X)
    for name in ("transform", "score_samples"):
        np.testing.assert_array_equal(getattr(chosen, name)(X), getattr(told, name)(X))
    assert chosen.n_components == asked
    chosen.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.transform(X), chosen.transform(X))
    again = clone(chosen).set_params(warm_start=True).fit(X).fit(X)
    assert again.n_components_ == chosen.n_components_


@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
def test_share_of_held_out_variance_is_reached_with_no_component_to_spare(share):
    X = factors(6, n=4000)
    k = WiSEALETransformer(share, **LINEAR).fit(X).n_components_
    train, held_out = X[:3000], X[3000:]
    least, enough = (
        reconstruction_r2(WiSEALETransformer(j, **LINEAR).fit(train), held_out)
        for j in (max(k - 1, 1), k)
    )
    assert enough > share - 0.02
    assert least < share + 0.02 or k == 1


def test_share_that_cannot_be_reached_warns():
    X = np.random.RandomState(0).standard_normal((200, 40))
    with pytest.warns(UserWarning, match=r"n_components=0.99 .* n_components_ is 32"):
        reducer = WiSEALETransformer(0.99, **LINEAR).fit(X)
    assert reducer.n_components_ == 32


def test_tables_images_and_pipelines():
    pd = pytest.importorskip("pandas")
    wine = load_wine(as_frame=True)
    table = wine.data[["alcohol", "hue"]].assign(kind=pd.Categorical(wine.target))
    short = {"max_epochs": 2, "random_state": 0}
    reducer = WiSEALETransformer("auto", **short).fit(table)
    assert reducer.inverse_transform(reducer.transform(table)).dtypes.equals(table.dtypes)
    pipeline = make_pipeline(StandardScaler(), WiSEALETransformer(0.5, **LINEAR))
    codes = pipeline.fit_transform(wine.data)
    assert codes.shape == (178, pipeline[-1].n_components_)
    holes = wine.data.mask(np.random.RandomState(0).uniform(size=wine.data.shape) < 0.1)
    assert WiSEALETransformer("auto", **LINEAR).fit(holes).n_components_ >= 1


def test_other_values_and_chunks_are_refused():
    X = load_wine().data
    for value in (0.0, 1.0, 1.5, "all", None):
        with pytest.raises(ValueError, match="'n_components' parameter of WiSEALETransformer"):
            WiSEALETransformer(value).fit(X)
    with pytest.raises(
        ValueError, match=r"n_components must be an int for partial_fit. Got 'auto'"
    ):
        WiSEALETransformer("auto").partial_fit(X)
