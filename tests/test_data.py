"""Laws of the batches: every row once, whatever holds the rows."""

import math
import threading
import warnings
from contextvars import ContextVar

import numpy as np
import pytest
import torch
from scipy import sparse

from sklearn_wiseale._data import rows as _data
from sklearn_wiseale._data.rows import Rows, ahead, chunk_length, dense, resident_bytes
from sklearn_wiseale._data.scaling import Scaling
from sklearn_wiseale._training.batches import ShuffledBatches

CPU = torch.device("cpu")
SCALING = Scaling(np.array([1.0, -2.0, 0.0]), np.array([0.5, 3.0, 10.0]))


def counts(n):
    """Rows of small integers, many of them zero, all different."""
    return np.column_stack([np.arange(n), np.arange(n) % 3, np.zeros(n)]).astype(float)


HOLDERS = {
    "C order": np.ascontiguousarray,
    "F order": np.asfortranarray,
    "float32": np.float32,
    "integers": np.int64,
    "bytes": np.uint8,
    "half": np.float16,
    "big-endian float32": lambda X: X.astype(">f4"),
    "big-endian": lambda X: X.astype(">f8"),
    "reversed twice": lambda X: np.ascontiguousarray(X[::-1])[::-1],
    "every other column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "CSR matrix": sparse.csr_matrix,
    "CSR array": sparse.csr_array,
    "read-only": lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),
}


@pytest.fixture(params=[*HOLDERS, "memory map"])
def holder(request, tmp_path):
    """A function that puts an array into one of the containers that a fit may be given."""

    def memory_map(X):
        np.save(tmp_path / "X.npy", X)
        return np.load(tmp_path / "X.npy", mmap_mode="r")

    return HOLDERS.get(request.param, memory_map)


@pytest.fixture(params=[False, True], ids=["at once", "ahead"])
def reading(request, monkeypatch):
    """Whether rows are read in advance, as they are for a GPU."""
    monkeypatch.setattr(_data, "_READING_AHEAD", ("cpu",) if request.param else ())


def rows_of(X, index=None, dtype=torch.float64):
    return Rows(X, SCALING, dtype, CPU, index)


def batches_of(rows, batch_size, seed=0):
    return ShuffledBatches(rows, batch_size, torch.Generator().manual_seed(seed))


# rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("index", [None, np.array([7, 1, 4, 2, 0, 9])], ids=["all", "some"])
def test_rows_are_the_scaled_rows_of_whatever_holds_them(holder, resident, dtype, index):
    X = counts(10)
    rows = rows_of(holder(X), index, dtype)
    if resident:
        assert rows.make_resident() is rows
    expected = torch.from_numpy((X if index is None else X[index]) - SCALING.shift)
    expected = (expected / torch.from_numpy(SCALING.scale)).to(dtype)
    assert len(rows) == len(expected)
    chosen = torch.tensor([3, 0, 3, 5])
    for given in (slice(None), slice(1, 4), chosen):
        assert torch.equal(rows[given], expected[given])
    assert torch.equal(torch.cat(list(rows.chunks())), expected)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8, np.int16])
@pytest.mark.parametrize("offset", [0, 100])
def test_rows_in_float32_are_as_exact_as_float32_can_hold_them(kind, offset):
    rng = np.random.RandomState(0)
    X = (
        offset + rng.randint(0, 100, size=(50, 3)) / (1 if kind in (np.uint8, np.int16) else 7)
    ).astype(kind)
    exact = X.astype(np.float64)
    scaling = Scaling(exact.mean(axis=0) + 1e-9, exact.std(axis=0))
    rows = Rows(X, scaling, torch.float32, CPU)
    assert rows._tensor_scaling.kind == np.float32
    error = np.abs(rows[slice(None)].double().numpy() - scaling.apply(exact))
    assert (error <= 2.0**-22 * np.abs(scaling.apply(exact))).all()


def test_an_offset_a_million_times_the_spread_costs_no_digits():
    X = (1e6 + np.random.RandomState(0).standard_normal((50, 3))).astype(np.float32)
    exact = X.astype(np.float64)
    scaling = Scaling(exact.mean(axis=0), exact.std(axis=0))
    rows = Rows(X, scaling, torch.float32, CPU)[slice(None)].double().numpy()
    np.testing.assert_allclose(rows, scaling.apply(exact), rtol=2.0**-22)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_rows_that_need_no_scaling_are_copies(kind):
    X = np.arange(12).reshape(4, 3).astype(kind)
    rows = Rows(X, Scaling(np.zeros(3), np.ones(3)), torch.float32, CPU)
    taken = rows[slice(None)]
    assert torch.equal(taken, torch.arange(12.0).reshape(4, 3))
    taken.fill_(-1)
    np.testing.assert_array_equal(X, np.arange(12).reshape(4, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sparse_rows", [False, True])
@pytest.mark.usefixtures("reading")
def test_rows_that_nobody_checked_are_checked_when_taken(monkeypatch, value, sparse_rows):
    monkeypatch.setattr(_data, "_CHUNK_NUMBERS", 12)
    X = counts(50).astype(np.float32)
    X[40, 1] = value
    X = sparse.csr_matrix(X) if sparse_rows else X
    rows, taken = Rows(X, SCALING, torch.float32, CPU, unchecked="Someone"), []
    with pytest.raises(ValueError, match=r"Input X contains .*\n?"):
        taken.extend(rows.chunks())
    assert len(torch.cat(taken)) == 40


@pytest.mark.usefixtures("reading")
def test_rows_are_known_to_have_missing_values_once_one_is_taken(monkeypatch):
    monkeypatch.setattr(_data, "_CHUNK_NUMBERS", 12)
    X = counts(50)
    X[40, 1] = np.nan
    rows = Rows(X, SCALING, torch.float64, CPU, unchecked="Someone", allow_nan=True)
    assert [rows.missing for _ in rows.chunks()] == [False] * 40 + [True] * 10


def test_large_rows_are_not_taken_for_infinite():
    X = np.full((4, 3), 3e38, dtype=np.float32)  # finite, but their sum is not
    rows = Rows(X, Scaling(np.zeros(3), np.ones(3)), torch.float32, CPU, unchecked="Someone")
    assert len(list(rows.chunks())) == 1


@pytest.mark.parametrize(("shift", "scale"), [(1e31, 1.0), (0.0, 1e31), (0.0, 1e-31)])
def test_scales_that_float32_does_not_hold_are_used_in_float64(shift, scale):
    X = np.ones((4, 3), dtype=np.float32)
    scaling = Scaling(np.full(3, shift), np.full(3, scale))
    expected = torch.from_numpy(scaling.apply(X.astype(float))).float()
    assert torch.equal(Rows(X, scaling, torch.float32, CPU)[slice(None)], expected)


def test_rows_are_taken_without_a_change_to_those_that_are_held(holder):
    X = counts(10)
    held = holder(X)
    rows = rows_of(held).make_resident()
    rows[slice(None)].fill_(-1)
    rows_of(held)[slice(None)].fill_(-1)
    np.testing.assert_array_equal(dense(held), X)


@pytest.mark.parametrize("numbers", [1, 3, 7, 12, 10**6])
def test_chunks_hold_all_rows_in_order_and_no_more_numbers_than_allowed(monkeypatch, numbers):
    monkeypatch.setattr(_data, "_CHUNK_NUMBERS", numbers)
    rows = rows_of(counts(10))
    chunks = list(rows.chunks())
    assert torch.equal(torch.cat(chunks), rows[slice(None)])
    assert all(chunk.numel() <= max(numbers, 3) for chunk in chunks)
    # a caller that needs more numbers a row gets fewer rows
    assert all(len(chunk) * 6 <= max(numbers, 6) for chunk in rows.chunks(6))
    assert torch.equal(torch.cat(list(rows.chunks(6))), rows[slice(None)])


@pytest.mark.parametrize("numbers", [0, 1, 2**22 - 1, 2**22, 2**22 + 1, 10**12])
def test_a_chunk_has_at_least_one_row(numbers):
    assert chunk_length(numbers) >= 1
    assert chunk_length(numbers) * numbers <= max(_data._CHUNK_NUMBERS, numbers)


@pytest.mark.parametrize("extra", [0, -1])
def test_only_few_rows_are_held_as_one_tensor(monkeypatch, extra):
    monkeypatch.setattr(_data, "RESIDENT_BYTES", 10 * 3 * 8 + extra)
    X = counts(10)
    rows = rows_of(X).make_resident()
    before = rows[slice(None)]
    X += 1  # what is held does not follow, what is read each time does
    assert torch.equal(rows[slice(None)], before) == (extra == 0)


def test_more_is_held_where_a_device_has_more_memory(monkeypatch):
    assert resident_bytes(CPU) == resident_bytes(torch.device("mps")) == _data.RESIDENT_BYTES
    figures = {"mem_get_info": (10**9, 10**11), "memory_reserved": 5000, "memory_allocated": 1000}
    for name, figure in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, figure=figure: figure)
    assert resident_bytes(torch.device("cuda", 1)) == (10**9 + 4000) // 4


def test_made_resident_chunk_by_chunk_the_rows_are_the_same(monkeypatch):
    expected = rows_of(counts(10))[slice(None)]
    monkeypatch.setattr(_data, "_CHUNK_NUMBERS", 12)
    assert torch.equal(rows_of(counts(10)).make_resident()[slice(None)], expected)


# batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 10, 97])
@pytest.mark.parametrize("batch_size", [1, 3, 10, 32, 200])
def test_an_epoch_has_every_row_once_in_batches_alike_in_size(n, batch_size):
    batches = batches_of(rows_of(counts(n)), batch_size)
    for _ in range(2):
        taken = [index for _, index in batches]
        sizes = [len(index) for index in taken]
        assert sorted(torch.cat(taken).tolist()) == list(range(n))
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        assert len(taken) == len(batches) == math.ceil(n / batch_size)


@pytest.mark.parametrize("index", [None, np.array([7, 1, 4, 2, 0, 9])], ids=["all", "some"])
def test_rows_of_a_batch_are_those_of_its_index(holder, index):
    rows = rows_of(holder(counts(10)), index)
    everything = rows[slice(None)]
    for x, chosen in batches_of(rows, 4):
        assert torch.equal(x, everything[chosen])


@pytest.mark.usefixtures("reading")
def test_batches_do_not_depend_on_what_holds_the_rows(holder):
    expected = batches_of(rows_of(counts(23)), 5)
    held = batches_of(rows_of(holder(counts(23))), 5)
    resident = batches_of(rows_of(holder(counts(23))).make_resident(), 5)
    for wanted, *given in zip(expected, held, resident, strict=True):
        for x, index in given:
            assert torch.equal(x, wanted[0])
            assert torch.equal(index, wanted[1])


def test_each_epoch_has_an_order_of_its_own_and_the_seed_decides_it():
    def orders(seed):
        batches = batches_of(rows_of(counts(50)), 8, seed)
        return [torch.cat([index for _, index in batches]).tolist() for _ in range(3)]

    first, second, third = orders(0)
    assert first != second != third != first
    assert orders(0) == [first, second, third]
    assert orders(1)[0] != first


def test_batches_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    list(batches_of(rows_of(counts(50)), 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_row_is_as_likely_in_every_batch():
    batches = batches_of(rows_of(counts(6)), 2)
    first = torch.cat([next(iter(batches))[1] for _ in range(3000)])
    share = torch.bincount(first, minlength=6) / 3000
    torch.testing.assert_close(
        share, torch.full((6,), 1 / 3), rtol=0, atol=4.5 * math.sqrt(2 / 9 / 3000)
    )


# reading ahead --------------------------------------------------------------------------------


def helpers():
    return [thread for thread in threading.enumerate() if "ahead" in thread.name]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_what_is_made_in_advance_comes_in_order_and_is_never_more_than_said(n):
    made, threads = [], set()

    def given():
        for number in range(20):
            threads.add(threading.current_thread())
            yield number

    def make(number):
        made.append(number)
        assert threading.current_thread() not in threads
        return -number

    for taken, result in enumerate(ahead(make, given(), n)):
        assert result == -taken
        assert len(made) <= taken + 1 + n
    assert taken == 19
    assert threads == {threading.current_thread()}
    assert not helpers()


def test_the_next_is_made_while_nobody_asks():
    done = [threading.Event() for _ in range(4)]
    results = ahead(lambda number: done[number].set(), range(4), 2)
    next(results)
    assert done[1].wait(10)
    assert done[2].wait(10)
    results.close()
    assert not done[3].is_set()


def test_an_error_comes_at_its_turn_with_where_it_came_from():
    def faulty(number):
        return 1 / (number - 3)

    results, taken = ahead(faulty, range(10), 2), []
    with pytest.raises(ZeroDivisionError) as caught:
        taken.extend(results)
    assert len(taken) == 3
    assert caught.traceback[-1].name == "faulty"
    assert not helpers()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, None])
def test_whoever_stops_early_leaves_no_thread(error):
    def use():
        for number in ahead(abs, range(100), 2):
            if number == 3 and error:
                raise error
            if number == 3:
                return

    with pytest.raises(error) if error else warnings.catch_warnings():
        use()
    assert not helpers()


def test_an_error_of_what_is_given_comes_through():
    def given():
        yield 1
        raise OSError("of the index")

    with pytest.raises(OSError, match="of the index"):
        list(ahead(abs, given(), 2))
    assert not helpers()


def test_context_and_warnings_are_those_of_the_caller():
    level = ContextVar("level", default=0)

    def make(number):
        warnings.warn(f"at {number}", UserWarning, stacklevel=2)
        return level.get()

    level.set(7)
    with pytest.warns(UserWarning, match="at 2"):
        assert list(ahead(make, [2], 1)) == [7]


# scaling --------------------------------------------------------------------------------------


def test_scaling_is_undone_by_its_inverse():
    X = counts(10)
    scaled = SCALING.apply(X)
    np.testing.assert_allclose(scaled, (X - SCALING.shift) / SCALING.scale)
    np.testing.assert_allclose(SCALING.invert(scaled), X, rtol=1e-14, atol=1e-14)
    inverted = SCALING.invert(scaled.astype(np.float32))
    assert inverted.dtype == np.float64
