"""The estimator on every device there is; skipped where there is none."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine

from sklearn_wiseale import WiSEALETransformer, _transformer
from sklearn_wiseale._net import VariationalModule
from sklearn_wiseale.likelihoods import LIKELIHOODS
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import OBJECTIVES

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


@each_device
def test_codes_agree_with_those_on_the_cpu(device):
    model = reducer(device=device).fit(X)
    codes = model.transform(X)
    np.testing.assert_allclose(model.set_params(device="cpu").transform(X), codes, atol=1e-4)
    assert next(model.net_.module_.parameters()).device.type == "cpu"


@each_device
def test_pickle_goes_to_any_machine(device):
    model = reducer(device=device).fit(X)
    codes = model.transform(X)
    again = pickle.loads(pickle.dumps(model))
    assert next(again.net_.module_.parameters()).device.type == "cpu"
    np.testing.assert_allclose(again.transform(X), codes, atol=1e-4)
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
    draws = [m.net_.order_generator_.get_state() for m in (model, same)]
    assert torch.equal(*draws)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_threads_with_another_current_gpu_leave_an_estimator_where_it_is(device, monkeypatch):
    model = reducer().fit(X).set_params(device=device)
    monkeypatch.setattr(_transformer, "find_device", lambda *_: torch.device("cuda", 0))
    model.net_.device = "cuda:1"
    assert model._ready_net().device == "cuda:1"
