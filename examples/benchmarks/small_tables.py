"""Held-out variance reconstructed on small tables, all defaults, against PCA.

wine, breast_cancer, diabetes with all defaults on raw X against StandardScaler + PCA, both
measured after the training rows' standardisation; digits with scale="global" against PCA, in
pixel units. Five 75/25 splits. Writes results/small_tables.csv, one row a split, and resumes.

    python examples/benchmarks/small_tables.py [--fresh]
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALETransformer

RESULT = Path(__file__).parent / "results" / "small_tables.csv"
DATA = {
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "diabetes": lambda: load_diabetes(scaled=False),
    "digits": load_digits,
}
FIELDS = ["data", "n_components", "split", "pca", "wiseale", "seconds", "epochs"]


def share(X, reconstruction):
    """Share of the variance around the rows' own mean."""
    return 1 - ((X - reconstruction) ** 2).sum() / ((X - X.mean(axis=0)) ** 2).sum()


def one_split(name, n_components, split, **params):
    X = DATA[name]().data.astype(float)
    train, test = train_test_split(X, test_size=0.25, random_state=split)
    scale = "global" if name == "digits" else "auto"
    unit = StandardScaler(with_std=name != "digits").fit(train)
    start = time.perf_counter()
    model = WiSEALETransformer(n_components, scale=scale, random_state=split, **params).fit(train)
    seconds = time.perf_counter() - start
    ours = share(
        unit.transform(test), unit.transform(model.inverse_transform(model.transform(test)))
    )
    pca = PCA(n_components).fit(unit.transform(train))
    theirs = share(unit.transform(test), pca.inverse_transform(pca.transform(unit.transform(test))))
    return theirs, ours, seconds, model.n_iter_


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="drop earlier rows")
    arguments = parser.parse_args()
    if arguments.fresh:
        RESULT.unlink(missing_ok=True)
    rows = list(csv.DictReader(RESULT.open())) if RESULT.exists() else []
    done = {(r["data"], int(r["n_components"]), int(r["split"])) for r in rows}
    RESULT.parent.mkdir(exist_ok=True)
    with RESULT.open("a", newline="") as file:
        writer = csv.writer(file)
        if not rows:
            writer.writerow(FIELDS)
        for name in DATA:
            for n_components in (2, 8):
                for split in range(5):
                    if (name, n_components, split) not in done:
                        pca, ours, seconds, epochs = one_split(name, n_components, split)
                        values = [f"{pca:.4f}", f"{ours:.4f}", f"{seconds:.1f}", epochs]
                        writer.writerow([name, n_components, split, *values])
                        file.flush()
    report()


def report():
    rows = list(csv.DictReader(RESULT.open()))
    gains = []
    print("| data | K | PCA | ours | gain | seconds |\n|---|---|---|---|---|---|")
    for name in DATA:
        for n_components in ("2", "8"):
            cell = [r for r in rows if r["data"] == name and r["n_components"] == n_components]
            pca, ours, seconds = (
                np.mean([float(r[key]) for r in cell]) for key in ("pca", "wiseale", "seconds")
            )
            gains.append(ours - pca)
            values = f"{pca:.3f} | {ours:.3f} | {ours - pca:+.3f} | {seconds:.1f}"
            print(f"| {name} | {n_components} | {values} |")
    above = sum(gain > 0.01 for gain in gains)
    print(f"worst {min(gains):+.3f}, cells above +0.01: {above}, mean {np.mean(gains):+.3f}")


if __name__ == "__main__":
    main()
