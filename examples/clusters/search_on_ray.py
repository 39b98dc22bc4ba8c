"""A search whose fits are made by the workers of a Ray cluster.

On two processes of this machine, or on the cluster that ``RAY_ADDRESS`` names::

    python search_on_ray.py

It needs ``pip install ray``; workers elsewhere need the same versions of this package and of what
it uses. The results are those of the search without a cluster.
"""

import os

import joblib
import numpy as np
import ray
from ray.util.joblib import register_ray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from sklearn_wiseale import WiSEALETransformer

GRID = {"reduce__n_components": [2, 8], "reduce__scale": ["feature", "global"]}


class Stored:
    """An array in Ray's object store.

    Ray's backend pickles all arguments anew for each task. Of this one it pickles the reference.
    """

    def __init__(self, X):
        self.reference, self.shape, self.dtype = ray.put(X), X.shape, X.dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return ray.get(self.reference)[rows]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(ray.get(self.reference), dtype)


def main():
    X, y = load_digits(return_X_y=True)
    pipeline = Pipeline(
        [
            ("reduce", WiSEALETransformer(max_epochs=5, random_state=0)),
            ("classify", LogisticRegression(max_iter=1000)),
        ]
    )
    search = GridSearchCV(pipeline, GRID, cv=2)
    local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": 2, "include_dashboard": False}
    ray.init(**local)
    register_ray()
    with joblib.parallel_config("ray", n_jobs=2):
        search.fit(Stored(X), y)
    ray.shutdown()
    print(f"2 workers: {search.best_params_}, accuracy {search.best_score_:.3f}")


if __name__ == "__main__":
    main()
