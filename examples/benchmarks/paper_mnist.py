"""The paper's figures on MNIST: what the aggregate objective does to single posteriors.

    python examples/benchmarks/paper_mnist.py --data mnist.npz    # 20,000 images, minutes
    python examples/benchmarks/paper_mnist.py --quick             # digits in their place, seconds

With 2 and 16 components: the ELBO (AEVB), Jensen's bound alone at the same weight (the paper's
estimator, with a wide aggregate) and the default. Writes results/paper_mnist.csv, a row a run,
and figures: posterior ellipses, reconstructions side by side, decoded grids of prior quantiles,
interpolations. The bounds are exact, over the posteriors of all training images.
"""

import argparse
import itertools
import time

import numpy as np
from paper import METHODS, RESULTS, append, measure, mnist_labels, read, rows_of, save
from scipy.stats import norm
from tqdm.auto import tqdm

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import aggregate_kl, sliced_wasserstein
from sklearn_wiseale.networks import MLP

FIELDS = [
    "method", "n_components", "seed", "mse", "nll", "swd", "generated", "covered", "midpoint",
    "knn", "active", "width", "width_sd", "width_5", "width_95", "moment", "jensen",
    "mean_kl", "fit_seconds",
]  # fmt: skip


def images(path, quick):
    """Training and held-out rows, and labels."""
    if quick:
        return rows_of("digits")
    from mnist import load

    train, test = load(path)
    labels = mnist_labels(path)
    return train[:20_000], test, labels[0][:20_000], labels[1]


def train(rows, method, n_components, seed, quick):
    """Fit one objective; all share everything else."""
    model = WiSEALETransformer(
        n_components,
        objective=METHODS[method],
        network=MLP(hidden=(512, 256)),
        scale="global",
        batch_size=128,
        max_epochs=3 if quick else 8,
        early_stopping=False,
        random_state=seed,
    )
    start = time.perf_counter()
    model.fit(rows[0])
    seconds = time.perf_counter() - start
    mean, std = model.posterior(rows[0])
    log_var = 2 * np.log(std)
    kl = 0.5 * (mean.astype(float) ** 2 + std**2 - 1 - log_var).sum(axis=1).mean()
    test_std = model.posterior(rows[1])[1].ravel()
    low, high = np.quantile(test_std, (0.05, 0.95))
    figures = measure(model, *rows, seed) | {
        "width_5": low,
        "width_95": high,
        "moment": aggregate_kl(mean, log_var, method="moment"),
        "jensen": aggregate_kl(mean, log_var),
        "mean_kl": kl,
        "fit_seconds": seconds,
    }
    return model, {name: float(value) for name, value in figures.items()}


def ellipses(models, rows, side):
    """Held-out codes with two components, and some posteriors at two standard deviations."""
    import matplotlib.pyplot as plt
    from matplotlib.collections import EllipseCollection

    fig, axes = plt.subplots(1, len(models), figsize=(13, 4.9), layout="constrained")
    colours = plt.get_cmap("tab10")
    for axis, (method, model) in zip(axes, models.items(), strict=True):
        mean, std = model.posterior(rows[1])
        label = rows[3]
        axis.scatter(*mean[:4000].T, s=2, c=colours(label[:4000]), alpha=0.35, linewidths=0)
        some = slice(0, 300)
        axis.add_collection(
            EllipseCollection(
                4 * std[some, 0], 4 * std[some, 1], np.zeros(len(std[some])), units="xy",
                offsets=mean[some], offset_transform=axis.transData, facecolors="none",
                edgecolors=colours(label[some]), linewidths=0.8,
            )
        )  # fmt: skip
        for radius in (1, 2, 3):
            axis.add_patch(plt.Circle((0, 0), radius, fill=False, color="#666666", lw=0.8, ls=":"))
        z = mean + std * np.random.RandomState(0).standard_normal(mean.shape)
        distance = sliced_wasserstein(z[:5000], random_state=0)
        axis.set(xlim=(-5, 5), ylim=(-5, 5), aspect="equal", title=method)
        axis.set_xlabel(f"mean width {std.mean():.3f}, sd {std.std():.3f}; SWD {distance:.2f}")
    save(fig, "mnist_posteriors")


def side_by_side(models, rows, side, name):
    """Held-out images above what comes back from their codes."""
    import matplotlib.pyplot as plt

    shown = rows[1][[int(np.flatnonzero(rows[3] == digit)[1]) for digit in range(10)]]
    lines = {"images": shown}
    lines |= {
        method: model.inverse_transform(model.transform(shown)) for method, model in models.items()
    }
    pictures(plt, lines, side, name)


def interpolations(models, rows, side, name):
    """Straight lines between the codes of two held-out images."""
    import matplotlib.pyplot as plt

    lines = {}
    for method, model in models.items():
        for first, second in ((1, 7), (0, 6)):
            ends = [rows[1][int(np.flatnonzero(rows[3] == digit)[2])] for digit in (first, second)]
            codes = model.transform(np.array(ends))
            steps = np.linspace(0, 1, 10)[:, None]
            line = model.inverse_transform((1 - steps) * codes[0] + steps * codes[1])
            lines[f"{method}\n{first} to {second}"] = line
    pictures(plt, lines, side, name)


def grids(models, side):
    """Decoded quantiles of the prior, a square a model."""
    import matplotlib.pyplot as plt

    n = 15
    axis_codes = norm.ppf((np.arange(n) + 0.5) / n)
    codes = np.array(list(itertools.product(axis_codes[::-1], axis_codes)))[:, ::-1]
    fig, axes = plt.subplots(1, len(models), figsize=(13, 4.7), layout="constrained")
    for axis, (method, model) in zip(axes, models.items(), strict=True):
        drawn = model.inverse_transform(codes).reshape(n, n, side, side)
        axis.imshow(drawn.transpose(0, 2, 1, 3).reshape(n * side, n * side), cmap="gray_r", vmin=0)
        axis.set(title=method, xticks=[], yticks=[])
    save(fig, "mnist_grid")


def pictures(plt, lines, side, name):
    """A line of images for each entry, with its name beside it."""
    n = len(next(iter(lines.values())))
    fig, axes = plt.subplots(
        len(lines), n, figsize=(0.72 * n + 2, 0.75 * len(lines)), layout="constrained"
    )
    for (label, line), row in zip(lines.items(), axes, strict=True):
        for axis, image in zip(row, line, strict=True):
            axis.imshow(image.reshape(side, side), cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    save(fig, name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="npz file with MNIST; default: OpenML")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="no figures kept, no MNIST needed")
    arguments = parser.parse_args()
    rows = images(arguments.data, arguments.quick)
    side = round(rows[0].shape[1] ** 0.5)
    file = RESULTS / "paper_mnist.csv"
    done = {(r["method"], r["n_components"], r["seed"]) for r in read(file)}
    seeds = 1 if arguments.quick else arguments.seeds
    runs = list(itertools.product((2, 16), range(seeds), METHODS))
    models = {2: {}, 16: {}}
    for k, seed, method in tqdm(runs, unit="fit"):
        if seed and (method, str(k), str(seed)) in done:
            continue
        model, figures = train(rows, method, k, seed, arguments.quick)
        if not seed:  # for the figures, whether or not its row is there
            models[k][method] = model
        row = {"method": method, "n_components": k, "seed": seed} | figures
        if arguments.quick:
            print(row)
        elif (method, str(k), str(seed)) not in done:
            append(file, row, FIELDS)
    if arguments.quick:
        return
    ellipses(models[2], rows, side)
    grids(models[2], side)
    for k, fitted in models.items():
        side_by_side(fitted, rows, side, f"mnist_reconstructions_{k}")
    interpolations(models[16], rows, side, "mnist_interpolations")


if __name__ == "__main__":
    main()
