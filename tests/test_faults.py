"""Whatever goes wrong, a fitted estimator and a file stay what they were, and work goes on."""

import copy
import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

import sklearn_wiseale
from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale._data.rows import Rows
from sklearn_wiseale._persistence.checkpoint import Checkpoint
from sklearn_wiseale._training.net import VariationalNet
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import ELBO, WiSEALE


@pytest.fixture(scope="module", name="X")
def data():
    rng = np.random.RandomState(0)
    return rng.randn(60, 2) @ rng.randn(2, 5) + 0.3 * rng.randn(60, 5)


def make(**params):
    defaults = {"network": MLP(hidden=(6,)), "max_epochs": 3, "random_state": 0, "device": "cpu"}
    return WiSEALETransformer(**{**defaults, "batch_size": 32, **params})


def everything(estimator, X):
    """All that a fault could have changed, as texts and arrays."""
    net = estimator.net_
    optimizer = net.optimizer_.state_dict() if hasattr(net, "optimizer_") else None
    return {
        "codes": estimator.transform(X),
        "names": sorted(vars(estimator)),
        "history": str(estimator.history_),
        "epochs": (estimator.n_iter_, estimator.n_samples_seen_, len(net.history)),
        "shapes": (estimator.n_features_in_, estimator.n_components_),
        "module": str(net.module_.state_dict()),
        "criterion": str(net.criterion_) + str(net.criterion_.state_dict()),
        "optimizer": str(optimizer),
        "schedule": str(dict(net.callbacks_)["schedule"].state_dict()),
        "seed": net.seed,
        "bounds": estimator.aggregate_kl_bounds_,
        "noise": estimator.noise_scale_,
    }


def same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


# faults in training -------------------------------------------------------------------------------


class Faulty(Callback):
    """Raises an error when an event has come so many times since training began."""

    def __init__(self, error, event, number=1):
        self.error, self.event, self.number = error, event, number

    def hear(self, event):
        self.count_ += event == self.event
        if event == self.event and self.count_ == self.number:
            raise self.error

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.count_ = 0
        self.hear("on_train_begin")

    def on_batch_end(self, net, batch=None, training=None, **kwargs):
        self.hear("on_batch_end")

    def on_epoch_end(self, net, **kwargs):
        self.hear("on_epoch_end")

    def on_train_end(self, net, X=None, y=None, **kwargs):
        self.hear("on_train_end")


FAULTS = {
    "first batch": ("on_batch_end", 1),
    "fifth batch": ("on_batch_end", 5),
    "train begin": ("on_train_begin", 1),
    "second epoch": ("on_epoch_end", 2),
    "train end": ("on_train_end", 1),
}
ERRORS = {
    "own": (RuntimeError("of the callback"), RuntimeError, "^of the callback$"),
    "memory": (torch.OutOfMemoryError("CUDA out of memory."), MemoryError, "Lower batch_size"),
}
OBJECTIVES = {"blend": WiSEALE(width=50), "sliced": WiSEALE("sliced"), "elbo": ELBO()}


def train_with(estimator, callbacks, method, X):
    """Train on, the net having these callbacks besides its own."""
    before = estimator.net_.callbacks_
    faulty = [(f"faulty_{i}", callback) for i, callback in enumerate(callbacks)]
    estimator.net_.callbacks_ = [*faulty, *before]
    try:
        return getattr(estimator, method)(X)
    finally:
        estimator.net_.callbacks_ = before


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_while_training_goes_on_changes_nothing(fault, error, objective, X):
    """Neither what is seen nor how training would go on."""
    event, number = FAULTS[fault]
    given, expected, match = ERRORS[error]
    methods = ["fit", "partial_fit"] if number == 1 else ["fit"]  # which has more than one epoch
    for method in methods:
        one, other = (
            make(warm_start=True, objective=OBJECTIVES[objective]).fit(X) for _ in range(2)
        )
        for row in (*one.history_, *one.net_.history):
            row["dur"] = 0.0
        before = copy.deepcopy(everything(one, X))
        with pytest.raises(expected, match=match):
            train_with(one, [Faulty(given, event, number)], method, X[::-1] + 1)
        same(everything(one, X), before)
        one.partial_fit(X).fit(X)
        other.partial_fit(X).fit(X)
        assert np.array_equal(one.transform(X), other.transform(X))


def test_an_error_in_a_new_fit_leaves_the_fit_before(X):
    for event, number in FAULTS.values():
        estimator = make().fit(X)
        before = copy.deepcopy(everything(estimator, X))
        error = ValueError("of the callback")
        failing = {"callbacks": [("faulty", Faulty(error, event, number))]}
        with pytest.raises(ValueError, match=r"^of the callback$"):
            estimator.set_params(net_params=failing, n_components=1).fit(X[:, :3])
        same(everything(estimator, X), before)
        assert np.array_equal(
            estimator.set_params(net_params=None, n_components=2).fit(X).transform(X),
            before["codes"],
        )


def test_a_refused_change_leaves_the_objective(X):
    estimator = make(warm_start=True).fit(X)
    before = copy.deepcopy(everything(estimator, X))
    with pytest.raises(ValueError, match=r"'network' parameter .* must stay"):
        estimator.set_params(objective="elbo", network=MLP(hidden=(7,))).fit(X)
    same(everything(estimator, X), before)


@pytest.mark.parametrize("event", ["on_train_begin", "on_batch_end", "on_epoch_end"])
def test_interrupted_partial_fit_is_usable_and_goes_on(event, X):
    estimator = make().partial_fit(X)
    with pytest.raises(KeyboardInterrupt):
        train_with(estimator, [Faulty(KeyboardInterrupt(), event)], "partial_fit", X)
    assert np.isfinite(estimator.transform(X)).all()
    assert len(estimator.history_) == len(estimator.net_.history) == estimator.n_iter_
    assert all("train_loss" in row for row in estimator.history_)
    estimator.partial_fit(X)
    assert estimator.n_iter_ == len(estimator.history_)
    assert np.isfinite(estimator.score(X))


# memory that is too small -------------------------------------------------------------------------


def no_memory(*args, **kwargs):
    torch.empty(2**47)  # which no allocator grants


def full_device(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the manual.")


USES = {
    "fit": ("Lower batch_size, the width", lambda estimator, X: estimator.fit(X)),
    "partial_fit": ("Lower batch_size", lambda estimator, X: estimator.partial_fit(X)),
    "fit_transform": ("Lower batch_size", lambda estimator, X: estimator.fit_transform(X)),
    "transform": ("device='cpu'", lambda estimator, X: estimator.transform(X)),
    "posterior": ("device='cpu'", lambda estimator, X: estimator.posterior(X)),
    "inverse_transform": (
        "device='cpu'",
        lambda estimator, X: estimator.inverse_transform(X[:, :2]),
    ),
    "sample": ("device='cpu'", lambda estimator, X: estimator.sample(5)),
    "score_samples": ("Lower n_draws", lambda estimator, X: estimator.score_samples(X)),
    "score": ("Lower n_draws", lambda estimator, X: estimator.score(X)),
}


@pytest.mark.parametrize("shortage", [no_memory, full_device])
@pytest.mark.parametrize("use", USES)
def test_too_little_memory_is_an_error_with_advice(use, shortage, X, monkeypatch):
    advice, call = USES[use]
    estimator = make().fit(X)
    before = copy.deepcopy(everything(estimator, X))
    with monkeypatch.context() as patch:
        patch.setattr(nn.Linear, "forward", shortage)
        with pytest.raises(MemoryError, match=advice) as caught:
            call(estimator, X)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "\n" not in str(caught.value)
    same(everything(estimator, X), before)
    call(estimator, X)


def test_too_little_memory_for_the_rows(X, monkeypatch):
    estimator = make().fit(X)
    before = copy.deepcopy(everything(estimator, X))
    with monkeypatch.context() as patch:
        patch.setattr(Rows, "make_resident", full_device)
        with pytest.raises(MemoryError, match="Lower batch_size"):
            estimator.fit(X)
        patch.setattr(Rows, "__getitem__", full_device)
        with pytest.raises(MemoryError, match="Free some memory"):
            estimator.transform(X)
    same(everything(estimator, X), before)


def test_other_errors_of_torch_stay_what_they_are(X, monkeypatch):
    estimator = make().fit(X)
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: x @ x)
    for call in (estimator.fit, estimator.transform, estimator.score):
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            call(X)


def test_memory_that_is_too_small_to_go_on_is_no_damage(X, tmp_path, monkeypatch):
    """A checkpoint is not blamed for it."""
    estimator = make(checkpoint=tmp_path)
    interrupted(estimator, X)
    (file,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(VariationalNet, "load_state_dict", full_device)
        with pytest.raises(MemoryError, match="Lower batch_size"):
            make(checkpoint=tmp_path).fit(X)
    assert [file] == list(tmp_path.iterdir())
    resumed = make(checkpoint=tmp_path).fit(X)
    assert np.array_equal(resumed.transform(X), make().fit(X).transform(X))


def interrupted(estimator, X):
    """Interrupt a fit once its first epoch is in the checkpoint."""
    write = Checkpoint.write
    with pytest.MonkeyPatch.context() as patch:

        def write_and_die(*args):
            write(*args)
            raise KeyboardInterrupt

        patch.setattr(Checkpoint, "write", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X)


# files --------------------------------------------------------------------------------------------


@pytest.fixture
def saved(X, tmp_path):
    estimator = make().fit(X)
    estimator.save(tmp_path / "model")
    return estimator, tmp_path / "model"


def unchanged(path, content, X, codes):
    assert path.read_bytes() == content
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    assert np.array_equal(load(path).transform(X), codes)


@pytest.mark.parametrize(
    "step", ["os.fsync", "os.replace", "sklearn_wiseale._persistence.file.save"]
)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError(errno.EROFS, "ro")])
def test_interrupted_save_leaves_the_file(step, error, saved, X, monkeypatch):
    estimator, path = saved
    content, codes = path.read_bytes(), estimator.transform(X)

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(step, fail)
    with pytest.raises(type(error)):
        clone(estimator).fit(X + 1).save(path)
    unchanged(path, content, X, codes)


def test_directory_that_cannot_be_written_to(saved, X, monkeypatch):
    estimator, path = saved
    content, opened = path.read_bytes(), Path.open

    def refuse(self, mode="r", *args, **kwargs):
        if "x" in mode or "w" in mode:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        estimator.save(path)
    unchanged(path, content, X, estimator.transform(X))


def test_parent_that_is_a_file(saved, X):
    estimator, path = saved
    content = path.read_bytes()
    with pytest.raises(FileNotFoundError, match="directory of the file must exist"):
        estimator.save(path / "model")
    unchanged(path, content, X, estimator.transform(X))


@pytest.fixture
def small_disk():
    """No file may grow beyond 4 kB, as on a disk that is full: a part is written, then no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Disk:
        def __enter__(self):
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

        def __exit__(self, *_):
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return Disk()


def test_full_disk_leaves_the_file(saved, X, small_disk):
    estimator, path = saved
    content = path.read_bytes()
    assert len(content) > 4096
    with small_disk, pytest.raises(OSError, match="too large"):
        clone(estimator).fit(X + 1).save(path)
    unchanged(path, content, X, estimator.transform(X))
    with small_disk, pytest.raises(OSError, match="too large"):
        estimator.save(path.with_name("new"))
    unchanged(path, content, X, estimator.transform(X))


def test_full_disk_leaves_the_last_checkpoint(X, tmp_path, small_disk, monkeypatch):
    interrupted(make(checkpoint=tmp_path), X)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert len(content) > 4096

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, small_disk:
        patch.setattr("sklearn_wiseale._transformer.warn_of_collapse", stop)  # after the last epoch
        with (
            pytest.warns(RuntimeWarning, match="could not be written"),
            pytest.raises(KeyboardInterrupt),
        ):
            make(checkpoint=tmp_path).fit(X)
    assert file.read_bytes() == content
    resumed = make(checkpoint=tmp_path).fit(X)
    assert np.array_equal(resumed.transform(X), make().fit(X).transform(X))
    assert not list(tmp_path.iterdir())


KILLED = """
import os, sys, time
import numpy as np
from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.networks import MLP

what, path, X = sys.argv[1], sys.argv[2], np.load(sys.argv[3])
flush, calls = os.fsync, []

def wait(file):
    calls.append(file)
    if what == "save" or len(calls) == 2:
        print("here", flush=True)
        time.sleep(600)
    flush(file)

if what == "save":
    estimator = load(path).partial_fit(X)
    os.fsync = wait
    estimator.save(path)
os.fsync = wait
params = {"network": MLP(hidden=(6,)), "max_epochs": 3, "random_state": 0, "device": "cpu"}
WiSEALETransformer(**params, batch_size=32, checkpoint=path).fit(X)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("what", ["save", "checkpoint"])
def test_killed_while_a_file_is_written(what, saved, X, tmp_path):
    """All is in the new file, but for what has not reached the disk: the old one still stands."""
    estimator, path = saved
    content = path.read_bytes()
    np.save(tmp_path / "X.npy", X)
    target = path if what == "save" else tmp_path / "checkpoints"
    home = str(Path(sklearn_wiseale.__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": home}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, what, str(target), str(tmp_path / "X.npy")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert path.read_bytes() == content
    if what == "save":
        assert np.array_equal(load(path).transform(X), estimator.transform(X))
        estimator.save(path)
        return
    names = [file.name for file in target.iterdir()]
    assert len(names) == 2
    assert sum(name.endswith(".part") for name in names) == 1  # of the second epoch
    resumed = make(checkpoint=target).fit(X)
    assert np.array_equal(resumed.transform(X), estimator.transform(X))


# a search whose worker dies -----------------------------------------------------------------------


class Deadly(MLP):
    """A network that takes the process with it, if it is a worker's."""

    def __init__(self, hidden=(6,), deadly=False, parent=0):
        super().__init__(hidden)
        self.deadly, self.parent = deadly, parent

    def build(self, n_features, n_components, n_outputs):
        if self.deadly and os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().build(n_features, n_components, n_outputs)


@pytest.mark.filterwarnings("ignore:A worker stopped:UserWarning")
def test_search_after_a_worker_has_died(X):
    network = Deadly(parent=os.getpid())
    grid = {"network__deadly": [False, True], "n_components": [1, 2]}
    search = GridSearchCV(make(network=network), grid, cv=2, n_jobs=2)
    with pytest.raises(TerminatedWorkerError):
        search.fit(X)
    assert not hasattr(search, "cv_results_")
    search.set_params(param_grid={"n_components": [1, 2]}).fit(X)
    alone = clone(search).set_params(n_jobs=1).fit(X)
    assert np.array_equal(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )
    assert np.array_equal(search.transform(X), alone.transform(X))
