"""Collections larger than memory, part by part: Dask, parquet, and many threads at once."""

import copy
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dask.tokenize import tokenize
from distributed import Client
from scipy import sparse

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP, Conv

CODES = ["wisealetransformer0", "wisealetransformer1"]
N, D, BLOCK = 230, 6, 50
SMALL = {"network": MLP(hidden=(8,)), "max_epochs": 2, "random_state": 0, "device": "cpu"}


def reducer(**params):
    return WiSEALETransformer(2, **{**SMALL, **params})


@pytest.fixture(scope="module", name="X")
def rows():
    """Float32 rows, some with missing entries."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((N, 3)) @ rng.standard_normal((3, D))
    X = (X + 0.3 * rng.standard_normal((N, D))).astype(np.float32)
    X[rng.random_sample(X.shape) < 0.02] = np.nan
    return X


@pytest.fixture(scope="module", name="frame")
def rows_with_names(X):
    return pd.DataFrame(X, columns=list("abcdef"), index=3 * np.arange(N))


@pytest.fixture(scope="module", name="fitted")
def fitted_to_rows(X):
    return reducer().fit(X)


@pytest.fixture(autouse=True)
def eight_threads():
    with dask.config.set(scheduler="threads", num_workers=8):
        yield


def trained_on(parts):
    model = reducer()
    for part in parts:
        model.partial_fit(part)
    return model


def assert_same(model, other, rows, other_rows=None):
    assert model.n_samples_seen_ == other.n_samples_seen_ == N
    assert model.history_[-1]["train_loss"] == other.history_[-1]["train_loss"]
    codes = other.transform(rows if other_rows is None else other_rows)
    np.testing.assert_array_equal(model.transform(rows), codes)


def in_blocks(method, rows):
    """Results of a method for each block, in this thread."""
    return np.concatenate([method(rows[i : i + BLOCK]) for i in range(0, len(rows), BLOCK)])


def codes_of(estimator, blocks, **kwargs):
    """As the guide has it."""
    chunks = (blocks.chunks[0], (2,))
    return blocks.map_blocks(estimator.transform, dtype="float32", chunks=chunks, **kwargs)


# arrays of Dask ---------------------------------------------------------------------------------


def test_codes_of_an_array_and_back(fitted, X):
    codes = codes_of(fitted, da.from_array(X, chunks=(BLOCK, -1)))
    assert (codes.shape, codes.dtype) == ((N, 2), np.float32)
    expected = in_blocks(fitted.transform, X)
    np.testing.assert_array_equal(codes.compute(), expected)
    np.testing.assert_allclose(expected, fitted.transform(X), atol=1e-5)
    back = codes.map_blocks(fitted.inverse_transform, dtype="float32", chunks=(codes.chunks[0], D))
    assert back.shape == X.shape
    np.testing.assert_array_equal(back.compute(), in_blocks(fitted.inverse_transform, expected))


def test_scores_and_draws_of_an_array(fitted, X):
    blocks = da.from_array(X, chunks=(BLOCK, -1))
    scores = blocks.map_blocks(fitted.score_samples, dtype="float32", drop_axis=1)
    np.testing.assert_array_equal(scores.compute(), in_blocks(fitted.score_samples, X))
    draw = dask.delayed(fitted.sample)
    draws = [da.from_delayed(draw(20, random_state=i), (20, D), "float32") for i in range(8)]
    expected = np.concatenate([fitted.sample(20, random_state=i) for i in range(8)])
    np.testing.assert_array_equal(da.concatenate(draws).compute(), expected)


def test_sparse_blocks(fitted, X):
    filled = np.nan_to_num(X)
    blocks = da.from_array(filled, chunks=(BLOCK, -1)).map_blocks(sparse.csr_array)
    np.testing.assert_array_equal(codes_of(fitted, blocks), in_blocks(fitted.transform, filled))


def test_blocks_of_images(rng):
    images = rng.random_sample((60, 1, 8, 8)).astype(np.float32)
    model = reducer(network=Conv((1, 8, 8), channels=(4,)), max_epochs=1).fit(images)
    blocks = da.from_array(images, chunks=(BLOCK, -1, -1, -1))
    codes = codes_of(model, blocks, drop_axis=[2, 3])
    np.testing.assert_array_equal(codes, in_blocks(model.transform, images))


def test_an_array_itself_is_computed(fitted, X):
    blocks = da.from_array(X, chunks=(BLOCK, -1))
    codes = fitted.transform(blocks)
    assert type(codes) is np.ndarray
    np.testing.assert_array_equal(codes, fitted.transform(X))
    np.testing.assert_array_equal(reducer().fit(blocks).transform(X), codes)
    with pytest.raises(ValueError, match="specify the dtype") as error:
        blocks.map_blocks(fitted.transform)
    assert "expecting 6 features" in str(error.value)


def test_training_on_blocks(X, tmp_path, fitted):
    blocks = da.from_array(X, chunks=(BLOCK, -1))
    assert_same(trained_on(blocks.blocks), trained_on(np.split(X, range(BLOCK, N, BLOCK))), X)
    rows = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", X.dtype, X.shape)
    da.store(blocks, rows, lock=False)
    np.testing.assert_array_equal(reducer().fit(rows).transform(X), fitted.transform(X))


def test_tokens_are_of_the_fitted_state(X):
    """Else Dask would take an earlier result for that of an estimator that has been trained on."""
    model = reducer().fit(X)
    before = tokenize(model.transform)
    assert tokenize(copy.deepcopy(model).transform) == before
    assert tokenize(model.partial_fit(X).transform) != before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_memory_is_that_of_some_blocks(rng):
    """400 MB of rows; 5 GB in ``examples/benchmarks/large.py``."""
    one = rng.standard_normal((1000, 1000)).astype(np.float32)
    model = reducer(max_epochs=1, early_stopping=False).fit(one)
    blocks = da.map_blocks(
        lambda block_id: one + block_id[0], chunks=((1000,) * 100, 1000), meta=one[:0, :0]
    )
    codes_of(model, blocks[:16_000]).compute()

    def resident(line):
        return int(re.search(rf"{line}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])

    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    assert codes_of(model, blocks).sum().compute() != 0
    assert resident("VmHWM") - before < 100_000


def test_workers_of_a_cluster(fitted, X):
    """The estimator goes with each task, or, as an argument, once to each worker."""
    blocks = da.from_array(X, chunks=(BLOCK, -1))
    once = blocks.map_blocks(
        lambda rows, model: model.transform(rows),
        model=dask.delayed(fitted),
        dtype="float32",
        chunks=(blocks.chunks[0], (2,)),
        meta=np.empty((0, 0), "float32"),
    )
    with Client(n_workers=1, threads_per_worker=4, processes=False, dashboard_address=":0"):
        found = dask.compute(codes_of(fitted, blocks), once, scheduler="distributed")
    for codes in found:
        np.testing.assert_array_equal(codes, in_blocks(fitted.transform, X))


# frames of Dask -----------------------------------------------------------------------------------


def test_codes_of_a_frame_have_names_and_index(frame):
    model = reducer().set_output(transform="pandas").fit(frame)
    parts = dd.from_pandas(frame, npartitions=4)
    codes = parts.map_partitions(model.transform)
    assert codes.dtypes.to_dict() == dict.fromkeys(CODES, np.dtype("float32"))
    assert codes.divisions == parts.divisions
    expected = pd.concat([model.transform(part.compute()) for part in parts.partitions])
    pd.testing.assert_frame_equal(codes.compute(), expected)
    assert expected.index.equals(frame.index)
    back = codes.map_partitions(model.inverse_transform)
    assert (back.shape[1], back.dtype) == (D, np.float32)
    np.testing.assert_allclose(back, model.inverse_transform(expected), rtol=1e-5)
    scores = parts.map_partitions(model.score_samples)
    np.testing.assert_allclose(scores, model.score_samples(frame), rtol=1e-5)


def test_partitions_that_a_filter_has_emptied(frame):
    model = reducer().set_output(transform="pandas").fit(frame)
    few = dd.from_pandas(frame, npartitions=4).query("index < 30")
    with pytest.raises(ValueError, match="0 sample"):
        few.map_partitions(model.transform).compute()
    codes = few.map_partitions(lambda part: model.transform(part) if len(part) else part)
    pd.testing.assert_frame_equal(codes.compute(), model.transform(frame.loc[:29]))


def test_a_frame_itself_is_computed(frame, X):
    parts = dd.from_pandas(frame, npartitions=4)
    np.testing.assert_array_equal(reducer().fit(parts).transform(parts), reducer().fit_transform(X))


def test_training_on_partitions(frame):
    parts = dd.from_pandas(frame, npartitions=4)
    streamed = trained_on(part.compute() for part in parts.partitions)
    ends = np.cumsum(parts.map_partitions(len).compute())[:-1]
    rows = [frame.iloc[start:end] for start, end in zip([0, *ends], [*ends, N], strict=True)]
    assert list(streamed.feature_names_in_) == list(frame.columns)
    assert_same(streamed, trained_on(rows), frame)


# parquet ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="file")
def parquet_file(frame, tmp_path_factory):
    """Nulls for what is missing, and a column of integers with nulls in later batches only."""
    table = pa.Table.from_pandas(frame.astype(np.float64), preserve_index=False)
    whole = [int(10 * v) if i < 2 * BLOCK else None for i, v in enumerate(frame["b"].fillna(0))]
    table = table.set_column(0, "a", pa.array(whole, pa.int16()))
    assert table["c"].null_count
    path = tmp_path_factory.mktemp("parquet") / "rows.parquet"
    pq.write_table(table, path, row_group_size=70)
    return path


def batches_of(file):
    return pq.ParquetFile(file, pre_buffer=False).iter_batches(batch_size=BLOCK)


def in_memory(file):
    """The same rows as one array, NaN for null."""
    return pd.read_parquet(file).to_numpy()


def test_a_stream_trains_as_its_chunks_in_memory_do(file):
    X, ends = in_memory(file), np.cumsum([len(batch) for batch in batches_of(file)])[:-1]
    streamed = trained_on(batch.to_pandas() for batch in batches_of(file))
    assert_same(streamed, trained_on(np.split(X, ends)), pd.read_parquet(file), X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_from_parquet_to_parquet(file, library, tmp_path):
    model = reducer().fit(pd.read_parquet(file)).set_output(transform=library)
    writer, expected = None, []
    for batch in batches_of(file):
        if library == "pandas":
            codes = pa.Table.from_pandas(model.transform(batch.to_pandas()), preserve_index=False)
        else:
            codes = model.transform(pl.from_arrow(batch)).to_arrow()
        writer = writer or pq.ParquetWriter(tmp_path / "codes.parquet", codes.schema)
        writer.write_table(codes)
        expected.append(model.transform(batch.to_pandas()).to_numpy())
    writer.close()
    codes = pq.read_table(tmp_path / "codes.parquet")
    assert codes.schema.names == CODES
    assert set(codes.schema.types) == {pa.float32()}
    np.testing.assert_array_equal(codes.to_pandas().to_numpy(), np.concatenate(expected))


def test_tables_of_arrow_themselves(file):
    table, X = pq.read_table(file), in_memory(file)
    model = reducer().fit(table)
    assert list(model.feature_names_in_) == table.column_names
    np.testing.assert_array_equal(model.transform(table), reducer().fit(X).transform(X))
    unnamed = reducer().fit(X)  # scikit-learn reads no names off a batch
    for batch in table.to_batches():
        expected = unnamed.transform(batch.to_pandas().to_numpy())
        np.testing.assert_array_equal(unnamed.transform(batch), expected)


def test_tables_of_arrow_that_are_refused(file):
    table = pq.read_table(file)
    text = table.set_column(1, "city", pa.array(["Rome"] * N))
    for given in (text, text.to_batches()[0]):
        with pytest.raises(ValueError, match=r"These columns are not: \['city'\]"):
            reducer().fit(given)
    model = reducer().fit(table)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(table.rename_columns(list("abcdeg")))


# threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"network": MLP(hidden=(8,), dropout=0.5)},
        {"precision": "bfloat16"},
        {"precision": "float64"},
        {"likelihood": "bernoulli"},
    ],
    ids=str,
)
def test_one_estimator_in_many_threads(params, X):
    X = (X > 0).astype(float) if "likelihood" in params else X
    model = reducer(**params).fit(X)
    codes = in_blocks(model.transform, X)
    uses = [
        (model.transform, X),
        (model.inverse_transform, codes),
        (model.score_samples, X),
        (lambda part: model.posterior(part)[1], X),
        (lambda part: model.sample(len(part), random_state=7), X),
    ]
    blocks = [(method, rows[i : i + 20]) for i in range(0, N, 20) for method, rows in uses]
    expected = [method(rows) for method, rows in blocks]
    with ThreadPoolExecutor(16) as pool:
        for _ in range(3):
            found = pool.map(lambda block: block[0](block[1]), blocks)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
