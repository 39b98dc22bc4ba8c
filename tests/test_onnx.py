"""ONNX files say what transform and inverse_transform say."""

import logging
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Gaussian,
    Mixed,
    NegativeBinomial,
    Poisson,
)
from sklearn_wiseale.networks import MLP, Conv, Modules

N, D = 1000, 8


def make_network(n_in, n_out):
    """Encoder or decoder: two numbers of means and two of log-variances, or columns."""
    n_out = 2 * n_out if n_in == D else n_out
    layers = [nn.Linear(n_in, 6), nn.LayerNorm(6), nn.Softplus(), nn.Dropout(0.1)]
    return nn.Sequential(*layers, nn.Linear(6, n_out))


MIXED = Mixed(
    [
        (Categorical((2, 3)), [7, 0, 1, 3, 2]),
        (Gaussian("feature"), slice(4, 5)),
        (Poisson(), [5]),
        (NegativeBinomial(), range(6, 7)),
        (Bernoulli(), [8]),
    ]
)
CASES = {
    "mixed": {"likelihood": MIXED},
    "images": {"network": Conv((1, 8, 8), channels=(2,)), "scale": "global"},
}
LONG_CASES = {
    "default": {"network": "mlp"},
    **{name: {"likelihood": name} for name in LIKELIHOODS},
    **{name: {"network": MLP((5,), name)} for name in ("silu", "relu", "gelu", "tanh", "elu")},
    "noise of features": {"likelihood": Gaussian("feature"), "scale": None},
    "no skip": {"network": MLP((5, 4), "relu", linear_skip=False, dropout=0.1)},
    "linear": {"network": MLP(())},
    "blocks": {"likelihood": Categorical((4, 4))},
    "modules": {"network": Modules(make_network, make_network)},
    "conv": {"network": Conv((1, 8, 8), channels=(2, 3), linear_skip=False)},
    "colours": {"network": Conv((2, 8, 9)), "scale": "global"},
    "missing": {"early_stopping": False},
    "float64": {"precision": "float64"},
    "far away": {"scale": "feature"},
}
EVERY = [*CASES, *(pytest.param(case, marks=pytest.mark.long) for case in LONG_CASES)]


@pytest.fixture(scope="module", name="model")
def fitted_models(make_rows):
    """Models with their rows, fitted once each."""
    models = {}

    def model(case):
        if case not in models:
            params = {"network": MLP((6,)), **CASES, **LONG_CASES}[case]
            likelihood = params.get("likelihood", "gaussian")
            likelihood = LIKELIHOODS[likelihood]() if isinstance(likelihood, str) else likelihood
            widths = {"images": 64, "conv": 64, "colours": 144, "mixed": 9}
            X = make_rows(likelihood, N, widths.get(case, D))
            if case == "far away":
                X = 1e-3 * X + 1e4
            elif case == "images":
                X = X.reshape(N, 1, 8, 8)
            X = X.astype(np.float32).astype(np.float64)
            rows = X.copy()
            if case == "missing":
                rows[np.random.RandomState(0).random_sample(X.shape) < 0.1] = np.nan
            defaults = {"network": MLP((6,)), "max_epochs": 1, "random_state": 0}
            with warnings.catch_warnings():  # of codes that do not vary yet
                warnings.simplefilter("ignore", UserWarning)
                models[case] = WiSEALETransformer(2, **{**defaults, **params}).fit(rows), X
        return models[case]

    return model


def run(path, **inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [given.name for given in session.get_inputs()] == list(inputs)
    return dict(
        zip([out.name for out in session.get_outputs()], session.run(None, inputs), strict=True)
    )


@pytest.mark.parametrize("case", EVERY)
def test_encoder_gives_the_codes(case, model, tmp_path, capfd, caplog):
    estimator, X = model(case)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    estimator.export_onnx(tmp_path / "encoder.onnx")
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    content = (tmp_path / "encoder.onnx").read_bytes()
    for word in (b".py", b"stack_trace", b"site-packages", str(tmp_path).encode()):
        assert word not in content  # nothing of the machine
    onnx.checker.check_model(onnx.load(tmp_path / "encoder.onnx"), full_check=True)
    mean, std = estimator.posterior(X)
    np.testing.assert_array_equal(mean, estimator.transform(X))
    for n in (1, N):
        found = run(tmp_path / "encoder.onnx", X=X[:n].astype(np.float32))
        assert list(found) == ["codes", "std"]
        assert found["codes"].dtype == found["std"].dtype == np.float32
        np.testing.assert_allclose(found["codes"], mean[:n], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found["std"], std[:n], rtol=1e-5, atol=1e-5)
    if estimator._built["likelihood"].allow_nan:
        holes = X[:4].astype(np.float32)
        holes.reshape(4, -1)[1, 2] = np.nan
        found = run(tmp_path / "encoder.onnx", X=holes)
        for values in found.values():
            assert np.isnan(values).all(axis=1).tolist() == [False, True, False, False]


@pytest.mark.parametrize("case", EVERY)
def test_decoder_gives_the_rows(case, model, tmp_path):
    estimator, X = model(case)
    estimator.export_onnx(str(tmp_path / "decoder.onnx"), part="decoder")
    onnx.checker.check_model(onnx.load(tmp_path / "decoder.onnx"), full_check=True)
    Z = estimator.transform(X).astype(np.float32)
    expected = estimator.inverse_transform(Z)
    spread = np.maximum(np.abs(expected).max(), 1)
    for n in (1, N):
        found = run(tmp_path / "decoder.onnx", codes=Z[:n])
        assert list(found) == ["X"]
        assert found["X"].dtype == np.float32
        np.testing.assert_allclose(found["X"], expected[:n], rtol=1e-5, atol=1e-6 * spread)


def test_files_of_a_table_have_its_encoded_columns(tmp_path):
    """Numbers and dates come first, then a column for each category."""
    rng = np.random.RandomState(0)
    town, ok = rng.choice(["Oslo", "Rome"], 60), rng.random_sample(60) < 0.5
    days, x = rng.permutation(60), rng.standard_normal(60)
    first = pd.Timestamp("2020-01-01")
    dates = pd.Series(first + pd.to_timedelta(days, unit="D")).astype("datetime64[s]")
    table = pd.DataFrame({"town": town, "x": x, "ok": ok, "day": dates})
    estimator = WiSEALETransformer(2, max_epochs=2, random_state=0).fit(table)
    numbers = np.stack([x, 86400.0 * days], axis=1)
    hot = [np.eye(2)[np.unique(column, return_inverse=True)[1]] for column in (town, ok)]
    encoded = np.hstack([numbers, *hot])
    for part in ("encoder", "decoder"):
        estimator.export_onnx(tmp_path / part, part=part)
    codes = run(tmp_path / "encoder", X=encoded.astype(np.float32))["codes"]
    np.testing.assert_allclose(codes, estimator.transform(table), atol=1e-5)
    found = run(tmp_path / "decoder", codes=codes)["X"]
    expected = estimator.inverse_transform(codes, probabilities=True)
    expected["day"] -= first.timestamp()
    names = ["x", "day", "town_Oslo", "town_Rome", "ok_False", "ok_True"]
    np.testing.assert_allclose(found, expected[names], rtol=1e-4, atol=1e-5)


def test_without_the_packages(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install sklearn-wiseale\[onnx\]"):
        model("mixed")[0].export_onnx(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(model, tmp_path):
    estimator = model("mixed")[0]
    with pytest.raises(ValueError, match="part must be 'encoder' or 'decoder'"):
        estimator.export_onnx(tmp_path / "file", "both")
    with pytest.raises(FileNotFoundError, match="directory of the file must exist"):
        estimator.export_onnx(tmp_path / "nowhere" / "file")
    with pytest.raises(NotFittedError):
        WiSEALETransformer().export_onnx(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_into_single_precision(make_rows, tmp_path):
    X = 1e-60 * make_rows(Gaussian(), 60, D)
    estimator = WiSEALETransformer(network=MLP((6,)), max_epochs=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match="X cannot be scaled in float32"):
        estimator.export_onnx(tmp_path / "file")
    assert not list(tmp_path.iterdir())


class Wayward(nn.Module):
    """Goes by the values that it is given."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer = nn.Linear(n_in, 2 * n_out if n_in == D else n_out)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


def test_network_that_cannot_be_exported(make_rows, tmp_path):
    X = make_rows(Gaussian(), 60, D)
    network = Modules(Wayward, Wayward)
    estimator = WiSEALETransformer(network=network, max_epochs=1, random_state=0).fit(X)
    (tmp_path / "file").write_text("as it was")
    with pytest.raises(ValueError, match="The network cannot be exported"):
        estimator.export_onnx(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "as it was"
