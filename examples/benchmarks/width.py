"""What the width of the aggregate buys: a study, a frontier, and two checks of the estimate.

    python examples/benchmarks/width.py --data mnist.npz             # all parts, two hours
    python examples/benchmarks/width.py --part study --data ...      # widths from batch to all rows
    python examples/benchmarks/width.py --part frontier --data ...   # wide jensen against ELBO
    python examples/benchmarks/width.py --part estimate --data ...   # against the exact sums
    python examples/benchmarks/width.py --part time --data ...       # epochs, on an idle machine

One row a run is written to results/width_PART.csv as it is done, and runs of the study and the
frontier that are there are not run again. ``--summary`` prints the tables that the documentation
quotes. ``mse`` is per feature, of mean reconstructions of held-out rows; ``swd`` is
``sliced_wasserstein`` of posterior draws of held-out rows; ``generated`` is the mean distance of
1,000 decoded draws from the prior to the nearest held-out row; ``moment``, ``jensen`` and
``monte_carlo`` are ``aggregate_kl`` over all training rows, nats; ``information`` is I(i; z), the
mean KL of the posteriors less ``monte_carlo``.
"""

import argparse
import csv
import itertools
import math
import time
from pathlib import Path

import joblib
import numpy as np
import torch
from mnist import load
from scipy.stats import t as student
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.datasets import make_sine_waves
from sklearn_wiseale.diagnostics import aggregate_kl, sliced_wasserstein
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import ELBO, Batch, Posterior, WiSEALE, log_mean_overlap
from sklearn_wiseale.objectives._aggregate import aggregate_kl_bound, cross_entropy

RESULTS = Path(__file__).parent / "results"
KEYS = ["data", "likelihood", "n_components", "objective", "weight", "width", "seed"]
MNIST = {"network": MLP(hidden=(512, 256)), "max_epochs": 6, "batch_size": 128}
SMALL = {"network": MLP(hidden=(128,)), "batch_size": 64}


def sets(name, path, n_train):
    """Training and held-out rows in [0, 1]."""
    if name == "mnist":
        train, test = load(path)
        return train[:n_train], test
    if name == "digits":
        X = load_digits().data / 16
    else:
        X = (make_sine_waves(3000, random_state=0)[0] + 1.5) / 3
    return train_test_split(np.clip(X, 0, 1).astype(np.float32), test_size=1 / 3, random_state=0)


def study():
    """Widths from the batch to all rows."""
    widths = {
        "sines": (64, 256, 1024, 2000),
        "digits": (64, 256, 1198),
        "mnist": (128, 1024, 4096, 10_000),
    }
    for seed, data in itertools.product(range(3), widths):
        for k, likelihood in itertools.product((2, 4, 8, 16), ("gaussian", "bernoulli")):
            weight = "auto" if likelihood == "gaussian" else 1.0
            for width in widths[data]:
                yield dict(
                    zip(KEYS, (data, likelihood, k, "jensen", weight, width, seed), strict=True)
                )


def frontier():
    """Five weights each for the ELBO and for jensen at two widths."""
    for method in (("elbo", 0), ("jensen", 4096), ("jensen", 20_000)):
        for seed, k, weight in itertools.product(range(5), (8, 2), (6.0, 10.0, 17.0, 28.0, 48.0)):
            setting = ("mnist", "gaussian", k, method[0], weight, method[1], seed)
            yield dict(zip(KEYS, setting, strict=True))


def run(task, path, exact):
    """Fit and measure one setting, on one thread; exact sums over the training rows if asked."""
    torch.set_num_threads(1)
    train, test = sets(task["data"], path, 10_000 if exact else 20_000)
    if task["objective"] == "elbo":
        objective = ELBO(weight=task["weight"])
    else:
        objective = WiSEALE(task["objective"], weight=task["weight"], width=task["width"])
    model = WiSEALETransformer(
        task["n_components"],
        objective=objective,
        likelihood=task["likelihood"],
        scale="global" if task["likelihood"] == "gaussian" else "auto",
        early_stopping=False,
        random_state=task["seed"],
        **(MNIST if task["data"] == "mnist" else SMALL),
    )
    start = time.perf_counter()
    model.fit(train)
    seconds = time.perf_counter() - start
    rng = np.random.RandomState(task["seed"])
    test_mean, test_std = model.posterior(test)
    z = test_mean + test_std * rng.standard_normal(test_mean.shape)
    drawn = model.inverse_transform(rng.standard_normal((1000, task["n_components"])))
    figures = {
        "mse": np.mean((model.inverse_transform(test_mean) - test) ** 2),
        "swd": sliced_wasserstein(z[:5000], random_state=0),
        "generated": pairwise_distances_argmin_min(drawn, test)[1].mean(),
        "sd": test_std.mean(),
        "epoch_seconds": np.median([row["dur"] for row in model.history_]),
        "fit_seconds": seconds,
    }
    if not exact:
        return figures
    mean, std = model.posterior(train)
    log_var = 2 * np.log(std)
    kl = 0.5 * (mean**2 + std**2 - 1 - log_var).sum(axis=1).mean(dtype=np.float64)
    monte_carlo = aggregate_kl(mean, log_var, method="monte_carlo", random_state=rng)
    return figures | {
        "moment": aggregate_kl(mean, log_var, method="moment"),
        "jensen": aggregate_kl(mean, log_var),
        "monte_carlo": monte_carlo,
        "information": kl - monte_carlo,
    }


def read(part):
    file = RESULTS / f"width_{part}.csv"
    return list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []


def write(part, rows):
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"width_{part}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def run_all(part, tasks, path, n_jobs):
    """Run what is not there yet, several at a time."""
    rows = read(part)
    done = {tuple(row[key] for key in KEYS) for row in rows}
    tasks = [task for task in tasks if tuple(str(task[key]) for key in KEYS) not in done]
    results = joblib.Parallel(n_jobs, return_as="generator")(
        joblib.delayed(run)(task, path, part == "study") for task in tasks
    )
    for task, figures in zip(tasks, results, strict=True):
        rows.append(task | {name: f"{value:.5f}" for name, value in figures.items()})
        write(part, rows)
        print(len(rows), rows[-1], flush=True)


def at_equal_swd(rows, other_rows):
    """Ratio of MSE over the range of SWD that two frontiers share; log-log interpolation.

    Its mean, its value where the codes are most regular, and the range.
    """
    curves = []
    for points in (rows, other_rows):
        points = sorted((float(row["swd"]), float(row["mse"])) for row in points)
        front = [p for i, p in enumerate(points) if all(p[1] < q[1] for q in points[:i])]
        curves.append(np.log(np.array(front)).T)
    low = max(curve[0].min() for curve in curves)
    high = min(curve[0].max() for curve in curves)
    if not low < high:
        return np.nan, np.nan, (np.exp(low), np.exp(high))
    at = np.linspace(low, high, 50)
    ours, theirs = (np.interp(at, *curve) for curve in curves)
    ratio = np.exp(ours - theirs)
    return float(np.exp(np.mean(ours - theirs))), float(ratio[0]), (np.exp(low), np.exp(high))


def interval(values):
    """Mean and 95 % t-interval."""
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return np.mean(values), np.mean(values) - half, np.mean(values) + half


def frontier_gains():
    """Wide Jensen beside the ELBO: (K, width), then means and intervals over the seeds.

    Per cent of the error at equal distance, over the range of distances and where it is lowest,
    and the ends of that range.
    """
    rows = read("frontier")
    for k, width in itertools.product((2, 8), (4096, 20_000)):
        gains, at_best, ranges = [], [], []
        for seed in range(5):
            ours, theirs = (
                [
                    row
                    for row in rows
                    if (row["n_components"], row["seed"]) == (str(k), str(seed))
                    and (row["objective"], row["width"]) == (objective, str(columns))
                ]
                for objective, columns in (("jensen", width), ("elbo", 0))
            )
            if len(ours) == len(theirs) == 5:
                ratio, regular, shared = at_equal_swd(ours, theirs)
                gains.append(100 * (1 - ratio))
                at_best.append(100 * (1 - regular))
                ranges.append(shared)
        if len(gains) > 1:
            yield (k, width), interval(gains), interval(at_best), np.mean(ranges, axis=0)


def summarise_frontier():
    for (k, width), (mean, low, high), (best, best_low, best_high), ends in frontier_gains():
        print(
            f"K={k} width {width}: MSE at equal SWD {mean:.1f} % below the ELBO's (95 % interval "
            f"{low:.1f} to {high:.1f}; SWD {ends[0]:.3f} to {ends[1]:.3f}); at the lowest SWD "
            f"{best:.1f} % ({best_low:.1f} to {best_high:.1f})"
        )
    table(read("frontier"), ["n_components", "objective", "width", "weight"])


def table(rows, keys):
    """Means over the seeds."""
    if not rows:
        return
    shown = ["mse", "swd", "moment", "jensen", "monte_carlo", "information", "generated", "sd"]
    shown = [name for name in [*shown, "epoch_seconds"] if name in rows[0]]
    print(" | ".join([*keys, "n", *shown]))

    def key(row):
        return tuple(float(v) if v.replace(".", "").isdigit() else v for v in map(row.get, keys))

    for head, group in itertools.groupby(sorted(rows, key=key), key):
        group = list(group)
        means = [f"{np.mean([float(row[name]) for row in group]):.4f}" for name in shown]
        print(" | ".join([*map(str, head), str(len(group)), *means]))


def size_aware(path):
    """Jensen's bound from 4,096 of 20,000 posteriors, size-aware, beside the exact one."""
    train, _ = sets("mnist", path, 20_000)
    for k in (2, 4, 8):
        model = WiSEALETransformer(
            k,
            objective=WiSEALE("jensen"),
            scale="global",
            early_stopping=False,
            random_state=0,
            **MNIST,
        )
        mean, std = model.fit(train).posterior(train)
        exact = aggregate_kl(mean, 2 * np.log(std))
        posterior = Posterior(torch.from_numpy(mean), 2 * torch.from_numpy(std).log())
        uniform, estimates = [], []
        for seed in range(10):
            chosen = torch.from_numpy(np.random.RandomState(seed).permutation(20_000)[:4096])
            few = Posterior(*(part[chosen].double() for part in posterior))
            weights = few.mean.new_full((4096, 4096), math.log((1 - 1 / 20_000) / 4095))
            weights.fill_diagonal_(-math.log(20_000))
            rows = log_mean_overlap(*few, log_weights=weights)
            estimates.append(float(rows.mean() + cross_entropy(few)))
            uniform.append(float(aggregate_kl_bound(few, "jensen")))
        yield {
            "quantity": "jensen",
            "n_components": k,
            "exact": exact,
            "size_aware": np.mean(estimates),
            "size_aware_sd": np.std(estimates),
            "uniform": np.mean(uniform),
        }


SNAPSHOTS = []
SNAPSHOT_STEPS = set()


class Snapshot(Callback):
    """At some steps, gradients of 20 batches beside the exact gradient over all rows."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Count the steps of a fit."""
        self.rows_, self.step_ = X[0], 0

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Measure at the steps asked for."""
        self.step_ += 1
        if self.step_ in SNAPSHOT_STEPS:
            SNAPSHOTS.append(snapshot(net, self.rows_, self.step_))

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Let go of the rows."""
        del self.rows_


def snapshot(net, rows, step):
    """Cosines of batch gradients, by posteriors and by the encoder's weights, with exact ones."""
    n, criterion, encoder = len(rows), net.criterion_, net.module_.encoder
    leaf = Posterior(*(part.requires_grad_() for part in net.posterior(rows)))
    exact = torch.autograd.grad(aggregate_kl_bound(leaf, "jensen"), leaf)
    full = [torch.zeros_like(p) for p in encoder.parameters()]
    for start in range(0, n, 4096):
        part = slice(start, start + 4096)
        out = net.module_.encode(rows[part])
        grads = torch.autograd.grad(out, list(encoder.parameters()), [g[part] for g in exact])
        full = [f + g for f, g in zip(full, grads, strict=True)]
    full = flat(full)
    held = {name: state.clone() for name, state in criterion.bank.state_dict().items()}
    generator = torch.Generator().manual_seed(step)
    by_posterior, by_weight, norms, total = [], [], [], torch.zeros_like(full)
    for _ in range(20):
        chosen = torch.randperm(n, generator=generator)[:256]
        posterior = net.module_.encode(rows[chosen])
        batch = Batch(chosen, n_samples=n, training=True)
        value = criterion(posterior, posterior.mean.detach(), batch) / criterion.weight
        grads = torch.autograd.grad(value, [*posterior, *encoder.parameters()])
        wanted = torch.cat([g[chosen] for g in exact], dim=1).flatten() * n / 256
        got, of_weights = torch.cat(grads[:2], dim=1).flatten(), flat(grads[2:])
        by_posterior.append(float(torch.cosine_similarity(got, wanted, dim=0)))
        norms.append(float(got.norm() / wanted.norm()))
        by_weight.append(float(torch.cosine_similarity(of_weights, full, dim=0)))
        total += of_weights
        criterion.bank.load_state_dict(held)
    mean = float(torch.cosine_similarity(total, full, dim=0))
    return np.array([np.mean(by_posterior), np.mean(norms), np.mean(by_weight), mean])


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def gradients(path):
    """Batches of 256 and a bank of 4,096 in training, against exact gradients over 60,000 rows."""
    train, _ = sets("mnist", path, 60_000)
    for width in (1, 4096):
        model = WiSEALETransformer(
            8,
            objective=WiSEALE("jensen", width=width),
            network=MLP(hidden=(512, 512)),
            scale="global",
            max_epochs=4,
            batch_size=256,
            early_stopping=False,
            warm_start=True,
            random_state=0,
            net_params={"callbacks": [Snapshot()]},
        )
        SNAPSHOT_STEPS.clear()
        model.fit(train)
        SNAPSHOTS.clear()
        SNAPSHOT_STEPS.update({60, 100, 140, 180, 220})
        model.set_params(max_epochs=1, objective=WiSEALE("jensen", width=4096))
        model.fit(train)
        cosine, norm, by_weight, of_mean = np.mean(SNAPSHOTS, axis=0)
        yield {
            "quantity": f"gradient, trained with width {width}",
            "n_components": 8,
            "cosine": cosine,
            "norm": norm,
            "cosine_weights": by_weight,
            "cosine_mean": of_mean,
        }


def estimate(path):
    """Size-aware sums and gradients against exact ones."""
    fields = ["quantity", "n_components", "exact", "size_aware", "size_aware_sd", "uniform"]
    fields += ["cosine", "norm", "cosine_weights", "cosine_mean"]
    rows = [row for row in read("estimate") if row["quantity"] == "jensen"]
    parts = [gradients(path)] if rows else [size_aware(path), gradients(path)]
    for row in itertools.chain(*parts):
        numbers = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}
        rows.append(dict.fromkeys(fields, "") | numbers)
        write("estimate", rows)
        print(row, flush=True)


def epoch_times(path):
    """Epochs of width 4,096 against width = batch, alternating, on MNIST's 60,000 images."""
    train, _ = sets("mnist", path, 60_000)
    rows = []
    for k in (2, 8, 16):
        models, seconds = {}, {1: [], 4096: []}
        for width in seconds:
            models[width] = WiSEALETransformer(
                k,
                objective=WiSEALE("jensen", width=width),
                network=MLP(hidden=(512, 512)),
                scale="global",
                batch_size=256,
                random_state=0,
            )
            models[width].partial_fit(train)
        for _ in range(7):
            for width, model in models.items():
                seconds[width].append(model.partial_fit(train).history_[-1]["dur"])
        narrow, wide = (np.array(values) for values in seconds.values())
        rows.append(
            {
                "n_components": k,
                "narrow_seconds": f"{np.median(narrow):.2f}",
                "wide_seconds": f"{np.median(wide):.2f}",
                "ratio": f"{np.median(wide / narrow):.3f}",
            }
        )
        write("time", rows)
        print(rows[-1], flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="npz file with X_train and X_test; default: OpenML")
    parser.add_argument("--part", choices=["study", "frontier", "estimate", "time"])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--summary", action="store_true", help="print the tables and run nothing")
    arguments = parser.parse_args()
    for part, tasks in (("frontier", frontier), ("study", study)):
        if arguments.part in (None, part) and not arguments.summary:
            run_all(part, list(tasks()), arguments.data, arguments.jobs)
    if arguments.part in (None, "estimate") and not arguments.summary:
        estimate(arguments.data)
    if arguments.part in (None, "time") and not arguments.summary:
        epoch_times(arguments.data)
    if arguments.summary:
        summarise_frontier()
        table(read("study"), ["data", "likelihood", "n_components", "width"])


if __name__ == "__main__":
    main()
