"""Many fits and transforms, one after the other or in several processes: a script.

    python tests/soaking.py memory N_FITS N_TRANSFORMS
    python tests/soaking.py backends

On the standard output is one JSON object.
"""

import gc
import json
import multiprocessing
import os
import sys
import warnings

import joblib
import numpy as np

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import Gaussian
from sklearn_wiseale.networks import MLP, Conv
from sklearn_wiseale.objectives import WiSEALE

KINDS = {
    "plain": {},
    "dropout": {"network": MLP(hidden=(16,), dropout=0.3)},
    "wide": {"objective": WiSEALE("jensen", width=100), "batch_size": 16},
    "elbo": {"objective": "elbo", "likelihood": Gaussian(noise="feature")},
    "conv": {"network": Conv((1, 8, 8), (4,)), "scale": "global"},
    "missing": {"early_stopping": False},
}


def rows(kind):
    rng = np.random.RandomState(len(kind))
    X = rng.standard_normal((150, 3)) @ rng.standard_normal((3, 64 if kind == "conv" else 9))
    X += 0.3 * rng.standard_normal(X.shape)
    if kind == "missing":
        X[rng.random_sample(X.shape) < 0.1] = np.nan
    return X


def fitted(kind, seed=0):
    params = {"network": MLP(hidden=(16,)), "max_epochs": 4, "device": "cpu", **KINDS[kind]}
    return WiSEALETransformer(random_state=seed, **params).fit(rows(kind))


def codes(kind, seed=0):
    return fitted(kind, seed).transform(rows(kind))


def resident():
    """Resident memory in MB."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(n_fits, n_transforms):
    """Resident memory after each tenth of the fits, and of the transforms."""
    kinds = list(KINDS)
    sizes = {"fits": [], "transforms": []}
    for i in range(n_fits):
        fitted(kinds[i % len(kinds)], seed=i)
        if (i + 1) % (n_fits // 10) == 0:
            sizes["fits"].append(resident())
    estimators = {kind: (fitted(kind), rows(kind)) for kind in kinds}
    for i in range(n_transforms):
        estimator, X = estimators[kinds[i % len(kinds)]]
        estimator.transform(X[: 1 + i % len(X)])
        if (i + 1) % (n_transforms // 10) == 0:
            sizes["transforms"].append(resident())
    return {"n_fits": n_fits, "n_transforms": n_transforms, **sizes}


def backends():
    """Whether workers of each kind give the codes that this process gives."""
    expected = [codes(kind) for kind in KINDS]
    found = {
        backend: joblib.Parallel(n_jobs=2, backend=backend)(map(joblib.delayed(codes), KINDS))
        for backend in ("loky", "threading", "multiprocessing")
    }
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            found[method] = pool.map(codes, KINDS)
    return {
        name: [bool(np.array_equal(*pair)) for pair in zip(theirs, expected, strict=True)]
        for name, theirs in found.items()
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # of fits that are too short to use all codes
    does = {"memory": memory, "backends": backends}[sys.argv[1]]
    json.dump(does(*map(int, sys.argv[2:])), sys.stdout)
