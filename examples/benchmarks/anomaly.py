"""Outliers: the detector beside nearest neighbours and an isolation forest.

Half of the usual rows train; the other half and all outliers test; five splits. The measure is the
AUC, the area under the ROC curve, in percent: the chance that an outlier has a lower score than a
usual row. Defaults of the detector were chosen with the sets of ``TUNED``: see the others for how
good they are. All methods see columns standardised by the training rows.

The data are 18 sets of ADBench (Han et al. 2022, arXiv:2206.09426), one NUMBER_name.npz with X and
y each, and published_auc.csv, the AUC that others report for half of the usual rows as training
rows: a column for each method, a row for each set. Each row is written to results/anomaly.csv as it
is done, and rows that are there are not run again.

    python examples/benchmarks/anomaly.py --data FOLDER   # 20 minutes
    python examples/benchmarks/anomaly.py --summary       # from its rows
    python examples/benchmarks/anomaly.py --quick         # generated rows, seconds, nothing kept
"""

import argparse
import csv
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import make_blobs
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALEDetector

RESULT = Path(__file__).parent / "results" / "anomaly.csv"
FIELDS = ["data", "method", "seed", "auc", "seconds"]
#: The sets with which defaults were chosen: every second by the name of its file.
TUNED = (
    "fault", "Ionosphere", "mammography", "Pima", "satellite", "thyroid", "WDBC", "yeast", "cardio",
)  # fmt: skip
#: Distances of the detector, of one fit.
OURS = {"both": "wiseale", "model": "wiseale model", "neighbors": "wiseale neighbours"}


def generated():
    """Usual rows near a curved surface, and outliers beside it."""
    rng = np.random.RandomState(0)
    centres, _ = make_blobs(400, n_features=2, centers=4, random_state=0)
    X = np.hstack([centres, np.sin(centres), centres**2]) + 0.1 * rng.standard_normal((400, 6))
    y = np.repeat([0, 1], [360, 40])
    X[y == 1] = np.stack([rng.permutation(column) for column in X[y == 1].T], axis=1)
    return {"generated": (X, y)}


def sets_of(folder):
    """Name to X and y."""
    files = sorted(Path(folder).glob("*.npz"))
    if not files:
        raise FileNotFoundError(f"--data must name a folder of .npz files. Got {folder}.")
    for file in files:
        with np.load(file) as arrays:
            yield file.stem.partition("_")[2], (arrays["X"].astype(float), arrays["y"])


def split(X, y, seed):
    """Training rows, test rows, and which of these are outliers."""
    usual = np.random.RandomState(seed).permutation(np.flatnonzero(y == 0))
    train, held_out = np.array_split(usual, [len(usual) // 2])
    test = np.concatenate([held_out, np.flatnonzero(y == 1)])
    scaler = StandardScaler().fit(X[train])
    return scaler.transform(X[train]), scaler.transform(X[test]), y[test]


def scores(train, test, seed):
    """Method, scores of the test rows (the lower, the more unusual), and seconds."""
    start = time.perf_counter()
    detector = WiSEALEDetector(random_state=seed).fit(train)
    fitted = time.perf_counter() - start
    for distance, method in OURS.items():
        start = time.perf_counter()
        found = detector.set_params(distance=distance).score_samples(test)
        yield method, found, fitted + time.perf_counter() - start
    start = time.perf_counter()
    distances, _ = NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)
    yield "kNN", -distances[:, -1], time.perf_counter() - start
    start = time.perf_counter()
    found = IsolationForest(random_state=seed).fit(train).score_samples(test)
    yield "isolation forest", found, time.perf_counter() - start


def measure(sets, seeds, file):
    """Rows of all sets and seeds; with a file, those there are not run again."""
    rows = list(csv.DictReader(file.open())) if file and file.exists() else []
    done = {(row["data"], row["seed"]) for row in rows}
    for name, (X, y) in sets:
        for seed in seeds:
            if (name, str(seed)) in done:
                continue
            train, test, outlier = split(X, y, seed)
            for method, found, seconds in scores(train, test, seed):
                auc = 100 * roc_auc_score(outlier, -found)
                numbers = [f"{auc:.2f}", f"{seconds:.2f}"]
                rows.append(dict(zip(FIELDS, [name, method, str(seed), *numbers], strict=True)))
            if file:
                with file.open("w", newline="") as handle:
                    writer = csv.DictWriter(handle, FIELDS)
                    writer.writeheader()
                    writer.writerows(rows)
    return rows


def summarise(rows, published):
    """Print means of the splits, by set, and of the sets used to choose defaults and the others."""
    names, methods = (list(dict.fromkeys(row[key] for row in rows)) for key in ("data", "method"))
    auc = {
        (n, m): np.mean([float(r["auc"]) for r in rows if (r["data"], r["method"]) == (n, m)])
        for n in names
        for m in methods
    }
    print(f"{'AUC, %':20s}" + "".join(f"{m:>21s}" for m in methods))
    for name in names:
        print(f"{name:20s}" + "".join(f"{auc[name, m]:21.1f}" for m in methods))
    tuned = [name for name in names if name in TUNED]
    for title, part in (
        ("all", names), ("tuned", tuned), ("others", [n for n in names if n not in tuned])
    ):  # fmt: skip
        if part:
            means = (np.mean([auc[name, m] for name in part]) for m in methods)
            print(f"{title:20s}" + "".join(f"{value:21.1f}" for value in means))
    if published and published.exists():
        table = list(csv.DictReader(published.open()))
        others = {m: np.mean([float(row[m]) for row in table]) for m in table[0] if m != "data"}
        best = sorted(others.items(), key=lambda item: -item[1])
        print("published:", ", ".join(f"{method} {value:.1f}" for method, value in best[:6]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the 18 sets")
    parser.add_argument("--quick", action="store_true", help="generated rows, nothing kept")
    parser.add_argument("--summary", action="store_true", help="only print what is there")
    arguments = parser.parse_args()
    if not (arguments.data or arguments.quick or arguments.summary):
        parser.error("--data FOLDER, --quick or --summary is needed")
    warnings.simplefilter("ignore", ConvergenceWarning)
    if arguments.quick:
        summarise(measure(generated().items(), [0], None), None)
        return
    sets = [] if arguments.summary else sets_of(arguments.data)
    rows = measure(sets, range(5), RESULT)
    summarise(rows, arguments.data and arguments.data / "published_auc.csv")


if __name__ == "__main__":
    main()
