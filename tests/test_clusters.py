"""Searches whose fits are made by workers of Dask and Ray: what is found, and what is shipped."""

import contextlib
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, KFold
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import reconstruction_r2
from sklearn_wiseale.likelihoods import Gaussian
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import WiSEALE

CLUSTERS = Path(__file__).parents[1] / "examples" / "clusters"
X, Y = load_wine(return_X_y=True)
WIDE = np.random.RandomState(0).standard_normal((500, 512))  # 2 MB

HALVES = {"min_resources": 125, "factor": 2, "random_state": 0}


def reducer(n_components=2, **params):
    given = {"network": MLP(hidden=(8,)), "max_epochs": 4, "random_state": 0, **params}
    return WiSEALETransformer(n_components, **given)


def pipeline():
    return Pipeline([("reduce", reducer()), ("classify", LogisticRegression(max_iter=2000))])


SEARCHES = {
    "grid": GridSearchCV(
        reducer(objective=WiSEALE()), {"n_components": [1, 2], "objective__weight": [1, 4]}, cv=2
    ),
    "grid, pipeline": GridSearchCV(pipeline(), {"reduce__n_components": [1, 2, 3]}, cv=2),
    "halving": HalvingGridSearchCV(
        reducer(), {"n_components": [1, 2, 3]}, min_resources=60, cv=2, random_state=0
    ),
    "halving, pipeline": HalvingGridSearchCV(
        pipeline(), {"reduce__n_components": [1, 2, 3]}, resource="reduce__max_epochs",
        min_resources=1, max_resources=3, cv=2, random_state=0,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """Of torch, as in the workers: other numbers of threads may round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def require_same(found, expected):
    """All scores of two searches are the same to the last bit, and what they have chosen."""
    assert found.best_params_ == expected.best_params_
    names = [name for name in expected.cv_results_ if name.endswith("_score")]
    assert len(names) >= 5
    for name in names:
        np.testing.assert_array_equal(found.cv_results_[name], expected.cv_results_[name])
    assert np.isfinite(found.best_score_)


@contextlib.contextmanager
def without_threads_set():
    """What a cluster sets itself where the environment does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        yield patch


def cheap(search, **params):
    """A search over WIDE that leaves the time to what ships it."""
    model = reducer(network=MLP(hidden=(4,)), max_epochs=1, early_stopping=False)
    given = {"cv": 2, "scoring": reconstruction_r2, **params}
    return search(model, {"tol": [0.1, 0.2, 0.3, 0.4]}, **given)


class Die(Callback):
    """Notes every epoch, and ends the process in a third one, once."""

    def __init__(self, folder):
        self.folder = folder

    def on_epoch_end(self, net, **kwargs):
        with (self.folder / "epochs").open("a") as file:
            file.write(".")
        if len(net.history) == 3 and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os._exit(1)


SPLITS = list(KFold(2, shuffle=True, random_state=0).split(X))


def survive(tmp_path):
    """A search of which a worker dies; called where a cluster is set as backend."""
    params = {"max_epochs": 5, "early_stopping": False}
    grid = {"param_grid": {"n_components": [1, 2]}, "cv": SPLITS, "error_score": "raise"}
    with joblib.parallel_config("sequential"):
        expected = GridSearchCV(reducer(**params), **grid).fit(X)
    notes, states = tmp_path / "notes", tmp_path / "states"
    notes.mkdir()
    mortal = reducer(checkpoint=states, net_params={"callbacks": [Die(notes)]}, **params)
    require_same(GridSearchCV(mortal, **grid).fit(X), expected)
    # five epochs of four fits and of the best one's on all rows; of a fit whose process ended, in
    # each of two threads at most, the epoch that it was in
    assert 25 < len((notes / "epochs").read_text()) <= 27
    assert not list(states.glob("fit-*"))


def test_an_estimator_is_pickled_in_a_kilobyte():
    parts = {"objective": WiSEALE(), "likelihood": Gaussian(), "network": MLP(hidden=(64, 64))}
    for model in (WiSEALETransformer(), WiSEALETransformer(8, **parts), pipeline()):
        assert len(pickle.dumps(model)) < 1000


# Dask --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """A client of two processes with two threads each."""
    from dask import config
    from distributed import Client, LocalCluster

    folder = tmp_path_factory.mktemp("dask")
    shape = {"n_workers": 2, "threads_per_worker": 2}
    with (
        without_threads_set(),
        config.set({"distributed.scheduler.active-memory-manager.start": False}),
        LocalCluster(**shape, dashboard_address=":0", local_directory=folder) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def sent(monkeypatch, dask):
    """A function that gives the bytes that client and scheduler, and that workers have sent."""
    from distributed.comm.tcp import TCP

    sizes, write = [], TCP.write

    async def counted(self, *args, **kwargs):
        sizes.append(await write(self, *args, **kwargs))
        return sizes[-1]

    monkeypatch.setattr(TCP, "write", counted)

    def so_far():
        workers = dask.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total)
        return np.array([sum(sizes), sum(workers.values())])

    return so_far


@pytest.mark.parametrize("name", SEARCHES)
def test_dask_finds_what_one_process_finds(dask, name):
    expected = clone(SEARCHES[name]).fit(X, Y)
    with joblib.parallel_config("dask"):
        found = clone(SEARCHES[name]).fit(X, Y)
    require_same(found, expected)


def test_workers_of_dask_have_one_thread_of_torch(dask):
    assert set(dask.run(torch.get_num_threads).values()) == {1}


def test_a_task_of_dask_is_small(dask, sent):
    search = GridSearchCV(reducer(max_epochs=1), {"tol": np.linspace(0, 1, 12)}, cv=2, refit=False)
    before = sent()
    with joblib.parallel_config("dask"):
        search.fit(X)
    assert (sent() - before)[0] / 24 < 32_000  # to the scheduler, and from there to a worker


@pytest.mark.parametrize("scatter", [None, [WIDE]], ids=["a search", "several"])
def test_dask_sends_rows_to_a_worker_once(dask, sent, scatter):
    """To the scheduler, from there to a worker, and then from worker to worker."""
    before = sent()
    with joblib.parallel_config("dask", scatter=scatter):
        for _ in range(2 if scatter else 1):
            cheap(GridSearchCV).fit(WIDE)
        if scatter:
            cheap(HalvingGridSearchCV, **HALVES).fit(WIDE)
    process, workers = (sent() - before) / WIDE.nbytes
    assert 2 <= process < 2.5
    assert workers < 2.5


def test_dask_gives_the_tasks_of_a_worker_that_dies_to_others(dask, tmp_path):
    # What only the one had is lost: all have all, and the memory manager does not drop copies.
    with joblib.parallel_config("dask", scatter=[X, *itertools.chain(*SPLITS)]):
        survive(tmp_path)


# Ray, which the extra "interoperation" installs ---------------------------------------------------


#: No report of use, and no token in the home.
QUIET_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="module")
def ray():
    """The module, connected to two workers."""
    import ray
    from ray.util.joblib import register_ray

    with (
        # not below pytest's folder: the path of a socket is short
        tempfile.TemporaryDirectory(prefix="ray") as folder,
        without_threads_set() as patch,
    ):
        patch.syspath_prepend(CLUSTERS)
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for this module, and the scripts
        for name, value in QUIET_RAY.items():
            patch.setenv(name, value)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        register_ray()
        yield ray
        ray.shutdown()


@pytest.fixture
def put(monkeypatch, ray):
    """Sizes of all that this process gives to Ray, by value."""
    from ray._private.serialization import SerializationContext

    sizes, serialize = [], SerializationContext.serialize

    def counted(self, value):
        serialized = serialize(self, value)
        sizes.append(serialized.total_bytes)
        return serialized

    monkeypatch.setattr(SerializationContext, "serialize", counted)
    return sizes


@pytest.mark.long
@pytest.mark.parametrize("name", SEARCHES)
def test_ray_finds_what_one_process_finds(ray, name):
    expected = clone(SEARCHES[name]).fit(X, Y)
    with joblib.parallel_config("ray", n_jobs=2):
        found = clone(SEARCHES[name]).fit(X, Y)
    require_same(found, expected)


@pytest.mark.long
def test_workers_of_ray_have_one_thread_of_torch(ray):
    with joblib.parallel_config("ray", n_jobs=2):
        counts = joblib.Parallel()(joblib.delayed(torch.get_num_threads)() for _ in range(2))
    assert counts == [1, 1]


@pytest.mark.long
def test_stored_rows_are_put_into_the_store_once(put):
    from search_on_ray import Stored

    search = cheap(HalvingGridSearchCV, **HALVES)
    expected = clone(search).fit(WIDE)
    assert sum(put) == 0
    rows = Stored(WIDE)
    with joblib.parallel_config("ray", n_jobs=2):
        found = clone(search).fit(rows)
    require_same(found, expected)
    assert WIDE.nbytes <= sum(put) < 1.5 * WIDE.nbytes


@pytest.mark.long
def test_ray_gives_the_tasks_of_a_worker_that_dies_to_others(ray, tmp_path):
    again = {"max_restarts": -1, "max_task_retries": 3}
    with joblib.parallel_config("ray", n_jobs=2, ray_remote_args=again):
        survive(tmp_path)


# scripts -----------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.skipif(not CLUSTERS.exists(), reason="examples are not installed")
@pytest.mark.parametrize("script", ["search_on_dask.py", "search_on_ray.py"])
def test_example_runs_on_two_workers(script, tmp_path):
    command = [sys.executable, CLUSTERS / script]
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        places = {"TMPDIR": folder, "RAY_TMPDIR": folder}
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600,
            env={**os.environ, **QUIET_RAY, **places},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("2 workers: {'reduce__n_components': 8")
    assert not list(tmp_path.iterdir())
