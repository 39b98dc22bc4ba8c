"""Maps: how well two components and more keep neighbours, beside UMAP and plain autoencoders.

    python examples/benchmarks/maps.py                                # all parts but "mnist"
    python examples/benchmarks/maps.py --part mnist --data mnist.npz  # X_train, y_train, ...
    python examples/benchmarks/maps.py --quick                        # smallest sizes, nothing kept

All figures are of rows that were not in the fit. ``accuracy`` is that of 10 nearest neighbours in
the codes, ``trust`` and ``continuity`` are those of 15 neighbours; ``r2`` is the share of variance
that is reconstructed, ``score`` the mean log likelihood in nats, ``swd`` the sliced Wasserstein
distance of posterior draws from N(0, I), ``seconds`` the processor time of a fit.

Part "study": what limits two components, one change at a time, three splits of the digits. Parts
"study_cells" and "study_columns": the same for simulated counts of cells, prepared as single-cell
counts usually are, and for eight real tables. Part "more": the digits with 8 and 16 components.
Part "tables": with and without neighbours, on 30 real tables. Part "labels": classes of half of the
rows are given; the accuracy is that of other rows. Part "mnist": 60,000 images.

Each row is written to results/maps_PART.csv as it is done, and rows that are there are not run
again. umap-learn is measured where it is installed.
"""

import argparse
import csv
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from engine import put
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from speed import TABLES, table

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import sliced_wasserstein
from sklearn_wiseale.likelihoods import Gaussian
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import ELBO, WiSEALE

RESULTS = Path(__file__).parent / "results"
FIELDS = [
    "accuracy", "trust", "continuity", "r2", "mse", "score", "swd", "seconds", "wall", "epochs"
]  # fmt: skip
WITH_UMAP = find_spec("umap") is not None
N_NEAREST, MAX_ROWS, N_TABLES = 15, 3000, 30
NEAR = WiSEALE(neighbors="auto")
DEEP = MLP(hidden=(256, 256, 256))
#: Changes of the default, one at a time.
STUDY = {
    "default": {},
    "autoencoder": {"objective": WiSEALE(weight=0.0)},
    "elbo": {"objective": ELBO()},
    "jensen alone": {"objective": WiSEALE(sliced_share=0.0, weight=1.0)},
    "a tenth of the weight": {"objective": WiSEALE(weight=0.356, sliced_share=0.72)},
    "fixed noise 0.5": {"likelihood": Gaussian(0.5)},
    "hidden (512, 256)": {"network": MLP(hidden=(512, 256))},
    "hidden (256, 256, 256)": {"network": DEEP},
    "hidden (512, 512, 512)": {"network": MLP(hidden=(512, 512, 512))},
    "200 epochs": {"max_epochs": 200},
    "half the rate": {"learning_rate": 2.8e-3},
    "twice the rate": {"learning_rate": 11.3e-3},
    "neighbors": {"objective": NEAR},
    "neighbors, 3 layers": {"objective": NEAR, "network": DEEP},
    "neighbors, 3 layers, 200 epochs": {"objective": NEAR, "network": DEEP, "max_epochs": 200},
}
ALL = {**STUDY, "umap": {}, "pca": {}}
OWN_RATE = {name: params for name, params in ALL.items() if "rate" not in name}


def measure(name, train, test, y_train=None, y_test=None, labels=None, k=2, **params):
    """Figures of one method."""
    if name.startswith("umap"):
        import umap

        model = umap.UMAP(n_components=k)
    else:
        model = PCA(k) if name == "pca" else WiSEALETransformer(k, **params)
    wall, start = time.perf_counter(), time.process_time()
    model.fit(train, labels) if labels is not None else model.fit(train)
    found = {"seconds": time.process_time() - start, "wall": time.perf_counter() - wall}
    codes, near = model.transform(test), min(N_NEAREST, len(test) // 2 - 1)
    found["trust"] = trustworthiness(test, codes, n_neighbors=near)
    found["continuity"] = trustworthiness(codes, test, n_neighbors=near)
    if y_train is not None:
        classifier = KNeighborsClassifier(10).fit(model.transform(train), y_train)
        found["accuracy"] = classifier.score(codes, y_test)
    if not name.startswith("umap"):
        residual = test - model.inverse_transform(codes)
        found["mse"] = np.mean(residual**2)
        found["r2"] = 1 - np.sum(residual**2) / np.sum((test - train.mean(axis=0)) ** 2)
        found["score"] = model.score(test)
    if isinstance(model, WiSEALETransformer):
        mean, std = model.posterior(test)
        noise = np.random.RandomState(0).standard_normal(mean.shape)
        found["swd"] = sliced_wasserstein(mean + std * noise, random_state=0)
        found["epochs"] = model.n_iter_
    return found


def means(rows):
    """Means of the figures of several rows."""
    return {field: np.mean([row[field] for row in rows]) for field in rows[0]}


def draw_cells(seed, n_cells=3000, n_genes=500, n_types=12):
    """Simulated cells of types on a tree: log-normalised negative binomial counts, and types.

    Each type differs from an earlier one in a tenth of its genes. A cell lies between its type and
    the type's parent, and has a library size of its own.
    """
    rng = np.random.RandomState(seed)
    log_rates, parents = [rng.normal(-1, 1.2, n_genes)], [0]
    for n_before in range(1, n_types):
        parents.append(rng.randint(n_before))
        change = rng.normal(0, 1.5, n_genes) * (rng.uniform(size=n_genes) < 0.1)
        log_rates.append(log_rates[parents[-1]] + change)
    log_rates, types = np.array(log_rates), rng.randint(n_types, size=n_cells)
    share = rng.beta(0.5, 1.5, (n_cells, 1))  # of the parent
    rates = (1 - share) * log_rates[types] + share * log_rates[np.array(parents)[types]]
    rates = np.exp(rates + rng.normal(0, 0.4, (n_cells, 1)))
    counts = rng.poisson(rates * rng.gamma(2, 1 / 2, rates.shape))
    sizes = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.log1p(counts / sizes * np.median(sizes)), types


def digits(n):
    """Splits of the digits."""
    X, y = load_digits(return_X_y=True)
    for seed in range(n):
        train, test, *classes = train_test_split(X, y, test_size=0.25, random_state=seed)
        yield (train, test, *classes), {"random_state": seed, "scale": "global"}


def cells(n):
    """Sets of simulated cells, split."""
    for seed in range(n):
        X, y = draw_cells(seed)
        train, test, *classes = train_test_split(X, y, test_size=0.25, random_state=seed)
        yield (train, test, *classes), {"random_state": seed, "scale": "global"}


def real_tables(n):
    """Real tables of more than five columns, split and standardised."""
    for name in [name for name in TABLES if table(name).shape[1] > 5][:n]:
        X = np.unique(table(name), axis=0)
        X = X[np.random.RandomState(0).permutation(len(X))[:MAX_ROWS]]
        train, test = train_test_split(X, test_size=0.3, random_state=0)
        varied = np.ptp(train, axis=0) > 0
        mean, std = train[:, varied].mean(axis=0), train[:, varied].std(axis=0)
        yield name, [(part[:, varied] - mean) / std for part in (train, test)]


def eight_tables(n):
    """The first eight of them, or one."""
    for _, split in real_tables(1 if n == 1 else 8):
        yield split, {"random_state": 0}


def vary(splits, variants, quick, known, k=2):
    """Means of each variant over the splits."""
    short = {"max_epochs": 2} if quick else {}
    for name, params in variants.items():
        if {"variant": name} in known or (quick and name not in ("default", "neighbors", "pca")):
            continue
        if name == "umap" and not WITH_UMAP:
            continue
        rows = [
            measure(name, *split, k=k, **{**own, **params, **short})
            for split, own in splits(1 if quick else 3)
        ]
        yield {"variant": name}, means(rows)


def study(quick, known, data):
    """The digits, two components."""
    return vary(digits, ALL, quick, known)


def study_cells(quick, known, data):
    """Simulated cells, two components."""
    return vary(cells, OWN_RATE, quick, known)


def study_columns(quick, known, data):
    """Eight real tables, two components."""
    return vary(eight_tables, OWN_RATE, quick, known)


def more(quick, known, data):
    """The digits, 8 and 16 components."""
    for k in (8, 16):
        own = [{"variant": row["variant"]} for row in known if row["k"] == str(k)]
        variants = {name: ALL[name] for name in ("default", "neighbors", "pca")}
        for key, found in vary(digits, variants, quick, own, k):
            yield {"k": str(k), **key}, found


def tables(quick, known, data):
    """Real tables, 2 and 8 components; columns standardised by the training rows."""
    for name, (train, test) in real_tables(1 if quick else N_TABLES):
        for k in (2, 8) if train.shape[1] > 16 else (2,):
            for variant in ("plain", "neighbors", "half the weight", "umap"):
                key = {"table": name, "k": str(k), "variant": variant}
                if key in known or (variant == "umap" and (k > 2 or quick or not WITH_UMAP)):
                    continue
                params = {"random_state": 0, **({"max_epochs": 2} if quick else {})}
                if variant == "neighbors":
                    params["objective"] = NEAR
                elif variant == "half the weight":
                    half = 0.5 * train.shape[1] / k
                    params["objective"] = WiSEALE(neighbors="auto", neighbor_weight=half)
                yield key, measure(variant, train, test, k=k, **params)


def labels(quick, known, data):
    """Digits with the classes of half of the training rows."""
    n, short = (1, {"max_epochs": 2}) if quick else (3, {})
    for variant in ("without", "with"):
        if {"variant": variant} in known:
            continue
        rows = []
        for seed, ((train, test, y_train, y_test), own) in enumerate(digits(n)):
            hidden = np.random.RandomState(seed).uniform(size=len(train)) < 0.5
            given = np.where(hidden, -1, y_train) if variant == "with" else None
            own = {**own, "objective": NEAR, "network": DEEP, **short}
            rows.append(measure(variant, train, test, y_train, y_test, given, **own))
        yield {"variant": variant}, means(rows)


def mnist(quick, known, data):
    """MNIST, two components, 4,000 test images."""
    if data is None:
        return
    with np.load(data) as file:
        train, test = (
            file[name].reshape(len(file[name]), -1).astype(np.float32) / 255
            for name in ("X_train", "X_test")
        )
        y_train, y_test = file["y_train"], file["y_test"]
    test, y_test = test[:4000], y_test[:4000]
    variants = {
        "default": {},
        "neighbors": {"objective": NEAR},
        "neighbors, 20 epochs of 512": {"objective": NEAR, "batch_size": 512, "max_epochs": 20},
        "neighbors, 80 epochs of 512": {"objective": NEAR, "batch_size": 512, "max_epochs": 80},
        "umap": {},
        "pca": {},
    }
    for name, params in variants.items():
        if {"variant": name} not in known and (name != "umap" or WITH_UMAP):
            own = {"random_state": 0, "scale": "global", **params}
            yield {"variant": name}, measure(name, train, test, y_train, y_test, **own)


PARTS = {
    function.__name__: function
    for function in (study, study_cells, study_columns, more, tables, labels, mnist)
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--data", help="npz file with the images of MNIST")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, nothing is kept")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for part in arguments.part:
        file = RESULTS / f"maps_{part}.csv"
        rows = list(csv.DictReader(file.open())) if file.exists() and not arguments.quick else []
        known = [{name: row[name] for name in row if name not in FIELDS} for row in rows]
        for key, found in PARTS[part](arguments.quick, known, arguments.data):
            row = {**key, **{f: f"{found[f]:.4g}" if f in found else "" for f in FIELDS}}
            if arguments.quick:
                print(part, row, flush=True)
            else:
                put(row, key, file)


if __name__ == "__main__":
    main()
