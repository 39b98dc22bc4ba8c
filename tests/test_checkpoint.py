"""Fits that were killed go on to what they would have been; files are whole or refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.model_selection import GridSearchCV
from torch import nn

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale._persistence.checkpoint import Checkpoint
from sklearn_wiseale._persistence.file import read_file, write_file
from sklearn_wiseale.likelihoods import Gaussian
from sklearn_wiseale.networks import MLP, Modules
from sklearn_wiseale.objectives import WiSEALE

EPOCHS = 6


@pytest.fixture(scope="module", name="X")
def data():
    rng = np.random.RandomState(0)
    X = rng.randn(120, 3) @ rng.randn(3, 8) + 0.3 * rng.randn(120, 8)
    return (1 / (1 + np.exp(-X))).astype(np.float32)


def make(**params):
    return WiSEALETransformer(**{"max_epochs": EPOCHS, "random_state": 0, **params})


def killed_after(n_epochs, estimator, X, monkeypatch):
    """Interrupt the fit when it has written so many checkpoints."""
    write, count = Checkpoint.write, 0

    def write_and_die(self, *args):
        nonlocal count
        write(self, *args)
        count += 1
        if count == n_epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X)
    return estimator


def states(estimator):
    """All that two fits could differ in."""
    net = estimator.net_
    parts = {**net.module_.state_dict(), **net.criterion_.state_dict()}
    return {**parts, "seed": torch.tensor(net.seed)}


def same(one, other, X):
    assert np.array_equal(one.transform(X), other.transform(X))
    ours, theirs = states(one), states(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    kept = [
        [{k: v for k, v in row.items() if k != "dur"} for row in estimator.history_]
        for estimator in (one, other)
    ]
    assert kept[0] == kept[1]
    assert one.n_iter_ == other.n_iter_
    assert one.aggregate_kl_bounds_ == other.aggregate_kl_bounds_


CASES = {
    "defaults": {},
    "all rows": {"early_stopping": False},
    "narrow": {"objective": WiSEALE(width=1)},
    "wide": {"objective": WiSEALE(width=4096)},
    "ring": {"objective": WiSEALE("monte_carlo", width=60), "early_stopping": False},
    "moment": {"objective": WiSEALE("moment")},
    "renyi": {"objective": WiSEALE("renyi")},
    "elbo": {"objective": "elbo"},
    "infovae": {"objective": "infovae"},
    "wae": {"objective": "wae"},
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
def test_resumed_fit_is_the_uninterrupted_fit(case, n_epochs, X, tmp_path, monkeypatch):
    def fresh(**params):
        params = {**CASES[case], **params}
        if isinstance(params.get("random_state"), np.random.RandomState):
            params["random_state"] = np.random.RandomState(3)
        return make(**params)

    np.random.seed(5)  # for random_state=None
    whole = fresh().fit(X)
    np.random.seed(5)
    killed_after(n_epochs, fresh(checkpoint=tmp_path), X, monkeypatch)
    assert len(list(tmp_path.iterdir())) == 1
    np.random.seed(99)  # a new process has another global state
    resumed = fresh(checkpoint=tmp_path).fit(X)
    same(resumed, whole, X)
    assert not list(tmp_path.iterdir())


def test_checkpoint_changes_no_fit(X, tmp_path):
    same(make(checkpoint=tmp_path / "new" / "folder").fit(X), make().fit(X), X)


def test_killed_twice(X, tmp_path, monkeypatch):
    for _ in range(2):
        killed_after(2, make(checkpoint=tmp_path), X, monkeypatch)
    same(make(checkpoint=tmp_path).fit(X), make().fit(X), X)


def test_warm_start_resumes_too(X, tmp_path, monkeypatch):
    whole = make(warm_start=True).fit(X).fit(X)
    estimator = make(warm_start=True, checkpoint=tmp_path).fit(X)
    killed_after(3, estimator, X, monkeypatch)
    again = make(warm_start=True, checkpoint=tmp_path).fit(X).fit(X)
    same(again, whole, X)


def test_an_interrupted_fit_is_usable(X, tmp_path, monkeypatch):
    estimator = killed_after(3, make(checkpoint=tmp_path), X, monkeypatch)
    assert estimator.n_iter_ == 3
    assert np.isfinite(estimator.transform(X)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"max_epochs": 7},
        {"n_components": 3},
        {"random_state": 1},
        {"objective": WiSEALE(weight=2.0)},
        {"net_params": {"optimizer__weight_decay": 0.5}},
        "row",
        "order",
        "fewer",
    ],
)
def test_another_fit_does_not_take_the_checkpoint(change, X, tmp_path, monkeypatch):
    killed_after(3, make(checkpoint=tmp_path), X, monkeypatch)
    data = {"order": X[::-1].copy(), "fewer": X[:-1], "row": X + (np.arange(120) == 7)[:, None]}
    data = data.get(change, X) if isinstance(change, str) else X
    params = {} if isinstance(change, str) else change
    same(make(checkpoint=tmp_path, **params).fit(data), make(**params).fit(data), data)
    assert len(list(tmp_path.iterdir())) == 1  # the other's is still there
    same(make(checkpoint=tmp_path).fit(X), make().fit(X), X)


def test_foreign_checkpoint_is_refused_and_left(X, tmp_path, monkeypatch):
    killed_after(3, make(checkpoint=tmp_path), X, monkeypatch)
    killed_after(3, make(checkpoint=tmp_path, max_epochs=9), X, monkeypatch)
    ours, theirs = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime)
    content = theirs.read_bytes()
    ours.write_bytes(content)
    estimator = make(checkpoint=tmp_path)
    with pytest.raises(ValueError, match="must belong to this fit"):
        estimator.fit(X)
    assert not hasattr(estimator, "net_")
    assert ours.read_bytes() == content


def test_damaged_checkpoint_is_refused(X, tmp_path, monkeypatch):
    killed_after(3, make(checkpoint=tmp_path), X, monkeypatch)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match="damaged"):
        make(checkpoint=tmp_path).fit(X)


def at(*path):
    """A function that does something to the dict at the end of a path."""

    def change(action):
        def apply(state):
            for name in path:
                state = state[name]
            action(state)

        return apply

    return change


FIRST, BEST = at("optimizer", "0"), at("callbacks", "best_state")
STATES = {
    "short moments": FIRST(lambda s: s.update(exp_avg=torch.zeros(3))),
    "moments of integers": FIRST(lambda s: s.update(exp_avg=s["exp_avg"].int())),
    "single moment": FIRST(lambda s: s.update(exp_avg=torch.tensor(0.0))),
    "no steps": FIRST(lambda s: s.update(step=torch.zeros(0))),
    "no moments": FIRST(lambda s: s.pop("exp_avg")),
    "other optimiser": FIRST(lambda s: s.update(momentum=1)),
    "no such weight": at("optimizer")(lambda s: s.update({"99": s["0"]})),
    "no weight": at("module")(lambda s: s.pop("encoder.skip.weight")),
    "NaN": at("module")(lambda s: s["encoder.skip.weight"].fill_(torch.nan)),
    "NaN best": BEST(lambda s: s["best"]["encoder.skip.weight"].fill_(torch.nan)),
    "no best": BEST(lambda s: s.pop("best")),
    "narrow average": at("average")(lambda s: s.update({"0": s["0"][:1]})),
    "no average": at()(lambda s: s.pop("average")),
    "short bank": at("divergence")(lambda s: s.update({"bank.rows": torch.zeros(3).long()})),
    "no bank": at("divergence")(lambda s: s.update({name: s[name][:0] for name in BANK})),
    "seed of the net": at("numbers")(lambda s: s.update(seed="1")),
    "no numbers": at()(lambda s: s.pop("numbers")),
    "schedule": at("callbacks", "schedule")(lambda s: s.update(step="1")),
    "steps": at("callbacks", "schedule")(lambda s: s.update(step=10**30)),
    "best": BEST(lambda s: s.update(held_out=3)),
    "no callbacks": at("callbacks")(lambda s: s.clear()),
    "history": at()(lambda s: s.update(history=3)),
    "seed": at()(lambda s: s.update(split_seed=None)),
    "no seed": at()(lambda s: s.pop("split_seed")),
}
BANK = ("bank.rows", "bank.lines")


@pytest.mark.parametrize("change", STATES)
def test_state_of_no_fit_is_refused_and_left(change, X, tmp_path, monkeypatch):
    """Torch's fused step would write beyond moments that are too short."""
    params = {"warm_start": True, "checkpoint": tmp_path, "max_epochs": 7}
    if "bank" in change:
        params["objective"] = WiSEALE(width=4096)
    interrupted = make(**params).fit(X[:-1])
    killed_after(3, interrupted, X, monkeypatch)
    estimator = make(**params).fit(X[:-1])
    codes = estimator.transform(X)
    (file,) = tmp_path.iterdir()
    state, header = read_file(file, "checkpoint")
    STATES[change](state)
    write_file(file, state, header)
    content = file.read_bytes()
    with pytest.raises(
        ValueError, match=f"(?s){file.name}' must be the state of this fit.*Remove it"
    ):
        estimator.fit(X)
    assert file.read_bytes() == content
    assert np.array_equal(estimator.transform(X), codes)


def test_directory_that_cannot_be_is_refused(X, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(ValueError, match=r"'checkpoint' parameter .* must be a directory"):
        make(checkpoint=file / "folder").fit(X)
    with pytest.raises(ValueError, match="'checkpoint'"):
        make(checkpoint=3).fit(X)


def test_disk_that_fills_up_does_not_cost_the_fit(X, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(RuntimeWarning, match="could not be written"):
        estimator = make(checkpoint=tmp_path).fit(X)
    same(estimator, make().fit(X), X)
    assert not list(tmp_path.iterdir())


def test_searches_share_a_directory(X, tmp_path):
    grid = {"n_components": [1, 2], "objective": ["wiseale", "elbo"]}
    plain, kept = (
        GridSearchCV(make(checkpoint=folder), grid, cv=2, n_jobs=jobs).fit(X)
        for folder, jobs in ((None, 1), (tmp_path, 2))
    )
    assert np.array_equal(plain.cv_results_["mean_test_score"], kept.cv_results_["mean_test_score"])
    assert not list(tmp_path.iterdir())


SCRIPT = """
import sys
import numpy as np
from sklearn_wiseale import WiSEALETransformer
X = np.random.RandomState(0).rand(300, 8)
model = WiSEALETransformer(2, max_epochs=60, random_state=0, checkpoint=sys.argv[1])
np.save(sys.argv[2], model.fit(X).transform(X))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_sigkill(tmp_path):
    """Killed for good whenever a checkpoint has appeared, until one run comes to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}

    def start(folder, codes):
        command = [sys.executable, "-c", SCRIPT, str(folder), str(codes)]
        return subprocess.Popen(command, env=environment)

    assert start(tmp_path / "other", tmp_path / "whole.npy").wait() == 0
    folder = tmp_path / "checkpoints"
    for n_epochs in (2, 15):
        process = start(folder, tmp_path / "codes.npy")
        while process.poll() is None:
            files = list(folder.glob("fit-*.safetensors")) if folder.exists() else []
            if files and len(read_file(files[0], "checkpoint")[0]["history"]) >= n_epochs:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        assert process.wait() == -signal.SIGKILL
    assert start(folder, tmp_path / "codes.npy").wait() == 0
    assert np.array_equal(np.load(tmp_path / "whole.npy"), np.load(tmp_path / "codes.npy"))


# files ------------------------------------------------------------------------------------


def test_file_gives_back_what_was_written(tmp_path):
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
        "b": torch.tensor(3, dtype=torch.int64),
        "c": torch.zeros(0, 4, dtype=torch.float64),
        "d": torch.arange(6.0)[2:4],
    }
    tensors["e"] = tensors["d"]  # shared memory
    plain = {"text": "ü", "number": 0.1 + 0.2, "inf": float("inf"), "list": [1, None, {}]}
    state = {"inner": {**tensors, **plain}, "empty": {}, "tensor": torch.ones(2)}
    write_file(tmp_path / "file", state, {"kind": "checkpoint", "more": [1]})
    found, header = read_file(tmp_path / "file", "checkpoint")
    assert header == {"kind": "checkpoint", "more": [1]}
    assert found.keys() == state.keys()
    assert {k: v for k, v in found["inner"].items() if k in plain} == plain
    assert all(torch.equal(found["inner"][k], v) for k, v in tensors.items())
    assert all(found["inner"][k].dtype == v.dtype for k, v in tensors.items())
    with pytest.raises(ValueError, match="must be a file of the kind 'estimator'"):
        read_file(tmp_path / "file", "estimator")


def test_unfinished_files_of_killed_processes_are_removed(X, tmp_path, monkeypatch):
    old, new = (tmp_path / f".file.{name}.part" for name in "ab")
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (0, 0))
    write_file(tmp_path / "file", {"a": torch.ones(2)}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.b.part", "file"]
    folder = tmp_path / "checkpoints"
    killed_after(2, make(checkpoint=folder), X, monkeypatch)
    (file,) = folder.iterdir()
    file.with_name(f".{file.name}.c.part").write_bytes(b"")
    make(checkpoint=folder).fit(X)
    assert not list(folder.iterdir())


def test_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_file(file, {"a": torch.ones(2)}, {})
    content = file.read_bytes()

    def fail(*args):
        raise OSError("no")

    for broken in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, fail)
            with pytest.raises(OSError, match="no"):
                write_file(file, {"a": torch.zeros(2)}, {})
        assert file.read_bytes() == content
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "metadata", [None, {"other": "{}"}, {"sklearn_wiseale": "no JSON"}, {"sklearn_wiseale": "[1]"}]
)
def test_file_of_another_kind_is_refused(metadata, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "file", metadata=metadata)
    with pytest.raises(ValueError, match="file"):
        read_file(tmp_path / "file", "checkpoint")


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_file_of_another_version_is_refused(version, tmp_path):
    text = json.dumps({"format_version": version})
    save_file({"a": torch.ones(1)}, tmp_path / "file", metadata={"sklearn_wiseale": text})
    with pytest.raises(ValueError, match="format version"):
        read_file(tmp_path / "file", "checkpoint")


def test_package_writes_nothing_by_itself(X, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make().fit(X)
    assert not list(Path().iterdir())


class Annotated(nn.Linear):
    """Has a state that is no tensor."""

    note: object = {"note": 1}

    def get_extra_state(self):
        return self.note

    def set_extra_state(self, state):
        self.state = state


class Noted(Annotated):
    note = object()


def encoder(n_features, n_components):
    return nn.Linear(n_features, 2 * n_components)


def test_state_of_plain_values_is_kept(X, tmp_path, monkeypatch):
    network = Modules(encoder, Annotated)
    killed_after(3, make(checkpoint=tmp_path, network=network), X, monkeypatch)
    resumed = make(checkpoint=tmp_path, network=network).fit(X)
    assert np.array_equal(resumed.transform(X), make(network=network).fit(X).transform(X))


def test_state_that_no_file_holds_is_named(X, tmp_path):
    network = Modules(encoder, Noted)
    estimator = make(network=network, warm_start=True).fit(X)
    for model in (estimator, make(network=network)):
        model.checkpoint = tmp_path
        with pytest.raises(ValueError, match=r"'decoder._extra_state'\] cannot be stored"):
            model.fit(X)
    assert not list(tmp_path.iterdir())
