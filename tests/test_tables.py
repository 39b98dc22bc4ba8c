"""Dataframes in, dataframes out: any columns, missing entries, given values, files and tools."""

import copy
import pickle
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import dask.dataframe as dd
import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames, range_indexes
from pandas.testing import assert_frame_equal
from polars.testing import assert_frame_equal as assert_polars_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.diagnostics import reconstruction_r2
from sklearn_wiseale.likelihoods import Gaussian, Mixed
from sklearn_wiseale.networks import MLP, Conv
from sklearn_wiseale.plotting import (
    EmbeddingDisplay,
    ReconstructionDisplay,
    TrainingDisplay,
    TraversalDisplay,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* components? .* in use"),
    pytest.mark.filterwarnings("ignore:.*still fell"),
]
N = 40
QUICK = settings(
    max_examples=30,
    database=None,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def reducer(n_components=1, **params):
    defaults = {"network": MLP(hidden=(4,)), "max_epochs": 1, "random_state": 0, "device": "cpu"}
    return WiSEALETransformer(n_components, **{**defaults, **params})


def people(n=N, holes=True, seed=0):
    """A table with columns of all kinds, which depend on each other."""
    rng = np.random.RandomState(seed)
    age = rng.randint(18, 90, n)
    X = pd.DataFrame(
        {
            "age": age.astype(np.int16),
            "home": pd.Categorical(
                np.where(age + rng.normal(0, 9, n) > 50, "owns", "rents"), ["rents", "owns", "?"]
            ),
            "pay": (30 * age + rng.normal(0, 90, n)).astype(np.float32),
            "member": age > 40,
            "town": rng.choice(["Rome", "Oslo", "Lima"], n),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(age, unit="D"),
            "visits": pd.array(rng.poisson(3, n), dtype="Int32"),
        },
        index=pd.Index(np.arange(n) * 3, name="id"),
    )
    if holes:
        for row, name in [(1, "home"), (1, "pay"), (2, "town"), (4, "since"), (5, "visits")]:
            X.loc[3 * row, name] = None
    return X


def polars_people(**kwargs):
    homes = pl.Enum(["rents", "owns", "?"])
    return pl.from_pandas(people(**kwargs)).with_columns(pl.col("home").cast(homes))


LIBRARIES = {"pandas": people, "polars": polars_people}
either = pytest.mark.parametrize("library", LIBRARIES)


@pytest.fixture(scope="module")
def models():
    """A fitted estimator for each library."""
    return {name: reducer(2, max_epochs=5).fit(make()) for name, make in LIBRARIES.items()}


def missing(X):
    """Missing entries as an array."""
    if isinstance(X, pd.DataFrame):
        return X.isna().to_numpy()
    return X.select(pl.all().is_null()).to_numpy()


def assert_same(X, Y):
    """Equal values, dtypes, names, order and, of pandas, index."""
    assert type(X) is type(Y)
    if isinstance(X, pd.DataFrame):
        assert_frame_equal(X, Y, check_freq=False, check_column_type=False)
    else:
        assert_polars_equal(X, Y)


def assert_like(Y, X):
    """Names and dtypes of X, and nothing missing."""
    assert type(X) is type(Y)
    assert list(X.columns) == list(Y.columns)
    assert list(X.dtypes) == list(Y.dtypes)
    assert not missing(Y).any()


# any frame ----------------------------------------------------------------------------------

WORDS = ["", "a", "A", "ä b", "x'y", "0", "None"]
WHEN = st.datetimes(datetime(1960, 1, 1), datetime(2060, 1, 1)).map(
    lambda when: when.replace(microsecond=0)
)
SPAN = st.integers(-(10**7), 10**7).map(lambda seconds: timedelta(seconds=seconds))
SMALL, BYTES = st.integers(-128, 127), st.integers(0, 255)
FLOATS = st.floats(-1000, 1000, width=16)
TEXTS = st.sampled_from(WORDS)
DAYS = st.dates(date(1900, 1, 1), date(2100, 1, 1))


def dictionary(*arguments):
    return pd.ArrowDtype(pa.dictionary(*arguments))


LEVELS = pd.CategoricalDtype(WORDS[::-1], ordered=True)
#: Entries, and the dtypes that hold them: without missing entries, with them, and of polars.
KINDS = [
    (SMALL, "int8 int16 int32 int64", "Int8 Int16 Int32 Int64 int8[pyarrow] object", "Int8 Int16"),
    (BYTES, "uint8 uint16 uint32 uint64", "UInt8 UInt64 uint32[pyarrow]", "UInt8 UInt32 UInt64"),
    (st.integers(-(2**53), 2**53), "int64", "Int64 int64[pyarrow]", "Int64 Int128"),
    (FLOATS, "", "float16 float32 float64 Float32 Float64 double[pyarrow]", "Float32 Float64"),
    (st.booleans(), "bool", "boolean bool[pyarrow] object", "Boolean"),
    (TEXTS, "", ["str", "string[python]", "string[pyarrow]", "object"], "String Categorical"),
    (TEXTS, "", ["category", LEVELS, pd.ArrowDtype(pa.large_string())], [pl.Enum(WORDS)]),
    (
        TEXTS,
        "",
        [dictionary(pa.int8(), pa.string()), dictionary(pa.int32(), pa.string(), True)],
        [],
    ),
    (SMALL.map(lambda n: n % 5), "", ["category", dictionary(pa.int16(), pa.int64())], []),
    (SMALL.map(lambda n: n % 5), "Sparse[int64] Sparse[float64]", [], []),
    (
        WHEN,
        "",
        [*(f"datetime64[{unit}]" for unit in ("s", "ms", "us", "ns")), "timestamp[us][pyarrow]"],
        [pl.Datetime("ns"), pl.Datetime("us"), pl.Datetime("ms")],
    ),
    (
        WHEN,
        "",
        ["datetime64[us, UTC]", "datetime64[ns, Asia/Tokyo]", "timestamp[s, tz=UTC][pyarrow]"],
        [pl.Datetime("us", "Asia/Tokyo")],
    ),
    (
        SPAN,
        "",
        ["timedelta64[s]", "timedelta64[ns]", "duration[ms][pyarrow]"],
        [pl.Duration("ms"), pl.Duration("ns")],
    ),
    (DAYS, "", ["date32[day][pyarrow]"], "Date"),
    (st.times().map(lambda t: t.replace(microsecond=0)), "", [], "Time"),
    (
        SMALL.map(lambda n: Decimal(n) / 4),
        "",
        [pd.ArrowDtype(pa.decimal128(9, 2))],
        [pl.Decimal(9, 2)],
    ),
]


def choices(library):
    """Pairs of a dtype and a strategy of its entries."""
    for entries, full, nullable, of_polars in KINDS:
        if library == "pandas":
            for dtype in full.split():
                yield dtype, entries
            dtypes = nullable.split() if isinstance(nullable, str) else nullable
        else:
            named = isinstance(of_polars, str)
            dtypes = [getattr(pl, d) for d in of_polars.split()] if named else of_polars
        for dtype in dtypes:
            yield dtype, st.one_of(st.none(), entries, entries, entries)


CHOICES = {library: list(choices(library)) for library in LIBRARIES}


def of_dtype(entries, dtype):
    """Entries as a column of a dtype."""
    arrow = getattr(dtype, "pyarrow_dtype", None)
    if arrow is None or not pa.types.is_dictionary(arrow):
        return entries.astype(dtype)
    values = pa.array(entries.tolist(), arrow.value_type, from_pandas=True)
    return pd.Series(values.dictionary_encode().cast(arrow), entries.index, dtype)


@st.composite
def tables(draw, library):
    """A frame of one to four columns of any dtypes, a number and a text."""
    chosen = draw(st.lists(st.sampled_from(CHOICES[library]), min_size=1, max_size=4))
    names = draw(st.permutations([f"x{i}" for i in range(len(chosen))]))
    columns = [
        column(name, elements=entries, dtype=object, fill=st.nothing())
        for name, (_, entries) in zip(names, chosen, strict=True)
    ]
    index = range_indexes(min_size=12, max_size=12)
    entries = draw(data_frames(columns, index=index))
    assume(entries.notna().any().all())
    dtypes = {name: dtype for name, (dtype, _) in zip(names, chosen, strict=True)}
    if library == "pandas":
        X = pd.DataFrame({name: of_dtype(entries[name], dtypes[name]) for name in names})
        X.insert(0, "number", np.linspace(0, 1, 12))
        X["text"] = list("abc") * 4
        return X.set_index(X.index[::-1] * 2)
    X = pl.DataFrame(
        [pl.Series(name, entries[name].tolist(), dtypes[name], strict=False) for name in names]
    )
    return X.with_columns(pl.Series("number", np.linspace(0, 1, 12)), text=pl.Series([*"abc"] * 4))


def only_observed(filled, X):
    """A filled frame without the entries that X lacks."""
    if isinstance(X, pd.DataFrame):
        known = {name: filled[name].astype(object).where(X[name].notna(), None) for name in X}
        return pd.DataFrame({name: of_dtype(known[name], X[name].dtype) for name in X})
    known = [pl.when(X[name].is_not_null()).then(pl.col(name)).alias(name) for name in X.columns]
    return filled.with_columns(known)


@either
def test_any_frame_goes_in_and_comes_back(library, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "table.safetensors"

    @QUICK
    @given(X=tables(library), number=st.integers(0, 11))
    def check(X, number):
        estimator = reducer().fit(X)
        codes = estimator.transform(X)
        back = estimator.inverse_transform(codes)
        assert_like(back, X)
        assert_like(estimator.sample(3, random_state=0), X)
        # missing entries are filled, others kept
        for filled in (estimator.impute(X), *estimator.impute(X, n_draws=1, random_state=0)):
            assert_like(filled, X)
            assert_same(only_observed(filled, X), X)
        # a row of the frame is encoded and decoded
        row, holes = X[number : number + 1], missing(X)[number]
        known = [name for name, hole in zip(X.columns, holes, strict=True) if not hole]
        values = {name: row[name].to_list()[0] for name in known}
        drawn = estimator.sample(1, given=values, random_state=0)
        if library == "pandas":
            drawn.index = row.index
        assert_same(drawn[list(known)], row[list(known)])
        # a file has all of it
        estimator.save(path)
        again = load(path)
        assert_same(again.inverse_transform(codes), back)
        assert again.column_likelihoods_ == estimator.column_likelihoods_

    check()


@either
def test_codes_may_come_from_a_frame_with_an_index(library, models):
    model, codes = models[library], pd.DataFrame([[0.0, 1.0]], index=["first"])
    back = model.inverse_transform(codes)
    if library == "pandas":
        assert list(back.index) == ["first"]
        framed = clone(model).set_output(transform="pandas").fit(people())
        assert list(framed.transform(people()).index) == list(people().index)
    assert back.shape == (1, 7)


def test_what_was_decided_is_visible(models):
    expected = dict.fromkeys(people().columns, "gaussian")
    expected |= dict.fromkeys(["home", "member", "town"], "categorical")
    assert models["pandas"].column_likelihoods_ == models["polars"].column_likelihoods_ == expected
    named = {"visits": "poisson", "pay": Gaussian(noise="feature"), "member": "bernoulli"}
    model = reducer(likelihood=named).fit(people())
    assert model.column_likelihoods_ == expected | {**named, "pay": "gaussian"}
    assert np.isnan(model.noise_scale_).sum() == 4
    assert not hasattr(reducer().fit(np.eye(4)), "column_likelihoods_")


@either
def test_probabilities_sum_to_one_and_agree_with_labels(library, models):
    codes = np.random.RandomState(0).standard_normal((20, 2))
    labels = models[library].inverse_transform(codes)
    shares = models[library].inverse_transform(codes, probabilities=True)
    for name, values in {
        "home": ["rents", "owns", "?"],
        "member": [False, True],
        "town": ["Lima", "Oslo", "Rome"],
    }.items():
        block = np.stack([shares[f"{name}_{value}"].to_numpy() for value in values], axis=1)
        np.testing.assert_allclose(block.sum(axis=1), 1.0, atol=1e-5)
        assert [values[i] for i in block.argmax(axis=1)] == list(labels[name])
    np.testing.assert_array_equal(shares["visits"].to_numpy().round(), labels["visits"].to_numpy())


# missing entries and given values -----------------------------------------------------------


def holes_in(X, seed=0, share=0.2):
    X = np.array(X, dtype=float)
    X[np.random.RandomState(seed).random_sample(X.shape) < share] = np.nan
    return X


def rows(n=60, d=5, k=2, noise=0.3, seed=0):
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((n, k)) @ rng.standard_normal((k, d))
    return X * 3 + 5 + noise * rng.standard_normal((n, d))


CONTAINERS = {
    "array": np.array,
    "float32": np.float32,
    "list": lambda X: X.tolist(),
    "csr": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "pandas": lambda X: pd.DataFrame(X, columns=[*"abcde"], index=np.arange(len(X)) + 7),
    "nullable": lambda X: pd.DataFrame(X, columns=[*"abcde"]).convert_dtypes(),
    "polars": lambda X: pl.DataFrame(X, schema=[*"abcde"], nan_to_null=True),
}


@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("name", CONTAINERS)
def test_imputing_numbers_gives_the_kind_of_x(name, holes):
    numbers = rows().round(1)
    X = CONTAINERS[name](holes_in(numbers) if holes else numbers)
    model = reducer(2, max_epochs=3).fit(X)
    before = copy.deepcopy(X)
    for filled in (model.impute(X), *model.impute(X, n_draws=2, random_state=0)):
        assert type(filled) is (np.ndarray if name == "list" else type(X))
        if hasattr(X, "dtypes"):
            assert list(filled.dtypes) == list(X.dtypes)
            assert list(filled.columns) == list(X.columns)
        elif name != "list":
            assert filled.dtype == X.dtype
        if name in ("pandas", "nullable"):
            assert filled.index.equals(X.index)
        dense = filled.toarray() if sparse.issparse(filled) else filled
        dense = np.asarray(dense, dtype=float)
        known = ~np.isnan(holes_in(numbers)) if holes else np.ones(numbers.shape, bool)
        np.testing.assert_array_equal(
            dense[known], numbers.astype(np.float32)[known] if name == "float32" else numbers[known]
        )
        assert np.isfinite(dense).all()
    unchanged = before == X if name == "list" else True
    if hasattr(X, "equals"):
        assert X.equals(before)
    assert unchanged or holes  # NaN is not equal to itself


def test_imputing_images():
    images = np.random.RandomState(0).random_sample((12, 1, 8, 8))
    images[:, :, 2, 3] = np.where(np.arange(12)[:, None] < 3, np.nan, 0.5)
    model = reducer(network=Conv(image_shape=(1, 8, 8), channels=(2, 2))).fit(images)
    filled = model.impute(images)
    known = ~np.isnan(images)
    assert filled.shape == images.shape
    np.testing.assert_array_equal(filled[known], images[known])
    assert np.isfinite(filled).all()


@either
def test_draws_vary_and_repeat(library, models):
    X = LIBRARIES[library]()
    draws = models[library].impute(X, n_draws=6, random_state=3)
    assert len({str(draw["pay"][3 if library == "pandas" else 1]) for draw in draws}) > 3
    again = models[library].impute(X, n_draws=6, random_state=3)
    for draw, same in zip(draws, again, strict=True):
        assert_same(draw, same)
        assert_same(only_observed(draw, X), X)


@pytest.fixture(scope="module")
def linear():
    """A linear Gaussian model, and the mean and covariance of its rows in closed form."""
    X = rows(400, noise=1.0)
    model = reducer(2, network=MLP(hidden=()), max_epochs=20, precision="float64").fit(X)
    mean = model.inverse_transform(np.zeros((1, 2)))[0]
    axes = model.inverse_transform(np.eye(2)) - mean
    cov = axes.T @ axes + np.diag(np.broadcast_to(model.noise_scale_, 5) ** 2)
    return model, mean, cov


def conditional(mean, cov, row):
    """Mean and covariance of the missing entries of a row, given the others."""
    seen = ~np.isnan(row)
    gain = cov[np.ix_(~seen, seen)] @ np.linalg.inv(cov[np.ix_(seen, seen)])
    expected = mean[~seen] + gain @ (row[seen] - mean[seen])
    return ~seen, expected, cov[np.ix_(~seen, ~seen)] - gain @ cov[np.ix_(seen, ~seen)]


def test_linear_model_fills_in_the_conditional_mean(linear):
    model, mean, cov = linear
    X = holes_in(rows(50, noise=1.0, seed=0), share=0.4)
    filled, sd = model.impute(X), np.sqrt(np.diag(cov))
    for row, values in zip(X, filled, strict=True):
        where, expected, _ = conditional(mean, cov, row)
        np.testing.assert_allclose(values[where] / sd[where], expected / sd[where], atol=0.05)


def test_draws_of_a_linear_model_have_the_conditional_moments(linear):
    model, mean, cov = linear
    row = np.array([np.nan, mean[1] + 2, np.nan, mean[3] - 1, np.nan])
    where, expected, within = conditional(mean, cov, row)
    sd = np.sqrt(np.diag(within))
    n = 4000
    some = np.tile(row, (n // 40, 1))  # rows of a call share their codes
    imputed = np.concatenate([model.impute(some, n_draws=1, random_state=i)[0] for i in range(40)])
    imputed = imputed[:, where]
    given = {j: row[j] for j in (1, 3)}
    drawn = model.sample(n, given=given, codes="prior", random_state=0)
    np.testing.assert_array_equal(drawn[:, ~where], np.tile(row[~where], (n, 1)))
    for draws in (imputed, drawn[:, where]):
        np.testing.assert_allclose(draws.mean(axis=0) / sd, expected / sd, atol=0.12)
        found = np.cov(draws.T) / np.outer(sd, sd)
        np.testing.assert_allclose(found, within / np.outer(sd, sd), atol=0.12)


def test_prior_codes_are_standard_normal():
    model = reducer(2, likelihood=Gaussian(noise=1e-4)).fit(rows())
    codes = np.random.RandomState(5).standard_normal((7, 2))
    drawn = model.sample(7, random_state=5, codes="prior")
    np.testing.assert_allclose(
        drawn, model.inverse_transform(codes), atol=6 * model.noise_scale_.max()
    )
    assert np.abs(model.sample(7, random_state=5) - drawn).max() > 0.1


@either
def test_given_entries_are_kept(library, models):
    given = {"home": "owns", "age": 40, "member": False, "since": datetime(2020, 2, 2)}
    for codes in ("aggregate", "prior"):
        drawn = models[library].sample(9, given=given, codes=codes, random_state=0)
        assert_like(drawn, LIBRARIES[library]())
        for name, value in given.items():
            assert list(drawn[name]) == [value] * 9
        assert len(set(drawn["pay"])) > 1


@pytest.mark.parametrize(
    ("make", "given"),
    [(np.array, {1: 5.5, 4: -2}), (CONTAINERS["pandas"], {"b": 5.5, "e": -2})],
)
def test_given_entries_of_numbers_are_kept(make, given):
    drawn = reducer(2).fit(make(rows())).sample(6, given=given, random_state=1)
    assert isinstance(drawn, np.ndarray)
    np.testing.assert_array_equal(drawn[:, [1, 4]], [[5.5, -2]] * 6)


@either
@pytest.mark.parametrize(
    ("step", "dtype"),
    [(0.01, "float64"), (0.5, "Float32"), (0.05, "float32"), (0.25, "Float64"), (500, "int64")],
)
def test_drawn_numbers_lie_on_the_grid_of_the_rows(library, step, dtype):
    x = np.random.RandomState(0).randint(-99, 99, N) * step
    X = pd.DataFrame({"x": x, "free": rows(N)[:, 0], "home": list("ab") * (N // 2)})
    X = X.astype({"x": dtype})
    X.loc[:3, "x"] = X.loc[8, "x"]
    hole = X.astype({"x": "Int64" if step == 500 else dtype})
    hole.loc[:3, "x"] = None
    if library == "polars":
        X, hole = pl.from_pandas(X), pl.from_pandas(hole)
    model = reducer(2).fit(X)
    for drawn in (model.sample(50, random_state=0), *model.impute(hole, 2, random_state=0)):
        values = np.array(drawn["x"], dtype=float)
        near = (np.rint(values / step) * step).round(3).astype(str(dtype).lower())
        np.testing.assert_allclose(values, near.astype(float), rtol=1e-12)
        assert not np.allclose(np.rint(np.array(drawn["free"]) * 1000), drawn["free"] * 1000)
    off = 0.123 if step != 500 else 7
    assert (
        list(model.sample(2, given={"x": off}, random_state=0)["x"])
        == [np.dtype(dtype.lower()).type(off)] * 2
    )


# columns and refusals -----------------------------------------------------------------------


@either
def test_a_new_category_is_a_missing_entry_with_a_warning(library, models):
    X, new = LIBRARIES[library](), LIBRARIES[library]()
    where = np.arange(N) == 6
    if library == "pandas":
        new["town"], X["town"] = new["town"].mask(where, "Bern"), X["town"].mask(where)
    else:
        change = [
            pl.when(pl.Series(where)).then(pl.lit(v)).otherwise("town").alias("town")
            for v in ("Bern", None)
        ]
        new, X = new.with_columns(change[0]), X.with_columns(change[1])
    with pytest.warns(UserWarning, match=r"not seen in fit, in the columns \['town'\]") as caught:
        codes = models[library].transform(new)
    assert [warning.filename for warning in caught] == [__file__]
    np.testing.assert_array_equal(codes, models[library].transform(X))


@either
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, names: X[names[::-1]], "Feature names must be in the same order"),
        (lambda X, names: X[names[1:]], "Feature names seen at fit time, yet now missing:\n- age"),
        (
            lambda X, names: X.rename(
                **{"columns" if hasattr(X, "iloc") else "mapping": {"age": "years"}}
            ),
            "Feature names unseen at fit time:\n- years",
        ),
        (lambda X, names: X[names].to_numpy(), r"X must be a dataframe with the columns .*'age'"),
    ],
)
def test_columns_are_checked_by_name(library, change, message, models):
    X = LIBRARIES[library](holes=False)
    for method in ("transform", "impute", "score", "partial_fit"):
        with pytest.raises(ValueError, match=f"(?s){message}"):
            getattr(copy.deepcopy(models[library]), method)(change(X, list(X.columns)))


def with_column(values, dtype=None):
    X = people(60)[["age", "home"]]
    return X.assign(x=pd.Series(values, index=X.index, dtype=dtype))


ALIKE = "Got the dtype {} in the column 'x': convert it .* or leave it out"
ARROW_VIEW = pd.ArrowDtype(pa.string_view())
PERIODS = pd.period_range("2020", periods=60)
BAD_FITS = {
    "free text": ({}, with_column([f"text {i}" for i in range(60)]), "at most 20 categories.*'x'"),
    "mixed types": ({}, with_column([1, "a", 2.5] * 20, object), "several types in the column 'x'"),
    "nothing": ({}, with_column([None] * 60, "str"), "observed value in every column.*'x'"),
    "complex": ({}, with_column([1j] * 60), ALIKE.format("complex128")),
    "lists": ({}, with_column([[1]] * 60), ALIKE.format("object")),
    "periods": ({}, with_column(PERIODS), ALIKE.format(r"period\[D\]")),
    "intervals": (
        {},
        with_column(pd.interval_range(0, 60)),
        ALIKE.format("interval.*"),
    ),
    "dates": (
        {},
        with_column([date(2020, 1, 1)] * 60, object),
        "object .* 'x'.*pandas.to_datetime",
    ),
    "views": ({}, with_column(["a", "b"] * 30, ARROW_VIEW), ALIKE.format("string_view.pyarrow.")),
    "polars lists": ({}, pl.DataFrame({"x": [[1], [2]]}), r"List\(Int64\) .*'x'.*cast\(polars.Str"),
    "one category": ({}, pd.DataFrame({"x": ["a", "a"]}), "more than one category. Got none"),
    "array": (
        {"likelihood": {"a": "poisson"}},
        rows(),
        "no dict unless X is a dataframe.*Got {'a': 'poisson'}.*ndarray",
    ),
    "unknown": ({"likelihood": {"y": "poisson"}}, people(), "must name columns of X. Got 'y'"),
    "value": (
        {"likelihood": {"age": "normal"}},
        people(),
        "one of .*'poisson'.*Got 'normal'.*'age'",
    ),
    "list": ({"likelihood": {"age": ["poisson"]}}, people(), r"Got \['poisson'\].*'age'"),
    "mixed": ({"likelihood": {"age": Mixed([])}}, people(), "not Mixed.*'age'"),
    "text": ({"likelihood": {"home": "gaussian"}}, people(), "must be 'categorical'.*'home'"),
    "numbers only": ({"likelihood": "gaussian"}, people(), r"not: \['home', 'town', 'since'\]"),
    "counts": ({"likelihood": {"pay": "poisson"}}, people(), "counts 0, 1, 2"),
    "scale": ({"scale": "global"}, people(), "'scale' parameter .* 'auto' or None"),
}


@pytest.mark.parametrize("case", BAD_FITS)
def test_a_fit_is_refused(case):
    params, X, message = BAD_FITS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        reducer(**params).fit(X)


BAD_CALLS = {
    "given": ({"given": {"planet": "Mars"}}, "given must name columns of X.*Got 'planet'"),
    "no dict": ({"given": ["age"]}, r"given must be a dict .*Got \['age'\]"),
    "empty": ({"given": {}}, "given must be a dict of columns"),
    "category": ({"given": {"home": "tent"}}, "one of the categories .*'owns'.*'home'. Got 'tent'"),
    "unhashable": ({"given": {"home": ["owns"]}}, "one of the categories"),
    "number": ({"given": {"age": "old"}}, "dtype .*nt16 for the column 'age'. Got 'old'"),
    "missing": ({"given": {"pay": None}}, "finite value for the column 'pay'. Got None"),
    "infinite": ({"given": {"pay": np.inf}}, "finite value for the column 'pay'. Got inf"),
    "date": ({"given": {"since": "soon"}}, "for the column 'since'. Got 'soon'"),
    "codes": ({"codes": "posterior"}, "codes must be 'aggregate' or 'prior'. Got 'posterior'"),
}


@either
@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_sample_is_refused(library, case, models):
    arguments, message = BAD_CALLS[case]
    with pytest.raises(ValueError, match=message):
        models[library].sample(2, **arguments)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({9: 1.0}, "given must name columns of X. Got 9"),
        ({1: "a"}, "finite number for the column 1. Got 'a'"),
        ({1: np.nan}, "finite number for the column 1. Got nan"),
    ],
)
def test_a_sample_of_arrays_is_refused(given, message):
    model = reducer().fit(rows())
    with pytest.raises(ValueError, match=message):
        model.sample(given=given)
    with pytest.raises(ValueError, match=r"probabilities must be False unless .* Got True"):
        model.inverse_transform(np.zeros((1, 1)), probabilities=True)
    with pytest.raises(ValueError, match=r"n_draws must be an int >= 1. Got 0"):
        model.impute(rows(), n_draws=0)


ZONED = pd.date_range("2020", periods=60, tz="dateutil/Europe/Rome")
MINE = pl.Series("x", ["a", "b"] * 30, pl.Categorical(pl.Categories("mine")))


@pytest.mark.parametrize(
    "X", [with_column(ZONED), MINE.to_frame().with_columns(y=1)], ids=["zone", "categories"]
)
def test_dtypes_that_no_file_holds_are_named(X, tmp_path):
    with pytest.raises(ValueError, match=r"cannot hold the dtype .* of the column 'x': pickle"):
        reducer().fit(X).save(tmp_path / "table.safetensors")


def test_categories_that_no_file_holds_are_named(tmp_path):
    model = reducer().fit(with_column(pd.cut(np.arange(60), 3)))
    with pytest.raises(ValueError, match=r"Got Interval\(.*in the column 'x': pickle"):
        model.save(tmp_path / "table.safetensors")


# tools --------------------------------------------------------------------------------------


@either
def test_copies_and_files_give_the_same(library, models, tmp_path):
    model, X = models[library], LIBRARIES[library]()
    model.save(tmp_path / "table.safetensors")
    others = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)]
    others += [load(tmp_path / "table.safetensors"), clone(model).fit(X)]
    for other in others:
        assert_same(other.impute(X), model.impute(X))
        assert_same(other.sample(5, random_state=0), model.sample(5, random_state=0))
        assert other.score(X) == model.score(X)


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
@either
def test_set_output_concerns_codes(library, output):
    X = LIBRARIES[library]()
    model = reducer(2).set_output(transform=output)
    codes = model.fit_transform(X)
    kinds = {"default": np.ndarray, "pandas": pd.DataFrame, "polars": pl.DataFrame}
    assert isinstance(codes, kinds[output])
    assert_like(model.inverse_transform(codes), X)
    assert_like(model.sample(2), X)


@either
def test_search_in_a_pipeline(library):
    X = LIBRARIES[library]()
    search = GridSearchCV(
        make_pipeline(reducer()), {"wisealetransformer__n_components": [1, 2]}, cv=2
    ).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert_like(search.inverse_transform(search.transform(X)), X)


@either
def test_chunks_and_warm_starts(library):
    X = LIBRARIES[library](holes=False)
    model = reducer().partial_fit(X[:20]).partial_fit(X[20:])
    assert model.n_samples_seen_ == N
    assert_like(model.inverse_transform(model.transform(X)), X)
    words = pd.Series(["new"] * 20, dtype="str")
    later = X[20:]
    if library == "pandas":
        later = later.assign(town=words.to_numpy())
    else:
        later = later.with_columns(town=pl.Series(words.tolist()))
    with pytest.warns(UserWarning, match=r"not seen in fit, in the columns \['town'\]"):
        model.partial_fit(later)
    warm = reducer(warm_start=True).fit(X)
    warm.fit(X).set_params(likelihood={"visits": "poisson"})
    with pytest.raises(ValueError, match=r"'likelihood' parameter .* must stay"):
        warm.fit(X)
    assert warm.column_likelihoods_["visits"] == "gaussian"


def test_streams_of_dask_and_parquet(models, tmp_path):
    X, model = people(holes=False), models["pandas"]
    parts = dd.from_pandas(X, npartitions=3)
    codes = parts.map_partitions(
        lambda part: pd.DataFrame(model.transform(part), part.index),
        meta={0: np.float32, 1: np.float32},
    )
    np.testing.assert_allclose(codes.compute(), model.transform(X), atol=1e-5)
    pq.write_table(pa.Table.from_pandas(X), tmp_path / "table.parquet", row_group_size=20)
    chunks = reducer()
    for batch in pq.ParquetFile(tmp_path / "table.parquet").iter_batches(20):
        chunks.partial_fit(batch.to_pandas())
    assert chunks.n_samples_seen_ == N
    assert_like(chunks.inverse_transform(chunks.transform(X)), X)


@either
def test_displays(library, models):
    mpl.use("Agg")
    X, model = LIBRARIES[library](), models[library]
    EmbeddingDisplay.from_estimator(model, X, X["member"])
    TrainingDisplay.from_estimator(model)
    back = ReconstructionDisplay.from_estimator(model, X)
    assert list(back.names) == ["age", "pay", "since", "visits"]
    assert np.isfinite(back.r2).all()
    codes = TraversalDisplay.from_estimator(model)
    assert codes.features == list(
        model.inverse_transform(np.zeros((1, 2)), probabilities=True).columns
    )
    assert (codes.sd > 0).all()
    TraversalDisplay.from_estimator(reducer().fit(X[["home", "town"]]))
    mpl.pyplot.close("all")


@either
def test_reconstruction_r2_uses_numbers_and_dates(library, models):
    X, model = LIBRARIES[library](), models[library]
    display = ReconstructionDisplay.from_estimator(model, X)
    assert reconstruction_r2(model, X) == pytest.approx(display.r2.mean())
    with pytest.raises(ValueError, match=r"weights must be 'feature' or 'none'.*Got 'estimator'"):
        reconstruction_r2(model, X, weights="estimator")
    words = X[["home", "town"]]
    with pytest.raises(ValueError, match=r"a column of numbers or dates. Got .*'home', 'town'"):
        reconstruction_r2(reducer().fit(words), words)
    mpl.pyplot.close("all")


@pytest.mark.parametrize("library", [pd, pl])
def test_a_single_category_and_times_of_day_come_back(library):
    X = library.DataFrame({"x": [1.0, 2.0, 3.0, 4.0] * 3, "only": ["", None] * 6})
    assert list(reducer().fit(X).impute(X)["only"]) == [""] * 12
    times = pl.DataFrame({"t": [time(0, 0, 0), time(23, 59, 59), None] * 4})
    far = np.array([[-1e3], [1e3]])
    assert reducer(1).fit(times).inverse_transform(far).dtypes == [pl.Time]
    money = pl.Series("x", np.linspace(-9, 9, 12)).cast(pl.Decimal(3, 2)).to_frame()
    if library is pd:
        money = pd.DataFrame(
            {"x": pd.array(money["x"].to_list(), pd.ArrowDtype(pa.decimal128(3, 2)))}
        )
    back = reducer(1, likelihood={"x": "gaussian"}).fit(money).inverse_transform(far)["x"]
    assert sorted(map(float, back)) == [-9.99, 9.99]
