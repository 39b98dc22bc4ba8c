"""Laws of entries that are not observed: they count for nothing, and are filled in well."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.impute import SimpleImputer

from sklearn_wiseale import WiSEALETransformer, _steps
from sklearn_wiseale._data.rows import has_missing
from sklearn_wiseale._data.statistics import Moments, principal_axes
from sklearn_wiseale._model.evidence import posterior_mode
from sklearn_wiseale.diagnostics import reconstruction_r2
from sklearn_wiseale.likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Mixed
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import OBJECTIVES

WINE = load_wine().data


def without(X, share=0.2, seed=0):
    """X in float64 with a share of its entries missing; the first rows are whole."""
    hidden = np.random.RandomState(seed).random_sample(X.shape) < share
    hidden[:5] = False
    return np.where(hidden, np.nan, X.astype(float))


HOLES = without(WINE)


def reducer(n_components=2, **params):
    defaults = {"network": MLP(hidden=(16,)), "max_epochs": 3, "random_state": 0}
    return WiSEALETransformer(n_components, **{**defaults, **params})


@pytest.fixture(scope="module")
def fitted():
    return reducer().fit(HOLES)


# moments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 7, 60, 200])
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("first", ["holes", "whole"])
def test_moments_and_axes_are_those_of_what_is_observed(rng, step, offset, first):
    X = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 4)) + offset
    holes = without(X, 0.3)
    if first == "whole":  # the first hole comes late
        holes[:40] = X[:40]
    moments = Moments(4)
    parts = [holes[start : start + step] for start in range(0, 60, step)]
    for part in parts:
        moments.update(part)
    mean, seen = np.nanmean(holes, axis=0), ~np.isnan(holes)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(moments.variance, np.nanvar(holes, axis=0), rtol=1e-10)
    np.testing.assert_array_equal(moments.observed, seen.sum(axis=0))
    assert moments.missing
    assert moments.count == 60

    # products about the means of columns, over the rows in which both of two are observed
    centred = np.where(seen, holes - mean, 0.0)
    values, vectors = np.linalg.eigh(centred.T @ centred / (seen.T.astype(int) @ seen))
    filled = [np.where(np.isnan(part), moments.mean, part) for part in parts]
    axes = principal_axes(moments, np.zeros(4), np.ones(4), 2, lambda: filled, rng)
    np.testing.assert_allclose(axes.variance, values[:1:-1], rtol=1e-9)
    cosines = np.abs((axes.directions * vectors.T[:1:-1]).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, rtol=1e-9)


def test_moments_without_room_for_pairs(monkeypatch, rng):
    monkeypatch.setattr("sklearn_wiseale._data.statistics.COVARIANCE_COLUMNS", 2)
    X = without(rng.standard_normal((60, 4)), 0.3)
    moments = Moments(4).update(X[:20]).update(X[20:])
    assert moments.covariance is None
    np.testing.assert_allclose(moments.variance, np.nanvar(X, axis=0), rtol=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.float64, sp.csr_matrix])
def test_whether_an_entry_is_missing_is_known(kind):
    assert has_missing(kind(HOLES))
    assert not has_missing(kind(WINE))
    assert not has_missing(WINE.astype(int))


# what counts ----------------------------------------------------------------------------------


CASES = {**{name: name for name in LIKELIHOODS}, "by feature": Gaussian(noise="feature")}
CASES["mixed"] = Mixed([(Gaussian(), slice(0, 4)), (Bernoulli(), slice(4, 6))])


@pytest.mark.parametrize("name", CASES)
def test_every_method_of_every_likelihood_takes_missing_entries(name, make_rows):
    likelihood = CASES[name]
    built = LIKELIHOODS[name]() if isinstance(likelihood, str) else likelihood
    X = make_rows(built, 60, 6)
    holes = without(X)
    before = holes.copy()
    model = reducer(likelihood=likelihood).fit(holes)
    Z = model.transform(holes)
    assert np.isfinite(Z).all()
    assert np.isfinite(model.inverse_transform(Z)).all()
    assert np.isfinite(model.score_samples(holes)).all()
    assert all(np.isfinite(part).all() for part in model.posterior(holes))
    np.testing.assert_array_equal(holes, before)
    assert model.__sklearn_tags__().input_tags.allow_nan


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_takes_missing_entries(objective):
    model = reducer(objective=objective, precision="float64").fit(HOLES)
    assert np.isfinite(model.transform(HOLES)).all()


@pytest.mark.parametrize("method", ["transform", "score_samples"])
def test_a_row_does_not_depend_on_what_others_miss(fitted, method):
    call = getattr(fitted, method)
    together, alone = call(HOLES), np.concatenate([call(row[None]) for row in HOLES[:20]])
    np.testing.assert_allclose(together[:20], alone, rtol=1e-4, atol=1e-4)
    whole = call(WINE[:5])  # these miss nothing, and are not looked at for it
    np.testing.assert_array_equal(call(HOLES[:5]), whole)


@pytest.mark.parametrize("method", ["transform", "score_samples"])
def test_rows_are_the_same_in_chunks_of_any_size(fitted, method, monkeypatch):
    X = np.concatenate([WINE[:5], HOLES[:7], WINE[5:9]])  # some chunks miss nothing
    expected = getattr(fitted, method)(X)
    monkeypatch.setattr("sklearn_wiseale._data.rows._CHUNK_NUMBERS", 1)
    np.testing.assert_allclose(getattr(fitted, method)(X), expected, rtol=1e-4, atol=1e-4)


def test_training_does_not_see_what_stands_for_missing_entries(monkeypatch):
    codes = []
    for fill in (0.0, 1e6):
        model = reducer(early_stopping=False, network=MLP(hidden=()), max_epochs=1)
        module = model.fit(HOLES).net_.module_
        x = torch.from_numpy(model._scaling.apply(HOLES)).float()
        _, observed = module.observe(x)
        filled = x.where(observed, fill)
        output = module.decoder(torch.zeros(len(x), 2))
        codes.append(module.likelihood.log_prob(filled, output, observed).detach())
    assert torch.equal(*codes)


def test_score_is_the_density_of_what_is_observed():
    """At the PCA start the decoder is linear: the marginal density is known."""
    still = {"max_epochs": 1, "learning_rate": 1e-300, "early_stopping": False}
    model = reducer(3, precision="float64", **still).fit(HOLES)
    module = model.net_.module_
    weight = module.decoder.skip.weight.detach().numpy() * model._scaling.scale[:, None]
    bias = module.decoder.skip.bias.detach().numpy()
    mean = model._scaling.invert(bias)
    covariance = weight @ weight.T + np.diag(model.noise_scale_**2)
    expected = []
    for row in HOLES:
        seen = ~np.isnan(row)
        marginal = multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)])
        expected.append(marginal.logpdf(row[seen]))
    np.testing.assert_allclose(model.score_samples(HOLES, n_draws=4096), expected, atol=0.05)


def test_codes_of_a_linear_decoder_are_the_means_given_what_is_observed():
    still = {"max_epochs": 1, "learning_rate": 1e-300, "early_stopping": False}
    model = reducer(3, precision="float64", **still).fit(HOLES)
    module = model.net_.module_
    weight = module.decoder.skip.weight.detach().numpy()
    bias = module.decoder.skip.bias.detach().numpy()
    variance = module.likelihood.noise_variance.item()
    codes, scaled = model.transform(HOLES), model._scaling.apply(HOLES)
    _, stds = model.posterior(HOLES)
    for code, std, row in zip(codes[5:], stds[5:], scaled[5:], strict=True):
        seen = ~np.isnan(row)
        if seen.all():
            continue
        seen_weight = weight[seen]
        precision = seen_weight.T @ seen_weight / variance + np.eye(3)
        mean = np.linalg.solve(precision, seen_weight.T @ (row[seen] - bias[seen]) / variance)
        np.testing.assert_allclose(code, mean, atol=1e-8)
        np.testing.assert_allclose(std**2, np.linalg.inv(precision).diagonal(), rtol=1e-8)


def test_a_row_without_anything_has_the_prior_s_mode(fitted):
    module = fitted.net_.module_
    x, observed = torch.zeros(1, 13), torch.zeros(1, 13, dtype=torch.bool)
    mode, _ = posterior_mode(module.decoder, module.likelihood, x, torch.ones(1, 2), observed)
    assert mode.abs().max() < 1e-5
    assert np.isfinite(fitted.transform(np.full((1, 13), np.nan))).all()


# how it is filled in --------------------------------------------------------------------------


def test_entries_are_filled_in_from_the_others(rng):
    X = rng.standard_normal((400, 2)) @ rng.standard_normal((2, 8))
    X += 0.1 * rng.standard_normal(X.shape)
    train, test = without(X[:300]), without(X[300:], seed=1)
    model = reducer(max_epochs=60, network=MLP(hidden=(32,))).fit(train)
    hidden = np.isnan(test)

    def error(filled):
        return np.sqrt(np.mean((filled - X[300:])[hidden] ** 2))

    imputed = model.inverse_transform(model.transform(test))
    assert error(imputed) < 0.35 * error(SimpleImputer().fit(train).transform(test))
    assert reconstruction_r2(model, test) > 0.9


def test_entries_may_be_missing_where_none_was_in_training(rng):
    X = rng.standard_normal((200, 2)) @ rng.standard_normal((2, 8))
    model = reducer(max_epochs=30).fit(X)
    assert model.net_.module_.flags is None
    test = without(X, 0.15)
    hidden = np.isnan(test)
    error = (model.inverse_transform(model.transform(test)) - X)[hidden]
    assert np.sqrt(np.mean(error**2)) < 0.3 * X[hidden].std()


def test_partial_fit_takes_missing_entries_in_any_chunk():
    for chunks in ((WINE[:90], HOLES[90:]), (HOLES[:90], WINE[90:])):
        model = reducer()
        for chunk in chunks:
            model.partial_fit(chunk)
        assert np.isfinite(model.transform(HOLES)).all()


@pytest.mark.parametrize("kind", ["csr", "float32", "nullable", "arrow"])
def test_missing_entries_in_any_container(fitted, kind):
    makers = {
        "csr": sp.csr_matrix,
        "float32": np.float32,
        "nullable": lambda X: pd.DataFrame(X).astype("Float64"),
        "arrow": lambda X: pd.DataFrame(X).convert_dtypes(),
    }
    X = makers[kind](HOLES)
    codes = clone(fitted).fit(X).transform(X)
    np.testing.assert_allclose(codes, fitted.transform(HOLES), atol=1e-2)


@pytest.mark.parametrize("method", ["fit", "transform", "score_samples"])
def test_infinity_is_refused_beside_missing_entries(fitted, method):
    X = HOLES.copy()
    X[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        getattr(clone(fitted) if method == "fit" else fitted, method)(X)


def test_a_column_without_any_entry_is_named(fitted):
    X = np.where(np.arange(13) == 3, np.nan, WINE)
    model = clone(fitted).fit(WINE)
    codes = model.transform(WINE)
    with pytest.raises(ValueError, match=r"observed value in every column.*column 3"):
        model.fit(X)
    np.testing.assert_array_equal(model.transform(WINE), codes)
    assert np.isfinite(model.partial_fit(X).transform(X)).all()  # it had some before


def test_a_likelihood_may_refuse_missing_entries():
    class Whole(Gaussian):
        allow_nan = False

    model = reducer(likelihood=Whole()).fit(WINE)
    assert not model.__sklearn_tags__().input_tags.allow_nan
    for call in (clone(model).fit, model.transform, model.score):
        with pytest.raises(ValueError, match="contains NaN"):
            call(HOLES)


@pytest.mark.parametrize("X", [WINE, HOLES, sp.csr_matrix(WINE)], ids=["whole", "holes", "sparse"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_nobody_looks_for_missing_entries_twice(X, method, monkeypatch):
    """The moments know of them; and one look is enough where training goes on without moments."""
    looks = []

    def look(rows):
        looks.append(rows)
        return has_missing(rows)

    monkeypatch.setattr(_steps, "has_missing", look)
    model = getattr(reducer(warm_start=True), method)(X)
    assert len(looks) == 0
    getattr(model, method)(X)
    assert len(looks) == 1
    assert model.net_.missing_ == (X is HOLES)
