"""Training, overlaps, transform and codes on a GPU, beside what one would write by hand there.

    pip install sklearn-wiseale
    python examples/benchmarks/gpu.py --data mnist.npz --out codes   # a file with X_train, X_test
    python examples/benchmarks/gpu.py --part check --out codes       # on a machine without a GPU
    python examples/benchmarks/gpu.py --device cpu --quick           # tries all parts

Medians, both ways in turn, after a warm-up, the device synchronised. "epoch" is the time between
the beginnings of two epochs of a fit. "codes" leaves fitted estimators with their codes in a
folder, and "check" loads them, from files and pickles, and compares. A row is written to
results/gpu.csv as soon as it is there; what is there for a device is not run again, so that a run
that was cut goes on. ``--fresh`` runs all again. ``--quick`` writes only to ``--results``.
"""

import argparse
import csv
import pickle
import time
import traceback
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import engine
import numpy as np
import overlap
import torch
from mnist import load as load_mnist
from skorch.callbacks import Callback

from sklearn_wiseale import WiSEALETransformer, load
from sklearn_wiseale._data import rows as _data
from sklearn_wiseale.networks import MLP, Conv
from sklearn_wiseale.objectives import log_mean_overlap

RESULT = Path(__file__).parent / "results" / "gpu.csv"


class Run:
    """Where to compute, what with, and where results go."""

    def __init__(self, arguments):
        self.device = torch.device(arguments.device)
        self.is_cuda = self.device.type == "cuda"
        self.name = torch.cuda.get_device_name(self.device) if self.is_cuda else "CPU"
        self.quick, self.out = arguments.quick, arguments.out
        self.file = arguments.results or (None if self.quick else RESULT)
        self.there = set()
        if self.file and self.file.exists() and not arguments.fresh:
            with self.file.open() as file:
                rows = csv.DictReader(file)
                self.there = {tuple(row[k] for k in ("device", "part", "quantity")) for row in rows}
        if self.quick:
            rows = engine.table(1000, 64)
            self.train, self.test = rows[:800], rows[800:]
        elif set(arguments.part) - {"overlap", "check"}:
            self.train, self.test = load_mnist(arguments.data)

    def is_new(self, part, quantity):
        """Whether there is no such row yet."""
        return (self.name, part, quantity) not in self.there

    def write(self, part, quantity, ours, other, unit, ratio, device=None):
        """Add or replace a row, if there is a file for it, and print it."""
        if self.file is None:
            print(part, quantity, f"{ours:.4g} {other:.4g} {unit}, ratio {ratio:.3f}", flush=True)
            return
        device = device or self.name
        engine.write(part, quantity, ours, other, unit, ratio, file=self.file, device=device)

    def wait(self):
        """Until the device has done what it was given."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def compare(self, functions, n):
        """Median seconds of each function, in turn, all that it has begun included."""

        def whole(function):
            self.wait()
            function()
            self.wait()

        functions = [partial(whole, function) for function in functions]
        return [median(times) for times in engine.alternate(functions, 1 if self.quick else n)]


# training -------------------------------------------------------------------------------------


class Clock(Callback):
    """Notes when epochs begin; what came before has been read off the device by then."""

    begins = []

    def on_epoch_begin(self, net, **kwargs):
        """Note the time."""
        self.begins.append(time.perf_counter())


def epoch_of(fit):
    """Median seconds from one epoch's beginning to the next, without the first."""
    Clock.begins.clear()
    fit()
    return median(np.diff(Clock.begins)[1:])


@contextmanager
def not_resident(reading_ahead):
    """Inside, rows are read for each batch, by a thread in advance or when they are needed."""
    before = _data.resident_bytes, _data._READING_AHEAD
    _data.resident_bytes, _data._READING_AHEAD = lambda device: 0, reading_ahead
    try:
        yield
    finally:
        _data.resident_bytes, _data._READING_AHEAD = before


def epoch(run):
    """An epoch of 60,000 x 784, hidden (512, 256), batch 1024, ELBO; for information, others."""
    setting = (4, (16,), 256, 4) if run.quick else (16, (512, 256), 1024, 12)
    held = torch.from_numpy(run.train).to(run.device)

    def fit(**params):
        callbacks = {"net_params": {"callbacks": [Clock()], **params.pop("net_params", {})}}
        engine.ours(run.train, *setting, device=str(run.device), **callbacks, **params)

    def read(reading_ahead):
        with not_resident(reading_ahead):
            fit()

    def by_hand():
        begin = lambda: Clock.begins.append(time.perf_counter())  # noqa: E731
        engine.train_by_hand(held, *setting, begin)

    ways = {
        "ELBO": (fit, 5),
        "read for each batch, in advance": (partial(read, (run.device.type,)), 3),
        "read for each batch, when needed": (partial(read, ()), 3),
        "bfloat16": (partial(fit, precision="bfloat16"), 3),
        "default objective": (partial(fit, objective="wiseale"), 3),
        "compiled": (partial(fit, net_params={"compile": True}), 1),
    }
    for name, (way, n) in ways.items():
        quantity = f"{name}; resident rows, by hand"
        if not run.is_new("epoch", quantity) or (run.quick and name == "compiled"):
            continue
        turns = [[epoch_of(way), epoch_of(by_hand)] for _ in range(1 if run.quick else n)]
        ours, other = (median(times) for times in zip(*turns, strict=True))
        run.write("epoch", quantity, ours, other, "s an epoch", ours / other)


# overlaps -------------------------------------------------------------------------------------


def dense_in_chunks(mean, log_var, n_rows):
    """Gradients of the mean by the formula with all pairs and dimensions of some rows at once."""
    mean, log_var = (tensor.detach().requires_grad_() for tensor in (mean, log_var))
    for rows in torch.arange(len(mean), device=mean.device).split(n_rows):
        var = log_var.exp()
        total = var[rows][:, None] + var  # (n_rows, M, K)
        squared = (mean[rows][:, None] - mean).square()
        log_overlap = -0.5 * ((2 * torch.pi * total).log() + squared / total).sum(dim=2)
        (torch.logsumexp(log_overlap, dim=1).sum() / len(mean)).backward()
    return mean.grad, log_var.grad


def overlaps(run):
    """Forward and backward, M = A = 8,192, K = 32, beside the dense formula by row chunks."""
    m, k = (512, 8) if run.quick else (8192, 32)
    for regime in overlap.REGIMES:
        quantity = f"M = A = {m:,}, K = {k}, {regime}"
        if not run.is_new("overlap", quantity):
            continue
        small, given = (
            [t.to(run.device) for t in overlap.posteriors(n, k, regime)] for n in (512, m)
        )
        ours = partial(overlap.step, log_mean_overlap)
        theirs = {n: partial(dense_in_chunks, n_rows=n) for n in (16, 64, 256)}
        times = run.compare([partial(f, *given) for f in (ours, *theirs.values())], 7)
        best = min(theirs, key=dict(zip(theirs, times[1:], strict=True)).get)
        other = min(times[1:])
        found, expected = ours(*given), theirs[best](*given)
        error = (torch.cat(found) - torch.cat(expected)).norm() / torch.cat(expected).norm()
        print(f"chunks of {best} rows; gradients differ by {float(error):.1e}", flush=True)
        del found, expected
        run.write("overlap", quantity, 1e3 * times[0], 1e3 * other, "ms", times[0] / other)
        if run.is_cuda:
            peaks = [peak(run, f, small, given) for f in (ours, theirs[best])]
            run.write("overlap", f"memory, {quantity}", *peaks, "MB", peaks[0] / peaks[1])


def peak(run, function, small, given):
    """Most MB held on the device while a function runs, above those before, warmed up."""
    function(*small)
    run.wait()
    torch.cuda.reset_peak_memory_stats(run.device)
    before = torch.cuda.memory_allocated(run.device)
    function(*given)
    run.wait()
    return (torch.cuda.max_memory_allocated(run.device) - before) / 1e6


# transform ------------------------------------------------------------------------------------


def transform(run):
    """Rows a second beside the encoder's forward over scaled rows in the host's memory."""
    hidden = (16,) if run.quick else (512, 256)
    for scale in (None, "feature"):
        quantity = f"hidden {hidden}, scale={scale!r}"
        if not run.is_new("transform", quantity):
            continue
        model = engine.ours(
            run.train[:2000], 16, hidden, 256, 1, scale=scale, device=str(run.device)
        )
        encoder = model.net_.module_.encoder
        scaled = torch.from_numpy(model._scaling.apply(run.train.astype(float))).float()

        @torch.no_grad()
        def bare(encoder=encoder, scaled=scaled):
            return [encoder(x.to(run.device))[:, :16].cpu().numpy() for x in scaled.split(2000)]

        times = run.compare([partial(model.transform, run.train), bare], 11)
        ours, other = (len(run.train) / seconds for seconds in times)
        run.write("transform", quantity, ours, other, "rows a second", ours / other)


# codes ----------------------------------------------------------------------------------------


def codes(run):
    """Fit, and leave estimators with rows and codes in a folder."""
    if not run.is_new("codes", "default, file"):
        return
    side = 8 if run.quick else 28
    rng = np.random.RandomState(0)

    def with_gaps(X):
        return np.where(rng.uniform(size=X.shape) < 0.1, np.float32(np.nan), X)

    settings = {
        "default": {},
        "float64": {"precision": "float64"},
        "convolutions": {"network": Conv((1, side, side), channels=(8, 16))},
        "missing values": {"network": MLP(hidden=(64,))},
    }
    run.out.mkdir(exist_ok=True)
    models, arrays = {}, {"device": np.array(run.name)}
    for name, params in settings.items():
        train, rows = run.train[:2000], run.test[:300]
        if name == "missing values":
            train, rows = with_gaps(train), with_gaps(rows)
        model = WiSEALETransformer(
            4, max_epochs=3, random_state=0, scale="global", device=str(run.device), **params
        ).fit(train)
        model.save(run.out / f"{name.replace(' ', '_')}.safetensors")
        models[name] = model
        arrays |= {f"{name}, rows": rows, f"{name}, codes": model.transform(rows)}
    np.savez_compressed(run.out / "codes.npz", **arrays)
    (run.out / "models.pkl").write_bytes(pickle.dumps(models))
    print(f"{len(models)} estimators are in the folder {run.out}", flush=True)


def check(run):
    """Load what "codes" has left, on this machine, and compare."""
    with np.load(run.out / "codes.npz") as file:
        arrays = dict(file)
    models = pickle.loads((run.out / "models.pkl").read_bytes())
    for name, model in models.items():
        rows, expected = (arrays[f"{name}, {what}"] for what in ("rows", "codes"))
        saved = load(run.out / f"{name.replace(' ', '_')}.safetensors", device="cpu")
        for kind, loaded in {"file": saved, "pickle": model.set_params(device="cpu")}.items():
            error = np.abs(loaded.transform(rows) - expected).max()
            quantity = f"{name}, {kind}"
            where = str(arrays["device"])
            unit = "largest difference, limit"
            run.write("codes", quantity, error, 1e-4, unit, error / 1e-4, device=where)


PARTS = {
    "epoch": epoch,
    "overlap": overlaps,
    "transform": transform,
    "codes": codes,
    "check": check,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="npz file with X_train and X_test; default: OpenML")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("codes"), help="folder of estimators")
    parser.add_argument("--results", type=Path, help="file of results; default: results/gpu.csv")
    parser.add_argument("--quick", action="store_true", help="small rows, once")
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    arguments = parser.parse_args()
    if arguments.part == ["check"]:
        arguments.device = "cpu"
    run, failed = Run(arguments), []
    for name in arguments.part:
        try:
            PARTS[name](run)
        except Exception:  # the other parts go on
            traceback.print_exc()
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
