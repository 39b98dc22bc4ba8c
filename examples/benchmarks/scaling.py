"""How the cost of a step grows with the batch, the width, the components and the columns, and what
two processes gain over one.

A step's time is that of a fit of three epochs less that of a fit of one, over its steps, so that
start and end cancel; medians, all settings in turn. "divergence" is what the default objective
takes beyond the ELBO, whose own divergence is next to nothing. Rows go to results/scaling.csv.

    python examples/benchmarks/scaling.py --data mnist.npz      # a file with X_train, X_test
    python examples/benchmarks/scaling.py                       # from OpenML, 15 MB
    python examples/benchmarks/scaling.py --quick               # random rows, seconds

"ranks" starts processes by torchrun, on cores of this machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch
from engine import alternate, epochs_of, put, seconds
from mnist import load
from torch import distributed

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale._training.distributed import Processes
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import ELBO, WiSEALE

RESULT = Path(__file__).parent / "results" / "scaling.csv"
FIELDS = ["part", "quantity", "value", "figure", "unit"]
BASE = {"batch": 256, "width": 4096, "components": 8, "columns": 784}
#: Settings, each beside the base.
VARIED = {
    "batch": (64, 256, 1024),
    "width": (256, 1024, 4096, 16_384),
    "components": (2, 8, 32),
    "columns": (196, 784, 3136),
}
N_ROWS = 20_000
SEEDS = (0, 1, 2)


def write(*rows):
    """Add or replace rows."""
    for values in rows:
        put(dict(zip(FIELDS, values, strict=True)), FIELDS[:3], RESULT)


def rows_of(X, n_columns):
    """Images of fewer pixels by means of 2 x 2 of them, of more by repetition with noise."""
    if n_columns == X.shape[1]:
        return X
    if n_columns < X.shape[1]:
        side = int(X.shape[1] ** 0.5) // 2
        return np.ascontiguousarray(
            X.reshape(-1, side, 2, side, 2).mean((2, 4)).reshape(len(X), -1)
        )
    rng = np.random.RandomState(0)
    tiled = np.tile(X, n_columns // X.shape[1])
    return tiled + 0.1 * rng.standard_normal(tiled.shape).astype(X.dtype)


def model_for(setting, objective, epochs, seed=0, **params):
    given = {
        "objective": objective,
        "network": MLP(hidden=(512, 256)),
        "scale": "global",
        "batch_size": setting["batch"],
        "learning_rate": 1e-3,
        "early_stopping": False,
        **params,
    }
    return WiSEALETransformer(setting["components"], max_epochs=epochs, random_state=seed, **given)


def growth(X, n, varied):
    """Milliseconds a step, with one thing at a time other than in the base."""
    settings = {("base", ""): BASE}
    for name, values in varied.items():
        for value in values:
            if value != BASE[name]:
                settings[name, value] = {**BASE, name: value}
    fits, steps = [], []
    for setting in settings.values():
        rows = rows_of(X, setting["columns"])
        steps.append(2 * -(-len(rows) // setting["batch"]))
        for objective in (ELBO(), WiSEALE(width=setting["width"])):

            def fit(e, rows=rows, setting=setting, objective=objective):
                return model_for(setting, objective, e).fit(rows)

            fits += epochs_of(fit, 2)
    times = alternate(fits, n).reshape(len(settings), 2, 2, -1)
    for (name, value), n_steps, of in zip(settings, steps, times, strict=True):
        elbo, ours = (median(long - short) / n_steps * 1e3 for long, short in of)
        divergence = median((of[1, 0] - of[1, 1]) - (of[0, 0] - of[0, 1])) / n_steps * 1e3
        write(
            ("growth", name, value, f"{ours:.3g}", "ms a step"),
            ("growth, ELBO", name, value, f"{elbo:.3g}", "ms a step"),
            ("growth, divergence", name, value, f"{divergence:.3g}", "ms a step"),
        )


# several processes ----------------------------------------------------------------------------


def measure_exchange(counts, took):
    """Note the bytes that this process hands to the group, and the seconds of summing gradients."""
    reduce, sum_gradients = distributed.all_reduce, Processes.sum_gradients

    def counted(tensor, *args, **kwargs):
        counts.append(tensor.numel() * tensor.element_size())
        return reduce(tensor, *args, **kwargs)

    def timed(*args):
        distributed.barrier()  # else it is the wait for another process, too
        took.append(seconds(sum_gradients, *args))

    distributed.all_reduce, Processes.sum_gradients = counted, timed

    def stop():
        distributed.all_reduce, Processes.sum_gradients = reduce, sum_gradients

    return stop


def fit_here(path, task):
    """A fit of this process, or of its group: test error, seconds an epoch, bytes a step."""
    with np.load(path) as file:
        X, test = file["X"], file["test"]
    torch.set_num_threads(task["threads"])
    size = int(os.environ.get("WORLD_SIZE", 1))
    counts, took, stop = [], [], None
    if size > 1:
        distributed.init_process_group("gloo")
        stop = measure_exchange(counts, took)
    setting = {**BASE, "batch": BASE["batch"] // size}
    model = model_for(setting, WiSEALE(), 2, task["seed"])
    model.fit(X)
    error = np.mean((model.inverse_transform(model.transform(test)) - test) ** 2)
    if stop:
        stop()
    long, short = (seconds(model_for(setting, WiSEALE(), e, task["seed"]).fit, X) for e in (3, 1))
    n_steps = 2 * -(-len(X) // BASE["batch"])
    found = {"error": float(error), "epoch": (long - short) / 2}
    if size > 1:
        found |= {"bytes": sum(counts) / n_steps, "sum": median(took)}
    if size > 1:
        first = distributed.get_rank() == 0
        distributed.destroy_process_group()
        if not first:
            return
    print(json.dumps(found))


def ranks(X, test, n):
    """Two processes of half the batch beside one: test error, time, and what is exchanged."""
    launch = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"
    kinds = {
        "1 process, 1 thread": ((), 1),
        "1 process, 2 threads": ((), 2),
        "2 processes, 1 thread each": (launch, 1),
    }
    found = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "rows.npz"))
        np.savez(path, X=X, test=test)
        for seed in SEEDS[:n]:
            for kind, (by, threads) in kinds.items():
                task = json.dumps({"seed": seed, "threads": threads})
                done = subprocess.run(
                    [sys.executable, *by, __file__, "--fit", path, task],
                    stdout=subprocess.PIPE,
                    check=True,
                    text=True,
                    env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                )
                found[kind].append(json.loads(done.stdout))
    for kind, results in found.items():
        rows = [
            ("ranks", kind, f"test MSE, seed {seed}", f"{of['error']:.7f}", "a pixel")
            for seed, of in zip(SEEDS, results, strict=False)
        ]
        epoch = median(of["epoch"] for of in results)
        rows.append(("ranks", kind, "epoch", f"{epoch:.3g}", "s"))
        if "2 processes" in kind:
            n_bytes, sums = results[0]["bytes"], median(of["sum"] for of in results)
            rows.append(("ranks", kind, "exchanged a step", f"{n_bytes / 1e6:.3f}", "MB a process"))
            rows.append(("ranks", kind, "sum of gradients", f"{sums * 1e3:.3g}", "ms a step"))
        write(*rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", help="npz file with X_train and X_test; default: OpenML")
    parser.add_argument("--part", nargs="+", choices=["growth", "ranks"])
    parser.add_argument("--quick", action="store_true", help="few random rows; nothing is kept")
    parser.add_argument("--fit", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit:
        fit_here(arguments.fit[0], json.loads(arguments.fit[1]))
        return
    torch.set_num_threads(2)
    parts, n, varied = arguments.part or ["growth", "ranks"], 5, VARIED
    if arguments.quick:
        global RESULT
        folder = tempfile.TemporaryDirectory()
        RESULT, n, varied = Path(folder.name, "scaling.csv"), 1, {"batch": (64,), "columns": (196,)}
        X = test = np.random.RandomState(0).rand(300, 784).astype(np.float32)
    else:
        X, test = load(arguments.data)
        X = X[:N_ROWS]
    if "growth" in parts:
        growth(X, n, varied)
    if "ranks" in parts:
        ranks(X, test, min(n, len(SEEDS)))


if __name__ == "__main__":
    main()
