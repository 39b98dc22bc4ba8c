"""Wrong arguments: the message names the argument, the allowed values and the value."""

import copy
import re
from datetime import date, datetime, time, timedelta

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.datasets import make_sine_waves
from sklearn_wiseale.diagnostics import (
    active_units,
    aggregate_kl,
    aggregate_kl_bounds,
    reconstruction_r2,
    sliced_wasserstein,
)
from sklearn_wiseale.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Mixed,
    NegativeBinomial,
    Poisson,
)
from sklearn_wiseale.networks import MLP, Conv, Modules
from sklearn_wiseale.objectives import ELBO, InfoVAE, WassersteinMMD, WiSEALE, log_mean_overlap
from sklearn_wiseale.plotting import (
    EmbeddingDisplay,
    ReconstructionDisplay,
    TrainingDisplay,
    TraversalDisplay,
)

NAN, INF = float("nan"), float("inf")
X = np.random.RandomState(0).standard_normal((12, 4))
COUNTS = np.random.RandomState(0).poisson(2.0, (12, 4))
ONE_HOT = np.eye(4)[np.arange(12) % 4]


def reducer(n_components=2, **params):
    defaults = {"network": MLP(hidden=(4,)), "max_epochs": 1, "random_state": 0}
    return WiSEALETransformer(n_components, **defaults | params)


@pytest.fixture(scope="module")
def model():
    return reducer().fit(X)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    model.save(path)
    return path


# parameters -------------------------------------------------------------------------------------

#: Parameter of the estimator, what the message says is allowed, values that are not.
PARAMETERS = [
    ("n_components", "an int in the range [1, inf)", [0, -1, 2.0, True, None, NAN, "two", [2]]),
    ("objective", "'wiseale'", ["vae", None, 3, ELBO, [ELBO()]]),
    ("likelihood", "'gaussian'", ["normal", None, 3, Gaussian]),
    ("network", "'mlp'", ["resnet", None, MLP, torch.nn.Linear(4, 2)]),
    ("scale", "'feature'", ["Feature", True, 2, ["feature"]]),
    ("max_epochs", "an int in the range [1, inf) or a str among {'auto'}", [0, 1.5, True, INF]),
    ("batch_size", "an int in the range [1, inf) or a str among {'auto'}", [0, 2.5, True, "big"]),
    ("learning_rate", "a float in the range (0.0, inf)", [0, -1e-3, NAN, INF, True, "fast", 1j]),
    ("early_stopping", "'auto'", [1, None, "yes", 0.5]),
    ("validation_fraction", "a float in the range (0.0, 1.0)", [0, 1, 0.0, 1.5, NAN, "some"]),
    ("n_iter_no_change", "an int in the range [1, inf)", [0, 2.5, True, None]),
    ("tol", "a float in the range [0.0, inf)", [-1, NAN, INF, True, None]),
    ("warm_start", "'bool'", [1, None, "yes"]),
    ("device", "'str'", [None, 3, torch.float32]),
    ("device", "'auto' or a torch device available here", ["gpu", "", "cuda:99"]),
    ("device", "torch finds no device of the type 'xla'", ["xla", torch.device("xla")]),
    ("device", "a device that holds data", ["meta"]),
    ("precision", "'float64'", ["float16", None, 32, torch.float32]),
    ("checkpoint", "'os.PathLike'", [3, b"here", True]),
    ("verbose", "an int in the range [0, inf)", [-1, 1.5, None, "yes"]),
    ("random_state", "an int in the range [0, 4294967295]", [-1, 2**32, 1.5, "seed", [1]]),
    ("net_params", "'dict'", [3, "lr", [("lr", 1)]]),
    ("net_params", "not contain", [{"lr": 1}, {"module": None}, {"batch_size": 3}]),
    ("net_params", "not contain", [{"callbacks__best_state__patience": 3}]),
    ("net_params", "parameters of a skorch NeuralNet", [{"depth": 3}, {1: 2}]),
    (
        "net_params",
        "parameters of a skorch NeuralNet",
        [{"optimizer": "adam"}, {"optimizer": None}, {"optimizer__speed": 3}, {"callbacks": [3]}],
    ),
]
#: The same for parts: the part with the bad value, its parameter, what is allowed.
PARTS = [
    (WiSEALE(bound="tight"), "bound", "'jensen'"),
    (WiSEALE(bound=None), "bound", "'jensen'"),
    (WiSEALE(weight=-1), "weight", "a float in the range [0.0, inf) or a str among {'auto'}"),
    (WiSEALE(weight=True), "weight", "a float in the range [0.0, inf)"),
    (WiSEALE(width=0), "width", "an int in the range [1, inf) or a str among {'auto'}"),
    (WiSEALE(width=True), "width", "an int in the range [1, inf)"),
    (WiSEALE(sliced_share=1.5), "sliced_share", "a float in the range [0.0, 1.0]"),
    (WiSEALE(neighbors=-1), "neighbors", "an int in the range [0, inf) or a str among {'auto'}"),
    (WiSEALE(neighbors=1.5), "neighbors", "an int in the range [0, inf)"),
    (WiSEALE(neighbor_weight=-1.0), "neighbor_weight", "a float in the range [0.0, inf)"),
    (WiSEALE(sliced_share=NAN), "sliced_share", "a float in the range [0.0, 1.0]"),
    (ELBO(weight=NAN), "weight", "a float in the range [0.0, inf)"),
    (InfoVAE(alpha=-0.1), "alpha", "a float in the range [0.0, 1.0]"),
    (InfoVAE(weight=INF), "weight", "a float in the range [0.0, inf)"),
    (InfoVAE(alpha=0.2, weight=0.5), "weight", "at least 1 - alpha = 0.8"),
    (WassersteinMMD(weight="much"), "weight", "a float in the range [0.0, inf)"),
    (Gaussian(noise="row"), "noise", "'feature'"),
    (Gaussian(noise=0), "noise", "a float in the range [1e-06, 1e+16]"),
    (Gaussian(noise=1e300), "noise", "a float in the range [1e-06, 1e+16]"),
    (Gaussian(noise=True), "noise", "a float in the range [1e-06, 1e+16]"),
    (NegativeBinomial(dispersion=0.0), "dispersion", "a float in the range [1e-06, 10000.0]"),
    (NegativeBinomial(dispersion=1e5), "dispersion", "a float in the range [1e-06, 10000.0]"),
    (Categorical(sizes=4), "sizes", "'tuple'"),
    (Categorical(sizes=(1, 3)), "sizes", "a tuple of ints >= 2, or None"),
    (Categorical(sizes=(2.0, 2)), "sizes", "a tuple of ints >= 2, or None"),
    (Categorical(sizes=(2, 3)), "sizes", "sum to the number of columns, 4"),
    (Mixed(parts="all"), "parts", "'list'"),
    (MLP(hidden=4), "hidden", "array-like"),
    (MLP(hidden=(0,)), "hidden", "a sequence of integers >= 1"),
    (MLP(hidden=(4, True)), "hidden", "a sequence of integers >= 1"),
    (MLP(hidden=np.array(4)), "hidden", "a sequence of integers >= 1"),
    (MLP(hidden=[[4], [2, 3]]), "hidden", "a sequence of integers >= 1"),
    (MLP(hidden=(), linear_skip=False), "hidden", "at least one layer"),
    (MLP(activation="step"), "activation", "'relu'"),
    (MLP(linear_skip="yes"), "linear_skip", "'bool'"),
    (MLP(dropout=1), "dropout", "a float in the range [0.0, 1.0)"),
    (Conv(image_shape=64), "image_shape", "array-like"),
    (Conv(image_shape=np.array(64)), "image_shape", "three integers >= 1"),
    (Conv(image_shape=(8, 8)), "image_shape", "three integers >= 1"),
    (Conv(image_shape=(1, 4, 4)), "image_shape", "height and width >= 8"),
    (Conv(image_shape=(1, 8, 8)), "image_shape", "multiply to the number of features, 4"),
    (Conv(image_shape=(1, 8, 8), channels="many"), "channels", "'auto'"),
    (Conv(image_shape=(1, 8, 8), channels=()), "channels", "one or more integers >= 1"),
    (Conv(image_shape=(1, 8, 8), channels=(2,) * 4), "channels", "at most 3 stages"),
    (Conv(image_shape=(1, 8, 8), activation=None), "activation", "'relu'"),
    (Conv(image_shape=(1, 8, 8), linear_skip=1), "linear_skip", "'bool'"),
    (Modules(encoder="linear", decoder=torch.nn.Linear), "encoder", "a callable"),
    (Modules(encoder=torch.nn.Linear, decoder=None), "decoder", "a callable"),
]
#: Parts whose message tells a part of the value.
LAYOUTS = [
    (Mixed([]), "each of the 4 columns of X exactly once", "column 0 is in no part"),
    (Mixed([Gaussian()]), "list of pairs (likelihood object, columns)", "Got Gaussian()"),
    (Mixed([("gaussian", slice(0, 4))]), "list of pairs", "Got ('gaussian', slice(0, 4, None))"),
    (Mixed([(Gaussian(), [0, 1, 2, 9])]), "exactly once", "there is no column 9"),
    (Mixed([(Gaussian(), [0, 1, 2, 2])]), "exactly once", "column 2 is in two parts"),
    (Mixed([(Gaussian(), [0.0])]), "slices, ranges or lists of ints", "Got [0.0]"),
    (Mixed([(Gaussian(), slice("a", "b"))]), "slices, ranges", "Got slice('a', 'b', None)"),
    (Mixed([(Gaussian(), [[0], [1, 2]])]), "slices, ranges", "Got [[0], [1, 2]]"),
    (Mixed([(Gaussian(), slice(0, 4)), (Poisson(), [])]), "exactly once", "columns [] are empty"),
]


def test_every_parameter_has_a_bad_value():
    assert {name for name, *_ in PARAMETERS} == set(WiSEALETransformer().get_params())
    tried = {(type(part), name) for part, name, _ in PARTS}
    kinds = {type(part) for part, *_ in PARTS} | {Bernoulli, Poisson}
    assert tried == {(kind, name) for kind in kinds for name in kind._get_param_names()}


@pytest.mark.parametrize(
    ("name", "allowed", "value"),
    [(name, allowed, value) for name, allowed, values in PARAMETERS for value in values],
)
def test_parameters(name, allowed, value, model):
    new, fitted = reducer(**{name: value}), copy.deepcopy(model).set_params(**{name: value})
    for fit in (new.fit, new.partial_fit, fitted.fit):
        with pytest.raises(ValueError, match=f"The '{name}' parameter of WiSEALETra") as error:
            fit(X[:, :3])
        assert allowed in str(error.value)
        assert f"Got {value!r} instead" in str(error.value)
    assert getattr(new, name) is value
    assert not hasattr(new, "net_")
    require_unchanged(fitted, model, **{name: getattr(model, name)})


def require_unchanged(estimator, model, **params):
    estimator.set_params(**params)
    assert vars(estimator).keys() == vars(model).keys()
    np.testing.assert_array_equal(estimator.transform(X), model.transform(X))


WITHOUT_EFFECT = ["iterator_train__shuffle", "iterator_valid__batch_size", "dataset__length"]
WITHOUT_EFFECT += ["warm_start", "module__encoder", "criterion__weight", "compile__mode"]


@pytest.mark.parametrize(
    ("name", "match"),
    [
        *((name, f"no effect. Got \\['{name}'\\]") for name in WITHOUT_EFFECT),
        ("callbacks__clip__gradient_clip_value", "no callback of the name 'clip'"),
        ("callbacks", "callbacks as a list. Got 1"),
    ],
)
def test_net_params_without_effect_are_refused(name, match):
    with pytest.raises(ValueError, match=f"'net_params'.*{match}"):
        reducer(net_params={name: 1}).fit(X)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is such a device")
def test_a_device_that_is_not_here_is_said_in_a_line():
    with pytest.raises(ValueError, match=r"finds no device of the type 'mps' on this machine\.$"):
        reducer(device="mps").fit(X)


def test_a_device_of_torch_is_taken_as_its_name_is(tmp_path):
    estimator = reducer(device=torch.device("cpu")).fit(X)
    np.testing.assert_array_equal(estimator.transform(X), reducer(device="cpu").fit(X).transform(X))
    estimator.save(tmp_path / "model")
    again = load(tmp_path / "model", device=torch.device("cpu"))
    np.testing.assert_array_equal(again.transform(X), estimator.transform(X))


ROLES = {"objectives": "objective", "likelihoods": "likelihood", "networks": "network"}


def fit_with(part):
    role = ROLES[type(part).__module__.split(".")[1]]
    rows = {NegativeBinomial: COUNTS, Categorical: ONE_HOT}.get(type(part), X)
    reducer(**{role: part}).fit(rows)


@pytest.mark.parametrize(
    ("part", "name", "parts_of_message"),
    [
        *((p, name, (allowed, f"Got {getattr(p, name)!r} instead")) for p, name, allowed in PARTS),
        *((part, "parts", messages) for part, *messages in LAYOUTS),
    ],
)
def test_parameters_of_parts(part, name, parts_of_message):
    match = f"The '{name}' parameter of {type(part).__name__} must "
    with pytest.raises(ValueError, match=match) as error:
        fit_with(part)
    assert all(message in str(error.value) for message in parts_of_message)


# rows -------------------------------------------------------------------------------------------


def with_value(value, dtype=np.float64):
    rows = np.ones((3, 4), dtype)
    rows[1, 2] = value
    return rows


def table(library, column):
    return library.DataFrame({"a": [1.0, 2.0], "b": column, "c": [0, 1], "d": [1.0, 1.0]})


DAYS = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]")
ROWS = {
    "no rows": (np.ones((0, 4)), r"0 sample\(s\) .*minimum of \d is required"),
    "no columns": (np.ones((3, 0)), r"0 feature\(s\) .*minimum of 1 is required"),
    "one dimension": (np.ones(4), "Expected 2D array, got 1D array instead"),
    "three dimensions": (np.ones((3, 2, 2)), "array with dim 3, while dim <= 2 is required"),
    "nothing": (None, "Expected 2D array, got scalar array instead:\narray=None"),
    "text": ("rows.csv", "Expected 2D array, got scalar array instead:\narray=rows.csv"),
    "unequal rows": ([[1.0, 2, 3, 4], [1.0, 2]], "sequence.*inhomogeneous shape"),
    "infinity": (with_value(-INF), "Input X contains infinity"),
    "half infinity": (with_value(INF, np.float16), "Input X contains infinity"),
    "sparse infinity": (sp.csc_array(with_value(INF)), "Input X contains infinity"),
    "opposite infinities": (np.array([[INF, -INF, 0, 0]] * 3), "Input X contains infinity"),
    "complex": (np.ones((3, 4)) * 1j, "Complex data not supported"),
    "sparse complex": (sp.csr_array(np.ones((3, 4)) * 1j), "Complex data not supported"),
    "strings": (np.full((3, 4), "a"), "Convert your data to numeric values"),
    "a string": (with_value("a", object), "could not convert string to float: 'a'"),
    "an object": (with_value(len, object), "must be a string or a real number, not 'builtin"),
    "dates": (np.tile(DAYS[:, None], 4), r"X must be numeric\. Got the dtype datetime64\[D\]"),
    "durations": (np.tile(DAYS[:, None], 4) - DAYS[0], r"Got the dtype timedelta64\[D\]"),
    "names": (table(pd, ["x", "y"]), r"X must be numeric\..*not: \['b'\].*ColumnTransformer"),
    "days": (table(pd, DAYS), r"X must be numeric\. .*not: \['b'\]"),
    "only days": (pd.DataFrame(dict.fromkeys("abcd", DAYS)), r"not: \['a', 'b', 'c', 'd'\]"),
    "categories": (table(pd, pd.Categorical(["x", "y"])), r"not: \['b'\]"),
    "complex column": (table(pd, [1j, 2.0]), r"not: \['b'\]"),
    "polars names": (table(pl, ["x", "y"]), r"not: \['b'\]"),
    "arrow days": (table(pd, pd.array(DAYS, "timestamp[ns][pyarrow]")), r"not: \['b'\]"),
    "polars days": (table(pl, [datetime(2020, 1, 1), None]), r"not: \['b'\]"),
    "polars dates": (table(pl, [date(2020, 1, 1), None]), r"not: \['b'\]"),
    "polars durations": (table(pl, [timedelta(1), None]), r"not: \['b'\]"),
    "polars times": (table(pl, [time(1), None]), r"not: \['b'\]"),
    "polars query": (table(pl, [0, 1]).lazy(), r"Got a LazyFrame: pass X\.collect\(\)"),
    "empty table": (pd.DataFrame(), r"Got a dataframe of 0 sample\(s\) and 0 feature\(s\)"),
    "no columns in it": (pd.DataFrame(index=range(3)), r"of 3 sample\(s\) and 0 feature\(s\)"),
    "no rows in it": (table(pl, [0, 1]).head(0), r"Got a dataframe of 0 sample\(s\) and 4"),
    "polars lists": (table(pl, [[1], [2]]), r"not: \['b'\]"),
    "empty tensor": (torch.ones(3, 4, device="meta"), "X must be a dense tensor.* device 'meta'"),
    "sparse tensor": (torch.ones(3, 4).to_sparse(), "X must be a dense tensor.*torch.sparse_coo"),
}
METHODS = ["fit", "partial_fit", "fit_transform", "transform", "posterior", "score"]
METHODS += ["score_samples"]


@pytest.mark.filterwarnings("ignore:X has feature names:UserWarning")
@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("method", METHODS)
def test_rows(model, kind, method):
    rows, message = ROWS[kind]
    new, fitted = (make(model).set_params(likelihood="gaussian") for make in (clone, copy.deepcopy))
    for estimator in (new, fitted) if "fit" in method else (fitted,):
        with pytest.raises((ValueError, TypeError), match=f"(?s){message}"):
            getattr(estimator, method)(rows)
    assert not hasattr(new, "net_")
    require_unchanged(fitted, model)


@pytest.mark.parametrize("method", METHODS[3:])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (X[:, :3], "X has 3 features, but WiSEALETransformer is expecting 4 features"),
        (with_value(1e200), r"X must have values for which .* finite .*up to 1e\+200 in row 1"),
        (sp.csr_array(with_value(3e38)), r"X must have values .* Got values up to 3e\+38 in row 1"),
    ],
)
def test_rows_of_a_fitted_estimator(model, method, rows, message):
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(rows)


@pytest.mark.parametrize(
    ("params", "rows", "message"),
    [
        ({}, X[:1], r"1 sample\(s\) .* minimum of 2 is required"),
        ({}, with_value(1e300), r"X must have variances that float64 can hold\. Got .* 1e\+300"),
        (
            {"scale": None},
            X * 1e30,
            r"X must have variances that float32 .* scale=None.* Got .*e\+30",
        ),
        ({}, X * [1, NAN, 1, 1], "X must have an observed value in every column.*column 1"),
        (
            {},
            pd.DataFrame({"a": [1.0, 2.0], "b": [NAN, NAN], "c": [NAN, NAN]}),
            "Got only NaN in column 'b', 'c': leave",
        ),
        ({"likelihood": "bernoulli"}, X, r"X must lie in \[0, 1\].* Got values from -2.55"),
        (
            {"likelihood": "poisson"},
            X,
            r"counts 0, 1, 2.* Got 1\.76405 in column 0, row 0",
        ),
        (
            {"likelihood": "negative_binomial"},
            COUNTS / 2,
            r"X must have .* Got 1\.5 in column 0",
        ),
        ({"likelihood": "categorical"}, COUNTS, "X must be 0 or 1 .* Got [2-9] in column"),
        ({"likelihood": "categorical"}, 1 - ONE_HOT, "X must have exactly one 1 .* Got 3 in row 0"),
        ({"likelihood": "categorical"}, X[:, :1] > 9, "at least 2 columns. Got 1"),
        *(
            (
                {"likelihood": name.lower(), "scale": scale},
                rows,
                f"'scale' parameter .* 'auto' or None .* {name}.*Got '{scale}'",
            )
            for scale in ("feature", "global")
            for name, rows in (("Poisson", COUNTS), ("Bernoulli", ONE_HOT))
        ),
        (
            {"early_stopping": True, "validation_fraction": 0.99},
            X,
            "validation_fraction=0.99 of n_samples=12 leaves no row",
        ),
        (
            {"network": Conv(image_shape=(1, 8, 8))},
            np.ones((3, 1, 8, 9)),
            r"X must hold images .*\(1, 8, 8\).* Got \(3, 1, 8, 9\)",
        ),
    ],
)
def test_rows_for_a_fit(params, rows, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        reducer(**params).fit(rows)


# all other arguments ----------------------------------------------------------------------------

SEEDS = "random_state must be an int from 0 to 2**32 - 1, a RandomState instance or None. Got "
PATHS = "path must be a str or a PathLike of text. Got "
Z = np.zeros((4, 2))
POSTERIOR = torch.zeros(4, 2)
#: A call with the fitted model and the file it is saved in, and what the message says.
CALLS = {
    # inverse_transform
    "codes of 3": (lambda m, f: m.inverse_transform(np.ones((2, 3))), "X has 3 columns", "2 comp"),
    "codes, 1-D": (lambda m, f: m.inverse_transform(np.ones(2)), "Expected 2D array, got 1D"),
    "codes, NaN": (lambda m, f: m.inverse_transform(Z * NAN), "Input X contains NaN"),
    "codes, inf": (lambda m, f: m.inverse_transform(Z + INF), "Input X contains infinity"),
    "codes, large": (lambda m, f: m.inverse_transform(Z + 1e39), "X", "too large for", "float32"),
    "codes, larger": (
        lambda m, f: m.inverse_transform(Z + 3e38),
        "X must have values for which decoded rows stay finite",
        "Got values up to 3e+38 in row 0",
    ),
    "codes, dates": (lambda m, f: m.inverse_transform(DAYS[None]), "X must be numeric", "datetime"),
    "codes, sparse": (lambda m, f: m.inverse_transform(sp.csr_array(Z)), "Sparse data", "for X"),
    "codes, meta": (
        lambda m, f: m.inverse_transform(torch.ones(2, 2, device="meta")),
        "X must be a dense tensor",
        "'meta'",
    ),
    # sample and score_samples
    **{
        f"{name}={n!r}": (
            lambda m, f, name=name, method=method, given=given, n=n: getattr(m, method)(
                *given, **{name: n}
            ),
            f"{name} must be an int >= 1. Got {n!r}.",
        )
        for name, method, given in (("n_samples", "sample", []), ("n_draws", "score_samples", [X]))
        for n in (0, -1, 1.5, "three", True)
    },
    "sample seed": (lambda m, f: m.sample(random_state="x"), f"{SEEDS}'x'."),
    "sample seed -1": (lambda m, f: m.sample(random_state=-1), f"{SEEDS}-1."),
    # set_params, partial_fit
    "string part": (
        lambda m, f: reducer().set_params(objective__weight=3),
        "'objective__weight' cannot be set while objective='wiseale'",
        "objective=WiSEALE()",
    ),
    "another string part": (
        lambda m, f: reducer(network="mlp").set_params(network__hidden=3),
        "MLP()",
    ),
    "no parameter": (
        lambda m, f: reducer().set_params(likelihood=Gaussian(), likelihood__sd=3),
        "Invalid parameter 'sd'",
        "['noise']",
    ),
    "stream": (
        lambda m, f: reducer(early_stopping=True).partial_fit(X),
        "partial_fit does not support early_stopping=True",
        "'auto' or False",
    ),
    # files
    "save path": (lambda m, f: m.save(3), f"{PATHS}3."),
    "save bytes": (lambda m, f: m.save(b"x"), f"{PATHS}b'x'."),
    "export path": (lambda m, f: m.export_onnx(None), f"{PATHS}None."),
    "load path": (lambda m, f: load(["x"]), f"{PATHS}['x']."),
    "export part": (
        lambda m, f: m.export_onnx(f, part="both"),
        "part must be 'encoder' or 'decoder'. Got 'both'.",
    ),
    "load device": (lambda m, f: load(f, "gpu"), "'device'", "'auto' or a torch dev", "Got 'gpu'"),
    "load no device": (lambda m, f: load(f, None), "'device'", "'auto' or a torch", "Got None"),
    "load part": (lambda m, f: load(f, network=MLP()), str, "network cannot be handed back"),
    # diagnostics
    "method": (lambda m, f: aggregate_kl(Z, Z, method="all"), "method must be one of", "'all'"),
    "mean, 1-D": (lambda m, f: aggregate_kl(Z[0], Z), "mean must be a matrix of finite numbers"),
    "mean, NaN": (lambda m, f: aggregate_kl(Z * NAN, Z), "mean must be a matrix", "contains NaN"),
    "mean, large": (lambda m, f: aggregate_kl(Z + 1e200, Z), "mean must lie in", "up to 1e+200"),
    "log_var, text": (lambda m, f: aggregate_kl(Z, Z.astype(str)[0]), "log_var must be a matrix"),
    "log_var, large": (
        lambda m, f: aggregate_kl_bounds(Z, Z - 800),
        "log_var must lie in [-700, 700]",
        "up to 800",
    ),
    "log_var, other": (
        lambda m, f: aggregate_kl(Z, Z[:, :1]),
        "log_var must have the shape of mean, (4, 2). Got (4, 1).",
    ),
    "kl seed": (lambda m, f: aggregate_kl(Z, Z, method="sliced", random_state="x"), f"{SEEDS}'x'"),
    "threshold": (lambda m, f: active_units(Z, threshold=-1), "threshold must be", "Got -1."),
    "units of nothing": (lambda m, f: active_units(None), "mean must be a matrix"),
    "z": (lambda m, f: sliced_wasserstein(Z + INF), "z must be a matrix of finite", "infinity"),
    "projections": (
        lambda m, f: sliced_wasserstein(Z, n_projections=True),
        "n_projections must be an int >= 1. Got True.",
    ),
    "distance seed": (lambda m, f: sliced_wasserstein(Z, random_state=1.5), f"{SEEDS}1.5"),
    "weights": (
        lambda m, f: reconstruction_r2(m, X, weights=np.ones(4)),
        "weights must be 'estimator', 'feature' or 'none'. Got array([1., 1., 1., 1.]).",
    ),
    "no transformer": (
        lambda m, f: reconstruction_r2(3, X),
        "estimator must be a fitted transformer with transform and inverse_transform",
        "Got 3, which has no transform",
    ),
    "constant": (lambda m, f: reconstruction_r2(m, 0 * X), "X", "varies. Got constant columns"),
    # objectives and likelihoods
    "no tensor": (lambda m, f: log_mean_overlap(Z, POSTERIOR), "mean must be a torch tensor. Got"),
    "no variance": (lambda m, f: log_mean_overlap(POSTERIOR, None), "log_var", "tensor. Got None"),
    "alone": (
        lambda m, f: log_mean_overlap(POSTERIOR, POSTERIOR, POSTERIOR),
        "other_mean and other_log_var must be given together. Got other_log_var=None.",
    ),
    "few weights": (
        lambda m, f: log_mean_overlap(POSTERIOR, POSTERIOR, log_weights=torch.zeros(3)),
        "log_weights must have shape (4,) or (4, 4). Got (3,).",
    ),
    "no columns": (
        lambda m, f: Mixed.from_column_transformer(m),
        "transformer must be a fitted ColumnTransformer. Got WiSEALETransformer.",
    ),
    # datasets
    "no waves": (lambda m, f: make_sine_waves(0), "n_samples must be an int >= 1. Got 0."),
    "no time": (lambda m, f: make_sine_waves(3, True), "n_timesteps must be an int", "Got True."),
    "amplitude": (lambda m, f: make_sine_waves(amplitude=-1), "amplitude must be", ">= 0. Got -1."),
    "frequency": (lambda m, f: make_sine_waves(frequency=99), "frequency must", "<= 50. Got 99."),
    "phase": (lambda m, f: make_sine_waves(phase="late"), "phase must be", "Got 'late'."),
    "noise": (lambda m, f: make_sine_waves(noise=NAN), "noise must be a finite", "Got nan."),
    "wave seed": (lambda m, f: make_sine_waves(random_state=[1]), f"{SEEDS}[1]."),
}
SHAPES = "image_shape must be (height, width), "
#: A display, an argument of from_estimator, what is allowed, a value that is not.
DRAWINGS = [
    (EmbeddingDisplay, "estimator", "estimator must have transform", 3),
    (EmbeddingDisplay, "y", "y must have shape (12,)", np.ones(3)),
    (EmbeddingDisplay, "components", "components must be 1 or 2 distinct ints from 0 to 1", (0, 2)),
    (EmbeddingDisplay, "posterior", "posterior must be False, True or 'ellipses'", "lines"),
    (EmbeddingDisplay, "max_ellipses", "max_ellipses must be an int >= 1", 0),
    (EmbeddingDisplay, "prior", "prior must be True, False or 'auto'", None),
    (EmbeddingDisplay, "ax", "ax must be a matplotlib Axes or None", "here"),
    (EmbeddingDisplay, "scatter_kwargs", "scatter_kwargs must be a dict or None", 3),
    (ReconstructionDisplay, "estimator", "estimator must have transform and inverse_transform", 3),
    (ReconstructionDisplay, "X", "X must have shape (n_samples, n_features)", "rows"),
    (ReconstructionDisplay, "image_shape", SHAPES, (3, 3)),
    (ReconstructionDisplay, "n_rows", "n_rows must be an int >= 1", True),
    (ReconstructionDisplay, "max_features", "max_features must be an int >= 1", "all"),
    (ReconstructionDisplay, "random_state", SEEDS.removesuffix(" Got "), "x"),
    (ReconstructionDisplay, "ax", "ax must be a matplotlib Axes, None, or 4 Axes", 3),
    (ReconstructionDisplay, "cmap", "cmap must be a Colormap of matplotlib or the name", "grey!"),
    (ReconstructionDisplay, "scatter_kwargs", "scatter_kwargs must be a dict or None", [3]),
    (TraversalDisplay, "estimator", "estimator must have inverse_transform", 3),
    (TraversalDisplay, "image_shape", SHAPES, 4),
    (TraversalDisplay, "n_steps", "n_steps must be an int >= 2", 1),
    (TraversalDisplay, "components", "components must be 1 or 2 distinct ints", ()),
    (TraversalDisplay, "span", "span must be a number > 0", -1.0),
    (TraversalDisplay, "units", "units must be 'auto', 'data' or 'sd'", "nats"),
    (TraversalDisplay, "ax", "ax must be a matplotlib Axes, None, or 2 Axes", 3),
    (TraversalDisplay, "cmap", "cmap must be a Colormap of matplotlib or the name", 3),
    (TrainingDisplay, "ax", "ax must be a matplotlib Axes, None, or 3 Axes", 3),
]


@pytest.mark.parametrize("call", CALLS)
def test_arguments(call, model, file):
    function, *parts = CALLS[call]
    before = file.read_bytes()
    with pytest.raises((ValueError, TypeError)) as error:
        function(model, file)
    for part in parts:
        assert (repr(str(file)) if part is str else part) in str(error.value)
    assert file.read_bytes() == before


@pytest.mark.parametrize("how", ["save", "export_onnx"])
def test_targets(how, model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"directory of the file must exist: .*absent"):
        getattr(model, how)(tmp_path / "absent" / "model")
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        getattr(model, how)(tmp_path)


@pytest.mark.parametrize(("display", "name", "allowed", "value"), DRAWINGS)
def test_drawings(display, name, allowed, value, model):
    given = {"estimator": model}
    if display in (EmbeddingDisplay, ReconstructionDisplay):
        given["X"] = X
    if name in ("random_state", "cmap"):
        given |= {"image_shape": (2, 2)}
    if name == "random_state":
        given |= {"n_rows": 2}
    with pytest.raises(ValueError, match=re.escape(allowed)) as error:
        display.from_estimator(**given | {name: value})
    if name not in ("estimator", "X", "y"):
        assert f"Got {value!r}." in str(error.value)
    assert not plt.get_fignums()
