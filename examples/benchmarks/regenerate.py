"""Every table of the README and of the documentation, and numbers in sentences, written anew.

    python examples/benchmarks/regenerate.py                          # from results/*.csv
    python examples/benchmarks/regenerate.py --run --data mnist.npz   # measure first: many hours

A table stands between two comments, ``begin NAME`` and ``end NAME``; what is between them is
replaced. Sentences stand here too, and their numbers are replaced. The tests run this without
``--run`` and look for changes. Most scripts resume from their rows: to measure something again,
remove its file from ``results`` first.
"""

import argparse
import csv
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from anomaly import OURS, TUNED
from width import frontier_gains

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
SCRIPTS = {
    "small_tables": False, "classification": False, "kinds": False, "imputation": False,
    "robust": False, "answers": False, "maps": True, "overlap": False, "mnist": True, "width": True,
    "engine": True, "scaling": True, "images": True,
    "features": True, "large": False, "clusters": False, "paper_sines": False, "paper_faces": False,
    "paper_mnist": True, "paper_frontier": True, "speed": True, "tables": False,
}  # fmt: skip
"""Scripts, and whether they take ``--data``."""


def read(name):
    """Rows of a result."""
    with (RESULTS / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def mean(rows, name, **wanted):
    """Mean of a column over the rows that agree with what is wanted."""
    chosen = [row for row in rows if all(row[key] == str(v) for key, v in wanted.items())]
    return float(np.mean([float(row[name]) for row in chosen]))


def best(values, digits, *, smallest=True):
    """Numbers as text, the best of them in bold."""
    texts = [f"{value:.{digits}f}" for value in values]
    wanted = (min if smallest else max)(texts, key=float)
    return [f"**{text}**" if text == wanted else text for text in texts]


# tables, as a header and lines -------------------------------------------------------------------


def small_tables():
    """README: share of variance on small tables."""
    rows, shapes = read("small_tables"), {
        "wine": "178 x 13", "breast_cancer": "569 x 30", "diabetes": "442 x 10",
        "digits": "1797 x 64",
    }  # fmt: skip
    yield "data", "rows x columns", "K", "PCA", "WiSE-ALE"
    for (data, shape), k in itertools.product(shapes.items(), ("2", "8")):
        shares = (mean(rows, name, data=data, n_components=k) for name in ("pca", "wiseale"))
        yield data, shape if k == "2" else "", k, *best(shares, 3, smallest=False)


def mnist():
    """README: MNIST beside PCA and UMAP."""
    rows = {row["run"]: row for row in read("mnist")}
    yield "", "K", "MSE", "SWD to the prior", "moment KL, nats", "fit, s", "transform of 10,000, s"
    for k, (method, name) in itertools.product(
        (16, 2), (("pca", "PCA"), ("wiseale", "WiSE-ALE"), ("umap", "UMAP"))
    ):
        row = rows[f"60k_{method}_{k}"]
        errors = [float(rows[f"60k_{m}_{k}"]["mse"]) for m in ("pca", "wiseale")]
        mse = best(errors, 4)[("pca", "wiseale").index(method)] if row["mse"] else "not run"
        swd, kl = (
            f"{float(row[c]):.{d}f}" if row[c] else "" for c, d in (("swd", 3), ("moment_kl", 2))
        )
        fit, transform = float(row["fit_seconds"]), float(row["transform_seconds"])
        yield (
            name,
            str(k),
            mse,
            swd,
            kl,
            f"{fit:.1f}" if fit < 1 else f"{fit:.0f}",
            f"{transform:.2g}",
        )


def engine():
    """What the engine costs beside others."""
    rows = {(row["part"], row["quantity"]): row for row in read("engine") + read("large")}
    yield "What: beside what", "ours", "the other", "ratio"
    for label, key in ENGINE.items():
        if key not in rows:
            continue
        row = rows[key]
        unit = re.split("[,;]", row["unit"])[0]
        ours, other = float(row["ours"]), float(row["other"])
        texts = (f"{v:.3g} {unit}" if v < 1000 else f"{v:,.0f} {unit}" for v in (ours, other))
        ratio = float(row["ratio"]) if ours / other > 0.05 else ours / other
        yield label, *texts, f"{ratio:.2f}" if ratio > 0.05 else f"{ratio:.2g}"


ENGINE = {
    "Epoch, 60,000 x 784, hidden (512, 256), batch 256: loop by hand": (
        "epoch", "60,000 x 784, by hand"),
    "Epoch, 20,000 x 30, hidden (64,), batch 128: loop by hand": ("small", "20,000 x 30, by hand"),
    "The same: skorch with its data set and loader": ("small", "20,000 x 30, skorch's loader"),
    "Fit of MNIST, five epochs: pythae's VAE and trainer": ("pythae", "fit"),
    "The same: test error": ("pythae", "test MSE"),
    "``transform`` of 10,000 images, (512, 256): the encoder's forward alone": (
        "transform", "hidden (512, 256), scale=None"),
    "The same with scaled columns": ("transform", "hidden (512, 256), scale='feature'"),
    "``transform`` of 4,000 images: umap-learn": ("umap", "transform 4,000 rows"),
    "``inverse_transform`` of 50 codes: umap-learn": ("umap", "inverse_transform 50 rows"),
    "Time a row, 1,000,000 rows: 10,000 rows": ("scaling", "n = 1,000,000"),
    "Search with two workers, 6,000 x 784: one worker": (
        "search", "6,000 x 784, 2 workers beside 1"),
    "Memory above the import, 8 GB float32 memmap: 1 GB": ("memory", "8 GB float32 memmap"),
    "Memory above the import, 2 GB uint8 memmap: 1 GB": ("memory", "2 GB uint8 memmap"),
    "Memory above the data, CSR of 200,000 x 5,000: 1 GB": ("memory", "CSR 200,000 x 5,000, 0.5 %"),
    "Memory above the import, ``transform`` of a 5 GB Dask array, 2 threads: 1.5 GB": (
        "array", "transform, 5 GB, 2 threads, blocks of 128 MiB"),
    "The same, 16 threads: 1.5 GB": ("array", "transform, 5 GB, 16 threads, blocks of 16 MiB"),
    "Memory above the import, ``partial_fit`` of 2 GB of parquet, at the end: after a tenth": (
        "stream", "partial_fit, 2 GB"),
    "Beyond that, ``transform`` of the same: after a tenth": ("stream", "transform, 2 GB"),
    "Import beyond torch, scikit-learn and skorch: 0.15 s": ("size", "import"),
    "Pickle: the weights": ("size", "pickle"),
}  # fmt: skip


def kinds():
    """Held-out deviance under the right likelihood and under a Gaussian one."""
    rows = read("kinds")
    yield "Data", "Likelihood", "Deviance", "As Gaussian"
    for data, likelihood in dict.fromkeys(
        (row["data"], row["likelihood"]) for row in rows if row["likelihood"] != "gaussian"
    ):
        both = (mean(rows, "deviance", data=data, likelihood=x) for x in (likelihood, "gaussian"))
        digits = 2 if data == "one-hot" else 1
        yield data, likelihood.replace("_", " "), *(f"{value:.{digits}f}" for value in both)


def imputation():
    """Error of missing entries."""
    rows, methods = read("imputation"), ("mean", "knn", "iterative", "wiseale")
    yield "Data", "Mean", "5 neighbours", "Iterative", "WiSE-ALE"
    names = dict.fromkeys(row["data"] for row in rows)
    table = {d: [mean(rows, "rmse", data=d, method=m) for m in methods] for d in names}
    table["Average"] = np.mean(list(table.values()), axis=0)
    for name, values in table.items():
        yield name, *best(values, 3)


def robust():
    """Share of variance and score, Gaussian beside Student-t noise."""
    rows, methods = read("robust"), ("gaussian", "student_t")
    yield "", "Data", "R² Gaussian", "Student t", "Score Gaussian", "Student t"
    part = ""
    for name in dict.fromkeys(row["data"] for row in rows):
        before, part = part, next(row["part"] for row in rows if row["data"] == name)
        r2, score = (
            best([mean(rows, column, data=name, method=m) for m in methods], digits, smallest=False)
            for column, digits in (("r2", 3), ("score", 2))
        )
        yield "" if part == before else part, name, *r2, *score


def answers_seeds():
    """Agreement of fits with other seeds."""
    yield "Table", "First component the same, of 10 fits", "Rank correlation of the order"
    for row in read("answers_seeds"):
        yield row["table"], row["same_first"], row["rank"]


def answers_planted():
    """Rows whose wrong entries are found."""
    yield "Table", "K", "Chance", "PCA residuals", "Contributions", "Contributions, noise by column"
    found = {(row["table"], row["k"], row["noise"]): row for row in read("answers_planted")}
    for (name, k, noise), row in found.items():
        if noise == "shared":
            shares = row["residual"], row["share"], found[name, k, "feature"]["share"]
            yield name, k, row["chance"], *best(list(map(float, shares)), 3, smallest=False)


def answers_auto():
    """Numbers of components that are chosen."""
    yield "Data", "Rows", "Columns", '"auto"', "Best of grid", "Loss, nats", "Time / grid's"
    for row in read("answers_auto"):
        yield row["table"], *(row[name] for name in ("n", "d", "k", "best", "loss", "time"))


MAPS = {
    "accuracy": "10-NN", "trust": "Trustworthiness", "continuity": "Continuity", "r2": "Variance",
    "score": "Score, nats", "swd": "SWD",
}  # fmt: skip


def maps(first, rows):
    """Figures of maps, and before them what they are of."""
    shown = [name for name in MAPS if any(row[name] for _, row in rows)]
    yield *first, *(MAPS[name] for name in shown)
    for words, row in rows:
        yield *words, *(f"{float(row[name]):.3f}" if row[name] else "" for name in shown)


def maps_study():
    """What limits maps of the digits, and what labels add."""
    rows = [([row["variant"]], row) for row in read("maps_study")]
    rows += [([f"{row['variant']} labels, 3 layers"], row) for row in read("maps_labels")]
    return maps(["Change"], rows)


def maps_study_cells():
    """What limits maps of simulated cells."""
    return maps(["Change"], [([row["variant"]], row) for row in read("maps_study_cells")])


def maps_study_columns():
    """What limits maps of real tables."""
    return maps(["Change"], [([row["variant"]], row) for row in read("maps_study_columns")])


def maps_more():
    """Neighbours with more components."""
    rows = [([row["k"], row["variant"]], row) for row in read("maps_more")]
    return maps(["Components", "Method"], rows)


def maps_tables():
    """Means over real tables."""
    yield "Components", "Method", "Trustworthiness", "Continuity", "Variance", "Score, nats", "SWD"
    rows = read("maps_tables")
    for k in ("2", "8"):
        for variant in ("plain", "half the weight", "neighbors", "umap"):
            own = [row for row in rows if (row["k"], row["variant"]) == (k, variant)]
            figures = ("trust", "continuity", "r2", "score", "swd") if own else ()
            means = [np.mean([float(row[f] or "nan") for row in own]) for f in figures]
            if own:
                yield k, variant, *("" if np.isnan(value) else f"{value:.3f}" for value in means)


def maps_mnist():
    """Maps of MNIST."""
    yield "Method", "10-NN", "Trustworthiness", "Continuity", "Error", "SWD", "Seconds"
    figures = "accuracy", "trust", "continuity", "mse", "swd", "wall"
    for row in read("maps_mnist"):
        digits = {"mse": 4, "wall": 0}
        yield (
            row["variant"],
            *(f"{float(row[f]):.{digits.get(f, 3)}f}" if row[f] else "" for f in figures),
        )


def anomaly():
    """AUC of detectors."""
    rows, methods = read("anomaly"), [*OURS.values(), "kNN", "isolation forest"]
    yield "Data", "WiSE-ALE", "its model alone", "its neighbours alone", "kNN", "Isolation forest"
    names = dict.fromkeys(row["data"] for row in rows)
    table = {d: [mean(rows, "auc", data=d, method=m) for m in methods] for d in names}
    chosen = [values for name, values in table.items() if name in TUNED]
    others = [values for name, values in table.items() if name not in TUNED]
    table |= {
        "All": np.mean([*chosen, *others], axis=0),
        "Used to choose defaults": np.mean(chosen, axis=0),
        "Others": np.mean(others, axis=0),
    }
    for name, values in table.items():
        yield name, *best(values, 1, smallest=False)


def features():
    """Codes of image features."""
    rows = {(row["features"], row["n_columns"], row["method"]): row for row in read("features")}
    yield "Features", "Columns", "Variance: PCA", "ours", "10-NN: PCA", "ours"
    for name, columns in dict.fromkeys((key[0], key[1]) for key in rows):
        both = [rows[name, columns, method] for method in ("PCA", "WiSE-ALE")]
        variance = best([float(row["variance"]) for row in both], 3, smallest=False)
        neighbours = best([float(row["neighbours"]) for row in both], 4, smallest=False)
        yield name, f"{int(columns):,}", *variance, *neighbours


def paper_default():
    """The default beside the ELBO of weight 1."""
    rows = read("paper_default")
    yield ("Data", "K", "MSE", "beside AEVB", "SWD", "beside AEVB", "prior draws", "covered",
           "10-NN, AEVB")  # fmt: skip
    for row in rows:
        yield (
            row["data"], row["n_components"], row["mse"], percent(row["mse ratio"]), row["swd"],
            percent(row["swd ratio"]), percent(row["generated ratio"]),
            percent(row["covered ratio"]), f"{row['knn']}, {row['knn rival']}",
        )  # fmt: skip


def paper_hypervolume():
    """Area that each sweep dominates."""
    methods = ("wiseale", "jensen", "elbo", "wae", "infovae")
    yield "Data", "K", "WiSE-ALE, blend", "WiSE-ALE, jensen", "beta-VAE", "WAE-MMD", "InfoVAE"
    for row in read("paper_hypervolume"):
        means = [float(row[method]) if row[method] else np.nan for method in methods]
        texts = [
            f"{m:.2f} ± {float(row[f'{n} +-']):.2f}" for m, n in zip(means, methods, strict=True)
        ]
        top = int(np.nanargmax(means))
        texts[top] = f"**{texts[top]}**"
        yield row["data"], row["n_components"], *(text.replace(" ± nan", "") for text in texts)


def paper_mnist():
    """Widths of posteriors and exact bounds on MNIST."""
    rows = read("paper_mnist")
    yield ("K", "Method", "MSE", "SWD", "Posterior sd", "its spread", "moment", "jensen",
           "mean KL", "10-NN")  # fmt: skip
    for k, method in itertools.product(("2", "16"), dict.fromkeys(row["method"] for row in rows)):
        of = {"n_components": k, "method": method}
        digits = {"mse": 4, "swd": 3, "width": 3, "width_sd": 3, "moment": 2, "jensen": 2,
                  "mean_kl": 2, "knn": 3}  # fmt: skip
        yield k, method, *(f"{mean(rows, name, **of):.{d}f}" for name, d in digits.items())


def paper_sines():
    """Sine waves."""
    rows = read("paper_sines")
    yield "K", "Method", "MSE", "SWD", "Posterior sd", "moment", "jensen", "prior draws", "covered"
    for k, method in itertools.product(("2", "4"), dict.fromkeys(row["method"] for row in rows)):
        of = {"n_components": k, "method": method}
        digits = {"mse": 4, "swd": 3, "width": 3, "moment": 2, "jensen": 2, "generated": 2,
                  "covered": 2}  # fmt: skip
        yield k, method, *(f"{mean(rows, name, **of):.{d}f}" for name, d in digits.items())


def paper_faces():
    """Faces, 64 components."""
    yield "Data", "Method", "MSE", "SWD", "prior draws", "covered", "active", "fit, s"
    for row in read("paper_faces"):
        yield (
            row["data"], row["method"], f"{float(row['mse']):.5f}", f"{float(row['swd']):.3f}",
            f"{float(row['generated']):.2f}", f"{float(row['covered']):.2f}",
            f"{float(row['active']):.0f}", f"{float(row['fit_seconds']):.0f}",
        )  # fmt: skip


def width_frontier():
    """Wide Jensen beside the ELBO."""
    yield "Components, width", "Mean over the range", "Where most regular", "Range of distances"
    for (k, width), *gains, ends in frontier_gains():
        of = "all 20,000" if width == 20_000 else f"{width:,}"
        texts = (f"{mean:.1f} % ({low:.1f} to {high:.1f})" for mean, low, high in gains)
        yield f"{k}, {of}", *texts, f"{ends[0]:.2f} to {ends[1]:.2f}"


def width_study():
    """Widths on MNIST with two components."""
    rows = read("width_study")
    yield ("Width", "Test error", "Distance (SWD)", "Moment KL, nats",
           "Decoded prior draws to test images")  # fmt: skip
    of = {"data": "mnist", "likelihood": "gaussian", "n_components": 2}
    for width in (128, 1024, 4096, 10_000):
        digits = {"mse": 4, "swd": 3, "moment": 2, "generated": 2}
        label = f"{width:,} (N)" if width == 10_000 else f"{width:,}"
        yield label, *(f"{mean(rows, n, width=width, **of):.{d}f}" for n, d in digits.items())


def scaling():
    """A training step, one thing at a time changed."""
    rows = read("scaling")
    names = {"base": "base", "batch": "M", "width": "A", "components": "K", "columns": "D"}
    yield "", "Step, ms", "of ELBO, ms", "Divergence, ms"
    changes = [(row["quantity"], row["value"]) for row in rows if row["part"] == "growth"]
    for quantity, value in changes:
        wanted = {"quantity": quantity, "value": value}
        parts = ("growth", "growth, ELBO", "growth, divergence")
        label = f"{names[quantity]} = {int(value):,}" if value else "base"
        yield label, *(f"{mean(rows, 'figure', part=part, **wanted):.3g}" for part in parts)


def scaling_ranks():
    """Two processes beside one."""
    rows = [row for row in read("scaling") if row["part"] == "ranks"]
    kinds = dict.fromkeys(row["quantity"] for row in rows)
    seeds = dict.fromkeys(row["value"] for row in rows if row["value"].startswith("test"))
    yield (
        "Batches of 256 rows",
        *(seed.replace("MSE", "error") for seed in seeds),
        "Epoch, s",
        ("Exchanged a step, MB"),
    )
    for kind in kinds:
        found = {row["value"]: row["figure"] for row in rows if row["quantity"] == kind}
        exchanged = found.get("exchanged a step", "")
        errors = (f"{float(found[seed]):.6f}" for seed in seeds)
        yield kind, *errors, found["epoch"], exchanged and f"{float(exchanged):.2f}"


def speed():
    """The default fit on tables of many kinds, by their size."""
    names = {"ours": "WiSE-ALE", "umap": "UMAP", "umap_seeded": "UMAP, seeded",
             "kernel_pca": "kernel PCA", "mlp": "MLPRegressor"}  # fmt: skip
    found = {}
    for row in read("speed_fits"):
        if (row["set"], row["n_components"], row["threads"]) == ("tune", "2", ""):
            found.setdefault((row["table"], row["method"]), []).append(row)
    rows = {table: int(some[0]["rows"]) for (table, _), some in found.items()}
    measured = {method for _, method in found}
    names = {method: name for method, name in names.items() if method in measured}
    back = {m: name for m, name in names.items() if "umap" not in m}

    def middle(table, method, name):
        return float(np.median([float(row[name]) for row in found[table, method]]))

    yield (
        "Training rows", "Tables", *(f"{name}, s" for name in names.values()),
        *(f"R² beyond PCA, {name}" for name in back.values()),
    )  # fmt: skip
    for low, high in ((0, 250), (250, 1000), (1000, 3000), (3000, np.inf)):
        tables = [table for table, n in rows.items() if low < n <= high]
        if not tables:
            continue
        # of a method only where it was measured on each table of the group
        whole = {method for method in [*names, "pca"] if all((t, method) in found for t in tables)}
        times, gains = [], []
        for method in names:
            cpu, wall = (
                sum(middle(table, method, name) for table in tables) if method in whole else np.nan
                for name in ("cpu", "wall")
            )
            times.append(f"{cpu:.3g} ({wall:.3g})" if method in whole else "")
            if method in back:
                known = tables if {method, "pca"} <= whole else []
                gain = [middle(t, method, "r2") - middle(t, "pca", "r2") for t in known]
                gains.append(f"{np.mean(gain):+.3f}" if gain else "")
        label = f"{low + 1:,} to {high:,}" if low and high < np.inf else f"up to {high}"
        yield label if high < np.inf else f"over {low:,}", str(len(tables)), *times, *gains


def complete(name):
    """Rows of a part of ``tables.py`` from the tables on which all its methods were measured."""
    rows = read(name)
    methods = dict.fromkeys(row["method"] for row in rows)
    found = {}
    for row in rows:
        found.setdefault((row["table"], row["seed"]), set()).add(row["method"])
    return methods, [row for row in rows if found[row["table"], row["seed"]] == set(methods)]


def tables_synthetic():
    """Copies of mixed tables beside those of other generators."""
    methods, rows = complete("tables_synthetic")
    names = {"real": "the training rows", "independent": "independent columns", "ours": "WiSE-ALE"}
    yield "Copy", "Utility", "AUC", "Nearest row", "Seconds"
    for method in methods:
        values = [mean(rows, name, method=method) for name in ("utility", "auc", "nearest")]
        seconds = f"{mean(rows, 'seconds', method=method):.0f}" if method != "real" else ""
        name = method.replace("ours", "WiSE-ALE")
        yield names.get(method, name), *(f"{value:.2f}" for value in values), seconds


def tables_holes():
    """Missing entries of mixed tables beside other imputers."""
    methods, rows = complete("tables_holes")
    names = {
        "ours": "WiSE-ALE", "simple": "means, most frequent categories", "knn": "5 neighbours",
        "iterative, one-hot": "iterative, one-hot codes", "forests": "iterative, forests",
    }  # fmt: skip
    columns = [[mean(rows, name, method=m) for m in methods] for name in ("rmse", "accuracy")]
    error, accuracy = (best(c, 3, smallest=i == 0) for i, c in enumerate(columns))
    yield f"Method, {len({row['table'] for row in rows})} tables", "RMSE", "Accuracy", "CPU seconds"
    for i, method in enumerate(methods):
        seconds = mean(rows, "cpu", method=method)
        yield names.get(method, method), error[i], accuracy[i], f"{seconds:.1f}"


def tables_conditional():
    """Rows drawn given an entry."""
    rows = read("tables_conditional")
    yield "Rows drawn", "Energy distance to the rows with the entry"
    for name, words in {"conditional": "given the entry", "unconditional": "freely"}.items():
        yield words, f"{mean(rows, name):.3f}"


def percent(ratio):
    """A ratio as a change."""
    return f"{100 * (float(ratio) - 1):+.0f} %"


TABLES = (
    small_tables, mnist, engine, kinds, imputation, robust, anomaly, answers_seeds,
    answers_planted, answers_auto, maps_study, maps_study_cells, maps_study_columns,
    maps_more, maps_tables, maps_mnist, features, paper_default,
    paper_hypervolume, paper_mnist, paper_sines, paper_faces, width_frontier, width_study, scaling,
    scaling_ranks, *([speed] if (RESULTS / "speed_fits.csv").exists() else []),
    *(
        table for table in (tables_synthetic, tables_holes, tables_conditional)
        if (RESULTS / f"{table.__name__}.csv").exists()
    ),
)  # fmt: skip


# sentences, as a file, words with gaps for numbers, and numbers ----------------------------------


def sentences():
    """All of them."""
    readme, why, benchmarks = (
        ROOT / "README.md",
        ROOT / "docs/why.rst",
        ROOT / "docs/benchmarks.rst",
    )
    runs = {row["run"]: row for row in read("mnist")}
    errors = [
        f"{float(runs[f'20k_{m}_16']['mse']):.4f}" for m in ("wiseale", "pythae_bce", "pythae")
    ]
    yield (
        readme,
        "WiSE-ALE with layers (512, 512) {}, pythae's VAE with its own network {} (cross-entropy) "
        "and {} (squared error)",
        errors,
    )
    rows = read("classification")
    names = ("wiseale", "pca", "wiseale_standardised", "pca_standardised")
    accuracy = [f"{mean(rows, name):.3f}" for name in names]
    yield (
        readme,
        "they are {} against PCA's {}; with a `StandardScaler` between {} against {}",
        accuracy,
    )
    yield why, "no more: {} beside {}, and {} beside {} after standardising", accuracy
    fit, transform = (
        [float(runs[f"60k_{m}_16"][f"{what}_seconds"]) for m in ("wiseale", "umap", "pca")]
        for what in ("fit", "transform")
    )
    yield (
        why,
        "took {} seconds on two cores without a GPU, with UMAP {}, with PCA {}",
        [f"{fit[0]:.0f}", f"{fit[1]:.0f}", f"{fit[2]:.1f}"],
    )
    yield (
        why,
        "``transform`` of 10,000 images took {} seconds, with UMAP {}, with PCA {}",
        [f"{transform[0]:.2f}", f"{transform[1]:.1f}", f"{transform[2]:.3f}"],
    )
    ratios = {(row["part"], row["quantity"]): float(row["ratio"]) for row in read("engine")}
    loops = (ratios["epoch", "60,000 x 784, by hand"], ratios["small", "20,000 x 30, by hand"])
    yield (
        why,
        "by hand an epoch takes {} to {} per cent longer",
        [f"{max(0, 100 * (ratio - 1)):.0f}" for ratio in sorted(loops)],
    )
    beside = (ratios["small", "20,000 x 30, skorch's loader"], ratios["pythae", "fit"])
    yield (
        benchmarks,
        "hence ratios of {} and {} and not below",
        [f"{ratio:.2f}" for ratio in beside],
    )
    small = [ratio for (_, quantity), ratio in ratios.items() if "hidden (64,)" in quantity]
    yield (
        benchmarks,
        "which shows beside an encoder of one small layer ({} to {})",
        [f"{ratio:.2f}" for ratio in sorted(small)],
    )
    found = {(row["part"], row["quantity"], row["value"]): row for row in read("scaling")}
    two = "2 processes, 1 thread each"
    step, exchanged, took = (
        float(found[key]["figure"])
        for key in (
            ("growth, ELBO", "batch", "1024"),
            ("ranks", two, "exchanged a step"),
            ("ranks", two, "sum of gradients"),
        )
    )
    speed = 6 * exchanged / 4 * 1024 / step / 2  # 1e9 operations a second and core, of two
    rate = exchanged / took  # GB a second
    yield (
        ROOT / "docs/scaling.rst",
        "By gloo, two processes sum {} MB of gradients in {} ms: B is {} GB/s, and the rows of "
        "each process have to be many more than {}. With 128",
        [f"{exchanged:.1f}", f"{took:.1f}", f"{rate:.2f}", f"{2 * speed / (3 * rate):.0f}"],
    )
    yield ROOT / "docs/scaling.rst", "a core here has F = {} ·", [f"{speed:.0f}"]
    rows, gains = read("small_tables"), {True: [], False: []}
    for data, k in itertools.product(("wine", "breast_cancer", "diabetes", "digits"), (2, 8)):
        ours, pca = (mean(rows, m, data=data, n_components=k) for m in ("wiseale", "pca"))
        gains[data == "digits"].append(ours - pca)
    ends = [
        f"{end:.{d}f}"
        for of, d in ((False, 2), (True, 1))
        for end in (min(gains[of]), max(gains[of]))
    ]
    yield (
        why,
        "rose by {} to {} on three small tables, and by {} to {} on images of digits",
        ends,
    )
    conv, mlp = (
        [mean(read("images"), name, network=network) for name in ("mse", "fit_seconds")]
        for network in ("conv", "mlp")
    )
    yield (
        benchmarks,
        "test error a pixel {} with ``Conv`` and {} with the perceptron of (512, 512), at {} times "
        "the time",
        [f"{conv[0]:.4f}", f"{mlp[0]:.4f}", f"{conv[1] / mlp[1]:.0f}"],
    )
    if (RESULTS / "tables_holes.csv").exists():
        coverage = [float(r["coverage"]) for r in read("tables_holes") if r["coverage"]]
        yield (
            benchmarks,
            "hold {} % of the missing numbers, and {} to {} % by table",
            [f"{100 * f(coverage):.0f}" for f in (np.mean, min, max)],
        )
    yield (
        benchmarks,
        "takes {} times as long as with the batch alone at K = 2, {} times at K = 8 and {} times "
        "at K = 16",
        [f"{float(row['ratio']):.2f}" for row in read("width_time")],
    )


def with_numbers(text, words, numbers):
    """The text with the numbers of one of its sentences replaced."""
    gap, space = r"(\d[\d.,]*\d|\d)", r"\s+"
    parts = [space.join(map(re.escape, part.split(" "))) for part in words.split("{}")]
    found = list(re.finditer(gap.join(parts), text))
    if len(found) != 1:
        raise ValueError(f"stands {len(found)} times in the text, and not once: {words!r}")
    for i, number in reversed(list(enumerate(numbers, start=1))):
        begin, end = found[0].span(i)
        text = text[:begin] + number + text[end:]
    return text


# writing -----------------------------------------------------------------------------------------


def as_markdown(lines):
    header, *body = lines
    rows = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_rst(lines):
    text = [".. list-table::", "   :header-rows: 1", ""]
    for row in lines:
        text += [f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join(text)


FILES = {
    ROOT / "README.md": ("<!-- {} {} -->", as_markdown),
    ROOT / "docs" / "benchmarks.rst": (".. {} {}", as_rst),
    ROOT / "docs" / "scaling.rst": (".. {} {}", as_rst),
    ROOT / "docs" / "why.rst": (".. {} {}", as_rst),
}


def texts():
    """Each file beside its text with all tables and numbers written anew."""
    for file, (comment, write) in FILES.items():
        text = file.read_text()
        for table in TABLES:
            begin, end = (comment.format(word, table.__name__) for word in ("begin", "end"))
            if begin not in text:
                continue
            head, rest = text.split(begin + "\n", 1)
            tail = rest.split(end, 1)[1]
            text = f"{head}{begin}\n\n{write(list(table()))}\n\n{end}{tail}"
        for place, words, numbers in sentences():
            if place == file:
                text = with_numbers(text, words, numbers)
        yield file, text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="measure first")
    parser.add_argument("--data", help="npz file with MNIST; default: OpenML")
    parser.add_argument("--outliers", help="folder of ADBench's sets; default: not run")
    arguments = parser.parse_args()
    if arguments.run:
        folders = {"anomaly": arguments.outliers} if arguments.outliers else {}
        given = {name: arguments.data if takes else None for name, takes in SCRIPTS.items()}
        for script, path in (given | folders).items():
            data = ["--data", path] if path else []
            command = [sys.executable, str(Path(__file__).parent / f"{script}.py"), *data]
            print(" ".join(command), flush=True)
            subprocess.run(command, check=True)
    for file, text in texts():
        file.write_text(text)


if __name__ == "__main__":
    main()
