"""Fits that speed.py asks for, in a process of their own: a JSON object a line, and the answer.

Each method has its process, so that none has loaded another's libraries, and the estimator of
another installation can be asked, too.
"""

import json
import os
import sys
import time
import warnings
from importlib.util import find_spec

import numpy as np
from scipy import sparse
from sklearn.preprocessing import StandardScaler


def wiseale(n_components, **params):
    from sklearn_wiseale import WiSEALETransformer

    return WiSEALETransformer(n_components, random_state=0, **params)


def umap(n_components):
    from umap import UMAP

    return UMAP(n_components=n_components)


def umap_seeded(n_components):
    """With one thread: several wait for each other, twentyfold where others use the cores."""
    from umap import UMAP

    return UMAP(n_components=n_components, random_state=0)


def kernel_pca(n_components):
    from sklearn.decomposition import KernelPCA

    return KernelPCA(n_components, kernel="rbf", fit_inverse_transform=True)


def mlp(n_components):
    from sklearn.neural_network import MLPRegressor

    return MLPRegressor(hidden_layer_sizes=(64, n_components, 64), max_iter=200, random_state=0)


def pca(n_components):
    from sklearn.decomposition import PCA

    return PCA(n_components, random_state=0)


def svd(n_components):
    from sklearn.decomposition import TruncatedSVD

    return TruncatedSVD(n_components, random_state=0)


METHODS = {
    "ours": wiseale, "before": wiseale, "umap": umap, "umap_seeded": umap_seeded,
    "kernel_pca": kernel_pca, "mlp": mlp, "pca": pca, "svd": svd,
}  # fmt: skip
OURS = ("ours", "before")  # which are given raw rows
UMAPS = ("umap", "umap_seeded")


def timed(function, *arguments):
    """Wall and processor time, the latter of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def train(model, method, X):
    model.fit(X, X) if method == "mlp" else model.fit(X)


# what can be asked ------------------------------------------------------------------------------


def origin(method):
    """Where the estimator would be imported from."""
    return {"origin": find_spec("sklearn_wiseale").origin}


def warm(method, n_components, is_sparse=False):
    """Import, and compile what is compiled: umap-learn has another way from 4,096 rows on."""
    if METHODS[method] is wiseale:
        import torch  # noqa: F401
    for n in (200, 4200) if method in UMAPS else (200,):
        X = np.random.RandomState(0).standard_normal((n, 2 * n_components + 3))
        X = sparse.csr_matrix(np.where(X > 0, X, 0)) if is_sparse else X
        model = METHODS[method](n_components, **({"max_epochs": 3} if method in OURS else {}))
        train(model, method, X)
    return {}


def fit(method, path, n_components, **params):
    """Time of a fit; of its test rows, if any, the share of variance and the log-likelihood.

    Both are of columns standardised by the training rows, and the variance is around their mean.
    """
    model = METHODS[method](n_components, **params)
    if path.endswith(".csr.npz"):
        return timed(train, model, method, sparse.csr_matrix(sparse.load_npz(path)))  # for umap
    with np.load(path) as file:
        X, test = file["train"], file.get("test")
    unit = StandardScaler().fit(X)
    found = timed(train, model, method, X if method in OURS else unit.transform(X))
    found["epochs"] = model.n_iter_ if method in OURS else None
    if test is None or method in UMAPS:
        return found
    rows = unit.transform(test)
    if method in OURS:
        rebuilt = unit.transform(model.inverse_transform(model.transform(test)))
        found["score"] = float(model.score(test) + np.log(unit.scale_).sum())
    elif method == "mlp":
        rebuilt = model.predict(rows).reshape(rows.shape)
    else:
        rebuilt = model.inverse_transform(model.transform(rows))
        found["score"] = float(model.score(rows)) if method == "pca" else None
    found["r2"] = float(1 - np.square(rows - rebuilt).sum() / np.square(rows).sum())
    return found


def score(method, path, n_components):
    """Time of ``score``, and of ``transform`` and ``inverse_transform``, of an epoch's model."""
    with np.load(path) as file:
        X = file["train"]
    model = METHODS[method](n_components, max_epochs=1).fit(X)
    values = [model.score(X[:50])]
    found = timed(lambda: values.append(model.score(X)))
    beside = timed(lambda: model.inverse_transform(model.transform(X)))["wall"]
    return found | {"beside": beside, "score": float(values[-1])}


def search(method, path, n_components, weights, folds, **params):
    """Time of a grid search by two processes, one search after they have been started."""
    import joblib
    from sklearn.model_selection import GridSearchCV

    from sklearn_wiseale.objectives import WiSEALE

    with np.load(path) as file:
        X = file["train"]
    joblib.Parallel(2)(joblib.delayed(warm)(method, 2) for _ in range(4))
    grid = {"n_components": n_components, "objective__weight": weights}
    model = METHODS[method](2, objective=WiSEALE(), **params)
    return timed(GridSearchCV(model, grid, cv=folds, n_jobs=2).fit, X)


ASKED = {f.__name__: f for f in (origin, warm, fit, score, search)}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"  # of processes of a search
    for line in sys.stdin:
        task = json.loads(line)
        try:
            found = ASKED[task.pop("ask")](**task)
        except Exception as error:
            found = {"error": repr(error)}
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
