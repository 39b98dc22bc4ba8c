"""The training engine beside a hand-written loop, skorch's own loader, pythae and umap-learn.

Ratios of medians, alternating in one run. "epoch" is the time of a fit of 1 + e epochs less that
of a fit of 1, so that start and end cancel. Each part writes its rows to results/engine.csv and
leaves those of the others.

    python examples/benchmarks/engine.py --data mnist.npz       # a file with X_train, X_test
    python examples/benchmarks/engine.py                        # from OpenML, 15 MB
    python examples/benchmarks/engine.py --part small memory    # some parts

pythae and umap-learn are measured where they are installed. "memory" writes files of 8 and 2 GB
to the temporary directory and reads /proc.
"""

import argparse
import csv
import itertools
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mnist import load
from torch import nn

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import ELBO

RESULT = Path(__file__).parent / "results" / "engine.csv"
FIELDS = ["part", "quantity", "ours", "other", "unit", "ratio"]


def put(row, key, file):
    """Add a row to a file of results, or put it in place of the one that has the same key."""
    rows = list(csv.DictReader(file.open())) if file.exists() else []
    row = {name: str(value) for name, value in row.items()}
    places = [i for i, r in enumerate(rows) if all(r[name] == row[name] for name in key)]
    rows[places[0] if places else len(rows) : places[0] + 1 if places else None] = [row]
    file.parent.mkdir(exist_ok=True)
    with file.open("w", newline="") as target:
        writer = csv.DictWriter(target, row)
        writer.writeheader()
        writer.writerows(rows)
    print(row, flush=True)


def write(part, quantity, ours, other, unit, ratio, *, file=RESULT, **where):
    """Put a row of FIELDS, and of where it was measured."""
    new = [part, quantity, f"{ours:.4g}", f"{other:.4g}", unit, f"{ratio:.3f}"]
    row = {**where, **dict(zip(FIELDS, new, strict=True))}
    put(row, [*where, "part", "quantity"], file)


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def alternate(functions, n):
    """Seconds of each function, n times in turn; the first turn is not counted."""
    times = [[seconds(function) for function in functions] for _ in range(n + 1)][1:]
    return np.array(times).T


def epochs_of(fit, epochs):
    """What ``epochs`` more epochs take."""
    return lambda: fit(1 + epochs), lambda: fit(1)


def compare_epochs(fits, n, epochs):
    """Median seconds an epoch of each ``fit(n_epochs)``, alternating."""
    times = alternate([f for fit in fits for f in epochs_of(fit, epochs)], n)
    return [median((long - short) / epochs) for long, short in times.reshape(len(fits), 2, -1)]


# the rivals -----------------------------------------------------------------------------------


def layers(widths):
    parts = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.GELU())]
    return nn.Sequential(*parts)


class Branches(nn.Module):
    """A linear map beside hidden layers, as the estimator's network."""

    def __init__(self, n_in, hidden, n_out):
        super().__init__()
        self.layers = layers([n_in, *hidden])
        self.last, self.skip = nn.Linear(hidden[-1], n_out), nn.Linear(n_in, n_out)

    def forward(self, x):
        """Rows (n, n_in) to (n, n_out)."""
        return self.skip(x) + self.last(self.layers(x))


class HandWritten(nn.Module):
    """Encoder, decoder and the noise of a Gaussian likelihood."""

    def __init__(self, n_features, n_components, hidden):
        super().__init__()
        self.encoder = Branches(n_features, hidden, 2 * n_components)
        self.decoder = Branches(n_components, hidden[::-1], n_features)
        self.register_buffer("variance", torch.tensor(1.0))

    def loss(self, x):
        """Negative ELBO, nats a row."""
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        log_var = log_var.clamp(-20, 10)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        squared = (x - self.decoder(z)).square()
        with torch.no_grad():
            self.variance.lerp_(squared.mean(), 0.02)
        nats = 0.5 * (squared / self.variance + (2 * torch.pi * self.variance).log())
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=1)
        return (nats.sum(dim=1) + kl).mean()


def train_by_hand(X, n_components, hidden, batch_size, n_epochs, on_epoch_begin=lambda: None):
    """What one would write in a script: rows in a tensor, a permutation an epoch."""
    torch.manual_seed(0)
    model = HandWritten(X.shape[1], n_components, hidden).to(X.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)
    n_steps, step = n_epochs * -(-len(X) // batch_size), 0
    for _ in range(n_epochs):
        on_epoch_begin()
        total = 0.0
        for index in torch.randperm(len(X), device=X.device).split(batch_size):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * min(1.0, 2 - 2 * step / n_steps)
            optimizer.zero_grad()
            loss = model.loss(X[index])
            loss.backward()
            optimizer.step()
            total = total + loss.detach() * len(index)
            step += 1
        float(total)
    return model


def train_by_skorch(X, n_components, hidden, batch_size, n_epochs):
    """Use skorch with its data set and loader, as its documentation shows for an autoencoder."""
    from skorch import NeuralNet

    class Loss(NeuralNet):
        def get_loss(self, y_pred, y_true, X=None, *args, **kwargs):
            return y_pred

    class Module(HandWritten):
        def forward(self, X):
            return self.loss(X)

    net = Loss(
        Module,
        module__n_features=X.shape[1],
        module__n_components=n_components,
        module__hidden=hidden,
        criterion=nn.Identity,
        optimizer=torch.optim.AdamW,
        optimizer__fused=True,
        batch_size=batch_size,
        max_epochs=n_epochs,
        train_split=None,
        verbose=0,
    )
    return net.fit(X, X)


def train_by_pythae(X, n_components, hidden, batch_size, n_epochs):
    """Pythae's VAE and trainer."""
    import logging

    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.disable(logging.CRITICAL)

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.layers = layers([X.shape[1], *hidden])
            self.mean, self.log_var = (nn.Linear(hidden[-1], n_components) for _ in range(2))

        def forward(self, x):
            h = self.layers(x)
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            widths = [n_components, *hidden[::-1]]
            self.layers, self.last = layers(widths), nn.Linear(widths[-1], X.shape[1])

        def forward(self, z):
            return ModelOutput(reconstruction=self.last(self.layers(z)))

    torch.manual_seed(0)
    shape = {"input_dim": (X.shape[1],), "latent_dim": n_components}
    model = VAE(VAEConfig(**shape, reconstruction_loss="mse"), Encoder(), Decoder())
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=batch_size,
            num_epochs=n_epochs,
            learning_rate=1e-3,
            no_cuda=True,
        )
        data = BaseDataset(torch.from_numpy(X), torch.zeros(len(X)))
        trainer = BaseTrainer(model, train_dataset=data, training_config=config)
        trainer.train()
    logging.disable(logging.NOTSET)
    return trainer.model.eval()


def ours(X, n_components, hidden, batch_size, n_epochs, **params):
    model = WiSEALETransformer(
        n_components,
        **{"objective": ELBO(), "scale": None, **params},
        network=MLP(hidden=hidden),
        batch_size=batch_size,
        max_epochs=n_epochs,
        learning_rate=1e-3,
        early_stopping=False,
        random_state=0,
    )
    return model.fit(X)


def table(n, n_features, seed=0):
    """Standardised rows on a curved surface with noise, float32."""
    rng = np.random.RandomState(seed)
    factors = rng.standard_normal((n, 4)).astype(np.float32)
    mixing, bending = rng.standard_normal((2, 4, n_features)).astype(np.float32)
    X = factors @ mixing + np.tanh(factors) ** 2 @ bending
    X += 0.3 * rng.standard_normal((n, n_features)).astype(np.float32)
    return (X - X.mean(axis=0)) / X.std(axis=0)


# parts ----------------------------------------------------------------------------------------


def epoch(path):
    """An epoch of 60,000 x 784, hidden (512, 256), batch 256, ELBO."""
    X = load(path)[0]
    setting = (16, (512, 256), 256)
    tensor = torch.from_numpy(X)
    mine, by_hand = compare_epochs(
        [lambda e: ours(X, *setting, e), lambda e: train_by_hand(tensor, *setting, e)], 7, 1
    )
    write("epoch", "60,000 x 784, by hand", mine, by_hand, "s an epoch", mine / by_hand)


def small(path):
    """An epoch of 20,000 x 30, hidden (64,), batch 128, ELBO."""
    X = table(20_000, 30)
    setting = (4, (64,), 128)
    tensor = torch.from_numpy(X)
    mine, by_hand, by_skorch = compare_epochs(
        [
            lambda e: ours(X, *setting, e),
            lambda e: train_by_hand(tensor, *setting, e),
            lambda e: train_by_skorch(X, *setting, e),
        ],
        9,
        4,
    )
    write("small", "20,000 x 30, by hand", mine, by_hand, "s an epoch", mine / by_hand)
    write("small", "20,000 x 30, skorch's loader", mine, by_skorch, "s an epoch", mine / by_skorch)


def pythae(path):
    """Five epochs of MNIST, the same layer sizes: the whole fit, and the test MSE."""
    if find_spec("pythae") is None:
        return
    train, test = load(path)
    setting = (16, (512, 256), 128, 5)
    models = [None, None]

    def fit(place, function):
        models[place] = function(train, *setting)

    mine, theirs = alternate([lambda: fit(0, ours), lambda: fit(1, train_by_pythae)], 3)
    write("pythae", "fit", median(mine), median(theirs), "s", median(mine) / median(theirs))
    codes = models[0].transform(test)
    with torch.no_grad():
        mean = models[1].encoder(torch.from_numpy(test)).embedding
        decoded = models[1].decoder(mean).reconstruction.numpy()
    errors = [np.mean((x - test) ** 2) for x in (models[0].inverse_transform(codes), decoded)]
    write("pythae", "test MSE", *errors, "a pixel", errors[0] / errors[1])


def transform(path):
    """Rows a second of ``transform`` beside the encoder's forward over scaled tensors."""
    train, test = load(path)
    for hidden, scale in itertools.product(((512, 256), (64,)), (None, "feature")):
        model = ours(train[:2000], 16, hidden, 128, 1, scale=scale)
        encoder, scaling = model.net_.module_.encoder, model._scaling
        scaled = torch.from_numpy(scaling.apply(test.astype(float))).float()

        def bare(encoder=encoder, scaled=scaled):
            with torch.no_grad():
                return [encoder(part)[:, :16].numpy() for part in scaled.split(1000)]

        mine, theirs = alternate([lambda model=model: model.transform(test), bare], 21)
        speeds = [len(test) / median(times) for times in (mine, theirs)]
        write(
            "transform",
            f"hidden {hidden}, scale={scale!r}",
            *speeds,
            "rows a second",
            speeds[0] / speeds[1],
        )


def umap(path):
    """New rows, and rows back from codes, beside umap-learn; K = 2, 4,000 and 50 rows."""
    if find_spec("umap") is None:
        return
    import warnings

    import umap as umap_learn

    warnings.simplefilter("ignore")
    train, test = load(path)
    network = MLP(hidden=(256, 256))
    model = WiSEALETransformer(2, network=network, max_epochs=5, random_state=0)
    model.fit(train[:10_000])
    reducer = umap_learn.UMAP(n_components=2).fit(train[:10_000])
    codes = {id(m): m.transform(test[:50]) for m in (model, reducer)}

    def compare(name, call):
        calls = [lambda m=m: call(m) for m in (model, reducer)]
        cold = [seconds(call) for call in calls]
        write("umap", f"{name}, cold", *cold, "s", cold[0] / cold[1])
        mine, theirs = (median(times) for times in alternate(calls, 3))
        write("umap", name, mine, theirs, "s", mine / theirs)

    compare("transform 4,000 rows", lambda m: m.transform(test[:4000]))
    compare("inverse_transform 50 rows", lambda m: m.inverse_transform(codes[id(m)]))


def scaling(path):
    """Time an epoch and row, from 10,000 to 1,000,000 rows of 30 features; ELBO, batch 256."""
    figures = {}
    for n in (10_000, 100_000, 1_000_000):
        X = table(n, 30)

        def fit(e, X=X):
            return ours(X, 4, (256, 256), 256, e)

        times = alternate(epochs_of(fit, max(1, 200_000 // n)), 2 if n > 100_000 else 3)
        figures[n] = median((times[0] - times[1]) / max(1, 200_000 // n)) / n * 1e6
        ratio = figures[n] / figures[10_000]
        write("scaling", f"n = {n:,}", figures[n], figures[10_000], "us a row and epoch", ratio)


CHILD = """
import sys, time
import numpy as np, scipy.sparse as sparse
from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.networks import MLP
kind, file, shape = sys.argv[1], sys.argv[2], tuple(map(int, sys.argv[3:]))
print("ready", flush=True); sys.stdin.readline()
if kind == "csr":
    X = sparse.random(*shape, density=0.005, format="csr", dtype=np.float32, random_state=0)
else:
    X = np.memmap(file, dtype=kind, mode="r", shape=shape)
print("data", flush=True); sys.stdin.readline()
start = time.perf_counter()
model = WiSEALETransformer(8, network=MLP(hidden=(64,)), max_epochs=1, random_state=0).fit(X)
print(time.perf_counter() - start, flush=True)
"""


def anonymous_mb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "RssAnon" in line) / 1024


def peak_of(*arguments):
    """Anonymous resident MB of a fit's process: after imports, with the data, at most; seconds."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    figures = []
    for _ in range(2):
        child.stdout.readline()
        figures.append(anonymous_mb(child.pid))
        child.stdin.write("\n")
        child.stdin.flush()
    peak = 0.0
    os.set_blocking(child.stdout.fileno(), False)
    while not (line := child.stdout.readline()):
        if child.poll() is not None:
            raise RuntimeError("the fit failed")
        peak = max(peak, anonymous_mb(child.pid))
        time.sleep(0.05)
    child.wait()
    return *figures, peak, float(line)


def fill(file, shape, dtype):
    """Rows on disk, a block at a time; uint8 rows are grey levels."""
    with open(file, "wb") as target:
        block = 8192
        for start in range(0, shape[0], block):
            X = table(min(block, shape[0] - start), shape[1], seed=0)
            X = np.roll(X, start, axis=0) + np.float32(start % 7) / 7
            X = np.clip(128 + 40 * X, 0, 255) if dtype == "uint8" else X
            target.write(X.astype(dtype).tobytes())


def memory(path):
    """Peak anonymous memory of one epoch on data larger than it."""
    jobs = [
        ("float32", (1_000_000, 2000), "8 GB float32 memmap"),
        ("uint8", (2_600_000, 784), "2 GB uint8 memmap"),
        ("csr", (200_000, 5000), "CSR 200,000 x 5,000, 0.5 %"),
    ]
    for kind, shape, name in jobs:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "X.bin"
            if kind != "csr":
                fill(file, shape, kind)
            imported, loaded, peak, took = peak_of(kind, file, *shape)
        # a CSR matrix is itself anonymous memory, and counts for the user, not for the fit
        above = peak - (loaded if kind == "csr" else imported)
        write("memory", name, above, 1024, f"MB, limit; {took:.0f} s", above / 1024)


def search(path):
    """GridSearchCV of 8 fits with two workers beside one."""
    from sklearn.model_selection import GridSearchCV

    grid = {"n_components": [2, 4], "learning_rate": [1e-3, 2e-3]}
    X = load(path)[0][:6000]

    def run(n_jobs):
        model = WiSEALETransformer(max_epochs=15, early_stopping=False, random_state=0)
        GridSearchCV(model, grid, cv=2, n_jobs=n_jobs, refit=False).fit(X)

    one, two = alternate([lambda: run(1), lambda: run(2)], 2)
    ratio = median(two) / median(one)
    write("search", "6,000 x 784, 2 workers beside 1", median(two), median(one), "s", ratio)


IMPORTS = """
import time, torch, sklearn, skorch
start = time.perf_counter()
import sklearn_wiseale
print(time.perf_counter() - start)
"""


def size(path):
    """Import beyond torch, scikit-learn and skorch; the pickle beside the weights."""
    command = [sys.executable, "-c", IMPORTS]
    times = [
        float(subprocess.run(command, capture_output=True, text=True).stdout) for _ in range(8)
    ]
    took = median(times[1:])
    write("size", "import", took, 0.15, "s, limit", took / 0.15)
    X = load(path)[0][:2000]
    model = WiSEALETransformer(16, max_epochs=1, random_state=0).fit(X)
    weights = sum(p.numel() * p.element_size() for p in model.net_.module_.parameters())
    pickled = len(pickle.dumps(model))
    write("size", "pickle", pickled / 2**20, weights / 2**20, "MB", pickled / weights)


KILLED = """
import sys, numpy as np
from sklearn_wiseale import WiSEALETransformer
X = np.load(sys.argv[1])
model = WiSEALETransformer(
    4, max_epochs=30, early_stopping=True, random_state=0, checkpoint=sys.argv[2]
)
np.save(sys.argv[3], model.fit(X).transform(X))
"""


def kill(path):
    """Fits killed at a random moment, ten times, and run again: codes that differ."""
    rng = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        np.save(folder / "X.npy", table(3000, 30))

        def start(checkpoint, name):
            checkpoint.mkdir(exist_ok=True)
            files = [folder / "X.npy", checkpoint, folder / f"{name}.npy"]
            return subprocess.Popen([sys.executable, "-c", KILLED, *map(str, files)])

        start(folder / "whole", "whole").wait()
        expected, different, epochs = np.load(folder / "whole.npy"), 0, []
        for number in range(10):
            checkpoint = folder / str(number)
            child, wanted, seen, before = start(checkpoint, number), rng.randint(1, 29), 0, None
            while child.poll() is None and seen < wanted:
                files = list(checkpoint.glob("*.safetensors"))
                now = files[0].stat().st_mtime_ns if files else None
                seen, before = seen + (now != before), now
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
            killed = child.poll() is None
            child.send_signal(signal.SIGKILL)
            child.wait()
            epochs.append(seen if killed else None)
            start(checkpoint, number).wait()
            different += not np.array_equal(np.load(folder / f"{number}.npy"), expected)
    print("checkpoints seen before the kill:", epochs)
    n_killed = sum(epoch is not None for epoch in epochs)
    write("kill", "fits that differ", different, n_killed, "of those killed", different / n_killed)


PARTS = (epoch, small, pythae, transform, umap, scaling, memory, search, size, kill)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="npz file with X_train and X_test; default: OpenML")
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--part", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    for part in PARTS:
        if part.__name__ in arguments.part:
            part(arguments.data)


if __name__ == "__main__":
    main()
