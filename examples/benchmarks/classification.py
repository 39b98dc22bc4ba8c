"""Logistic regression on 16 codes of digits, 5-fold, against 16 principal components.

Both inside a Pipeline, with the codes as they are and with each standardised. Writes
results/classification.csv, one row a fold.

    python examples/benchmarks/classification.py
"""

import csv
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_wiseale import WiSEALETransformer

RESULT = Path(__file__).parent / "results" / "classification.csv"


def main():
    X, y = load_digits(return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    reducers = {
        "pca": PCA(16, random_state=0),
        "wiseale": WiSEALETransformer(16, scale="global", random_state=0),
    }
    scores = {}
    for name, reducer in reducers.items():
        for suffix, between in {"": [], "_standardised": [StandardScaler()]}.items():
            pipe = make_pipeline(reducer, *between, LogisticRegression(max_iter=5000))
            values = scores[name + suffix] = cross_val_score(pipe, X, y, cv=folds)
            print(f"{name + suffix}: accuracy {values.mean():.4f} +- {values.std():.4f}")
    RESULT.parent.mkdir(exist_ok=True)
    with RESULT.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["fold", *scores])
        for fold, values in enumerate(np.transpose(list(scores.values()))):
            writer.writerow([fold, *(f"{value:.4f}" for value in values)])


if __name__ == "__main__":
    main()
