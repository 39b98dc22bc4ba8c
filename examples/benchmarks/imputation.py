"""Missing values: errors of filled-in entries beside scikit-learn's imputers.

A fifth of all entries are missing at random, in training rows and held-out ones; 70/30 splits,
five seeds. The error is the root mean square over the missing entries of held-out rows, in
standard deviations of the column. Pixels of the digits that are filled in under 1 % of rows are
left out. Each row is written to results/imputation.csv as it is done, and rows that are there are
not run again.

    python examples/benchmarks/imputation.py
"""

import csv
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALETransformer

RESULT = Path(__file__).parent / "results" / "imputation.csv"
FIELDS = ["data", "method", "seed", "rmse", "seconds"]
#: data, components
DATA = {
    "breast_cancer": (load_breast_cancer, 8),
    "wine": (load_wine, 3),
    "digits": (load_digits, 16),
}
METHODS = ("mean", "knn", "iterative", "wiseale")


def rows_of(name):
    X = DATA[name][0]().data
    return X[:, (X > 0).mean(axis=0) >= 0.01] if name == "digits" else X


def filled(method, train, test, n_components, seed):
    """Held-out rows without missing entries."""
    if method == "wiseale":
        model = WiSEALETransformer(n_components, random_state=seed).fit(train)
        return model.inverse_transform(model.transform(test))
    imputers = {
        "mean": SimpleImputer(),
        "knn": KNNImputer(),
        "iterative": IterativeImputer(random_state=seed),
    }
    scaler = StandardScaler().fit(train)
    imputer = make_pipeline(imputers[method]).fit(scaler.transform(train))
    return scaler.inverse_transform(imputer.transform(scaler.transform(test)))


def main():
    rows = list(csv.DictReader(RESULT.open())) if RESULT.exists() else []
    done = {(row["data"], row["method"], int(row["seed"])) for row in rows}
    warnings.simplefilter("ignore", ConvergenceWarning)
    for name in DATA:
        X = rows_of(name)
        for seed in range(5):
            rng = np.random.RandomState(seed)
            train, test = train_test_split(X, test_size=0.3, random_state=seed)
            spread = np.where(train.std(axis=0) > 0, train.std(axis=0), 1.0)
            train = np.where(rng.random_sample(train.shape) < 0.2, np.nan, train)
            hidden = rng.random_sample(test.shape) < 0.2
            seen = np.where(hidden, np.nan, test)
            for method in METHODS:
                if (name, method, seed) in done:
                    continue
                start = time.perf_counter()
                guess = filled(method, train, seen, DATA[name][1], seed)
                seconds = time.perf_counter() - start
                error = np.sqrt(np.mean(((guess - test) / spread)[hidden] ** 2))
                numbers = [f"{error:.4f}", f"{seconds:.2f}"]
                rows.append(dict(zip(FIELDS, [name, method, seed, *numbers], strict=True)))
                with RESULT.open("w", newline="") as file:
                    writer = csv.DictWriter(file, FIELDS)
                    writer.writeheader()
                    writer.writerows(rows)
    means = {}
    for name in DATA:
        for method in METHODS:
            errors = [float(r["rmse"]) for r in rows if (r["data"], r["method"]) == (name, method)]
            means[name, method] = np.mean(errors)
        base = means[name, "mean"]
        print(
            name,
            *(
                f"{method} {means[name, method]:.3f} ({1 - means[name, method] / base:+.0%})"
                for method in METHODS
            ),
        )
    overall = {m: np.mean([means[name, m] for name in DATA]) for m in METHODS}
    print("average", *(f"{method} {error:.3f}" for method, error in overall.items()))


if __name__ == "__main__":
    main()
