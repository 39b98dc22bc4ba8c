"""Counts, one-hot columns and mixed tables: the right likelihood against the Gaussian.

Held-out reconstructions of simulated tables by their deviance a row (twice the log-likelihood lost
to a perfect reconstruction, with the true kind of each column; numbers by their squared error in
standard deviations). The Gaussian sees the same rows; its reconstruction is clipped into the
support: rates to 1e-3 and above, shares likewise and made to sum to one. 2,000 rows,
40 epochs, else defaults. Writes results/kinds.csv, one row a seed.

    python examples/benchmarks/kinds.py
"""

import csv
import time
from pathlib import Path

import numpy as np
from scipy.special import xlogy

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import Categorical, Gaussian, Mixed, NegativeBinomial, Poisson

RESULT = Path(__file__).parent / "results" / "kinds.csv"
FIELDS = ["data", "likelihood", "seed", "deviance", "score", "seconds"]
SIZES = (3, 4, 5, 3, 4, 5)
LEAST = 1e-3


def draw_counts(rng, factors, n_columns, dispersion=None):
    """Poisson or negative binomial counts whose log-rates are linear in the factors."""
    loading = 0.5 * rng.standard_normal((factors.shape[1], n_columns))
    rates = np.exp(factors @ loading + rng.uniform(0, 3, n_columns))
    if dispersion:
        rates = rates * rng.gamma(1 / dispersion, dispersion, rates.shape)
    return rng.poisson(rates)


def draw_one_hot(rng, factors, sizes):
    """Categories whose logits are linear in the factors, one-hot."""
    blocks = []
    for size in sizes:
        logits = factors @ (2 * rng.standard_normal((factors.shape[1], size)))
        blocks.append(np.eye(size)[(logits + rng.gumbel(size=logits.shape)).argmax(axis=1)])
    return np.hstack(blocks)


def count_deviance(X, rates):
    """Poisson deviance of each row."""
    rates = np.maximum(rates, LEAST)
    return 2 * (xlogy(X, X / rates) - X + rates).sum(axis=1)


def one_hot_deviance(X, shares, sizes):
    """-2 log of the share given to what is, summed over the blocks of each row."""
    total, blocks = 0.0, np.cumsum(sizes)[:-1]
    for own, p in zip(*(np.split(A, blocks, axis=1) for A in (X, shares)), strict=True):
        p = np.clip(p, LEAST, 1)
        total = total - 2 * np.log((own * p).sum(axis=1) / p.sum(axis=1))
    return total


def counts(rng):
    X = draw_counts(rng, rng.standard_normal((3000, 3)), 20)
    return X, 3, {"poisson": Poisson()}, count_deviance


def overdispersed_counts(rng):
    X = draw_counts(rng, rng.standard_normal((3000, 3)), 20, dispersion=0.5)
    return X, 3, {"poisson": Poisson(), "negative_binomial": NegativeBinomial()}, count_deviance


def one_hot(rng):
    X = draw_one_hot(rng, rng.standard_normal((3000, 2)), SIZES)
    return X, 2, {"categorical": Categorical(SIZES)}, lambda X, p: one_hot_deviance(X, p, SIZES)


def mixed(rng):
    factors = rng.standard_normal((3000, 3))
    numbers = factors @ rng.standard_normal((3, 6)) + 0.5 * rng.standard_normal((3000, 6))
    X = np.hstack([numbers, draw_counts(rng, factors, 6), draw_one_hot(rng, factors, SIZES[:3])])
    likelihood = Mixed(
        [
            (Gaussian(), slice(0, 6)),
            (Poisson(), slice(6, 12)),
            (Categorical(SIZES[:3]), slice(12, None)),
        ]
    )
    std = numbers.std(axis=0)

    def deviance(X, means):
        squared = np.square((X[:, :6] - means[:, :6]) / std).sum(axis=1)
        kinds = one_hot_deviance(X[:, 12:], means[:, 12:], SIZES[:3])
        return squared + count_deviance(X[:, 6:12], means[:, 6:12]) + kinds

    return X, 3, {"mixed": likelihood}, deviance


DATA = {
    "counts": counts,
    "overdispersed counts": overdispersed_counts,
    "one-hot": one_hot,
    "mixed": mixed,
}


def main():
    RESULT.parent.mkdir(exist_ok=True)
    with RESULT.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        for name, make in DATA.items():
            for seed in range(3):
                X, n_components, likelihoods, deviance = make(np.random.RandomState(seed))
                train, test = X[:2000], X[2000:]
                for kind, likelihood in {**likelihoods, "gaussian": Gaussian()}.items():
                    start = time.perf_counter()
                    model = WiSEALETransformer(
                        n_components, likelihood=likelihood, max_epochs=40, random_state=seed
                    ).fit(train)
                    seconds = time.perf_counter() - start
                    back = model.inverse_transform(model.transform(test))
                    loss, score = deviance(test, back).mean(), model.score(test)
                    writer.writerow(
                        [name, kind, seed, f"{loss:.3f}", f"{score:.3f}", f"{seconds:.1f}"]
                    )
                    file.flush()
    report()


def report():
    """Means over the seeds; a Gaussian's score is a density and not comparable."""
    rows = list(csv.DictReader(RESULT.open()))
    print(f"{'data':22s}{'likelihood':20s}{'deviance a row':>15s}{'score':>10s}")
    for name, kind in dict.fromkeys((row["data"], row["likelihood"]) for row in rows):
        own = [row for row in rows if (row["data"], row["likelihood"]) == (name, kind)]
        loss, score = (np.mean([float(row[key]) for row in own]) for key in ("deviance", "score"))
        print(f"{name:22s}{kind:20s}{loss:15.3f}{score:10.2f}")


if __name__ == "__main__":
    main()
