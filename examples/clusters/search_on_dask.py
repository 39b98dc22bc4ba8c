"""A search whose fits are made by the workers of a Dask cluster.

On two processes of this machine, or on a cluster that is there::

    python search_on_dask.py
    python search_on_dask.py tcp://scheduler:8786

It needs ``pip install "dask[distributed]"``; workers elsewhere need the same versions of this
package and of what it uses. The results are those of the search without a cluster.
"""

import sys

import joblib
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from sklearn_wiseale import WiSEALETransformer

GRID = {"reduce__n_components": [2, 8], "reduce__scale": ["feature", "global"]}


def main(address=None):
    X, y = load_digits(return_X_y=True)
    pipeline = Pipeline(
        [
            ("reduce", WiSEALETransformer(max_epochs=5, random_state=0)),
            ("classify", LogisticRegression(max_iter=1000)),
        ]
    )
    search = GridSearchCV(pipeline, GRID, cv=2)
    # One thread a worker: each fit has a core to itself.
    cluster = address or LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    # With scatter=, workers are sent X once, and not again by each search or round of halving.
    with Client(cluster) as client, joblib.parallel_config("dask", scatter=[X]):
        search.fit(X, y)
        n_workers = len(client.ncores())
    if address is None:
        cluster.close()
    print(f"{n_workers} workers: {search.best_params_}, accuracy {search.best_score_:.3f}")


if __name__ == "__main__":  # worker processes import this file
    main(*sys.argv[1:])
