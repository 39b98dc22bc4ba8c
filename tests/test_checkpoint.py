"""Interrupted fits resume to the result of the whole fit; files are whole or refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import DROP, change, interrupt_fit
from sklearn.model_selection import GridSearchCV
from torch import nn

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.likelihoods import Gaussian
from sklearn_wiseale.networks import MLP, Modules
from sklearn_wiseale.objectives import WiSEALE


@pytest.fixture(scope="module", name="X")
def data():
    rng = np.random.RandomState(0)
    X = rng.randn(120, 3) @ rng.randn(3, 8) + 0.3 * rng.randn(120, 8)
    return (1 / (1 + np.exp(-X))).astype(np.float32)


def make(**params):
    defaults = {"network": MLP(hidden=(16,)), "batch_size": 32, "max_epochs": 6, "random_state": 0}
    return WiSEALETransformer(**{**defaults, **params})


@pytest.fixture(scope="module", name="plain")
def fitted(X):
    return make().fit(X)


CASES = {
    "defaults": {"network": "mlp", "batch_size": "auto"},
    "all rows": {"early_stopping": False},
    "narrow": {"objective": WiSEALE(width=1)},
    "wide": {"objective": WiSEALE(width=4096)},
    "ring": {"objective": WiSEALE("monte_carlo", width=60), "early_stopping": False},
    "moment": {"objective": WiSEALE("moment")},
    "renyi": {"objective": WiSEALE("renyi")},
    "neighbors": {"objective": WiSEALE(neighbors=3)},
    **{name: {"objective": name} for name in ("elbo", "infovae", "wae")},
    "bernoulli": {"likelihood": "bernoulli"},
    "fixed noise": {"likelihood": Gaussian(noise=0.5)},
    "float64": {"precision": "float64"},
    "bfloat16": {"precision": "bfloat16"},
    "dropout": {"network": MLP(hidden=(16,), dropout=0.2)},
    "sgd": {"net_params": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}},
    "no seed": {"random_state": None},
    "random state": {"random_state": np.random.RandomState(3)},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("n_epochs", [1, 4])
def test_resumed_fit_is_the_uninterrupted_fit(case, n_epochs, X, tmp_path, require_same):
    def fresh(**params):
        params = {**CASES[case], **params}
        if isinstance(params.get("random_state"), np.random.RandomState):
            params["random_state"] = np.random.RandomState(3)
        return make(**params)

    np.random.seed(5)  # for random_state=None
    whole = fresh().fit(X)
    np.random.seed(5)
    interrupt_fit(fresh(checkpoint=tmp_path), X, n_epochs)
    assert len(list(tmp_path.iterdir())) == 1
    np.random.seed(99)  # a new process has another global state
    resumed = fresh(checkpoint=tmp_path).fit(X).set_params(checkpoint=None)
    if case == "random state":  # advanced by as many draws
        resumed.random_state = whole.random_state
    require_same(resumed, whole, X)
    assert not list(tmp_path.iterdir())


def test_interrupted_twice(X, tmp_path, require_same):
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        estimator = interrupt_fit(make(checkpoint=folder), X, 2)
        assert np.isfinite(estimator.transform(X)).all()
    assert estimator.n_iter_ == 4
    resumed = make(checkpoint=folder).fit(X).set_params(checkpoint=None)
    require_same(resumed, make().fit(X), X)
    again = make(checkpoint=folder).fit(X).set_params(checkpoint=None)  # without an interrupt
    require_same(again, resumed, X)


def test_warm_start_resumes_too(X, tmp_path, require_same):
    whole = make(warm_start=True).fit(X).fit(X)
    interrupt_fit(make(warm_start=True, checkpoint=tmp_path).fit(X), X, 3)
    again = make(warm_start=True, checkpoint=tmp_path).fit(X).fit(X)
    require_same(again.set_params(checkpoint=None), whole, X)


OTHER_DATA = {
    "order": lambda X: X[::-1].copy(),
    "fewer": lambda X: X[:-1],
    "row": lambda X: X + (np.arange(120) == 7)[:, None],
    "dtype": lambda X: X.astype(np.float64),
}


@pytest.mark.parametrize(
    "other",
    [
        {"max_epochs": 7},
        {"n_components": 3},
        {"random_state": 1},
        {"objective": WiSEALE(weight=2.0)},
        {"net_params": {"optimizer__weight_decay": 0.5}},
        *OTHER_DATA,
    ],
    ids=str,
)
def test_another_fit_does_not_take_the_checkpoint(other, X, plain, tmp_path, require_same):
    interrupt_fit(make(checkpoint=tmp_path), X, 3)
    params, rows = (other, X) if isinstance(other, dict) else ({}, OTHER_DATA[other](X))
    for n_left, expected in ((1, make(**params).fit(rows)), (0, plain)):
        resumed = make(checkpoint=tmp_path, **params).fit(rows).set_params(checkpoint=None)
        require_same(resumed, expected, rows)
        assert len(list(tmp_path.iterdir())) == n_left
        params, rows = {}, X


def test_foreign_files_are_refused_and_left(X, tmp_path):
    interrupt_fit(make(checkpoint=tmp_path), X, 3)
    (file,) = tmp_path.iterdir()
    interrupt_fit(make(checkpoint=tmp_path / "other", max_epochs=9), X, 3)
    (other,) = (tmp_path / "other").iterdir()
    make().fit(X).save(tmp_path / "model")
    contents = {
        "must belong to this fit": other.read_bytes(),
        "must be a file of the kind 'checkpoint'": (tmp_path / "model").read_bytes(),
        "damaged": file.read_bytes()[:-10],
    }
    for match, content in contents.items():
        file.write_bytes(content)
        estimator = make(checkpoint=tmp_path)
        with pytest.raises(ValueError, match=match):
            estimator.fit(X)
        assert not hasattr(estimator, "net_")
        assert file.read_bytes() == content


FIRST, BEST = "optimizer/0", "callbacks/best_state"
#: Entries of a checkpoint, and values that they cannot have.
STATES = {
    # torch's fused step would write beyond moments that are too short
    "short moments": [(f"{FIRST}/exp_avg", torch.zeros(3))],
    "moments of integers": [(f"{FIRST}/exp_avg", lambda t: t.int())],
    "single moment": [(f"{FIRST}/exp_avg", torch.tensor(0.0))],
    "no steps": [(f"{FIRST}/step", torch.zeros(0))],
    "no moments": [(f"{FIRST}/exp_avg", DROP)],
    "other optimiser": [(f"state/{FIRST}/momentum", 1)],
    "no such weight": [
        (f"optimizer/99/{name}", torch.zeros(1)) for name in ("step", "exp_avg", "exp_avg_sq")
    ],
    "no weight": [("module/encoder.skip.weight", DROP)],
    "NaN": [("module/encoder.skip.weight", lambda t: t * torch.nan)],
    "NaN best": [(f"{BEST}/best/encoder.skip.weight", lambda t: t * torch.nan)],
    "no best": [(f"{BEST}/best/", DROP)],
    "narrow average": [("average/0", lambda t: t[:1])],
    "no average": [("average/", DROP)],
    "short bank": [("divergence/bank.rows", torch.zeros(3).long())],
    "no bank": [("divergence/bank.", lambda t: t[:0])],
    "seed of the net": [("state/numbers/seed", "1")],
    "no numbers": [("state/numbers", DROP)],
    "schedule": [("state/callbacks/schedule/step", "1")],
    "steps": [("state/callbacks/schedule/step", 10**30)],
    "best": [(f"state/{BEST}/held_out", 3)],
    "no callbacks": [("state/callbacks", {"dict": []})],
    "history": [("state/history", 3)],
    "seed": [("state/split_seed", None)],
    "no seed": [("state/split_seed", DROP)],
}


@pytest.mark.parametrize("case", STATES)
def test_state_of_no_fit_is_refused_and_left(case, X, tmp_path, observe):
    params = {"warm_start": True, "checkpoint": tmp_path, "max_epochs": 7}
    if "bank" in case:
        params["objective"] = WiSEALE(width=4096)
    interrupt_fit(make(**params).fit(X[:-1]), X, 3)
    estimator = make(**params).fit(X[:-1])
    before = observe(estimator, X)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    for place, value in STATES[case]:
        content = change(content, place, value)
    file.write_bytes(content)
    match = f"(?s){file.name}' must be the state of this fit.*Remove it"
    with pytest.raises(ValueError, match=match):
        estimator.fit(X)
    assert file.read_bytes() == content
    np.testing.assert_equal(observe(estimator, X), before)


def test_directory_that_cannot_be_is_refused(X, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(ValueError, match=r"'checkpoint' parameter .* must be a directory"):
        make(checkpoint=file / "folder").fit(X)


def test_disk_that_fills_up_does_not_cost_the_fit(X, tmp_path, monkeypatch, require_same):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(RuntimeWarning, match="could not be written"):
        estimator = make(checkpoint=tmp_path).fit(X)
    require_same(estimator.set_params(checkpoint=None), make().fit(X), X)
    assert not list(tmp_path.iterdir())


def test_searches_share_a_directory(X, tmp_path):
    grid = {"n_components": [1, 2], "objective": ["wiseale", "elbo"]}
    plain, kept = (
        GridSearchCV(make(checkpoint=folder), grid, cv=2, n_jobs=jobs).fit(X)
        for folder, jobs in ((None, 1), (tmp_path, 2))
    )
    assert np.array_equal(plain.cv_results_["mean_test_score"], kept.cv_results_["mean_test_score"])
    assert not list(tmp_path.iterdir())


def test_unfinished_files_of_killed_processes_are_removed(X, tmp_path):
    model, old, new = tmp_path / "model", *(tmp_path / f".model.{name}.part" for name in "ab")
    for part in (old, new):
        part.write_bytes(b"")
    os.utime(old, (0, 0))
    make().fit(X).save(model)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.b.part", "model"]
    folder = tmp_path / "checkpoints"
    interrupt_fit(make(checkpoint=folder), X, 2)
    (file,) = folder.iterdir()
    file.with_name(f".{file.name}.c.part").write_bytes(b"")
    make(checkpoint=folder).fit(X)
    assert not list(folder.iterdir())


def test_package_writes_nothing_by_itself(X, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make().fit(X)
    assert not list(Path().iterdir())


class Annotated(nn.Linear):
    """Has a state of plain values, and tensors of all kinds."""

    note: object = {"text": "ü", "number": 0.1 + 0.2, "inf": float("inf"), "list": [1, None, {}]}

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.register_buffer("transposed", torch.arange(6.0).reshape(2, 3).T)
        self.register_buffer("number", torch.tensor(3))
        self.register_buffer("empty", torch.zeros(0, 4, dtype=torch.float64))
        self.register_buffer("part", torch.arange(6.0)[2:4])
        self.register_buffer("shared", self.part)

    def get_extra_state(self):
        return self.note

    def set_extra_state(self, state):
        if self.note is Annotated.note:
            assert state == self.note


class Noted(Annotated):
    note = object()


def encoder(n_features, n_components):
    return nn.Linear(n_features, 2 * n_components)


def test_tensors_and_plain_values_of_all_kinds_are_kept(X, tmp_path, require_same):
    network = Modules(encoder, Annotated)
    interrupt_fit(make(checkpoint=tmp_path, network=network), X, 3)
    resumed = make(checkpoint=tmp_path, network=network).fit(X).set_params(checkpoint=None)
    require_same(resumed, make(network=network).fit(X), X)
    resumed.save(tmp_path / "model")
    module = load(tmp_path / "model", network=network).net_.module_
    for name, expected in resumed.net_.module_.state_dict().items():
        found = module.state_dict()[name]
        if isinstance(expected, torch.Tensor):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


def test_state_that_no_file_holds_is_named(X, tmp_path):
    network = Modules(encoder, Noted)
    estimator = make(network=network, warm_start=True).fit(X)
    for model in (estimator, make(network=network)):
        model.checkpoint = tmp_path
        with pytest.raises(ValueError, match=r"'decoder._extra_state'\] cannot be stored"):
            model.fit(X)
    assert not list(tmp_path.iterdir())
