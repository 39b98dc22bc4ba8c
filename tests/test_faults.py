"""After any error, a fitted estimator and its files are as before, and can be used."""

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
from fuzzing import interrupt_fit
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

import sklearn_wiseale
from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import ELBO, WiSEALE


@pytest.fixture(scope="module", name="X")
def data():
    rng = np.random.RandomState(0)
    return rng.randn(60, 2) @ rng.randn(2, 5) + 0.3 * rng.randn(60, 5)


def make(**params):
    defaults = {"network": MLP(hidden=(6,)), "max_epochs": 3, "random_state": 0, "device": "cpu"}
    return WiSEALETransformer(**{**defaults, "batch_size": 32, **params})


@pytest.fixture
def unchanged(observe):
    """A context manager; an estimator must be the same after it, whatever is raised inside."""

    class Unchanged:
        def __init__(self, estimator, X):
            self.estimator, self.X = estimator, X

        def __enter__(self):
            self.before = self.look()

        def __exit__(self, *_):
            np.testing.assert_equal(self.look(), self.before)

        def look(self):
            seen = observe(self.estimator, self.X)
            del seen["parameters"]  # may have been set meanwhile
            return seen

    return Unchanged


# errors in training -------------------------------------------------------------------------------


class Faulty(Callback):
    """Raises an error when an event has happened so many times since training began."""

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


def train_with(estimator, callback, method, X):
    """Train; the net has this callback besides its own."""
    before = estimator.net_.callbacks_
    estimator.net_.callbacks_ = [("faulty", callback), *before]
    try:
        return getattr(estimator, method)(X)
    finally:
        estimator.net_.callbacks_ = before


@pytest.mark.parametrize(
    ("error", "objective"), [*(("own", name) for name in OBJECTIVES), ("memory", "elbo")]
)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_while_training_goes_on_changes_nothing(fault, error, objective, X, unchanged):
    """Neither the fitted state nor how training would go on."""
    event, number = FAULTS[fault]
    given, expected, match = ERRORS[error]
    methods = ["fit", "partial_fit"] if number == 1 else ["fit"]  # partial_fit has one epoch
    for method in methods:
        one, other = (
            make(warm_start=True, objective=OBJECTIVES[objective]).fit(X) for _ in range(2)
        )
        with unchanged(one, X), pytest.raises(expected, match=match):
            train_with(one, Faulty(given, event, number), method, X[::-1] + 1)
        one.partial_fit(X).fit(X)
        other.partial_fit(X).fit(X)
        assert np.array_equal(one.transform(X), other.transform(X))


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_in_a_new_fit_leaves_the_fit_before(fault, X, unchanged):
    estimator = make().fit(X)
    codes = estimator.transform(X)
    failing = {"callbacks": [("faulty", Faulty(ValueError("of the callback"), *FAULTS[fault]))]}
    with unchanged(estimator, X), pytest.raises(ValueError, match=r"^of the callback$"):
        estimator.set_params(net_params=failing, n_components=1).fit(X[:, :3])
    estimator.set_params(net_params=None, n_components=2).fit(X)
    assert np.array_equal(estimator.transform(X), codes)


def test_a_refused_change_leaves_the_objective(X, unchanged):
    estimator = make(warm_start=True).fit(X)
    match = r"'network' parameter .* must stay"
    with unchanged(estimator, X), pytest.raises(ValueError, match=match):
        estimator.set_params(objective="elbo", network=MLP(hidden=(7,))).fit(X)


@pytest.mark.parametrize("event", ["on_train_begin", "on_batch_end", "on_epoch_end"])
def test_interrupted_partial_fit_is_usable_and_goes_on(event, X):
    estimator = make().partial_fit(X)
    with pytest.raises(KeyboardInterrupt):
        train_with(estimator, Faulty(KeyboardInterrupt(), event), "partial_fit", X)
    assert np.isfinite(estimator.transform(X)).all()
    assert len(estimator.history_) == len(estimator.net_.history) == estimator.n_iter_
    assert all("train_loss" in row for row in estimator.history_)
    estimator.partial_fit(X)
    assert estimator.n_iter_ == len(estimator.history_)
    assert np.isfinite(estimator.score(X))


# too little memory --------------------------------------------------------------------------------


def full_host(*args, **kwargs):
    torch.ones(1).new_empty(2**47)  # no allocator grants it


def full_device(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the manual.")


USES = {
    "fit": "Lower batch_size, the width",
    "partial_fit": "Lower batch_size",
    "fit_transform": "Lower batch_size",
    "transform": "device='cpu'",
    "posterior": "device='cpu'",
    "inverse_transform": "device='cpu'",
    "sample": "device='cpu'",
    "score_samples": "Lower n_draws",
    "score": "Lower n_draws",
}


@pytest.mark.parametrize("shortage", [full_host, full_device])
@pytest.mark.parametrize("use", USES)
def test_too_little_memory_is_an_error_with_advice(use, shortage, X, monkeypatch, unchanged):
    estimator = make().fit(X)
    given = {"inverse_transform": X[:, :2], "sample": 5}.get(use, X)
    with unchanged(estimator, X), monkeypatch.context() as patch:
        patch.setattr(nn.Linear, "forward", shortage)
        with pytest.raises(MemoryError, match=USES[use]) as caught:
            getattr(estimator, use)(given)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "\n" not in str(caught.value)
    getattr(estimator, use)(given)


def test_too_little_memory_for_the_rows(X, monkeypatch, unchanged):
    estimator, empty = make().fit(X), torch.empty

    def full_of_rows(*sizes, **kwargs):
        return full_device() if sizes[0] == len(X) else empty(*sizes, **kwargs)

    estimator.set_params(early_stopping=False)
    with unchanged(estimator, X), monkeypatch.context() as patch:
        patch.setattr(torch, "empty", full_of_rows)
        with pytest.raises(MemoryError, match="Lower batch_size"):
            estimator.fit(X)
        patch.setattr(torch, "from_numpy", full_device)
        with pytest.raises(MemoryError, match="Free some memory"):
            estimator.transform(X)


def test_other_errors_of_torch_stay_what_they_are(X, monkeypatch):
    estimator = make().fit(X)
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: x @ x)
    for call in (estimator.fit, estimator.transform, estimator.score):
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            call(X)


def test_too_little_memory_to_resume_is_not_blamed_on_the_checkpoint(X, tmp_path, monkeypatch):
    interrupt_fit(make(checkpoint=tmp_path), X)
    (file,) = tmp_path.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "load_state_dict", full_device)
        with pytest.raises(MemoryError, match="Lower batch_size"):
            make(checkpoint=tmp_path).fit(X)
    assert [file] == list(tmp_path.iterdir())
    resumed = make(checkpoint=tmp_path).fit(X)
    assert np.array_equal(resumed.transform(X), make().fit(X).transform(X))


# files --------------------------------------------------------------------------------------------


@pytest.fixture
def saved(X, tmp_path):
    """An estimator and its file, which must stay as it is."""
    estimator, path = make().fit(X), tmp_path / "model"
    estimator.save(path)
    content, codes = path.read_bytes(), estimator.transform(X)
    yield estimator, path
    assert path.read_bytes() == content
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    assert np.array_equal(load(path).transform(X), codes)


@pytest.mark.parametrize("step", ["os.fsync", "os.replace", "pathlib.Path.open"])
@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        MemoryError(),
        OSError(errno.EROFS, "ro"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
    ids=repr,
)
def test_failed_save_leaves_the_file(step, error, saved, X, monkeypatch):
    estimator, path = saved

    def fail(*args, **kwargs):
        raise error

    other = clone(estimator).fit(X + 1)
    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(type(error)):
            other.save(path)


def test_parent_that_is_a_file(saved):
    estimator, path = saved
    with pytest.raises(FileNotFoundError, match="directory of the file must exist"):
        estimator.save(path / "model")


@pytest.fixture
def small_disk():
    """Files cannot grow beyond 4 kB, as on a full disk: the first part is written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Disk:
        def __enter__(self):
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

        def __exit__(self, *_):
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return Disk()


def test_full_disk_leaves_the_file(saved, X, small_disk):
    estimator, path = saved
    assert path.stat().st_size > 4096
    for other, target in ((clone(estimator).fit(X + 1), path), (estimator, path.with_name("new"))):
        with small_disk, pytest.raises(OSError, match="too large"):
            other.save(target)


def test_full_disk_leaves_the_last_checkpoint(X, tmp_path, small_disk):
    interrupt_fit(make(checkpoint=tmp_path), X)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert len(content) > 4096
    with small_disk, pytest.raises(RuntimeWarning, match="could not be written"):
        make(checkpoint=tmp_path).fit(X)  # here the warning is an error, which ends the fit
    assert file.read_bytes() == content
    resumed = make(checkpoint=tmp_path).fit(X)
    assert np.array_equal(resumed.transform(X), make().fit(X).transform(X))
    assert not list(tmp_path.iterdir())


KILLED = """
import os, sys, time
import numpy as np
from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale.networks import MLP

what, path, X, number = sys.argv[1], sys.argv[2], np.load(sys.argv[3]), int(sys.argv[4])
flush, calls = os.fsync, []

def wait(file):
    calls.append(file)
    if len(calls) == number:
        print("here", flush=True)
        time.sleep(600)
    flush(file)

os.fsync = wait
if what == "save":
    load(path).partial_fit(X).save(path)
params = {"network": MLP(hidden=(6,)), "max_epochs": 9, "random_state": 0, "device": "cpu"}
WiSEALETransformer(**params, batch_size=32, checkpoint=path).fit(X)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize(("what", "numbers"), [("save", [1]), ("checkpoint", [2, 4])])
def test_killed_while_a_file_is_written(what, numbers, X, tmp_path):
    """The new file is complete, but not yet on the disk: the old one is still valid."""
    estimator, path = make().fit(X), tmp_path / "model"
    estimator.save(path)
    content = path.read_bytes()
    np.save(tmp_path / "X.npy", X)
    target = path if what == "save" else tmp_path / "checkpoints"
    home = str(Path(sklearn_wiseale.__file__).parents[1])
    for number in numbers:  # the second process resumes from the first
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, what, target, tmp_path / "X.npy", str(number)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": home},
            stdout=subprocess.PIPE,
            text=True,
        )
        with process.stdout:
            assert process.stdout.readline() == "here\n"
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert path.read_bytes() == content
    if what == "save":
        assert np.array_equal(load(path).transform(X), estimator.transform(X))
        estimator.save(path)
        return
    parts = [file.name.endswith(".part") for file in target.iterdir()]
    assert sorted(parts) == [False, True, True]
    resumed = make(max_epochs=9, checkpoint=target)
    assert np.array_equal(resumed.fit(X).transform(X), make(max_epochs=9).fit(X).transform(X))
    assert not list(target.iterdir())


# a search whose worker dies -----------------------------------------------------------------------


class Deadly(MLP):
    """A network that ends the process, if it is a worker's."""

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
