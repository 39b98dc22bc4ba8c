"""Reconstruction against regularity, for every objective and a sweep of its weight.

    python examples/benchmarks/paper_frontier.py --data mnist.npz   # resumes; two hours, 2 cores
    python examples/benchmarks/paper_frontier.py --summary          # tables and figure from rows
    python examples/benchmarks/paper_frontier.py --quick            # a small part, in a minute

Five data sets, 2, 8 and 16 components, three seeds. See paper.py for what is shared and measured.
Writes results/paper_frontier.csv, a row a run, seed after seed; then the tables
results/paper_*.csv and the figure that the documentation shows. UMAP and pythae are run where
they are installed.
"""

import argparse
import csv
import itertools
from importlib.util import find_spec

import numpy as np
from paper import DATA, KEYS, OUTSIDE, PALETTE, RESULTS, key_of, read, run_all, save
from scipy.stats import t as student

FILE = RESULTS / "paper_frontier.csv"
COMPONENTS = (2, 8, 16)
CHARGED_EACH = (0.03, 0.1, 0.3, 1.0, 3.0, 6.0, 10.0, 30.0)
DISCREPANCY = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
SWEEPS = {
    "default": ("auto",),
    "wiseale": (0.3, 1.0, 3.0, 10.0, 20.0, 40.0, 100.0, 300.0),
    "elbo": CHARGED_EACH,
    "wae": DISCREPANCY,
    "infovae": DISCREPANCY,
    "jensen": (0.1, 0.3, 1.0, 3.0, 10.0),
    "jensen narrow": (1.0, 10.0),
    "moment": (1.0, 10.0, 30.0),
    "sliced": (1.0, 10.0),
    "renyi": (1.0,),
    "monte_carlo": (1.0,),
}
FRONTIERS = ("wiseale", "elbo", "wae", "infovae", "jensen")


def tasks():
    """Every run: a seed of everything, then other seeds, what defaults are judged by first."""
    package = {"umap": "umap", "pythae": "pythae"}
    outside = [name for name in OUTSIDE if find_spec(package.get(name, "numpy"))]
    without_spread = ("pca", "kernel_pca", "umap")  # and the last two take minutes
    first = ["default", "wiseale", "elbo", "wae", "infovae"]
    rest = [name for name in [*SWEEPS, *outside] if name not in first]
    repeated = [name for name in rest if name not in without_spread]
    for methods, seeds in (([*first, *rest], (0,)), (first, (1, 2)), (repeated, (1, 2))):
        for seed, method, name, k in itertools.product(seeds, methods, DATA, COMPONENTS):
            for weight in SWEEPS.get(method, ("",)):
                yield task(name, k, method, weight, seed)


def task(name, n_components, method, weight, seed=0):
    """One run, all of it strings and ints, as the file has them."""
    weight = weight if isinstance(weight, str) else f"{weight:g}"
    return dict(zip(KEYS, (name, n_components, method, weight, seed), strict=True))


def quick_tasks():
    for method, weight in (("default", "auto"), ("elbo", 1.0), ("wae", 100.0), ("pca", "")):
        for name, k in itertools.product(("breast_cancer", "digits", "table"), (2, 8)):
            yield task(name, k, method, weight)


def points(rows, **wanted):
    """(mse, swd) of the rows that agree with what is wanted."""
    chosen = [r for r in rows if all(r[k] == str(v) for k, v in wanted.items()) and r["mse"]]
    return np.array([[float(r["mse"]), float(r["swd"])] for r in chosen]).reshape(-1, 2)


def hypervolume(front, reference):
    """Area of (log mse, log swd) that points dominate, up to a reference."""
    logs = np.log(reference) - np.log(front)
    logs = logs[(logs > 0).all(axis=1)]
    area, height = 0.0, 0.0
    for gain_mse, gain_swd in logs[np.argsort(-logs[:, 0])]:
        area += gain_mse * max(0.0, gain_swd - height)
        height = max(height, gain_swd)
    return area


def interval(values):
    """Mean and half of the 95 % t-interval."""
    half = np.nan
    if len(values) > 1:
        half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return np.mean(values), half


def write(name, table):
    """Write a table, and print it."""
    fields = list(dict.fromkeys(key for line in table for key in line))
    with (RESULTS / f"paper_{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(table)
    lines = [fields, *([str(line.get(key, "")) for key in fields] for line in table)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)))
    print()


def seeds_of(rows):
    return sorted({row["seed"] for row in rows})


def hypervolumes(rows):
    """A table: data set, components, and the hypervolume of each sweep."""
    for name, k in itertools.product(DATA, COMPONENTS):
        pca = points(rows, data=name, n_components=k, method="pca", seed=0)
        if not len(pca):
            continue
        line = {"data": name, "n_components": k}
        for method in FRONTIERS:
            values = []
            for seed in seeds_of(rows):
                front = points(rows, data=name, n_components=k, method=method, seed=seed)
                if len(front) == len(SWEEPS[method]):
                    values.append(hypervolume(front, (pca[0, 0], 1.0)))
            if values:
                mean, half = interval(values)
                line[method] = f"{mean:.3f}"
                line[f"{method} +-"] = f"{half:.3f}"
        yield line


def against(rows, method="elbo", weight=1.0):
    """A table: the default beside one setting of a rival, by ratios of means of the seeds."""
    names = ("mse", "swd", "generated", "covered", "midpoint", "knn", "nll")
    for name, k in itertools.product(DATA, COMPONENTS):
        both = []
        for wanted in (("default", "auto"), (method, weight)):
            chosen = [
                r
                for r in rows
                if (r["data"], r["n_components"], r["method"], r["weight"])
                == key_of(task(name, k, *wanted))[:4]
            ]
            both.append({n: [float(r[n]) for r in chosen] for n in names})
        if not all(len(b["mse"]) for b in both):
            continue
        line = {"data": name, "n_components": k}
        for n in names:
            ours, theirs = (np.mean(b[n]) for b in both)
            if n in ("knn", "nll"):
                line[n], line[f"{n} rival"] = f"{ours:.3f}", f"{theirs:.3f}"
            else:
                line[n], line[f"{n} ratio"] = f"{ours:.4g}", f"{ours / theirs:.3f}"
                if n in ("mse", "swd"):
                    line[f"{n} sd"] = (
                        f"{np.std(both[0][n], ddof=1):.2g}" if len(both[0][n]) > 1 else ""
                    )
        yield line


def dominated(rows):
    """Settings of rivals that beat the default's mean reconstruction and regularity together.

    Beside them is what decoded prior draws are worth, both ways.
    """
    names = ("mse", "swd", "generated", "covered")
    for name, k in itertools.product(DATA, COMPONENTS):
        ours = means(rows, names, **without_seed(task(name, k, "default", "auto")))
        for method in ("elbo", "wae", "infovae", "jensen", "pca", "kernel_pca", "pythae"):
            for weight in SWEEPS.get(method, ("",)):
                theirs = means(rows, names, **without_seed(task(name, k, method, weight)))
                if theirs["mse"] <= ours["mse"] and theirs["swd"] <= ours["swd"]:
                    line = {"data": name, "n_components": k, "rival": method, "weight": weight}
                    for n in names:
                        line |= {n: f"{theirs[n]:.4g}", f"default {n}": f"{ours[n]:.4g}"}
                    yield line


def means(rows, names, **wanted):
    """Means over the rows that agree with what is wanted; NaN if there are none."""
    chosen = [r for r in rows if all(r[k] == str(v) for k, v in wanted.items()) and r["mse"]]
    return {n: np.mean([float(r[n]) for r in chosen]) if chosen else np.nan for n in names}


def every_method(rows):
    """A table: means and standard deviations over the seeds of every method and weight."""
    names = ("mse", "nll", "swd", "moment", "jensen", "generated", "covered", "midpoint", "knn",
             "active", "width", "width_sd", "fit_seconds")  # fmt: skip
    heads = dict.fromkeys((r["data"], r["n_components"], r["method"], r["weight"]) for r in rows)
    for head in heads:
        chosen = [
            r for r in rows if head == (r["data"], r["n_components"], r["method"], r["weight"])
        ]
        line = dict(zip(("data", "n_components", "method", "weight"), head, strict=True))
        line["seeds"] = len(chosen)
        for n in names:
            values = [float(r[n]) for r in chosen if r[n]]
            line[n] = f"{np.mean(values):.4g}" if values else ""
            if n in ("mse", "swd"):
                line[f"{n} sd"] = f"{np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
        yield line


def figure(rows):
    """Means over the seeds of error against distance, a panel a data set and a size of code."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    labels = {"wiseale": "WiSE-ALE (blend)", "jensen": "WiSE-ALE (jensen)", "elbo": "beta-VAE",
              "wae": "WAE-MMD", "infovae": "InfoVAE"}  # fmt: skip
    fig, axes = plt.subplots(
        len(DATA), len(COMPONENTS), figsize=(9, 13), layout="constrained", squeeze=False
    )
    for (name, k), axis in zip(itertools.product(DATA, COMPONENTS), axes.flat, strict=True):
        for colour, (method, label) in zip(PALETTE, labels.items(), strict=False):
            sweep = [
                np.exp(np.log(front).mean(axis=0))
                for weight in SWEEPS[method]
                if len(front := points(rows, **without_seed(task(name, k, method, weight))))
            ]
            if sweep:
                style = {"lw": 2, "zorder": 3} if method == "wiseale" else {"lw": 1}
                axis.plot(*np.array(sweep).T, "o-", ms=3, color=colour, label=label, **style)
        marks = {"default": ("*", "the default"), "pca": ("s", "PCA"), "pythae": ("X", "pythae"),
                 "kernel_pca": ("D", "KernelPCA")}  # fmt: skip
        for method, (marker, label) in marks.items():
            setting = without_seed(task(name, k, method, SWEEPS.get(method, ("",))[0]))
            front = points(rows, **setting)
            if len(front):
                size = 130 if method == "default" else 30
                axis.scatter(*front.mean(axis=0), marker=marker, s=size, color="#222222",
                             edgecolors="white", linewidths=0.6, zorder=4, label=label)  # fmt: skip
        pca = points(rows, data=name, n_components=k, method="pca")
        lines = [line.get_xydata() for line in axis.get_lines()]
        if len(pca) and lines:  # beyond PCA's error is nothing of interest
            least, lowest = np.concatenate(lines).min(axis=0)
            axis.set(xlim=(0.97 * least, 1.15 * pca[0, 0]), ylim=(0.85 * lowest, 1.2))
        axis.set(xscale="log", yscale="log", title=f"{name}, K = {k}")
        wide = np.divide(*axis.get_xlim()[::-1]) > 4
        decades = LogLocator(subs=(1, 2, 5), numticks=99)
        x_places = decades if wide else MaxNLocator(4)
        for scale, places in ((axis.xaxis, x_places), (axis.yaxis, decades)):
            scale.set_major_locator(places)
            scale.set_major_formatter("{x:g}")
            scale.set_minor_locator(NullLocator())
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
    for axis in axes[-1]:
        axis.set_xlabel("held-out error (MSE)")
    for axis in axes[:, 0]:
        axis.set_ylabel("distance to the prior (SWD)")
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside upper center", ncols=5, frameon=False)
    save(fig, "frontier")


def without_seed(setting):
    """The setting, whatever the seed."""
    return {key: value for key, value in setting.items() if key != "seed"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="npz file with MNIST; default: OpenML")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--quick", action="store_true", help="few runs, into paper_quick.csv")
    parser.add_argument("--summary", action="store_true", help="tables and figure; run nothing")
    arguments = parser.parse_args()
    if arguments.quick:
        file = RESULTS / "paper_quick.csv"
        file.unlink(missing_ok=True)
        run_all(file, list(quick_tasks()), arguments.jobs, quick=True)
        for line in against(read(file)):
            print(line)
        return
    if not arguments.summary:
        run_all(FILE, list(tasks()), arguments.jobs, arguments.data)
    rows = read(FILE)
    for name, table in (
        ("hypervolume", hypervolumes(rows)),
        ("default", against(rows)),
        ("dominated", dominated(rows)),
        ("methods", every_method(rows)),
    ):
        table = list(table)
        if table:
            write(name, table)
    figure(rows)


if __name__ == "__main__":
    main()
