"""What the scripts paper_*.py share: data, rivals in one harness, and what is measured.

Every objective is trained by the same estimator: same network, start, steps, batches, likelihood
and learned noise. Only the divergence differs. Early stopping is off, so that all see the same
budget. PCA, KernelPCA, UMAP and pythae's VAE are points from outside.

``mse`` is per feature, of mean reconstructions of held-out rows. ``nll`` is minus the score of
up to 300 of them, an importance-weighted bound, nats. ``swd`` is ``sliced_wasserstein`` of
posterior draws of held-out rows, several of each where there are fewer than 5,000. ``moment`` and
``jensen`` are ``aggregate_kl`` of up to 5,000 held-out rows. ``generated`` is the mean distance of
1,000 decoded prior draws to the nearest held-out row, ``covered`` that of held-out rows to the
nearest decoded draw: the first rewards blur, the second punishes it. ``midpoint`` is the mean
distance of 1,000 decoded midpoints of codes to the nearest held-out row. ``knn`` is the accuracy
of 10 neighbours in the codes. ``width`` and ``width_sd`` are mean and standard deviation, over rows
and components, of the posteriors' standard deviations.
"""

import csv
import functools
import time
from pathlib import Path

import numpy as np
import torch
from mnist import load
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA, KernelPCA
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.datasets import make_sine_waves
from sklearn_wiseale.diagnostics import active_units, aggregate_kl, sliced_wasserstein
from sklearn_wiseale.networks import MLP
from sklearn_wiseale.objectives import ELBO, InfoVAE, WassersteinMMD, WiSEALE

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parents[2] / "docs" / "_static" / "paper"
KEYS = ["data", "n_components", "method", "weight", "seed"]
DATA = ("breast_cancer", "digits", "sines", "table", "mnist")

#: What all objectives share on a data set.
TRAINING = {
    "breast_cancer": {"network": MLP(hidden=(128,)), "batch_size": 64, "max_epochs": 100},
    "digits": {"network": MLP(hidden=(128,)), "batch_size": 64, "max_epochs": 60},
    "sines": {"network": MLP(hidden=(128,)), "batch_size": 128, "max_epochs": 60},
    "table": {"network": MLP(hidden=(128,)), "batch_size": 128, "max_epochs": 8},
    "mnist": {"network": MLP(hidden=(512, 256)), "batch_size": 128, "max_epochs": 5},
}

#: What the paper compares, and the default.
METHODS = {
    "AEVB": ELBO(weight=1.0),
    "WiSE-ALE, jensen": WiSEALE("jensen", weight=1.0),
    "WiSE-ALE, default": WiSEALE(),
}

#: Objectives by name, each a function of the weight.
OBJECTIVES = {
    "default": lambda weight: WiSEALE(),
    "wiseale": lambda weight: WiSEALE(weight=float(weight)),
    "jensen": lambda weight: WiSEALE("jensen", weight=float(weight)),
    "jensen narrow": lambda weight: WiSEALE("jensen", weight=float(weight), width=1),
    "renyi": lambda weight: WiSEALE("renyi", weight=float(weight)),
    "moment": lambda weight: WiSEALE("moment", weight=float(weight)),
    "monte_carlo": lambda weight: WiSEALE("monte_carlo", weight=float(weight)),
    "sliced": lambda weight: WiSEALE("sliced", weight=float(weight)),
    "elbo": lambda weight: ELBO(weight=float(weight)),
    "wae": lambda weight: WassersteinMMD(weight=float(weight)),
    "infovae": lambda weight: InfoVAE(weight=float(weight)),
}


def make_table(n_samples=20_000, random_state=0):
    """Fifty columns from six factors, three of them normal and three uniform, through a network.

    Returns the columns and the factors.
    """
    rng = np.random.RandomState(random_state)
    factors = rng.standard_normal((n_samples, 6))
    factors[:, 3:] = rng.uniform(-(3**0.5), 3**0.5, (n_samples, 3))
    inner, bias = rng.standard_normal((6, 64)) / 6**0.5, rng.uniform(-1, 1, 64)
    outer, direct = rng.standard_normal((64, 50)) / 4, 0.3 * rng.standard_normal((6, 50))
    X = np.tanh(1.5 * factors @ inner + bias) @ outer + factors @ direct
    return X + 0.2 * rng.standard_normal(X.shape), factors


@functools.lru_cache(maxsize=1)
def rows_of(name, path=None, quick=False):
    """Training and held-out rows, and their labels, which no objective sees.

    Images and waves as they are, pixels in [0, 1]; tables standardised by the training rows.
    """
    if name == "mnist":
        train, test = load(path)
        labels = mnist_labels(path)
        n = 2_000 if quick else 20_000
        return train[:n], test[:n], labels[0][:n], labels[1][:n]
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        X = X / 16
    elif name == "sines":
        X, factors = make_sine_waves(3000, random_state=0)
        y = np.digitize(factors[:, 1], (5 / 3, 7 / 3))  # thirds of the frequencies
    elif name == "table":
        X, factors = make_table(4_000 if quick else 20_000)
        y = (factors[:, :3] > 0) @ [4, 2, 1]
    else:
        X, y = load_breast_cancer(return_X_y=True)
    share = 1 / 4 if name == "table" else 1 / 3
    train, test, *labels = train_test_split(X, y, test_size=share, random_state=0)
    if name in ("table", "breast_cancer"):
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    return train.astype(np.float32), test.astype(np.float32), *labels


@functools.lru_cache(maxsize=1)
def mnist_labels(path):
    """Labels of the training and of the test images."""
    if path:
        with np.load(path) as file:
            return file["y_train"], file["y_test"]
    from sklearn.datasets import fetch_openml

    y = fetch_openml("mnist_784", as_frame=False, parser="liac-arff").target.astype(int)
    return y[:60_000], y[60_000:]


def fit(name, train, n_components, objective, seed, quick=False, **params):
    """Fit an objective under the training that all share."""
    training = TRAINING[name] | ({"max_epochs": 3} if quick else {}) | params
    model = WiSEALETransformer(
        n_components,
        objective=objective,
        scale="global",
        early_stopping=False,
        random_state=seed,
        **training,
    )
    return model.fit(train)


class PointCodes:
    """A reducer without posteriors: those of width zero."""

    def __init__(self, model):
        self.model = model

    def posterior(self, X):
        """Codes as means, and zeros."""
        codes = np.asarray(self.model.transform(X), dtype=np.float64)
        return codes, np.zeros_like(codes)

    def inverse_transform(self, Z):
        """As the reducer has it."""
        return self.model.inverse_transform(Z)


def pca(name, train, n_components, seed):
    return PointCodes(PCA(n_components, whiten=True, random_state=seed).fit(train))


def kernel_pca(name, train, n_components, seed):
    """Gaussian kernels on at most 2,000 rows, codes standardised; the inverse is learned."""
    chosen = np.random.RandomState(seed).permutation(len(train))[:2000]
    model = KernelPCA(
        n_components, kernel="rbf", fit_inverse_transform=True, random_state=seed, alpha=0.1
    ).fit(train[chosen])
    sd = model.transform(train[chosen]).std(axis=0)

    class Standardised:
        def transform(self, X):
            return model.transform(X) / sd

        def inverse_transform(self, Z):
            return model.inverse_transform(Z * sd)

    return PointCodes(Standardised())


def umap(name, train, n_components, seed):
    """Its inverse takes minutes for a thousand codes, and is left out."""
    import umap as library

    model = library.UMAP(n_components=n_components, random_state=seed, n_jobs=1).fit(train)
    model.inverse_transform = None
    return PointCodes(model)


def pythae(name, train, n_components, seed):
    """Pythae's VAE, its own networks (one hidden layer of 512), as many epochs and batches."""
    import tempfile

    from mnist import _PythaeRows
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    torch.manual_seed(seed)
    model = VAE(VAEConfig(input_dim=train.shape[1:], latent_dim=n_components))
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=TRAINING[name]["max_epochs"],
            per_device_train_batch_size=TRAINING[name]["batch_size"],
            learning_rate=1e-3,
            seed=seed,
        )
        rows = _PythaeRows(torch.from_numpy(train))
        BaseTrainer(model, rows, training_config=config).train()
    model.eval()

    class Codes:
        def posterior(self, X):
            with torch.no_grad():
                out = model.encoder(torch.from_numpy(X))
            return out.embedding.numpy(), (0.5 * out.log_covariance).exp().numpy()

        def inverse_transform(self, Z):
            with torch.no_grad():
                out = model.decoder(torch.as_tensor(Z, dtype=torch.float32))
            return out["reconstruction"].numpy()

    return Codes()


OUTSIDE = {"pca": pca, "kernel_pca": kernel_pca, "umap": umap, "pythae": pythae}


def measure(model, train, test, y_train, y_test, seed):
    """Figures of a fitted reducer on held-out rows."""
    rng = np.random.RandomState(seed)
    mean, std = model.posterior(test)
    repeats = -(-5000 // len(test))
    z = np.concatenate([mean + std * rng.standard_normal(mean.shape) for _ in range(repeats)])
    chosen = rng.permutation(len(train))[:5000]
    neighbours = KNeighborsClassifier(10).fit(model.posterior(train[chosen])[0], y_train[chosen])
    figures = {
        "swd": sliced_wasserstein(z[:5000], random_state=0),
        "knn": neighbours.score(mean[:2000], y_test[:2000]),
        "active": active_units(mean),
        "width": std.mean(),
        "width_sd": std.std(),
    }
    if (std > 0).all():
        log_var = 2 * np.log(std[:5000])
        figures["moment"] = aggregate_kl(mean[:5000], log_var, method="moment")
        figures["jensen"] = aggregate_kl(mean[:5000], log_var)
    if getattr(model, "model", model).inverse_transform is None:
        return figures
    nearest = test[:5000]
    drawn = model.inverse_transform(rng.standard_normal((1000, mean.shape[1])))
    pairs = rng.randint(len(mean), size=(2, 1000))
    middle = model.inverse_transform(mean[pairs].mean(axis=0))
    figures |= {
        "mse": np.mean((np.asarray(model.inverse_transform(mean)) - test) ** 2),
        "generated": pairwise_distances_argmin_min(drawn, nearest)[1].mean(),
        "covered": pairwise_distances_argmin_min(nearest, drawn)[1].mean(),
        "midpoint": pairwise_distances_argmin_min(middle, nearest)[1].mean(),
    }
    if hasattr(model, "score"):
        figures["nll"] = -model.score(test[:300])
    return figures


#: Okabe and Ito's colours, which colour-blind readers tell apart.
PALETTE = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#000000")


def save(figure, name):
    """Keep a figure where the documentation finds it."""
    from PIL import Image

    FIGURES.mkdir(parents=True, exist_ok=True)
    file = FIGURES / f"{name}.png"
    figure.savefig(file, dpi=110)
    with Image.open(file) as image:  # 256 colours are enough, and a third of the bytes
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(file, optimize=True)
    print(f"figure: {file}")


FIGURE_NAMES = [
    "mse", "nll", "swd", "moment", "jensen", "generated", "covered", "midpoint", "knn",
    "active", "width", "width_sd", "fit_seconds",
]  # fmt: skip


def run(task, path=None, quick=False):
    """Fit and measure one setting, on one thread."""
    torch.set_num_threads(1)
    name, k, method, weight, seed = (task[key] for key in KEYS)
    rows = rows_of(name, path, quick)
    start = time.perf_counter()
    if method in OUTSIDE:
        model = OUTSIDE[method](name, rows[0], k, seed)
    else:
        model = fit(name, rows[0], k, OBJECTIVES[method](weight), seed, quick)
    seconds = time.perf_counter() - start
    return measure(model, *rows, seed) | {"fit_seconds": seconds}


def read(file):
    """Rows of a result, or none."""
    return list(csv.DictReader(file.open())) if file.exists() else []


def append(file, row, fields):
    """Add a row to a result as it is done."""
    file.parent.mkdir(exist_ok=True)
    new = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, fields)
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def key_of(row):
    return tuple(str(row[key]) for key in KEYS)


def run_all(file, tasks, n_jobs, path=None, quick=False):
    """Run what is not there yet, several at a time, one row written as each is done."""
    import joblib

    done = {key_of(row) for row in read(file)}
    tasks = [task for task in tasks if key_of(task) not in done]
    results = joblib.Parallel(n_jobs, return_as="generator_unordered")(
        joblib.delayed(_numbered)(i, task, path, quick) for i, task in enumerate(tasks)
    )
    for i, figures in tqdm(results, total=len(tasks), unit="run", desc=file.stem):
        figures = {name: float(value) for name, value in figures.items()}
        append(file, tasks[i] | figures, [*KEYS, *FIGURE_NAMES])


def _numbered(i, task, path, quick):
    import warnings

    warnings.filterwarnings("ignore", message="Of .* components only")  # large weights collapse
    warnings.filterwarnings("ignore", module="umap")
    return i, run(task, path, quick)
