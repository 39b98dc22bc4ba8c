"""The estimator as its users meet it."""

import copy
import pickle
import warnings
from email.message import Message

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch.callbacks import Callback

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import (
    active_units,
    aggregate_kl,
    aggregate_kl_bounds,
    reconstruction_r2,
)
from sklearn_wiseale.likelihoods import LIKELIHOODS, Bernoulli, Gaussian
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import ELBO, OBJECTIVES, WiSEALE

WINE = load_wine().data
UNIT = (WINE - WINE.min(axis=0)) / np.ptp(WINE, axis=0)  # in [0, 1]


def reducer(n_components=2, **params):
    defaults = {"network": MLP(hidden=(16,)), "max_epochs": 3, "random_state": 0}
    return WiSEALETransformer(n_components, **{**defaults, **params})


@pytest.fixture(scope="module")
def fitted():
    return reducer().fit(WINE)


# what is promised of codes and reconstructions ---------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_method_of_every_combination(objective, likelihood, make_rows):
    X = make_rows(LIKELIHOODS[likelihood](), *WINE.shape)
    model = reducer(objective=objective, likelihood=likelihood)
    Z = model.fit_transform(X)
    mean, std = model.posterior(X)
    np.testing.assert_array_equal(Z, mean)
    assert Z.dtype == np.float32
    assert (std > 0).all()
    assert model.inverse_transform(Z).shape == X.shape
    drawn = model.sample(7, random_state=0)
    assert drawn.shape == (7, X.shape[1])
    np.testing.assert_array_equal(drawn, model.sample(7, random_state=0))
    scores, effective = model.score_samples(X, return_effective=True)
    assert scores.shape == effective.shape == (len(X),)
    assert np.isfinite(scores).all()
    assert (effective >= 1).all()
    assert (effective <= 64 * (1 + 1e-6)).all()
    assert model.score(X) == pytest.approx(scores.mean(), rel=1e-5)
    LIKELIHOODS[likelihood]().check_support(drawn)
    assert hasattr(model, "noise_scale_") == (likelihood == "gaussian")


def test_codes_do_not_depend_on_the_other_rows(fitted):
    together = fitted.transform(WINE)
    alone = np.vstack([fitted.transform(row[None]) for row in WINE])
    order = np.random.RandomState(0).permutation(len(WINE))
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fitted.transform(WINE[order]), together[order], rtol=1e-6, atol=1e-6)


def test_scores_do_not_depend_on_the_other_rows(fitted):
    together = fitted.score_samples(WINE)
    alone = np.hstack([fitted.score_samples(row[None]) for row in WINE[:20]])
    np.testing.assert_allclose(alone, together[:20], rtol=1e-4)


def test_reconstruction_beats_pca_on_held_out_digits():
    X = load_digits().data
    model = WiSEALETransformer(2, scale="global", random_state=0).fit(X[:1300])
    pca = PCA(2).fit(X[:1300])
    assert reconstruction_r2(model, X[1300:]) > reconstruction_r2(pca, X[1300:]) + 0.15


def test_linear_network_scores_as_probabilistic_pca():
    """At the PCA start the decoder is linear: log p(x) is that of a Gaussian, in closed form."""
    still = {"max_epochs": 1, "learning_rate": 1e-300, "early_stopping": False}
    model = reducer(3, precision="float64", **still).fit(WINE)
    module = model.net_.module_
    weight = module.decoder.skip.weight.detach().numpy()
    variance = module.likelihood.noise_variance.item()
    covariance = weight @ weight.T + variance * np.eye(13)
    scaled = (WINE - WINE.mean(axis=0)) / WINE.std(axis=0)
    precision = np.linalg.inv(covariance)
    quadratic = np.einsum("ij,jk,ik->i", scaled, precision, scaled)
    log_det = np.linalg.slogdet(covariance)[1] + 2 * np.log(WINE.std(axis=0)).sum()
    expected = -0.5 * (quadratic + log_det + 13 * np.log(2 * np.pi))
    np.testing.assert_allclose(model.score_samples(WINE, n_draws=4096), expected, atol=0.02)


def test_score_near_that_of_pca_where_the_data_are_gaussian(rng):
    X = rng.standard_normal((2000, 3)) @ rng.standard_normal((3, 8)) * 5 + 3
    X += 0.3 * rng.standard_normal(X.shape)
    model = WiSEALETransformer(3, scale="global", max_epochs=10, random_state=0).fit(X)
    assert model.score(X) == pytest.approx(PCA(3).fit(X).score(X), abs=0.1)


def test_score_is_a_density_in_the_units_of_x(fitted):
    """In other units, the log-density changes by the log of the scale of every column."""
    other = reducer().fit(WINE * 1000)
    change = other.score_samples(WINE * 1000) - fitted.score_samples(WINE)
    np.testing.assert_allclose(change, -13 * np.log(1000), rtol=1e-3)


@pytest.mark.parametrize("scale", ["feature", "global", None])
@pytest.mark.parametrize("noise", ["shared", "feature", 0.5])
def test_noise_scale_is_in_the_units_of_x(scale, noise):
    model = reducer(scale=scale, likelihood=Gaussian(noise=noise)).fit(WINE)
    residual = np.sqrt(((WINE - model.inverse_transform(model.transform(WINE))) ** 2).mean(0))
    if scale == "feature" or noise == "feature":
        assert np.shape(model.noise_scale_) == (13,)
    else:
        assert isinstance(model.noise_scale_, float)
    if noise == "feature" and scale == "feature":
        ratio = model.noise_scale_ / residual
        assert (ratio > 0.5).all()
        assert (ratio < 2).all()
    if noise == 0.5:
        unit = {"feature": WINE.std(0), "global": np.sqrt(WINE.var(0).mean()), None: 1.0}[scale]
        np.testing.assert_allclose(model.noise_scale_, 0.5 * unit, rtol=1e-6)


def test_aggregate_kl_bounds_are_those_of_the_posteriors(fitted):
    mean, std = fitted.posterior(WINE)
    assert type(fitted.aggregate_kl_bounds_) is type(aggregate_kl_bounds(mean, mean))
    lower, upper, n_upper = fitted.aggregate_kl_bounds_
    assert n_upper == len(WINE)
    assert lower == pytest.approx(aggregate_kl(mean, 2 * np.log(std), method="moment"), rel=1e-4)
    assert upper == pytest.approx(aggregate_kl(mean, 2 * np.log(std)), rel=1e-4)
    assert lower <= upper


def test_history_is_plain_and_one_row_an_epoch(fitted):
    assert len(fitted.history_) == fitted.n_iter_ == 3
    for row in fitted.history_:
        assert all(isinstance(value, int | float) for value in row.values())
        total = row["train_reconstruction"] + row["train_divergence"]
        assert row["train_loss"] == pytest.approx(total)
    assert "batches" not in fitted.history_[0]


# randomness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("network", [MLP(hidden=(16,)), MLP(hidden=(16,), dropout=0.3)])
def test_same_seed_same_codes_and_global_generators_untouched(objective, network):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    codes = [
        reducer(objective=objective, network=network).fit(WINE).partial_fit(WINE).transform(WINE)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(codes[0], codes[1])
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())


def test_no_seed_draws_one_from_numpy_and_leaves_torch_alone():
    before = torch.get_rng_state()
    np.random.seed(3)
    model = reducer(random_state=None, early_stopping=False)
    first = model.fit_transform(WINE)
    other = model.fit_transform(WINE)
    np.random.seed(3)
    again = model.fit_transform(WINE)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_partial_fit_draws_anew_at_each_call():
    """An int seed starts a sequence; it does not repeat the same order and noise every call."""
    model = reducer(learning_rate=1e-300).partial_fit(WINE)
    model.partial_fit(WINE).partial_fit(WINE)
    losses = [row["train_loss"] for row in model.history_]
    assert len(set(losses)) == 3


# streams and going on ---------------------------------------------------------------------------


def test_partial_fit_counts_rows_and_epochs():
    model = reducer().partial_fit(WINE[:100])
    assert model.n_samples_seen_ == 100
    model.partial_fit(WINE[100:])
    assert model.n_samples_seen_ == len(WINE)
    assert model.n_iter_ == len(model.history_) == 2


def test_partial_fit_learns():
    X = load_digits().data
    model = WiSEALETransformer(2, scale="global", random_state=0)
    model.partial_fit(X)
    first = reconstruction_r2(model, X)
    for _ in range(15):
        model.partial_fit(X)
    assert reconstruction_r2(model, X) > first + 0.05


def test_partial_fit_refuses_early_stopping():
    with pytest.raises(ValueError, match="early_stopping"):
        reducer(early_stopping=True).partial_fit(WINE)


def test_warm_start_goes_on_and_refit_starts_anew():
    model = reducer(warm_start=True, early_stopping=False).fit(WINE)
    model.fit(WINE)
    assert len(model.history_) == 6
    assert model.n_iter_ == 3
    first = model.history_[0]["train_loss"]
    assert model.history_[3]["train_loss"] != first
    assert model.history_[-1]["train_loss"] < first
    cold = model.set_params(warm_start=False).fit(WINE)
    assert len(cold.history_) == 3
    assert cold.history_[0]["train_loss"] == first


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "change",
    [
        {"n_components": 3},
        {"likelihood": Gaussian(noise="feature")},
        {"network": MLP(hidden=(8,))},
        {"scale": "global"},
        {"precision": "float64"},
    ],
)
def test_going_on_refuses_what_would_need_a_new_start(method, change):
    model = reducer(warm_start=True).fit(WINE)
    codes = model.transform(WINE)
    (name,) = change
    with pytest.raises(ValueError, match=f"'{name}' parameter.*must stay.*Got.*warm_start=False"):
        getattr(model.set_params(**change), method)(WINE)
    np.testing.assert_array_equal(model.transform(WINE), codes)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_going_on_takes_over_a_changed_objective(method):
    model = reducer(objective=WiSEALE(weight=1.0), warm_start=True).fit(WINE)
    getattr(model.set_params(objective__weight=100.0, n_iter_no_change=7), method)(WINE)
    assert model.net_.criterion_.weight == 100
    assert dict(model.net_.callbacks_)["best_state"].patience == 7
    getattr(model.set_params(objective="elbo"), method)(WINE)
    assert model.net_.criterion_.kl_weight == 1


def test_going_on_holds_out_the_same_rows(monkeypatch):
    model = reducer(warm_start=True, early_stopping=True)
    held_out, train = [], type(model)._train

    def spy(self, rows, valid, *args, **kwargs):
        held_out.append(valid.index)
        return train(self, rows, valid, *args, **kwargs)

    monkeypatch.setattr(type(model), "_train", spy)
    model.fit(WINE).fit(WINE)
    np.testing.assert_array_equal(*held_out)


def test_training_goes_on_after_a_divergence():
    model = reducer().partial_fit(WINE)
    bad = WINE.copy()
    bad[0, 0] = 1e30
    with pytest.warns(ConvergenceWarning):
        model.partial_fit(bad)
    model.partial_fit(WINE)
    assert np.isfinite(model.history_[-1]["train_loss"])


def test_refit_leaves_nothing_of_the_fit_before():
    model = reducer().fit(UNIT).set_params(likelihood="bernoulli").fit(UNIT)
    assert not hasattr(model, "noise_scale_")


def test_a_fitted_estimator_works_as_it_was_fitted():
    """Parameters that are set after the fit say what the next fit does, no more."""
    model = reducer().fit(WINE)
    codes, scores = model.transform(WINE), model.score_samples(WINE)
    model.set_params(likelihood="bernoulli", n_components=5, network=MLP(hidden=(3,)))
    np.testing.assert_array_equal(model.transform(WINE), codes)
    np.testing.assert_array_equal(model.score_samples(WINE), scores)


def test_the_start_is_a_candidate():
    """Where training only harms, the state given back is the start, which is PCA."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = reducer(learning_rate=30.0, max_epochs=5).fit(WINE)
    scaled = StandardScaler().fit_transform(WINE)
    pca = PCA(2).fit(scaled)
    ours = StandardScaler().fit(WINE).transform(model.inverse_transform(model.transform(WINE)))
    np.testing.assert_allclose(ours, pca.inverse_transform(pca.transform(scaled)), atol=1e-4)


def test_divergence_ends_in_a_finite_state_with_a_warning():
    model = reducer(learning_rate=1e12, max_epochs=20, early_stopping=False)
    with pytest.warns(ConvergenceWarning, match="learning_rate"):
        model.fit(WINE)
    assert np.isfinite(model.transform(WINE)).all()


def test_interrupt_is_not_swallowed():
    from skorch.callbacks import Callback

    class Interrupt(Callback):
        def on_batch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reducer(net_params={"callbacks": [("interrupt", Interrupt())]}).fit(WINE)


def interrupt_at(event, epoch):
    from skorch.callbacks import Callback

    def interrupt(self, net, **kwargs):
        if len(net.history) == epoch:
            raise KeyboardInterrupt

    return type("Interrupt", (Callback,), {event: interrupt})()


@pytest.mark.parametrize("event", ["on_batch_end", "on_epoch_end"])
def test_interrupt_leaves_a_usable_estimator(event):
    model = reducer().fit(UNIT)
    model.set_params(net_params={"callbacks": [("interrupt", interrupt_at(event, 2))]})
    with pytest.raises(KeyboardInterrupt):
        model.fit(WINE[:, :5])
    assert model.n_features_in_ == model.noise_scale_.shape[0] == 5
    assert model.n_iter_ == len(model.history_) == len(model.net_.history)
    assert all("train_loss" in row for row in model.history_)
    assert model.inverse_transform(model.transform(WINE[:, :5])).shape == (178, 5)


def test_interrupt_before_training_leaves_the_fit_before(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    model = reducer().fit(WINE)
    codes = model.transform(WINE)
    monkeypatch.setattr("sklearn_wiseale._model.start.principal_axes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(WINE[:, :5])
    np.testing.assert_array_equal(model.transform(WINE), codes)


def skorch_callbacks():
    from skorch.callbacks import (
        EpochScoring,
        GradientNormClipping,
        LRScheduler,
        ParamMapper,
        PrintLog,
    )

    quiet = PrintLog(sink=lambda _: None)
    clips = [("first", GradientNormClipping(0.1)), ("second", GradientNormClipping(0.1))]
    scoring = EpochScoring(lambda net, X, y=None: 1.0, name="one", use_caching=False)
    return {
        "print": [("print", quiet)],
        "clip": clips,
        "score": [("score", scoring)],
        "freeze": [("freeze", ParamMapper("nothing*"))],
        "schedule": [("steps", LRScheduler("StepLR", step_size=1, gamma=0.1))],
    }


@pytest.mark.parametrize("name", skorch_callbacks())
def test_skorch_callbacks_work(name):
    callbacks = skorch_callbacks()[name]
    model = reducer(learning_rate=0.1, early_stopping=False, net_params={"callbacks": callbacks})
    model.fit(WINE)
    assert model.n_iter_ == 3
    if name == "schedule":
        rates = [group["lr"] for group in model.net_.optimizer_.param_groups]
        assert rates == pytest.approx([0.1 * 0.1**3])


def test_gradients_are_clipped_through_net_params():
    from skorch.callbacks import Callback, GradientNormClipping

    norms = []

    class Norm(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            gradients = [p.grad for _, p in named_parameters if p.grad is not None]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    for clips in ([], [("clip", GradientNormClipping(1e-3))]):
        callbacks = [*clips, ("norm", Norm())]
        reducer(max_epochs=2, net_params={"callbacks": callbacks}).fit(WINE)
    half = len(norms) // 2
    assert min(norms[:half]) > 0.01
    assert max(norms[half:]) <= 1.001e-3


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compilation_through_net_params():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    params = {"compile": True, "compile__backend": backend}
    model = reducer(net_params=params).fit(WINE)
    assert len(graphs) >= 2  # an encoder and a decoder at least
    plain = reducer().fit(WINE)
    np.testing.assert_allclose(model.transform(WINE), plain.transform(WINE), atol=1e-5)
    assert model.net_.module_.state_dict().keys() == plain.net_.module_.state_dict().keys()
    params["compile__backend"] = "eager"  # a function of this test cannot be pickled
    again = pickle.loads(pickle.dumps(reducer(net_params=params).fit(WINE)))
    np.testing.assert_allclose(again.transform(WINE), plain.transform(WINE), atol=1e-5)
    torch._dynamo.reset()


def test_collapsed_components_are_warned_of():
    model = reducer(objective=ELBO(weight=1e4), learning_rate=0.05, max_epochs=40)
    with pytest.warns(UserWarning, match=r"Of 2 components only [01] are in use.*weight=10000"):
        model.fit(WINE)
    assert active_units(model.transform(WINE)) < 2


@pytest.mark.parametrize(
    "net_params",
    [
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
        {"optimizer": torch.optim.Adam},
        {"optimizer": torch.optim.NAdam},
        {"optimizer__foreach": True},
        {"optimizer__weight_decay": 0.5},
        {"callbacks__schedule": None},
    ],
)
def test_optimizers_through_net_params(net_params):
    model = reducer(net_params=net_params, learning_rate=0.003).fit(WINE)
    decay = model.net_.optimizer_.param_groups[0]["weight_decay"]
    default = 0.0 if "optimizer" in net_params else 1e-2
    assert decay == net_params.get("optimizer__weight_decay", default)
    if "callbacks__schedule" in net_params:
        assert model.net_.optimizer_.param_groups[0]["lr"] == 0.003


def test_every_epoch_is_seen_by_the_users_callbacks():
    from skorch.callbacks import Callback

    seen = []

    class Count(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(len(net.history))

    params = {"callbacks": [("count", Count())]}
    model = reducer(max_epochs=300, n_iter_no_change=2, net_params=params).fit(WINE)
    assert model.n_iter_ < 300
    assert len(seen) == model.n_iter_


def test_layers_of_the_users_own_parts_leave_the_global_generators_alone():
    class Trained(ELBO):
        def build(self, n_features, n_components):
            module = super().build(n_features, n_components)
            module.extra = torch.nn.Linear(3, 3)
            return module

    class Noisy(MLP):
        def build(self, *sizes):
            encoder, decoder = super().build(*sizes)
            encoder.layers.append(torch.nn.RReLU())
            return encoder, decoder

    before = torch.get_rng_state()
    params = {"objective": Trained(), "network": Noisy(hidden=(8,))}
    codes = [reducer(**params).fit_transform(WINE) for _ in range(2)]
    np.testing.assert_array_equal(*codes)
    assert torch.equal(before, torch.get_rng_state())


def test_default_device_of_torch_does_not_matter():
    expected = reducer().fit(WINE).score_samples(WINE)
    torch.set_default_device("meta")
    try:
        scores = reducer().fit(WINE).score_samples(WINE)
    finally:
        torch.set_default_device(None)
    np.testing.assert_array_equal(scores, expected)


def test_pickle_from_another_device(fitted):
    """What is pickled on an accelerator is on the CPU; here the device is one in name only."""
    other = copy.deepcopy(fitted)
    other.net_.device = "cuda"
    again = pickle.loads(pickle.dumps(other))
    assert again.net_.device == "cpu"
    assert other.net_.device == "cuda"
    np.testing.assert_array_equal(again.transform(WINE), fitted.transform(WINE))
    again.partial_fit(WINE)


def test_skorch_callbacks_through_net_params():
    from skorch.callbacks import EarlyStopping

    stop = EarlyStopping(
        monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs", sink=lambda _: None
    )
    model = reducer(max_epochs=20, net_params={"callbacks": [("stop", stop)]}, early_stopping=False)
    assert model.fit(WINE).n_iter_ < 5


# inputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda X: X.astype(np.float32),
        lambda X: X.astype(">f8"),
        lambda X: np.asfortranarray(X),
        lambda X: X[:, ::-1].copy()[:, ::-1],
        lambda X: pd.DataFrame(X),
        lambda X: pl.DataFrame(X, schema=[f"c{i}" for i in range(X.shape[1])]),
        lambda X: sp.csr_matrix(X),
        lambda X: sp.csc_array(X),
        lambda X: torch.tensor(X, requires_grad=True),
        lambda X: X.astype(object),
        lambda X: X.tolist(),
    ],
)
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
def test_kinds_of_input_give_the_same_codes(make, fitted):
    X = make(WINE)
    before = copy.deepcopy(X) if not isinstance(X, torch.Tensor) else X.detach().clone()
    codes = reducer().fit_transform(X)
    np.testing.assert_allclose(codes, fitted.transform(WINE), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(fitted.transform(X), fitted.transform(WINE), rtol=1e-4, atol=1e-4)
    if isinstance(X, np.ndarray):
        np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, bool])
def test_integers_and_booleans(dtype):
    X = (UNIT > 0.5).astype(dtype)
    model = reducer(likelihood="bernoulli").fit(X)
    back = model.inverse_transform(model.transform(X))
    assert back.dtype == np.result_type(dtype, np.float32)


def test_large_offsets_survive_the_round_trip():
    X = WINE + 1e9
    model = reducer().fit(X)
    back = model.inverse_transform(model.transform(X))
    assert back.dtype == np.float64
    assert np.abs(back - X).max() < np.ptp(WINE)


def test_columns_of_any_magnitude_and_constant_columns():
    X = np.column_stack(
        [WINE[:, 0] * 1e30, WINE[:, 1] * 1e-30, np.full(len(WINE), 0.1), WINE[:, 2]]
    )
    model = reducer().fit(X)
    back = model.inverse_transform(model.transform(X))
    assert np.isfinite(back).all()
    np.testing.assert_allclose(back[:, 2], 0.1, atol=0.01)
    assert np.isfinite(model.score(X))


def test_columns_constant_but_for_rounding_are_constant():
    X = WINE.copy()
    X[:, 0] = np.nextafter(1e6, 1e6 + np.arange(len(X)) % 2)  # the last digit differs
    assert reducer().fit(X)._scaling.scale[0] == 1


def test_values_too_large_to_square_are_named():
    with pytest.raises(ValueError, match="X must have variances"):
        reducer().fit(WINE * 1e200)


@pytest.mark.filterwarnings("ignore:Of 2 components only 1 are in use")
def test_noise_scale_is_per_column_where_the_scale_is():
    same = np.tile(WINE[:, :1], (1, 3))
    assert reducer().fit(same).noise_scale_.shape == (3,)
    assert reducer(likelihood=Gaussian("feature"), scale=None).fit(same).noise_scale_.shape == (3,)
    assert isinstance(reducer(scale="global").fit(same).noise_scale_, float)


@pytest.mark.parametrize("n_features", [3000])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_array])
def test_wide_data(n_features, make, rng):
    X = rng.standard_normal((60, 4)) @ rng.standard_normal((4, n_features))
    model = reducer(4, scale="global").fit(make(X))
    assert reconstruction_r2(model, X) > 0.99


def test_more_components_than_features_and_rows():
    with pytest.warns(UserWarning, match=r"Of 9 components only 4 are in use.*variance for 4 only"):
        model = reducer(9).fit(WINE[:6, :4])
    assert model.transform(WINE[:6, :4]).shape == (6, 9)


def test_sparse_output_of_a_column_transformer():
    frame = pd.DataFrame({"kind": list("abcd") * 25, "size": np.arange(100.0)})
    encode = ColumnTransformer(
        [("kind", OneHotEncoder(), ["kind"])], remainder="passthrough", sparse_threshold=1.0
    )
    assert sp.issparse(encode.fit_transform(frame))
    assert make_pipeline(encode, reducer()).fit_transform(frame).shape == (100, 2)


def test_text_columns_are_named():
    columns = {"a": [1.0, 2.0], "city": ["Rome", "Oslo"], "name": ["x", "y"]}
    for library in (pd, pl):
        with pytest.raises(ValueError, match=r"city.*name.*ColumnTransformer"):
            reducer(likelihood="gaussian").fit(library.DataFrame(columns))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_dataframe_output(library):
    model = reducer().set_output(transform=library)
    Z = model.fit_transform(WINE)
    assert list(Z.columns) == ["wisealetransformer0", "wisealetransformer1"]
    assert list(model.get_feature_names_out()) == list(Z.columns)
    assert model.inverse_transform(Z).shape == WINE.shape
    assert np.isfinite(model.score(WINE))


# scikit-learn's machinery -----------------------------------------------------------------------


def test_pipeline_and_cross_validation():
    pipe = make_pipeline(StandardScaler(), reducer())
    assert pipe.fit_transform(WINE).shape == (178, 2)
    assert pipe.inverse_transform(pipe.transform(WINE)).shape == WINE.shape
    assert np.isfinite(cross_val_score(pipe, WINE, cv=3)).all()
    assert np.isfinite(cross_val_score(reducer(), WINE, scoring=reconstruction_r2, cv=3)).all()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("n_components", [1, 3]),
        ("objective__weight", [0.5, 2.0]),
        ("network__hidden", [(8,), (8, 8)]),
        ("likelihood__noise", ["shared", "feature", 0.5]),
        ("learning_rate", [1e-3, 1e-2]),
        ("objective", [WiSEALE(), ELBO(weight=2.0), "wae"]),
    ],
)
def test_grid_search_gives_the_same_on_one_and_two_workers(name, values):
    model = reducer(objective=WiSEALE(), likelihood=Gaussian(), early_stopping=False)
    results = []
    for n_jobs in (1, 2):
        search = GridSearchCV(model, {name: values}, cv=2, n_jobs=n_jobs).fit(WINE)
        results.append(search.cv_results_["mean_test_score"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)
    assert len(np.unique(results[0])) == len(values)


def threads_of_a_fit():
    seen = []

    class Look(Callback):
        def on_batch_begin(self, net, **kwargs):
            seen.append(torch.get_num_threads())

    reducer(net_params={"callbacks": [("look", Look())]}).fit(WINE)
    return max(seen)


def test_workers_share_the_cores():
    counts = joblib.Parallel(n_jobs=2)(joblib.delayed(threads_of_a_fit)() for _ in range(2))
    assert max(counts) <= max(1, joblib.cpu_count() // 2)


def test_score_chooses_the_number_of_components(rng):
    X = rng.standard_normal((600, 3)) @ rng.standard_normal((3, 10))
    X += 0.1 * rng.standard_normal(X.shape)
    search = GridSearchCV(
        WiSEALETransformer(max_epochs=10, random_state=0), {"n_components": [1, 2, 3]}, cv=2
    )
    assert search.fit(X).best_params_ == {"n_components": 3}


def test_clone_repr_and_html(fitted):
    model = reducer(objective=WiSEALE(bound="moment", weight=3.0), likelihood=Bernoulli())
    copied = clone(model)
    assert repr(copied) == repr(model)
    assert "WiSEALE(bound='moment', weight=3.0)" in repr(model)
    assert copied.objective is not model.objective
    assert "WiSEALETransformer" in fitted._repr_html_()
    assert "WiSEALETransformer" in model._repr_html_()


@pytest.mark.parametrize("address", ["https://docs.example/stable/", None])
def test_html_links_to_the_documentation_of_the_package_alone(monkeypatch, address):
    about = Message()
    about["Project-URL"] = "Source, https://source.example"
    if address is not None:
        about["Project-URL"] = f"Documentation, {address}"
    monkeypatch.setattr("importlib.metadata.metadata", lambda name: about)
    html = WiSEALETransformer()._repr_html_()
    page = "https://docs.example/stable/generated/sklearn_wiseale.WiSEALETransformer.html"
    assert (page in html) == (address is not None)
    assert "scikit-learn.org" not in html.split("</style>")[-1]


def test_fit_never_changes_the_parts():
    parts = {"objective": WiSEALE(), "likelihood": Gaussian(), "network": MLP(hidden=(8,))}
    before = {name: part.get_params() for name, part in parts.items()}
    model = WiSEALETransformer(max_epochs=2, random_state=0, **parts).fit(WINE).fit(WINE)
    for name, part in parts.items():
        assert getattr(model, name) is part
        assert part.get_params() == before[name]
        assert not hasattr(part, "net_")


@pytest.mark.parametrize("how", ["pickle", "joblib", "deepcopy"])
def test_persistence(how, fitted, tmp_path):
    if how == "pickle":
        again = pickle.loads(pickle.dumps(fitted))
    elif how == "joblib":
        joblib.dump(fitted, tmp_path / "model.joblib")
        again = joblib.load(tmp_path / "model.joblib")
    else:
        again = copy.deepcopy(fitted)
    np.testing.assert_array_equal(again.transform(WINE), fitted.transform(WINE))
    np.testing.assert_array_equal(again.score_samples(WINE), fitted.score_samples(WINE))
    again.partial_fit(WINE)
    assert again.history_[-1]["epoch"] == 4
    assert not np.array_equal(again.transform(WINE), fitted.transform(WINE))


def test_pickle_holds_neither_data_nor_optimiser_state(fitted):
    weights = sum(p.numel() * 4 for p in fitted.net_.module_.state_dict().values())
    assert len(pickle.dumps(fitted)) < weights + 40_000
    wide = WiSEALETransformer(2, max_epochs=2, random_state=0).fit(np.tile(WINE, (20, 10)))
    weights = sum(p.numel() * 4 for p in wide.net_.module_.state_dict().values())
    assert len(pickle.dumps(wide)) < 1.2 * weights


def test_set_params_reaches_parts_and_explains_strings():
    model = WiSEALETransformer(objective=WiSEALE()).set_params(objective__weight=3)
    assert model.objective.weight == 3
    model.set_params(objective=ELBO(), objective__weight=2)
    assert model.objective.weight == 2
    with pytest.raises(ValueError, match=r"Pass an object.*WiSEALE\(\)"):
        WiSEALETransformer().set_params(objective__weight=3)
    with pytest.raises(ValueError, match=r"MLP\(\)"):
        WiSEALETransformer().set_params(network__hidden=(3,))


# what is refused --------------------------------------------------------------------------------

BAD_X = {
    "inf": (np.where(WINE > 1000, np.inf, WINE), "inf"),
    "width": (WINE[:, :3], "3 features"),
    "1-D": (WINE[0], "2D array|1D array"),
    "empty": (WINE[:0], "0 sample"),
    "strings": (np.array([["a"] * 13] * 5), "strings|convert"),
    "complex": (WINE + 1j, "Complex"),
}


@pytest.mark.parametrize("kind", BAD_X)
@pytest.mark.parametrize("method", ["transform", "posterior", "score", "score_samples"])
def test_bad_rows_are_refused_when_used(kind, method, fitted):
    X, message = BAD_X[kind]
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(fitted, method)(X)


@pytest.mark.parametrize("missing", [False, True])
def test_rows_without_a_finite_code_are_named(missing):
    X = np.where(np.arange(WINE.size).reshape(WINE.shape) % 50 == 7, np.nan, WINE)
    model = reducer(precision="float64").fit(X if missing else WINE)
    rows = (X if missing else WINE)[:5].copy()
    rows[3, 1] = 1e305
    with torch.no_grad():  # weights that a fit does not come to
        model.net_.module_.encoder.skip.weight.mul_(1e10)
    assert np.isfinite(model.transform(rows[:3])).all()
    for method in (model.transform, model.posterior):
        with pytest.raises(ValueError, match=r"codes stay finite .* in row 3:"):
            method(rows)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "poisson"])
def test_codes_without_a_reconstruction_are_named(likelihood):
    model = reducer(likelihood=likelihood).fit((UNIT > 0.5).astype(float))
    codes = np.zeros((5000, 2))
    codes[4500] = 7
    model.net_.module_.decoder.register_forward_hook(  # as large weights do
        lambda module, given, output: output.masked_fill(given[0][:, :1] > 6, torch.nan)
    )
    assert np.isfinite(model.inverse_transform(codes[:4500])).all()
    with pytest.raises(ValueError, match=r"decoded rows stay finite .* in row 4500:"):
        model.inverse_transform(codes)


@pytest.mark.parametrize("kind", set(BAD_X) - {"width"})
@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
def test_bad_rows_are_refused_in_fit_and_change_nothing(kind, method):
    X, message = BAD_X[kind]
    model = reducer().fit(WINE)
    codes, state = model.transform(WINE), set(vars(model))
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(model, method)(X)
    assert set(vars(model)) == state
    np.testing.assert_array_equal(model.transform(WINE), codes)


BAD_PARAMETERS = [
    ("n_components", 0),
    ("n_components", -1),
    ("n_components", 2.5),
    ("n_components", "two"),
    ("objective", "vae"),
    ("objective", ELBO),
    ("likelihood", "normal"),
    ("network", "resnet"),
    ("scale", "column"),
    ("max_epochs", 0),
    ("max_epochs", "many"),
    ("batch_size", 0),
    ("learning_rate", -1e-3),
    ("early_stopping", "yes"),
    ("validation_fraction", 1.0),
    ("device", "gpu"),
    ("device", "meta"),
    ("device", 3),
    ("precision", "float16"),
    ("random_state", "seed"),
    ("net_params", {"module": None}),
    ("net_params", 3),
    ("net_params", {"callbacks": "disable"}),
]


@pytest.mark.parametrize(("name", "value"), BAD_PARAMETERS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_parameters_are_named(name, value, method):
    model = reducer().fit(WINE)
    codes = model.transform(WINE)
    with pytest.raises((ValueError, TypeError), match=f"'{name}' parameter.*Got"):
        getattr(model.set_params(**{name: value}), method)(WINE[:, :5])
    model.set_params(**{name: clone(reducer()).get_params()[name]})
    assert model.n_features_in_ == 13
    np.testing.assert_array_equal(model.transform(WINE), codes)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"objective": WiSEALE(bound="tight")}, "'bound' parameter of WiSEALE"),
        ({"objective": WiSEALE(weight=-1)}, "'weight' parameter of WiSEALE"),
        ({"likelihood": Gaussian(noise=-1)}, "'noise' parameter of Gaussian"),
        ({"network": MLP(hidden=(0,))}, "'hidden' parameter of MLP"),
        ({"network": MLP(activation="step")}, "'activation' parameter of MLP"),
    ],
)
def test_bad_parameters_of_parts_are_named(part, message):
    with pytest.raises(ValueError, match=message):
        reducer(**part).fit(WINE)


@pytest.mark.parametrize("scale", ["feature", "global"])
def test_bernoulli_refuses_to_be_scaled(scale):
    with pytest.raises(ValueError, match=f"'scale' parameter.*Bernoulli.*Got '{scale}'"):
        reducer(likelihood="bernoulli", scale=scale).fit(UNIT)


def test_dates_are_named():
    frame = pd.DataFrame({"a": [1.0, 2.0], "day": pd.to_datetime(["2020-01-01", "2020-01-02"])})
    with pytest.raises(ValueError, match=r"\['day'\].*ColumnTransformer"):
        reducer(likelihood="gaussian").fit(frame)


def test_bernoulli_names_the_range_and_keeps_the_fitted_state():
    model = reducer(likelihood="bernoulli").fit(UNIT)
    codes = model.transform(UNIT)
    with pytest.raises(ValueError, match=r"\[0, 1\].*Got values from.*to 1680"):
        model.fit(WINE)
    np.testing.assert_array_equal(model.transform(UNIT), codes)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        model.partial_fit(WINE)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        model.score(WINE)


@pytest.mark.parametrize(
    "method", ["transform", "inverse_transform", "posterior", "score_samples", "score", "sample"]
)
def test_not_fitted(method):
    with pytest.raises(NotFittedError, match="WiSEALETransformer"):
        getattr(reducer(), method)(*([] if method == "sample" else [WINE]))


def test_codes_of_the_wrong_width(fitted):
    with pytest.raises(ValueError, match=r"3 columns.*2 components"):
        fitted.inverse_transform(np.zeros((4, 3)))


@pytest.mark.parametrize("value", [0, -1, 1.5, "three", True])
def test_number_of_draws(value, fitted):
    with pytest.raises(ValueError, match="n_samples must be an int"):
        fitted.sample(value)
    with pytest.raises(ValueError, match="n_draws must be an int"):
        fitted.score_samples(WINE, n_draws=value)


@pytest.mark.filterwarnings("ignore:Of 2 components only 1 are in use")
def test_one_row_is_too_few_and_two_are_enough():
    with pytest.raises(ValueError, match="1 sample"):
        reducer().fit(WINE[:1])
    assert reducer(early_stopping=True, validation_fraction=0.5).fit(WINE[:2]).n_iter_ >= 1
    with pytest.raises(ValueError, match=r"validation_fraction=0.9 of n_samples=2 leaves no row"):
        reducer(early_stopping=True, validation_fraction=0.9).fit(WINE[:2])


def test_codes_may_be_a_tensor(fitted):
    Z = fitted.transform(WINE)
    found = fitted.inverse_transform(torch.from_numpy(Z).requires_grad_())
    np.testing.assert_array_equal(found, fitted.inverse_transform(Z))


@pytest.mark.parametrize("early_stopping", [True, False])
def test_progress_bar(capsys, early_stopping):
    reducer(verbose=1, early_stopping=early_stopping).fit(WINE)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "divergence" in shown
    assert ("validation" in shown) == early_stopping
