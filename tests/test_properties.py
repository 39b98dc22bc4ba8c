"""Laws for any input: a correct result, or a refusal that names what is wrong. By hypothesis.

Every law is tried twice: on a few examples, always the same, and on more than 20,000 new ones in
all by ``pytest -m long tests/test_properties.py``, which counts them.
"""

import copy
import functools
import re
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from references import BOUNDS
from sklearn.exceptions import ConvergenceWarning

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import active_units, aggregate_kl, sliced_wasserstein
from sklearn_wiseale.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Mixed,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from sklearn_wiseale.networks import MLP, Conv, Modules
from sklearn_wiseale.objectives import ELBO, InfoVAE, WassersteinMMD, WiSEALE

LAWS = {}  # by name: a function that makes the property, examples of the quick and the long run
TRIED = Counter()  # examples, by name
QUICK = settings(
    database=None,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
LONG = settings(QUICK, derandomize=False, print_blob=True)


def law(quick, long, **strategies):
    """Make a function of drawn arguments a law, with its number of examples in either run."""

    def register(function):
        @functools.wraps(function)
        def counted(**drawn):
            TRIED[function.__name__] += 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # of extreme data
                warnings.filterwarnings("ignore", ".* components only .* are in use")
                warnings.filterwarnings("ignore", "X (has|does not have valid) feature names")
                function(**drawn)

        LAWS[function.__name__] = (lambda: given(**strategies)(counted), quick, long)
        return function

    return register


def reducer(n_components=2, **params):
    defaults = {"network": MLP(hidden=(4,)), "max_epochs": 1, "random_state": 0}
    return WiSEALETransformer(n_components, **{**defaults, **params})


@functools.cache
def fitted(n_features, precision="float32", likelihood="gaussian"):
    X = np.random.RandomState(n_features).poisson(2.0, (30, n_features))
    X = X > 1 if likelihood == "bernoulli" else X
    return reducer(precision=precision, likelihood=likelihood).fit(X)


def results(model, method, X):
    """What a method gives, as a list of arrays."""
    values = getattr(model, method)(X)
    return [np.asarray(part) for part in (values if isinstance(values, tuple) else (values,))]


# containers -----------------------------------------------------------------------------------

DTYPES = ["?", "i1", "u1", ">i2", "u2", "i4", ">u4", "i8", ">u8", "f2", ">f2", "f4", ">f4"]
DTYPES += ["f8", ">f8", "g"]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


class Holder:
    """What only numpy's protocol gives access to."""

    def __init__(self, X):
        self.X = X

    def __array__(self, dtype=None, copy=None):
        return np.array(self.X, dtype=dtype)


LAYOUTS = {
    "C": np.array,
    "Fortran": np.asfortranarray,
    "rows reversed": lambda X: X[::-1].copy()[::-1],
    "columns reversed": lambda X: X[:, ::-1].copy()[:, ::-1],
    "every other": lambda X: np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2],
    "read-only": read_only,
    "not aligned": lambda X: np.frombuffer(
        bytearray(b"-" + X.tobytes()), X.dtype, offset=1
    ).reshape(X.shape),
    "masked": np.ma.masked_array,
}


def frame(X):
    return pd.DataFrame(X.astype(X.dtype.newbyteorder("=")))


def polars(X, *dtypes):
    X = X.astype(X.dtype.newbyteorder("="))
    return pl.DataFrame(
        {f"c{j}": pl.Series(X[:, j]).cast(dtypes[j % len(dtypes)]) for j in range(X.shape[1])}
    )


def with_duplicates(X):
    """A CSR matrix whose rows are out of order, with each entry in two halves and zeros kept."""
    n, d = X.shape
    columns = np.tile(np.r_[np.arange(d)[::-1], np.arange(d)], n)
    halves = np.hstack([X[:, ::-1], X]) / 2
    return sp.csr_matrix((halves.ravel(), columns, 2 * d * np.arange(n + 1)), shape=(n, d))


#: Containers of float64 rows of small whole numbers, which all of them hold exactly.
WRAPPERS = {
    "object": lambda X: X.astype(object),
    "list": lambda X: X.tolist(),
    "tuples of int": lambda X: tuple(map(tuple, X.astype(int).tolist())),
    "protocol": Holder,
    "pandas": frame,
    "pandas mixed": lambda X: frame(X).astype(
        {j: ["f4", "i8", "?"][j % 2] for j in range(X.shape[1])}
    ),
    "pandas Int64": lambda X: frame(X).astype("Int64"),
    "pandas Float32": lambda X: frame(X).astype("Float32"),
    "pandas boolean": lambda X: frame(X > 4).astype("boolean"),
    "pandas Arrow": lambda X: frame(X).astype("double[pyarrow]"),
    "pandas Arrow int": lambda X: frame(X).astype("int16[pyarrow]"),
    "pandas Arrow bool": lambda X: frame(X > 4).astype("bool[pyarrow]"),
    "pandas sparse": lambda X: frame(X).astype(pd.SparseDtype("float64", 0.0)),
    "pandas categories": lambda X: frame(X).astype("category"),
    "polars": lambda X: polars(X, pl.Float64),
    "polars mixed": lambda X: polars(X, pl.Float32, pl.UInt8, pl.Decimal(10, 2)),
    "polars bool": lambda X: polars(X > 4, pl.Boolean),
    "torch": torch.tensor,
    "torch with gradient": lambda X: torch.tensor(X, requires_grad=True),
    "torch of a graph": lambda X: 2 * torch.tensor(X / 2, requires_grad=True),
    "torch transposed": lambda X: torch.tensor(X.T).T,
    "torch every other": lambda X: torch.tensor(np.repeat(X, 2, axis=1))[:, ::2],
    "torch negative bit": lambda X: torch.tensor(-1j * X).conj().imag,
    "torch float16": lambda X: torch.tensor(X, dtype=torch.float16),
    "torch bfloat16": lambda X: torch.tensor(X, dtype=torch.bfloat16),
    "torch uint8": lambda X: torch.tensor(X, dtype=torch.uint8),
    "torch bool": lambda X: torch.tensor(X > 4),
    "CSR with duplicates": with_duplicates,
}
SPARSE = [
    f"{form}_{kind}"
    for form in ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]
    for kind in ("matrix", "array")
]

whole_numbers = st.integers(0, 8)
array_containers = st.tuples(st.sampled_from(sorted(LAYOUTS)), st.sampled_from(DTYPES)) | st.tuples(
    st.sampled_from(SPARSE), st.sampled_from(["?", "i1", "i8", "f4", "f8"])
)
other_containers = st.sampled_from(sorted(WRAPPERS)).map(lambda name: (name, "f8"))


def tables(n, d, elements=whole_numbers):
    """Float64 arrays of n rows and d columns, given as strategies or numbers."""
    n, d = (st.just(size) if isinstance(size, int) else size for size in (n, d))
    return st.tuples(n, d).flatmap(lambda shape: arrays(np.float64, shape, elements=elements))


def contained(X, container):
    """Rows in a container, and the values they then have, as a plain array of their dtype."""
    name, dtype = container
    X = (X > 4 if dtype == "?" else X).astype(dtype)
    if name in WRAPPERS:
        return WRAPPERS[name](X), (X > 4 if "bool" in name else X).astype(np.float64)
    if name in LAYOUTS:
        return LAYOUTS[name](X), X.astype(X.dtype.newbyteorder("="))
    return getattr(sp, name)(X), X


def assert_unchanged(held, before):
    for now, then in zip(content(held), before, strict=True):
        np.testing.assert_array_equal(now, then)


def content(held):
    """Everything in a container, as arrays that can be compared."""
    if sp.issparse(held):
        entries = held.tocoo(copy=True)
        return [entries.data, *entries.coords]
    if isinstance(held, torch.Tensor):
        return [held.detach().clone().float().numpy()]
    if isinstance(held, Holder):
        return [held.X.copy()]
    return [np.array(held)]


# equal values, equal results --------------------------------------------------------------------


@law(60, 6000, X=tables(st.integers(1, 5), st.integers(1, 4)), data=st.data())
def results_are_the_same_in_any_container(X, data):
    container = data.draw(array_containers | other_containers)
    method = data.draw(st.sampled_from(["transform", "posterior", "score_samples"]))
    held, values = contained(X, container)
    before = content(held)
    # rows of float32 and of float64 are scaled with different roundings where codes are float32
    for precision in ("float32", "float64")[container[0] in WRAPPERS :]:
        model = fitted(X.shape[1], precision)
        expected = results(model, method, values)
        for given_, wanted in zip(results(model, method, held), expected, strict=True):
            assert np.isfinite(given_).all()
            np.testing.assert_array_equal(given_, wanted)
    assert_unchanged(held, before)


@law(15, 1500, X=tables(st.integers(2, 6), st.integers(1, 4)), data=st.data())
def training_is_the_same_in_any_container(X, data):
    held, values = contained(X, data.draw(array_containers | other_containers))
    before = content(held)
    method = data.draw(st.sampled_from(["fit", "partial_fit"]))
    given_, expected = (
        getattr(reducer(precision="float64", likelihood="gaussian"), method)(rows)
        for rows in (held, values)
    )
    assert_unchanged(held, before)
    np.testing.assert_array_equal(given_.transform(values), expected.transform(values))
    assert given_.aggregate_kl_bounds_ == expected.aggregate_kl_bounds_
    assert given_.history_[0]["train_loss"] == expected.history_[0]["train_loss"]


@law(30, 2500, Z=tables(st.integers(1, 5), 2), data=st.data())
def codes_are_decoded_alike_in_any_container(Z, data):
    layouts = st.tuples(st.sampled_from(sorted(LAYOUTS)), st.sampled_from(DTYPES))
    sparse = ("pandas sparse", "CSR with duplicates")  # which codes never are
    dense = other_containers.filter(lambda container: container[0] not in sparse)
    held, values = contained(Z, data.draw(layouts | dense))
    before = content(held)
    decoded = fitted(3).inverse_transform(held)
    np.testing.assert_array_equal(decoded, fitted(3).inverse_transform(values))
    assert_unchanged(held, before)


# any numbers ------------------------------------------------------------------------------------


def change(factor=1.0, entry=None, rows=slice(0, 1)):
    def changed(column):
        column = column * factor
        if entry is not None:
            column[rows] = entry
        return column

    return changed


#: What may become of a column of small numbers.
COLUMNS = {
    "as it is": change(),
    "constant": lambda column: np.full_like(column, 0.1),
    "zero": change(0.0),
    "huge": change(1e30),
    "tiny": change(1e-30),
    "subnormal": change(1e-310),
    "offset": lambda column: column + 1e9,
    "vast": change(1e200),
    "largest": change(entry=np.finfo(np.float64).max),
    "missing": change(entry=np.nan),
    "never seen": change(entry=np.nan, rows=slice(None)),
    "infinite": change(entry=np.inf),
    "negative infinite": change(entry=-np.inf),
}
halves = st.integers(-8, 8).map(lambda number: number / 2)


@st.composite
def strange_tables(draw, most_rows, n_features):
    X = draw(tables(st.integers(0, most_rows), n_features, halves))
    with np.errstate(over="ignore", invalid="ignore"):
        for j in range(X.shape[1]):
            if draw(st.booleans()) and j:
                X[:, j] = X[:, 0]
            if draw(st.booleans()):
                X[:, j] = COLUMNS[draw(st.sampled_from(sorted(COLUMNS)))](X[:, j])
        return X.astype(draw(st.sampled_from(["f4", "f8", ">f8"])))


def outcome(function, *arguments, **keywords):
    """The result, and the message of an error of the kinds that are allowed."""
    try:
        return function(*arguments, **keywords), ""
    except (ValueError, TypeError) as error:
        return None, str(error)


def reasons(X, n_features=None, least=1):
    """Patterns of messages with one of which rows must be refused."""
    found = {
        f"minimum of {least} is required": len(X) < least,
        "0 feature.* minimum of 1 is required": X.shape[1] == 0,
        f"is expecting {n_features} features": n_features not in (None, X.shape[1]),
        "infinity": np.isinf(X).any(),
    }
    return [pattern for pattern, holds in found.items() if holds]


def assert_refused_for(message, must, may=()):
    """What must be refused is, what may be is for that reason, and nothing else."""
    if must or message:
        assert re.search("|".join(must or may or ["no reason"]), message), message


def largest(X):
    return float(np.abs(X[np.isfinite(X)].astype(np.float64)).max(initial=0.0))


@law(
    25,
    2500,
    X=strange_tables(6, st.integers(0, 4)),
    method=st.sampled_from(["fit", "fit", "partial_fit"]),
    params=st.fixed_dictionaries(
        {"n_components": st.integers(1, 6)},
        optional={
            "objective": st.sampled_from(
                [
                    *(WiSEALE(bound=bound, width=3) for bound in BOUNDS),
                    *(WiSEALE(), ELBO(), InfoVAE(), WassersteinMMD()),
                ]
            ),
            "likelihood": st.sampled_from([Gaussian(noise="feature"), Gaussian(noise=0.5)]),
            "network": st.sampled_from(
                [MLP(hidden=()), MLP(hidden=(4,), dropout=0.5, linear_skip=False)]
            ),
            "scale": st.sampled_from(["global", None]),
            "precision": st.sampled_from(["float64", "bfloat16"]),
            "batch_size": st.integers(1, 8),
            "learning_rate": st.sampled_from([1e-300, 1e-2, 1e3]),
            "early_stopping": st.booleans(),
            "validation_fraction": st.sampled_from([0.01, 0.5, 0.99]),
            "random_state": st.integers(0, 2**32 - 1),
        },
    ),
)
def a_fit_to_any_table_is_finite_or_refused(X, method, params):
    before, model = X.copy(), reducer(**params)
    _, message = outcome(getattr(model, method), X)
    np.testing.assert_array_equal(X, before)
    stops = params.get("early_stopping", False)
    must = reasons(X, least=2)
    if not must and np.isnan(X).all(axis=0).any():
        must = ["observed value in every column"]
    if method == "partial_fit" and stops:
        must = ["early_stopping=True"]
    holds_out = method == "fit" and params.get("early_stopping", True)
    may = ["validation_fraction=0.99 .* leaves no row"] if holds_out else []
    if largest(X) > 1e15:  # squares leave the range of a dtype
        may += ["X must have variances", "X must have values for which codes stay finite"]
    assert_refused_for(message, must, may)
    if message:
        assert not hasattr(model, "net_")
        return
    codes = model.transform(X)
    assert codes.dtype == (np.float64 if params.get("precision") == "float64" else np.float32)
    mean, std = model.posterior(X)
    np.testing.assert_array_equal(mean, codes)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert (std > 0).all()
    for call in (lambda: model.inverse_transform(codes), lambda: model.sample(3, random_state=0)):
        rows, message = outcome(call)
        assert_refused_for(message, [], ["decoded rows stay finite"] * (largest(X) > 1e15))
        assert message or (rows.shape[1] == X.shape[1] and np.isfinite(rows).all())


def test_codes_of_any_size_have_samples():
    X = np.zeros((4, 4), dtype=np.float32)
    X[3, 3] = 5e29
    params = {"scale": None, "early_stopping": False, "learning_rate": 1e-300}
    model = reducer(precision="float64", network=MLP(hidden=(4,), linear_skip=False), **params)
    assert np.isfinite(model.fit(X).sample(3, random_state=0)).all()


@law(
    60,
    5000,
    X=strange_tables(4, st.sampled_from([3, 3, 3, 0, 1, 4])),
    method=st.sampled_from(["transform", "posterior", "score_samples", "score"]),
    likelihood=st.sampled_from(["gaussian", "gaussian", "bernoulli", "poisson"]),
    precision=st.sampled_from(["float32", "float64"]),
)
def any_rows_have_finite_results_or_are_refused(X, method, likelihood, precision):
    before = X.copy()
    model = fitted(3, precision, likelihood)
    given_, message = outcome(results, model, method, X)
    np.testing.assert_array_equal(X, before)
    must = reasons(X, 3)
    if likelihood == "bernoulli" and ((X < 0) | (X > 1)).any():
        must.append(r"\[0, 1\] .* Got values from")
    if likelihood == "poisson" and ((X < 0) | (np.floor(X) < X)).any():
        must.append("counts 0, 1, 2, .* Got")
    assert_refused_for(message, must, ["X must have values for which"] * (largest(X) > 1e15))
    assert message or all(np.isfinite(part).all() for part in given_)


@law(
    40,
    2500,
    Z=tables(
        st.integers(0, 4),
        st.sampled_from([2, 2, 2, 0, 1, 3]),
        halves | st.sampled_from([1e10, 1e30, -3e38, 1e39, 1e308, np.inf, -np.inf, np.nan]),
    ),
    precision=st.sampled_from(["float32", "float64"]),
)
def any_codes_decode_to_finite_rows_or_are_refused(Z, precision):
    rows, message = outcome(fitted(3, precision).inverse_transform, Z)
    must = reasons(Z)
    if np.isnan(Z).any():
        must.append("NaN")
    if Z.shape[1] != 2:
        must.append(f"{Z.shape[1]} columns, but .* 2 components")
    if (np.abs(Z) > np.finfo(precision).max).any():
        must.append("infinity or a value too large")
    assert_refused_for(message, must, ["X must have values for which"] * (largest(Z) > 1e15))
    if not message:
        assert rows.shape == (len(Z), 3)
        assert np.isfinite(rows).all()


@law(
    15,
    600,
    chunks=st.lists(tables(st.integers(0, 4), 3, halves | st.just(np.nan)), min_size=1, max_size=4),
)
def chunks_of_a_stream_add_up_or_are_refused(chunks):
    model, seen = reducer(), 0
    for chunk in chunks:
        first = not hasattr(model, "net_")
        history = list(getattr(model, "history_", []))
        _, message = outcome(model.partial_fit, chunk)
        if message:
            unseen = first and np.isnan(chunk).all(axis=0).any()
            assert len(chunk) < 1 + first or (unseen and "observed value" in message)
            assert getattr(model, "history_", []) == history
            continue
        seen += len(chunk)
        assert model.n_samples_seen_ == seen
        assert model.history_[:-1] == history
        assert np.isfinite(model.transform(chunk)).all()


#: Likelihoods of rows of four columns with the numbers that they allow.
SUPPORTS = {
    "bernoulli": (Bernoulli(), lambda X: ((X >= 0) & (X <= 1)).all()),
    "poisson": (Poisson(), lambda X: ((X >= 0) & (np.floor(X) == X)).all()),
    "negative binomial": (
        NegativeBinomial(dispersion="feature"),
        lambda X: ((X >= 0) & (np.floor(X) == X)).all(),
    ),
    "categorical": (
        Categorical(sizes=(2, 2)),
        lambda X: np.isin(X, [0, 1]).all() and (X[:, ::2] + X[:, 1::2] == 1).all(),
    ),
    "mixed": (
        Mixed([(Bernoulli(), [3, 0]), (Gaussian(), [1, 2])]),
        lambda X: ((X[:, [0, 3]] >= 0) & (X[:, [0, 3]] <= 1)).all(),
    ),
}
ELEMENTS = {
    "bits": st.integers(0, 1),
    "counts": st.integers(0, 9) | st.sampled_from([10**6, 10**9]),
    "shares": st.integers(0, 4).map(lambda number: number / 4),
    "numbers": halves,
}


@law(
    20,
    900,
    kind=st.sampled_from(sorted(SUPPORTS)),
    X=st.sampled_from(sorted(ELEMENTS)).flatmap(
        lambda name: tables(st.integers(2, 5), 4, ELEMENTS[name])
    ),
    one_hot=st.booleans(),
    dtype=st.sampled_from(["f8", "f4", "i8"]),
)
def rows_without_a_density_are_refused_and_all_others_are_fitted(kind, X, one_hot, dtype):
    if one_hot:
        X[:, 1::2] = 1 - X[:, ::2]
    X = X.astype(dtype)
    likelihood, allows = SUPPORTS[kind]
    model, message = outcome(reducer(likelihood=likelihood).fit, X)
    if not allows(X):
        assert re.search(r"X must .* likelihood\. Got", message)
        return
    assert message == ""
    means = model.inverse_transform(model.transform(X))
    assert np.isfinite(means).all()
    assert np.isfinite(model.score(X))
    likelihood.check_support(likelihood.most_likely(means))
    likelihood.check_support(model.sample(3, random_state=0))


# any arguments ----------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5)
junk = st.recursive(
    scalars
    | st.binary(max_size=3)
    | st.sampled_from([object(), len, float, np.array(3), np.array([[1, 2]]), np.float64(2.0)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
COUNTS = np.random.RandomState(0).poisson(2.0, (6, 4))
ONE_HOT = np.eye(4)[[0, 1, 2, 3, 0, 1]]
IMAGES = np.random.RandomState(0).standard_normal((6, 64))
#: Parts with all their parameters, and rows that fit to them.
PARTS = [
    *((name, part, COUNTS) for name, part in [("objective", WiSEALE()), ("objective", ELBO())]),
    ("objective", InfoVAE(), COUNTS),
    ("objective", WassersteinMMD(), COUNTS),
    ("likelihood", Gaussian(), COUNTS),
    ("likelihood", StudentT(), COUNTS),
    ("likelihood", NegativeBinomial(), COUNTS),
    ("likelihood", Categorical(), ONE_HOT),
    ("likelihood", Mixed([(Gaussian(), slice(0, 4))]), COUNTS),
    ("network", MLP(hidden=(4,)), COUNTS),
    ("network", Conv(image_shape=(1, 8, 8), channels=(2,)), IMAGES),
    ("network", Modules(lambda n, k: torch.nn.Linear(n, 2 * k), torch.nn.Linear), COUNTS),
]


@law(
    40,
    1500,
    # text as a checkpoint's directory is no mistake
    name=st.sampled_from(sorted(set(WiSEALETransformer().get_params()) - {"checkpoint"})),
    value=junk,
)
def any_parameter_is_used_or_named(name, value):
    model = reducer(**{"max_epochs": 1, name: value})
    _, message = outcome(model.fit, COUNTS)
    assert getattr(model, name) is value
    if message:
        assert f"'{name}' parameter of WiSEALETransformer must" in message
        entries = value.values() if isinstance(value, dict) else ()
        assert any(f"Got {wrong!r}"[:40] in message for wrong in (value, *entries))
    else:
        assert np.isfinite(model.transform(COUNTS)).all()


@law(40, 1500, part=st.sampled_from(PARTS), value=junk, data=st.data())
def any_parameter_of_a_part_is_used_or_named(part, value, data):
    role, part, X = part
    name = data.draw(st.sampled_from(sorted(part.get_params(deep=False))))
    part = copy.deepcopy(part).set_params(**{name: value})
    model, message = outcome(reducer(**{role: part}).fit, X)
    if message:
        assert re.search(f"'(weight|{name})'.* of {type(part).__name__}", message)
    else:
        assert np.isfinite(model.transform(X)).all()


@law(30, 1200, n_samples=junk | st.integers(1, 5), random_state=junk | st.integers(0, 2**32 - 1))
def draws_are_repeated_by_their_seed_or_refused(n_samples, random_state):
    drawn, message = outcome(fitted(3).sample, n_samples, random_state=random_state)
    if isinstance(n_samples, bool) or not isinstance(n_samples, int) or n_samples < 1:
        assert message == f"n_samples must be an int >= 1. Got {n_samples!r}."
    elif message:
        assert not isinstance(random_state, int) or random_state < 0
        assert message.startswith("random_state must be an int from 0 to 2**32 - 1")
        assert f"Got {random_state!r}." in message
    else:
        assert drawn.shape == (n_samples, 3)
        assert np.isfinite(drawn).all()
        if random_state is not None:
            again = fitted(3).sample(n_samples, random_state=random_state)
            np.testing.assert_array_equal(drawn, again)


extreme = halves | st.sampled_from([1e-300, 30.0, -30.0, 699.0, -699.0, 701.0, 1e30, 1e139, 1e200])
extreme |= st.sampled_from([np.nan, np.inf])


@law(
    30,
    1500,
    mean=tables(st.integers(0, 4), st.integers(0, 3), extreme),
    data=st.data(),
    method=st.sampled_from(BOUNDS),
)
def measures_of_any_posteriors_are_finite_or_refused(mean, data, method):
    log_var = data.draw(tables(*mean.shape, extreme))
    kl, message = outcome(aggregate_kl, mean, log_var, method=method, random_state=0)
    if message:
        worst = {"mean": np.abs(mean).max(initial=0), "log_var": np.abs(log_var).max(initial=0)}
        assert message.startswith(tuple(f"{name} must" for name in worst))
        assert 0 in mean.shape or not (worst["mean"] <= 1e140 and worst["log_var"] <= 700)
    else:
        assert np.isfinite(kl)
    for function in (active_units, sliced_wasserstein):
        value, message = outcome(function, mean)
        if message:
            assert re.match("(mean|z) must", message)
            assert 0 in mean.shape or not np.abs(mean).max() <= 1e140
        else:
            assert np.isfinite(value)


# the runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAWS)
def test_law(name):
    make, quick, _ = LAWS[name]
    settings(QUICK, max_examples=quick)(make())()


@pytest.mark.long
@pytest.mark.parametrize("name", LAWS)
def test_law_at_length(name):
    make, _, long = LAWS[name]
    before = TRIED[name]
    settings(LONG, max_examples=long)(make())()
    assert TRIED[name] - before >= long


@pytest.mark.long
def test_long_run_has_20_000_examples(capsys):
    """Of the whole run: it counts what the laws before it have tried."""
    with capsys.disabled():
        print(f"\n{TRIED.total()} examples of {len(LAWS)} laws")
    assert TRIED.total() >= 20_000
