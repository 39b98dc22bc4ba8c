"""Searches on loky, Dask and Ray beside the same searches in one process: results, bytes, seconds.

Six candidates, three folds, on the 1,797 x 64 digits (0.92 MB): a grid over the estimator, a grid
over a pipeline, and halving. Two workers with one thread each; "dask, threads" has one process
with two. All have one thread of torch, but for "serial, 2 threads", one grid with what torch takes
by itself on two cores. Every backend has made a small search before, so that workers have imported
what they need.

"differ" counts scores of splits that are not, to the last bit, those of the serial search, and
"apart" is the largest difference.
"sent_mb" is what this process has sent: over all of Dask's connections, so that what goes to a
worker by the scheduler counts twice, or to Ray; not in it is X where it has been scattered or
stored before. Rows are written to results/clusters.csv.

    python examples/benchmarks/clusters.py
"""

import contextlib
import csv
import os
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import Pipeline

from sklearn_wiseale import WiSEALETransformer

SCRIPTS = str(Path(__file__).parents[1] / "clusters")
RESULT = Path(__file__).parent / "results" / "clusters.csv"
FIELDS = [
    "backend", "search", "best", "score", "scores", "differ", "apart", "sent_mb", "seconds",
]  # fmt: skip
GRID = {"n_components": [2, 4, 8], "scale": ["feature", "global"]}
X, Y = load_digits(return_X_y=True)


def searches():
    reducer = WiSEALETransformer(max_epochs=8, random_state=0)
    pipeline = Pipeline([("reduce", reducer), ("classify", LogisticRegression(max_iter=2000))])
    of_pipeline = {f"reduce__{name}": values for name, values in GRID.items()}
    return {
        "grid": GridSearchCV(reducer, GRID, cv=3),
        "grid, pipeline": GridSearchCV(pipeline, of_pipeline, cv=3),
        "halving": HalvingGridSearchCV(reducer, GRID, cv=3, min_resources=180, random_state=0),
    }


@contextlib.contextmanager
def counting(owner, name, count):
    """A method whose results are counted into what is given back."""
    sizes, method = [0], getattr(owner, name)

    async def later(*args, **kwargs):
        result = await method(*args, **kwargs)
        sizes[0] += count(result)
        return result

    def now(*args, **kwargs):
        result = method(*args, **kwargs)
        sizes[0] += count(result)
        return result

    setattr(owner, name, later if name == "write" else now)
    yield sizes
    setattr(owner, name, method)


# backends, each with the rows to search over and a count of bytes, if there is one ---------------


@contextlib.contextmanager
def serial(n_threads=1):
    torch.set_num_threads(n_threads)
    yield X, None
    torch.set_num_threads(1)


@contextlib.contextmanager
def loky():
    with joblib.parallel_config("loky", n_jobs=2):
        yield X, None


@contextlib.contextmanager
def dask(n_workers=2, threads_per_worker=1, scatter=None):
    from distributed import Client, LocalCluster
    from distributed.comm.tcp import TCP

    shape = {"n_workers": n_workers, "threads_per_worker": threads_per_worker}
    with (
        counting(TCP, "write", int) as sizes,
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(**shape, dashboard_address=None, local_directory=folder) as cluster,
        Client(cluster),
        joblib.parallel_config("dask", scatter=scatter),
    ):
        yield X, sizes


@contextlib.contextmanager
def ray(stored=False):
    import ray
    from ray._private.serialization import SerializationContext
    from ray.util.joblib import register_ray
    from search_on_ray import Stored

    with (
        counting(SerializationContext, "serialize", lambda value: value.total_bytes) as sizes,
        tempfile.TemporaryDirectory(prefix="ray") as folder,
    ):
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        register_ray()
        with joblib.parallel_config("ray", n_jobs=2):
            yield (Stored(X) if stored else X), sizes
        ray.shutdown()


BACKENDS = {
    "serial": serial,
    "loky": loky,
    "dask": dask,
    "dask, scatter": lambda: dask(scatter=[X]),
    "dask, threads": lambda: dask(1, 2),
    "ray": ray,
    "ray, stored": lambda: ray(stored=True),
    "serial, 2 threads": lambda: serial(2),
}


def scores(search):
    names = [name for name in search.cv_results_ if name.startswith("split")]
    return np.array([search.cv_results_[name] for name in names])


def main():
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.pop(name, None)  # backends set them for their workers
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    os.environ["PYTHONPATH"] = os.pathsep.join([SCRIPTS, *sys.path])
    sys.path.insert(0, SCRIPTS)
    torch.set_num_threads(1)
    rows, expected = [], {}
    for backend, started in BACKENDS.items():
        with started() as (given, sizes):
            small = WiSEALETransformer(max_epochs=1, random_state=0)
            GridSearchCV(small, {"n_components": [1, 2, 3, 4]}, cv=2).fit(X[:200])
            for name, search in searches().items():
                if backend == "serial, 2 threads" and name != "grid":
                    continue
                before, start = sizes[0] if sizes else 0, time.perf_counter()
                found = clone(search).fit(given, Y)
                seconds = time.perf_counter() - start
                serially = expected.setdefault(name, scores(found))
                apart = np.abs(scores(found) - serially)
                rows.append(
                    {
                        "backend": backend,
                        "search": name,
                        "best": " ".join(map(str, found.best_params_.values())),
                        "score": f"{found.best_score_:.6f}",
                        "scores": serially.size,
                        "differ": int(np.count_nonzero(apart)),
                        "apart": f"{apart.max():.2g}",
                        "sent_mb": f"{(sizes[0] - before) / 1e6:.2f}" if sizes else "",
                        "seconds": f"{seconds:.1f}",
                    }
                )
                print(rows[-1], flush=True)
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
