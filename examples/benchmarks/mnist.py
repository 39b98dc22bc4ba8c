"""MNIST: reconstruction error, regularity of the codes and time, beside PCA, pythae and UMAP.

Test MSE is per pixel in [0, 1], of mean reconstructions of the 10,000 test images; SWD is
``sliced_wasserstein`` of posterior draws of them. Each row is written to results/mnist.csv as it
is done, and rows that are there are not run again.

    python examples/benchmarks/mnist.py --data mnist.npz         # a file with X_train, X_test
    python examples/benchmarks/mnist.py                          # from OpenML, 15 MB
    python examples/benchmarks/mnist.py --fresh --only wiseale   # some methods, anew

pythae and umap-learn are measured where they are installed.
"""

import argparse
import csv
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import active_units, aggregate_kl, sliced_wasserstein
from sklearn_wiseale.networks import MLP

RESULT = Path(__file__).parent / "results" / "mnist.csv"
FIELDS = [
    "run", "method", "n_train", "n_components", "mse", "swd", "moment_kl", "active",
    "fit_seconds", "transform_seconds", "epochs",
]  # fmt: skip
#: (run, method, n_train, n_components, parameters)
BAR = {"network": MLP(hidden=(512, 512)), "max_epochs": 5, "batch_size": 128}
RUNS = [
    ("20k_pca_16", "pca", 20_000, 16, {}),
    ("20k_wiseale_16", "wiseale", 20_000, 16, BAR),
    ("20k_pythae_16", "pythae", 20_000, 16, {"loss": "mse"}),
    ("20k_pythae_bce_16", "pythae", 20_000, 16, {"loss": "bce"}),
    ("60k_pca_16", "pca", 60_000, 16, {}),
    ("60k_wiseale_16", "wiseale", 60_000, 16, {}),
    ("60k_umap_16", "umap", 60_000, 16, {}),
    ("60k_pca_2", "pca", 60_000, 2, {}),
    ("60k_wiseale_2", "wiseale", 60_000, 2, {}),
    ("60k_umap_2", "umap", 60_000, 2, {}),
]


def load(path):
    """Training and test images as float32 rows in [0, 1]."""
    if path:
        with np.load(path) as file:
            train, test = file["X_train"], file["X_test"]
    else:
        from sklearn.datasets import fetch_openml

        images = fetch_openml("mnist_784", as_frame=False, parser="liac-arff").data
        train, test = images[:60_000], images[60_000:]
    return [part.reshape(len(part), -1).astype(np.float32) / 255 for part in (train, test)]


def wiseale(train, test, n_components, **params):
    model = WiSEALETransformer(n_components, scale="global", random_state=0, **params)
    start = time.perf_counter()
    model.fit(train)
    fitted = time.perf_counter()
    mean, std = model.posterior(test)
    done = time.perf_counter()
    noise = np.random.RandomState(0).standard_normal(mean.shape)
    return {
        "mse": np.mean((model.inverse_transform(mean) - test) ** 2),
        "swd": sliced_wasserstein(mean + std * noise, random_state=0),
        "moment_kl": aggregate_kl(mean, 2 * np.log(std), method="moment"),
        "active": active_units(mean),
        "fit_seconds": fitted - start,
        "transform_seconds": done - fitted,
        "epochs": model.n_iter_,
    }


def pca(train, test, n_components):
    start = time.perf_counter()
    model = PCA(n_components, whiten=True, random_state=0).fit(train)
    fitted = time.perf_counter()
    codes = model.transform(test)
    done = time.perf_counter()
    return {
        "mse": np.mean((model.inverse_transform(codes) - test) ** 2),
        "swd": sliced_wasserstein(codes, random_state=0),
        "fit_seconds": fitted - start,
        "transform_seconds": done - fitted,
    }


def umap(train, test, n_components):
    import umap as library

    library.UMAP(n_components=n_components, n_epochs=2).fit(train[:500])  # compiles
    start = time.perf_counter()
    model = library.UMAP(n_components=n_components).fit(train)
    fitted = time.perf_counter()
    model.transform(test)
    return {"fit_seconds": fitted - start, "transform_seconds": time.perf_counter() - fitted}


def pythae(train, test, n_components, loss):
    """Pythae's VAE with its own default networks (one hidden layer of 512), five epochs."""
    import tempfile

    import torch
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    torch.manual_seed(0)
    model = VAE(
        VAEConfig(input_dim=(train.shape[1],), latent_dim=n_components, reconstruction_loss=loss)
    )
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=5, per_device_train_batch_size=128, learning_rate=1e-3
        )
        dataset = _PythaeRows(torch.from_numpy(train))
        start = time.perf_counter()
        BaseTrainer(model, dataset, training_config=config).train()
        seconds = time.perf_counter() - start
    with torch.no_grad():
        mean = model.encoder(torch.from_numpy(test)).embedding
        rebuilt = model.decoder(mean)["reconstruction"].numpy()
    return {"mse": np.mean((rebuilt - test) ** 2), "fit_seconds": seconds, "epochs": 5}


class _PythaeRows:
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        from pythae.data.datasets import DatasetOutput

        return DatasetOutput(data=self.rows[index])


METHODS = {"wiseale": wiseale, "pca": pca, "umap": umap, "pythae": pythae}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="npz file with X_train and X_test; default: OpenML")
    parser.add_argument("--only", choices=METHODS, help="one method")
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    arguments = parser.parse_args()
    rows = list(csv.DictReader(RESULT.open())) if RESULT.exists() else []
    wanted = [run for run in RUNS if arguments.only in (None, run[1])]
    if arguments.fresh:
        rows = [row for row in rows if row["run"] not in {run[0] for run in wanted}]
    done = {row["run"] for row in rows}
    train, test = load(arguments.data)
    for run, method, n_train, n_components, params in wanted:
        package = {"umap": "umap", "pythae": "pythae"}.get(method, "numpy")
        if run in done or find_spec(package) is None:
            continue
        figures = METHODS[method](train[:n_train], test, n_components, **params)
        figures = {k: v if isinstance(v, int) else f"{v:.5f}" for k, v in figures.items()}
        head = {"run": run, "method": method, "n_train": n_train, "n_components": n_components}
        rows.append(head | figures)
        RESULT.parent.mkdir(exist_ok=True)
        with RESULT.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: row["run"]))
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
