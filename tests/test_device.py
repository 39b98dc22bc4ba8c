"""The estimator on every device there is; skipped where there is none."""

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_wine
from skorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale._data import rows as _data
from sklearn_wiseale._model.module import VariationalModule
from sklearn_wiseale._training.net import VariationalNet
from sklearn_wiseale.likelihoods import LIKELIHOODS, Gaussian
from sklearn_wiseale.networks import MLP, Conv
from sklearn_wiseale.objectives import ELBO, OBJECTIVES, WiSEALE, _bank
from sklearn_wiseale.objectives._overlap import pairs, tiles
from sklearn_wiseale.objectives._overlap.function import compute_log_mean_overlap

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    ),
    pytest.param(
        "mps",
        marks=pytest.mark.skipif(
            not torch.backends.mps.is_available(), reason="no MPS device here"
        ),
    ),
]
each_device = pytest.mark.parametrize("device", DEVICES)
X = (load_wine().data - load_wine().data.min(0)) / np.ptp(load_wine().data, axis=0)


def reducer(**params):
    defaults = {"network": MLP(hidden=(16,)), "max_epochs": 3, "random_state": 0}
    return WiSEALETransformer(2, **{**defaults, **params})


@each_device
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_method_works_on_the_device(device, objective, likelihood, make_rows):
    X = make_rows(LIKELIHOODS[likelihood](), 178, 13)
    model = reducer(device=device, objective=objective, likelihood=likelihood).fit(X)
    assert next(model.net_.module_.parameters()).device.type == device
    Z = model.transform(X)
    assert Z.shape == (len(X), 2)
    assert np.isfinite(Z).all()
    assert np.isfinite(model.inverse_transform(Z)).all()
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.sample(5, random_state=0)).all()
    before = Z.copy()
    model.partial_fit(X)
    assert not np.array_equal(before, model.transform(X))


@each_device
def test_same_seed_gives_the_same_codes(device):
    codes = [reducer(device=device).fit_transform(X) for _ in range(2)]
    tolerance = 0 if device == "cpu" else 1e-4
    np.testing.assert_allclose(codes[0], codes[1], rtol=0, atol=tolerance)


NETWORKS = {"mlp": MLP(hidden=(16,)), "conv": Conv((1, 8, 8), channels=(4,))}


@each_device
@pytest.mark.parametrize("network", NETWORKS)
def test_a_fitted_estimator_moves_between_devices(device, network):
    images = np.tile(X, 5)[:, :64]
    model = reducer(device=device, network=NETWORKS[network]).fit(images)
    for there in ("cpu", device, "cpu"):
        codes = model.transform(images)
        model.set_params(device=there)
        np.testing.assert_allclose(model.transform(images), codes, rtol=0, atol=1e-4)
        assert next(model.net_.module_.parameters()).device.type == there
        model.partial_fit(images)
        assert np.abs(model.transform(images) - codes).max() > 1e-4


@each_device
def test_pickle_goes_to_any_machine(device):
    model = reducer(device=device).fit(X)
    codes = model.transform(X)
    again = pickle.loads(pickle.dumps(model))
    assert next(again.net_.module_.parameters()).device.type == "cpu"
    np.testing.assert_allclose(again.transform(X), codes, atol=1e-4)
    again.partial_fit(X)


@each_device
def test_file_goes_to_any_device(device, tmp_path):
    model = reducer(device=device).fit(X)
    model.save(tmp_path / "model")
    for there in ("cpu", device, "auto"):
        again = load(tmp_path / "model", device=there)
        np.testing.assert_allclose(again.transform(X), model.transform(X), rtol=0, atol=1e-4)
        again.partial_fit(X)


@each_device
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_precision(device, precision):
    if device == "mps" and precision == "float64":
        pytest.skip("MPS has no float64")
    codes = reducer(device=device, precision=precision).fit_transform(X)
    assert codes.dtype == (np.float64 if precision == "float64" else np.float32)
    assert np.isfinite(codes).all()


def test_auto_takes_the_accelerator_that_is_there():
    expected = "cpu"
    if torch.backends.mps.is_available():
        expected = "mps"
    if torch.cuda.is_available():
        expected = "cuda"
    assert torch.device(reducer(device="auto").fit(X).net_.device).type == expected


# several threads ----------------------------------------------------------------------------------


def test_threads_move_an_estimator_once(monkeypatch):
    model, same = reducer(device="cpu").fit(X), reducer(device="cpu").fit(X)
    moving = VariationalModule.to

    def slowly(module, device):
        time.sleep(0.02)
        return moving(module, device)

    monkeypatch.setattr(VariationalModule, "to", slowly)
    codes = same.set_params(device="cpu:0").transform(X)
    model.set_params(device="cpu:0")  # the CPU as well, and to torch another device
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(model.transform, [X] * 8):
            np.testing.assert_array_equal(found, codes)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_threads_with_another_current_gpu_leave_an_estimator_where_it_is(device, monkeypatch):
    model = reducer().fit(X).set_params(device=device)
    monkeypatch.setattr("sklearn_wiseale._steps.find_device", lambda *_: torch.device("cuda", 0))
    model.net_.device = "cuda:1"
    assert model._ready_net().device == "cuda:1"


# rows too many for the device -----------------------------------------------------------------

HOLDERS = {
    "array": np.asarray,
    "bytes": lambda X: (255 * X).astype(np.uint8),
    "CSR matrix": sparse.csr_matrix,
}


@pytest.fixture
def few_resident(monkeypatch):
    """A function that leaves no memory for rows, so that they are read for each batch."""

    def leave(device):
        monkeypatch.setattr(_data, "resident_bytes", lambda device: 0)
        monkeypatch.setattr(_data, "_READING_AHEAD", (device,))

    return leave


def weights(model):
    return np.concatenate([p.numpy(force=True).ravel() for p in model.net_.module_.parameters()])


@each_device
@pytest.mark.parametrize("holder", [*HOLDERS, "memory map"])
def test_rows_read_in_advance_train_as_those_held_do(device, holder, few_resident, tmp_path):
    rows = HOLDERS.get(holder, np.asarray)(X)
    if holder == "memory map":
        np.save(tmp_path / "X.npy", X)
        rows = np.load(tmp_path / "X.npy", mmap_mode="r")
    held = reducer(device=device, objective=ELBO()).fit(rows)
    few_resident(device)
    read = reducer(device=device, objective=ELBO()).fit(rows)
    tolerance = 0 if device == "cpu" else 1e-5
    np.testing.assert_allclose(weights(read), weights(held), rtol=0, atol=tolerance)
    np.testing.assert_allclose(read.transform(rows), held.transform(rows), atol=tolerance)


class Stopping(Callback):
    def on_batch_end(self, net, batch=None, training=None, **kwargs):
        raise KeyboardInterrupt


@each_device
def test_an_interrupt_ends_the_reading_too(device, few_resident):
    few_resident(device)
    model = reducer(device=device, net_params={"callbacks": [Stopping()]})
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert not [thread for thread in threading.enumerate() if "ahead" in thread.name]
    assert np.isfinite(model.transform(X)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_full_device_is_a_memory_error():
    model = reducer(device="cuda").fit(X)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        for call in (model.fit, model.transform):
            with pytest.raises(MemoryError, match="device='cpu'"):
                call(np.tile(X, (100_000, 1)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert np.isfinite(model.fit(X).transform(X)).all()


# what a host waits for ------------------------------------------------------------------------

#: Operations that a GPU's host waits for: results whose shape or value it needs, and what it sends.
WAITS = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount",
    "equal", "is_nonzero", "repeat_interleave", "lift_fresh",
}  # fmt: skip


class Waits(TorchDispatchMode):
    """Notes operations that a GPU's host would wait for, on whatever device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = (torch.bool, torch.uint8)
        if name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in masks for index in args[1]
        ):
            name = "nonzero"
        if name in WAITS:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@contextmanager
def nothing_waits(device):
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        with Waits() as waits:
            yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert not waits.found


@pytest.fixture
def steps_wait_for_nothing(monkeypatch):
    """A function: all steps of an epoch but the first are watched, with what lies between them."""
    passes = []

    def watch(device):
        one_pass = VariationalNet._train_epoch

        def watched(self, batches):
            with ExitStack() as stack:

                class Watched:
                    rows = batches.rows

                    def __iter__(self):
                        for number, batch in enumerate(batches):
                            if number == 1:
                                stack.enter_context(nothing_waits(device))
                            yield batch
                        stack.close()
                        passes.append(number)

                return one_pass(self, Watched())

        monkeypatch.setattr(VariationalNet, "_train_epoch", watched)
        for module in (_bank, pairs, tiles):
            monkeypatch.setattr(module, "is_sync_free", lambda like: False)  # as on a GPU
        return passes

    return watch


WATCHED = {
    **{name: {"objective": name} for name in OBJECTIVES},
    **{f"of {bound}": {"objective": WiSEALE(bound)} for bound in ("renyi", "sliced")},
    "neighbours": {"objective": WiSEALE(neighbors=3)},
    "wide": {"objective": WiSEALE(width=4096)},
    **{name: {"likelihood": name, "objective": "elbo"} for name in LIKELIHOODS},
    "noise of columns": {"likelihood": Gaussian("feature")},
    "bfloat16": {"precision": "bfloat16"},
    "held out": {"early_stopping": True},
}


@each_device
@pytest.mark.parametrize(("n", "batch_size"), [(178, 32), (1100, 200)], ids=["dense", "tiled"])
@pytest.mark.parametrize("case", WATCHED)
def test_a_step_waits_for_nothing(device, case, n, batch_size, steps_wait_for_nothing, make_rows):
    """Overlaps of 200 rows are computed in tiles."""
    passes = steps_wait_for_nothing(device)
    params = {"batch_size": batch_size, **WATCHED[case]}
    likelihood = params.get("likelihood", "gaussian")
    likelihood = LIKELIHOODS[likelihood]() if isinstance(likelihood, str) else likelihood
    reducer(device=device, **params).fit(make_rows(likelihood, n, 13))
    assert len(passes) == 3
    assert min(passes) >= 3


def test_what_waits_is_seen(steps_wait_for_nothing, monkeypatch):
    steps_wait_for_nothing("cpu")
    terms = VariationalNet.objective_terms
    causes = (
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: bool(x.any()),
        lambda x: x.new_tensor(1.0),
    )
    for cause in causes:

        def waiting(self, x, index, cause=cause):
            cause(x)
            return terms(self, x, index)

        monkeypatch.setattr(VariationalNet, "objective_terms", waiting)
        with pytest.raises(AssertionError, match="found"):
            reducer().fit(X)


# the overlaps ---------------------------------------------------------------------------------


@each_device
@pytest.mark.parametrize("log_var", [-0.5, -3.0])
def test_overlaps_are_those_of_the_formula_in_double_precision(device, log_var):
    tiled = partial(compute_log_mean_overlap, path="tiled")
    generator = torch.Generator().manual_seed(0)
    mean, spread = torch.randn(2, 400, 8, generator=generator, dtype=torch.float64).unbind()
    numbers = mean, log_var + 0.5 * spread
    results = []
    for dtype, there, function in (
        (torch.float64, "cpu", formula),
        (torch.float32, device, tiled),
    ):
        given = [t.to(there, dtype, copy=True).requires_grad_() for t in numbers]
        rows = function(*given)
        rows.sum().backward()
        results.append([rows, *(t.grad for t in given)])
    for expected, found in zip(*results, strict=True):
        error = (found.cpu().double() - expected).norm() / expected.norm()
        assert error < 1e-5


def formula(mean, log_var):
    """``log_mean_overlap`` of the rows among themselves, from its definition."""
    total = log_var.exp()[:, None] + log_var.exp()
    squared = (mean[:, None] - mean).square()
    log_overlap = -0.5 * ((2 * torch.pi * total).log() + squared / total).sum(dim=2)
    return torch.logsumexp(log_overlap, dim=1) - np.log(len(mean))
