"""Counts, categories and mixed tables through the estimator."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Mixed,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from sklearn_wiseale.networks import MLP

MIXED = Mixed(
    [
        (Gaussian(), slice(0, 2)),
        (Categorical(), slice(2, 5)),
        (Poisson(), [8, 5]),
        (Bernoulli(), slice(6, 8)),
    ]
)
#: Likelihoods of nine columns, with the smallest and the largest mean that each may give.
KINDS = {
    "gaussian": (Gaussian(), -np.inf, np.inf),
    "student t": (StudentT(noise="feature"), -np.inf, np.inf),
    "bernoulli": (Bernoulli(), 0, 1),
    "poisson": (Poisson(), 0, np.inf),
    "negative binomial": (NegativeBinomial(), 0, np.inf),
    "categorical": (Categorical(sizes=(2, 3, 4)), 0, 1),
    "mixed": (
        MIXED,
        np.array([-np.inf] * 2 + [0] * 7),
        np.array([np.inf] * 2 + [1] * 3 + [np.inf] + [1] * 2 + [np.inf]),
    ),
}
each_likelihood = pytest.mark.parametrize("likelihood", [k[0] for k in KINDS.values()], ids=KINDS)


def reducer(likelihood, **params):
    defaults = {"network": MLP(hidden=(16,)), "max_epochs": 10, "random_state": 0}
    return WiSEALETransformer(2, likelihood=likelihood, **{**defaults, **params})


@pytest.mark.parametrize(("likelihood", "low", "high"), KINDS.values(), ids=KINDS)
def test_means_and_draws_lie_in_the_support(likelihood, low, high, make_rows):
    X = make_rows(likelihood, 300, 9)
    model = reducer(likelihood).fit(X[:200])
    means = model.inverse_transform(model.transform(X))
    assert np.isfinite(means).all()
    assert ((means >= low) & (means <= high)).all()
    likelihood.check_support(likelihood.most_likely(means))
    drawn = model.sample(100, random_state=0)
    likelihood.check_support(drawn)
    assert np.isfinite(drawn).all()
    assert np.isfinite(model.score(X[200:]))


@each_likelihood
def test_training_raises_the_score_of_held_out_rows(likelihood, make_rows):
    X = make_rows(likelihood, 700, 9)
    scores = []
    for epochs, rate in ((1, 1e-9), (20, 2e-3)):  # the first leaves the start as it is
        params = {"early_stopping": False, "max_epochs": epochs, "learning_rate": rate}
        scores.append(reducer(likelihood, **params).fit(X[:500]).score(X[500:]))
    if isinstance(likelihood, Gaussian):  # the model that PCA fits: there is little to gain
        scores[1] += 0.05
    assert scores[1] > scores[0]


@each_likelihood
def test_copies_precisions_and_sparse_rows(likelihood, make_rows):
    X = make_rows(likelihood, 100, 9)
    model = reducer(likelihood, max_epochs=3).fit(X)
    codes, drawn = model.transform(X), model.sample(5, random_state=0)
    again, cloned = pickle.loads(pickle.dumps(model)), clone(model)
    np.testing.assert_array_equal(again.transform(X), codes)
    np.testing.assert_array_equal(again.sample(5, random_state=0), drawn)
    assert repr(cloned) == repr(model)
    assert cloned.likelihood is not model.likelihood
    np.testing.assert_array_equal(cloned.fit(X).transform(X), codes)
    model.partial_fit(X)
    model.set_params(warm_start=True).fit(X)  # the same likelihood still
    sparse_codes = cloned.fit(sparse.csr_array(X)).transform(X)
    np.testing.assert_allclose(sparse_codes, codes, rtol=1e-4, atol=1e-4)
    for precision in ("bfloat16", "float64"):
        other = cloned.set_params(precision=precision).fit(X)
        assert np.isfinite(other.inverse_transform(other.transform(X))).all()


def test_a_search_chooses_the_likelihood_by_its_score(make_rows):
    X = make_rows(NegativeBinomial(dispersion=0.8), 300, 9)
    grid = {"likelihood": ["poisson", "negative_binomial", NegativeBinomial(dispersion=0.01)]}
    search = GridSearchCV(reducer("poisson"), grid, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["likelihood"] == "negative_binomial"


def test_a_learned_dispersion_comes_near_that_of_the_data(make_rows):
    X = make_rows(NegativeBinomial(dispersion=0.8), 1500, 9)
    model = reducer(NegativeBinomial(), max_epochs=30).fit(X)
    assert 0.4 < model.net_.module_.likelihood.dispersion.item() < 1.6


def test_counts_of_thousands():
    rng = np.random.RandomState(0)
    rates = np.exp(rng.normal(size=(300, 2)) @ rng.normal(size=(2, 9)) + rng.uniform(-2, 9, 9))
    X = rng.poisson(rates)
    for likelihood in (Poisson(), NegativeBinomial()):
        model = reducer(likelihood).fit(X)
        assert np.isfinite(model.history_[0]["train_loss"])
        assert np.abs(model.transform(X)).max() < 20
        assert np.isfinite(model.score(X))


@pytest.mark.parametrize("scale", ["feature", "global"])
@pytest.mark.parametrize("name", [name for name in KINDS if not KINDS[name][0].scalable])
def test_scaling_of_other_likelihoods_is_refused(name, scale, make_rows):
    likelihood = KINDS[name][0]
    with pytest.raises(ValueError, match=r"(?s)'scale' parameter.*cannot be scaled"):
        reducer(likelihood, scale=scale).fit(make_rows(likelihood, 100, 9))


def test_gaussian_columns_of_a_mixed_table_are_scaled(make_rows):
    """Their noise is known, and they come back in their units."""
    X = make_rows(MIXED, 300, 9)
    X[:, 0] = 1e4 + 50 * X[:, 0]
    fixed = Mixed([(Gaussian(1.0), slice(0, 2)), *MIXED.parts[1:]])
    np.testing.assert_allclose(reducer(fixed).fit(X).noise_scale_[:2], X[:, :2].std(axis=0))
    model = reducer(MIXED).fit(X)
    assert np.isnan(model.noise_scale_[2:]).all()
    assert (model.noise_scale_[:2] > 0).all()
    assert model.noise_scale_[0] > 10 * model.noise_scale_[1]
    back = model.inverse_transform(model.transform(X))
    np.testing.assert_allclose(back.mean(axis=0)[:2], X.mean(axis=0)[:2], rtol=0.05, atol=0.5)


def test_all_gaussian_parts_are_scored_as_one_gaussian(make_rows):
    X = make_rows(Gaussian(), 200, 9)
    parts = Mixed([(Gaussian(0.5), slice(0, 4)), (Gaussian(0.5), slice(4, 9))])
    scores = [reducer(likelihood).fit(X).score(X) for likelihood in (parts, Gaussian(0.5))]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_bad_rows_are_named_by_every_method(make_rows):
    X = make_rows(MIXED, 100, 9)
    model = reducer(MIXED, max_epochs=2).fit(X)
    X[3, 8] = -1
    for method in (model.fit, model.partial_fit, model.transform, model.score):
        with pytest.raises(ValueError, match="Got -1 in column 8, row 3"):
            method(X)


def test_a_table_of_numbers_and_categories_goes_there_and_back():
    rng = np.random.RandomState(0)
    factor = rng.normal(size=200)
    kinds = np.array(["low", "middle", "high"])[np.digitize(factor, [-0.5, 0.5])]
    table = np.column_stack([factor + 5, factor**2, kinds]).astype(object)
    encoder = ColumnTransformer(
        [("number", StandardScaler(), [0, 1]), ("kind", OneHotEncoder(), [2])]
    )
    X = encoder.fit_transform(table)
    likelihood = Mixed.from_column_transformer(encoder)
    model = reducer(likelihood, max_epochs=30).fit(X)
    back = likelihood.most_likely(model.inverse_transform(model.transform(X)))
    labels = encoder.named_transformers_["kind"].inverse_transform(
        back[:, encoder.output_indices_["kind"]]
    )
    assert np.mean(labels[:, 0] == kinds) > 0.9
    codes = make_pipeline(clone(encoder), clone(model)).fit_transform(table)
    assert codes.shape == (200, 2)


# Checks fit on normal, negative and fractional numbers: counts, one-hot rows and bits are outside,
# and a Mixed of fixed columns has to be told how many there are, which differs between checks.
@parametrize_with_checks(
    [
        WiSEALETransformer(
            likelihood=Mixed([(Gaussian("feature"), slice(0, None))]),
            max_epochs=3,
            network=MLP(hidden=(16,)),
            random_state=0,
        )
    ]
)
def test_estimator_check(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)
