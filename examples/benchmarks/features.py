"""Image features of fixed filters, wide and many: variance share and neighbours beside PCA.

10,000 training images of MNIST and the first 2,000 test images as vectors: ``filters``, the
responses of 21 fixed random 5 x 5 filters, rectified and averaged over 4 x 4 cells, 1,029 numbers;
``wide``, 64 such filters, 3,136 numbers; ``gradients``, histograms of oriented gradients with 9
bins in 4 x 4 cells, on three grids, 1,089 numbers. 16 components. Writes results/features.csv.

    python examples/benchmarks/features.py --data mnist.npz
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch
from mnist import load
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F

from sklearn_wiseale import WiSEALETransformer
from sklearn_wiseale.diagnostics import reconstruction_r2

RESULT = Path(__file__).parent / "results" / "features.csv"
FIELDS = ["features", "n_columns", "method", "variance", "neighbours", "seconds"]


def filters(images, n_filters):
    """Rectified responses of fixed random filters, averaged over cells."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(n_filters, 1, 5, 5, generator=generator)
    bank -= bank.mean(dim=(2, 3), keepdim=True)
    parts = torch.from_numpy(images).view(-1, 1, 28, 28).split(1000)
    cells = [F.avg_pool2d(F.relu(F.conv2d(part, bank, padding=2)), 4) for part in parts]
    return torch.cat(cells).flatten(1).numpy()


def gradients(images):
    """Histograms of oriented gradients: nine unsigned orientations, cells of 4 x 4."""
    pixels = images.reshape(-1, 28, 28)
    dy, dx = np.gradient(pixels, axis=(1, 2))
    size, angle = np.hypot(dx, dy), np.mod(np.arctan2(dy, dx), np.pi)
    bins = np.minimum((angle * 9 / np.pi).astype(int), 8)
    found = []
    for low, n_cells in ((0, 7), (2, 6), (1, 6)):
        area = slice(low, low + 4 * n_cells)
        for number in range(9):
            votes = np.where(bins == number, size, 0)[:, area, area]
            cells = votes.reshape(len(images), n_cells, 4, n_cells, 4).sum(axis=(2, 4))
            found.append(cells.reshape(len(images), -1))
    features = np.hstack(found)
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(norm, 1e-6)).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="npz file with X_train and X_test; default: OpenML")
    arguments = parser.parse_args()
    train, test = load(arguments.data)
    if arguments.data:
        with np.load(arguments.data) as file:
            y_train, y_test = file["y_train"], file["y_test"]
    else:
        from sklearn.datasets import fetch_openml

        y = fetch_openml("mnist_784", as_frame=False, parser="liac-arff").target
        y_train, y_test = y[:60_000], y[60_000:]
    train, test, y_train, y_test = train[:10_000], test[:2000], y_train[:10_000], y_test[:2000]
    kinds = {
        "gradients": gradients,
        "filters": lambda images: filters(images, 21),
        "wide": lambda images: filters(images, 64),
    }
    rows = []
    for name, function in kinds.items():
        A, B = function(train), function(test)
        for method, model in (
            ("PCA", PCA(16, random_state=0)),
            ("WiSE-ALE", WiSEALETransformer(16, scale="global", random_state=0)),
        ):
            start = time.perf_counter()
            model.fit(A)
            seconds = time.perf_counter() - start
            neighbours = KNeighborsClassifier(10).fit(model.transform(A), y_train)
            share = reconstruction_r2(model, B, weights="none")
            accuracy = neighbours.score(model.transform(B), y_test)
            numbers = [f"{share:.4f}", f"{accuracy:.4f}", f"{seconds:.1f}"]
            rows.append(dict(zip(FIELDS, [name, A.shape[1], method, *numbers], strict=True)))
            print(rows[-1], flush=True)
            with RESULT.open("w", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
