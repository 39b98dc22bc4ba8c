"""The paper's first experiment: sine waves, embedded and rebuilt.

    python examples/benchmarks/paper_sines.py           # a few minutes, 2 cores
    python examples/benchmarks/paper_sines.py --quick   # half a minute, nothing kept

Waves with an amplitude, a frequency and a phase each. The ELBO (AEVB), Jensen's bound alone at
the same weight and the default, 2 and 4 components, three seeds. Writes results/paper_sines.csv
and a figure: codes coloured by the factors, and waves beside what comes back from two numbers.
"""

import argparse
import itertools
import time

import numpy as np
from paper import METHODS, RESULTS, append, fit, measure, read, rows_of, save
from tqdm.auto import tqdm

from sklearn_wiseale.datasets import make_sine_waves

FIELDS = [
    "method", "n_components", "seed", "mse", "nll", "swd", "moment", "jensen", "generated",
    "covered", "midpoint", "knn", "active", "width", "width_sd", "fit_seconds",
]  # fmt: skip


def figure(models, rows):
    """Codes of held-out waves by frequency and by phase, and four waves rebuilt."""
    import matplotlib.pyplot as plt

    waves, factors = make_sine_waves(1500, random_state=1)
    waves = waves.astype(np.float32)
    fig, axes = plt.subplots(
        3, len(models), figsize=(4.2 * len(models), 11), layout="constrained", squeeze=False
    )
    for column, (method, model) in zip(axes.T, models.items(), strict=True):
        codes = model.transform(waves)
        for axis, factor, name, cmap in (
            (column[0], factors[:, 1], "frequency", "viridis"),
            (column[1], factors[:, 2], "phase", "twilight"),
        ):
            drawn = axis.scatter(*codes.T, c=factor, cmap=cmap, s=5, linewidths=0)
            fig.colorbar(drawn, ax=axis, label=name, shrink=0.8)
            axis.set(xlabel="component 0", ylabel="component 1", aspect="equal")
        column[0].set_title(method)
        rebuilt = model.inverse_transform(codes[:4])
        for i in range(4):
            column[2].plot(waves[i] - 2.5 * i, color="#999999", lw=1)
            column[2].plot(rebuilt[i] - 2.5 * i, color="#D55E00", lw=1.8)
        column[2].set(yticks=[], xlabel="time step", title="waves, and from two numbers")
    save(fig, "sines")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, few epochs, nothing kept")
    arguments = parser.parse_args()
    rows = rows_of("sines")
    file = RESULTS / "paper_sines.csv"
    done = {(r["method"], r["n_components"], r["seed"]) for r in read(file)}
    models = {}
    seeds = 1 if arguments.quick else arguments.seeds
    for k, seed, method in tqdm(list(itertools.product((2, 4), range(seeds), METHODS)), unit="fit"):
        known = (method, str(k), str(seed)) in done and not arguments.quick
        if known and (seed or k != 2):
            continue
        start = time.perf_counter()
        epochs = {"max_epochs": 3 if arguments.quick else 150}
        model = fit("sines", rows[0], k, METHODS[method], seed, **epochs)
        seconds = time.perf_counter() - start
        if k == 2 and not seed:
            models[method] = model
        figures = {name: float(v) for name, v in measure(model, *rows, seed).items()}
        row = {"method": method, "n_components": k, "seed": seed} | figures
        if arguments.quick:
            print(row)
        elif not known:
            append(file, row | {"fit_seconds": seconds}, FIELDS)
    if not arguments.quick:
        figure(models, rows)


if __name__ == "__main__":
    main()
